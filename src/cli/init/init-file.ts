import { existsSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { stringify } from "yaml";
import { installed } from "../../core/installation.ts";
import { decoded } from "../../config/secrets/secrets.ts";
import type { CapturedTables, RefusedTable } from "../../core/contracts/catalog.ts";
import type { UrlKeys } from "../../core/contracts/connector.ts";
import { namesOfTable } from "../../core/model/schema.ts";

export interface PlannedSink {
  readonly name: string;
  readonly kind: string;
  readonly keys: UrlKeys;
  /** See SinkByUrl. */
  readonly choices: (daemon: string) => readonly string[];
}

interface PlannedConfig {
  readonly name: string;
  /** The folder of the new file. */
  readonly folder: string;
  /** The source's kind. */
  readonly kind: string;
  /**
   * The URL as written into the file, including references to variables and files. The same holds for the sinks'
   * places.
   */
  readonly source: string;
  /** `schema.table` globs; empty: what the source captures by itself. */
  readonly tables: readonly string[];
  readonly sinks: readonly PlannedSink[];
  /** Where the daemon listens; null: at the default address. */
  readonly listen: string | null;
  readonly found: CapturedTables | null;
}

/** A daemon's name from a database's name: lower case, letters, digits and _. */
export function nameFrom(url: string | null): string {
  const path = url === null ? "" : (URL.parse(url)?.pathname ?? "");
  return asName(decoded(path.slice(1)), 40) || "millrace";
}

/** Lower-case letters, digits and _, behind a letter; empty: nothing of the text can be in a name. */
export function asName(text: string, lengthMax: number): string {
  const plain = text.toLowerCase().replaceAll(/[^a-z0-9_]+/g, "_");
  return plain.replace(/^[^a-z]+/, "").slice(0, lengthMax);
}

const SCHEMA = "millrace.schema.json";

/** The schema for editors: that of the surrounding project, which moves with the file, else that of this program. */
function schemaPath(folder: string): string {
  const own = installed(SCHEMA);
  for (let above = folder; above !== dirname(above); above = dirname(above)) {
    const inProject = join(above, "node_modules", "millrace", SCHEMA);
    if (existsSync(inProject)) return fromFolder(folder, inProject);
    if (dirname(own) === above) return fromFolder(folder, own);
  }
  return own;
}

function fromFolder(folder: string, file: string): string {
  const path = relative(folder, file);
  return path.startsWith(".") ? path : `./${path}`;
}

export function configText(planned: PlannedConfig): string {
  const { name, folder, kind, source, tables, sinks, listen, found } = planned;
  return `# yaml-language-server: $schema=${schemaPath(folder)}
# Written by \`millrace init\`. What stands behind # is either explained or a choice: take the # away to make it.
# A value may hold \${VAR}, \${VAR:-default} or \${file:/run/secrets/x}: that is the place for passwords.

name: ${name}   # names the daemon, ${kind === "mysql" ? "the server_id that it reads under" : `its slot and publication (millrace_${name})`} and its state

source:
  kind: ${kind}
  url: ${scalar(source)}   # the server itself, not a pooler
${tablesPart(tables, found, kind)}
  # snapshot: none        # only what changes from now on. Default, initial: the tables are copied first
  # heartbeat: 10s        # how often an idle source's position is moved on

# Positions, shapes of tables, refused rows, the lease. On a server a second machine can take over.
# state: sqlite:.millrace/${name}.db
# state: postgres://user:\${PASSWORD}@host/database

sinks:
${sinks.map((sink) => sinkPart(sink, name)).join("\n")}
${rulesPart(found, kind)}
# Health, metrics and API. Beyond this machine it wants tokens: millrace explain MR1005.
${listen === null ? "# admin:\n#   listen: 127.0.0.1:8642" : `admin:\n  listen: ${listen}   # the default, 127.0.0.1:8642, was taken`}
`;
}

function sinkPart({ name, kind, keys, choices }: PlannedSink, daemon: string): string {
  const lines = [
    `  ${name}:`,
    `    kind: ${kind}`,
    ...Object.entries(keys).map(([key, value]) => `    ${key}: ${flow(value)}`),
    ...[...choices(daemon), "tables: […]         # a subset of the source's"]
      .filter((choice) => !Object.hasOwn(keys, choice.slice(0, choice.indexOf(":"))))
      .map((choice) => `    # ${choice}`),
  ];
  return `${lines.join("\n")}\n`;
}

function tablesPart(tables: readonly string[], found: CapturedTables | null, kind: string): string {
  const example = found === null ? ["public.*", "!public.tmp_*"] : exampleGlobs(found);
  const isMysql = kind === "mysql";
  const choice = [
    `  ${tables.length === 0 ? `# tables: ${list(example)}` : `tables: ${list(tables)}`}   # ${isMysql ? "database" : "schema"}.table, * is a wildcard, ! leaves out`,
    `  #                       Default: every ${isMysql ? "table of the url's database" : "user table"} with a usable key, those that appear later too`,
  ];
  if (found === null) return choice.join("\n");
  const refused = refusedLines(found);
  return [
    ...choice,
    `  # When this was written, ${countsOf(found)}.`,
    ...followedLines(found).map((line) => `  #   ${line}`),
    ...(refused.length === 0 ? [] : ["  # Left out (`millrace check` has the statement that fixes each):"]),
    ...refused.map((line) => `  #   ${line}`),
  ].join("\n");
}

