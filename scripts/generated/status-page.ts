import { type AnyFields, type AnyForm, STATUS_FIELDS } from "../../src/ops/status-fields.ts";

/** docs/status.md, from the fields that the HTTP interface describes. */
export function statusPageDocument(): string {
  const groups = groupsOf("", STATUS_FIELDS);
  return `# The document of \`status\`

\`millrace status --json\` prints it, \`GET /api/v1/status\` answers it; \`GET /api/v1/openapi.json\` has the same as a JSON schema. Fields are added, never changed or taken away. For people: [operate.md](operate.md#what-status-says).

<!-- Generated from src/ops/status-fields.ts by scripts/generate.ts; do not edit. -->

- The form of a number is its unit: bytes, seconds (with fractions), rows, tables, count.
- *time* is RFC 3339 in UTC, such as \`2026-11-20T06:43:15.123Z\`.
- *position* is a place in the source's log in its own spelling: \`0/1A2B3C8\` (Postgres), \`binlog.000042:12345\` (MySQL, MariaDB).
- *texts* and *objects* are lists; \`?\`: or null. Every field is always there, and null where nothing is known; only \`heldBy\`, \`lastSeenAt\`, \`ended\`, \`notify\`, \`config\`, and a sink's \`deadRows\`, \`hints\` and \`rooms\` may be left out.
- An *error* has the fields of [error](#error), a *report* those of [report](#report): they are in several places.
- With \`--tables\` there is \`tables.lineage\` too: of each table \`{table, columns: [{source, target, mask}], filtered}\`, where \`target\` is null for a column that is dropped.

${groups.map(({ title, fields }) => group(title, fields)).join("\n")}`;
}

interface Group {
  readonly title: string;
  readonly fields: AnyFields;
}

/** Each object of the document once, outer ones first. */
function groupsOf(path: string, fields: AnyFields, known = new Set<AnyFields>([fields])): readonly Group[] {
  const inner = Object.entries(fields).flatMap(([name, [form]]) => {
    const found = innerOf(form);
    if (found === undefined || known.has(found.fields)) return [];
    known.add(found.fields);
    const at = `${path === "" ? "" : `${path}.`}${name}${found.isList ? "[]" : ""}`;
    return groupsOf(sharedName(found.fields) ?? at, found.fields, known);
  });
  return [{ title: path === "" ? "The document" : path, fields }, ...inner];
}

function innerOf(form: AnyForm): { readonly fields: AnyFields; readonly isList: boolean } | undefined {
  if (typeof form === "string") return undefined;
  if ("orNull" in form) return innerOf(form.orNull);
  return "listOf" in form ? { fields: form.listOf, isList: true } : { fields: form.object, isList: false };
}

/** The name of an object that occurs in several places. */
function sharedName(fields: AnyFields): string | undefined {
  if ("hint" in fields) return "error";
  return "drift" in fields && "compared" in fields ? "report" : undefined;
}

function group(title: string, fields: AnyFields): string {
  const lines = Object.entries(fields).map(
    ([name, [form, meaning]]) => `- \`${name}\` (${formText(form)}): ${meaning}`,
  );
  const heading = title === "The document" || title === "error" || title === "report" ? title : `\`${title}\``;
  return `## ${heading}\n\n${lines.join("\n")}\n`;
}

function formText(form: AnyForm): string {
  if (typeof form === "string") return form.replace(/^list of (.*)$/, "$1s");
  if ("orNull" in form) return `${formText(form.orNull)}?`;
  const fields = "listOf" in form ? form.listOf : form.object;
  const name = sharedName(fields) ?? "object";
  return "listOf" in form ? `${name}s` : name;
}
