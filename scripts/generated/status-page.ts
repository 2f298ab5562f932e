import { STATUS } from "../../src/core/contracts/status.ts";
import type { Fields, Form, Optional } from "../../src/core/described.ts";

/** docs/status.md, from the fields that the HTTP interface describes. */
export function statusPageDocument(): string {
  const groups = groupsOf("", STATUS);
  return `# The document of \`status\`

\`millrace status --json\` prints it, \`GET /api/v1/status\` answers it; \`GET /api/v1/openapi.json\` has the same as a JSON schema. Fields are added, never changed or taken away. For people: [operate.md](operate.md#what-status-says).

<!-- Generated from src/core/contracts/status.ts by scripts/generate.ts; do not edit. -->

- The form of a number is its unit: bytes, seconds (with fractions), rows, tables, count.
- *time* is RFC 3339 in UTC, such as \`2026-11-20T06:43:15.123Z\`.
- *position* is a place in the source's log in its own spelling: \`0/1A2B3C8\` (Postgres), \`binlog.000042:12345\` (MySQL, MariaDB).
- *texts* and *objects* are lists; \`?\`: or null. Every field is always there, and null where nothing is known, but for those that are *optional*.
- An *error* has the fields of [error](#error), a *report* those of [report](#report): they are in several places.
- With \`--tables\` there is \`tables.lineage\` too: of each table \`{table, columns: [{source, target, mask}], filtered}\`, where \`target\` is null for a column that is dropped.

${groups.map(({ title, fields }) => group(title, fields)).join("\n")}`;
}

interface Group {
  readonly title: string;
  readonly fields: Fields;
}

/** Each object of the document once, outer ones first. */
function groupsOf(path: string, fields: Fields, known = new Set<Fields>([fields])): readonly Group[] {
  const inner = Object.entries(fields).flatMap(([name, [form]]) => {
    const found = innerOf(form);
    if (found === undefined || known.has(found.fields)) return [];
    known.add(found.fields);
    const at = `${path === "" ? "" : `${path}.`}${name}${found.isList ? "[]" : ""}`;
    return groupsOf(sharedName(found.fields) ?? at, found.fields, known);
  });
  return [{ title: path === "" ? "The document" : path, fields }, ...inner];
}

function innerOf(form: Form | Optional): { readonly fields: Fields; readonly isList: boolean } | undefined {
  if (typeof form === "string" || "oneOf" in form) return undefined;
  if ("optional" in form) return innerOf(form.optional);
  if ("orNull" in form) return innerOf(form.orNull);
  if ("object" in form) return { fields: form.object, isList: false };
  const item = innerOf(form.listOf);
  return item === undefined ? undefined : { ...item, isList: true };
}

/** The name of an object that occurs in several places. */
function sharedName(fields: Fields): string | undefined {
  if ("hint" in fields) return "error";
  return "drift" in fields && "compared" in fields ? "report" : undefined;
}

function group(title: string, fields: Fields): string {
  const lines = Object.entries(fields).map(
    ([name, [form, meaning]]) => `- \`${name}\` (${formText(form)}): ${meaning}`,
  );
  const heading = title === "The document" || title === "error" || title === "report" ? title : `\`${title}\``;
  return `## ${heading}\n\n${lines.join("\n")}\n`;
}

function formText(form: Form | Optional): string {
  if (typeof form === "string") return form;
  if ("oneOf" in form) return "text";
  if ("optional" in form) return `${formText(form.optional)}, optional`;
  if ("orNull" in form) return `${formText(form.orNull)}?`;
  return "listOf" in form ? `${formText(form.listOf)}s` : (sharedName(form.object) ?? "object");
}