function rulesPart(found: CapturedTables | null, kind: string): string {
  const { table, column } = (found === null ? null : exampleColumn(found)) ?? {
    table: kind === "mysql" ? "shop.users" : "public.users",
    column: "email",
  };
  return `# Rules, before every sink: mask (hash, redact, partial, null), drop, rename, and which rows (where: millrace explain MR1020).
# tables:
#   ${JSON.stringify(table)}:
#     columns:
#       ${JSON.stringify(column)}: { mask: hash }
# maskKey: \${MASK_KEY}     # the key of those hashes, at least 16 characters
`;
}

function flow(value: UrlKeys[string]): string {
  if (typeof value === "string") return scalar(value);
  if (isList(value)) return list(value);
  const parts = Object.entries(value).map(([key, part]) => `${key}: ${JSON.stringify(part).replaceAll("${", "$${")}`);
  return `{ ${parts.join(", ")} }`;
}

function isList(value: UrlKeys[string]): value is readonly string[] {
  return Array.isArray(value);
}

/** As YAML, on one line. */
function scalar(value: string): string {
  return stringify(value, { lineWidth: 0 }).trimEnd();
}

function list(values: readonly string[]): string {
  return `[${values.map((value) => JSON.stringify(value)).join(", ")}]`;
}

/** A longer list would be hard to read. */
const NAMED_COUNT_MAX = 10;
const SCHEMA_COUNT_MAX = 20;

/** `public  2 tables: customers, orders`: the tables that can be followed, one line per schema. */
function followedLines({ tables }: CapturedTables): readonly string[] {
  const bySchema = Map.groupBy(tables, ({ schema }) => schema);
  const width = Math.max(...[...bySchema.keys()].map((schema) => oneLine(schema).length));
  const lines = [...bySchema].map(
    ([schema, members]) => `${oneLine(schema).padEnd(width)}  ${named(members.map(({ table }) => table))}`,
  );
  const rest = lines.length - SCHEMA_COUNT_MAX;
  return rest > 0 ? [...lines.slice(0, SCHEMA_COUNT_MAX), `and ${rest} more schemas`] : lines;
}

/** The tables that can't be followed, by reason; `check` shows the fix of each. */
export function refusedLines({ refused }: CapturedTables): readonly string[] {
  const byReason = Map.groupBy(refused, ({ reason }) => reason);
  return [...byReason].map(([reason, members]) => `${oneLine(reason)}: ${named(members.map(({ id }) => id))}`);
}

/** How many tables can and can't be followed; counts apart those that only lack a grant. */
export function countsOf({ tables, refused }: CapturedTables): string {
  const followed = `${countOf(tables.length)} can be followed`;
  if (refused.length === 0) return followed;
  const lacking = refused.filter(isLacking).length;
  return `${followed}, ${refused.length} can't${lacking === 0 ? "" : ` (${lacking} only lack a grant)`}`;
}

/** One glob per schema, for the example of `tables`. */
function exampleGlobs({ tables }: CapturedTables): readonly string[] {
  const schemas = [...new Set(tables.map(({ schema }) => schema))].filter((schema) => /^[\w -]+$/.test(schema));
  return [...(schemas.length === 0 ? ["public"] : schemas.slice(0, 3)).map((schema) => `${schema}.*`), "!*.tmp_*"];
}

/** A column that probably holds personal data, for the example of rules. */
function exampleColumn({ tables }: CapturedTables): { readonly table: string; readonly column: string } | null {
  for (const { id, columns, key } of tables) {
    const column = columns.find(({ name }, ordinal) => !key.includes(ordinal) && PERSONAL.test(name));
    if (column !== undefined) return { table: plainName(id), column: column.name };
  }
  return null;
}

const PERSONAL = /mail|phone|passw|secret|ssn|iban|birth|token/i;

function plainName(id: string): string {
  const { schema, table } = namesOfTable(id);
  return `${schema}.${table}`;
}

function isLacking({ byPrivilege }: RefusedTable): boolean {
  return byPrivilege === true;
}

function named(names: readonly string[]): string {
  const sorted = names.toSorted(new Intl.Collator("en", { numeric: true }).compare).map(oneLine);
  const shown = sorted.slice(0, NAMED_COUNT_MAX).join(", ");
  const rest = sorted.length - NAMED_COUNT_MAX;
  return rest > 0 ? `${shown} and ${rest} more` : shown;
}

function countOf(count: number): string {
  return `${count} table${count === 1 ? "" : "s"}`;
}

/** Names are data: a line break in one must not end the comment. */
export function oneLine(text: string): string {
  return text.replaceAll(/[\p{Cc}\p{Zl}\p{Zp}]+/gu, " ");
}
