import { existsSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { stringify } from "yaml";
import { installed } from "../../core/installation.ts";
import type { CapturedTables } from "../../core/contracts/catalog.ts";
import { countsOf, exampleColumn, exampleGlobs, followedLines, refusedLines } from "./init-tables.ts";

export interface PlannedSink {
  readonly name: string;
  readonly kind: string;
  readonly place: { readonly key: "url" | "path"; readonly value: string };
}

export interface PlannedConfig {
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
  readonly sinks: readonly PlannedSink[];
  readonly found: CapturedTables | null;
}

/** A daemon's name from a database's name: lower case, letters, digits and _. */
export function nameFrom(url: string | null): string {
  const path = url === null ? "" : (URL.parse(url)?.pathname ?? "");
  const plain = decodeURIComponent(path.slice(1))
    .toLowerCase()
    .replaceAll(/[^a-z0-9_]+/g, "_");
  const name = plain.replace(/^[^a-z]+/, "").slice(0, 40);
  return name === "" ? "millrace" : name;
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

export function configText({ name, folder, kind, source, sinks, found }: PlannedConfig): string {
  return `# yaml-language-server: $schema=${schemaPath(folder)}
# Written by \`millrace init\`. What stands behind # is either explained or a choice: take the # away to make it.
# A value may hold \${VAR}, \${VAR:-default} or \${file:/run/secrets/x}: that is the place for passwords.

name: ${name}   # names the daemon, ${kind === "mysql" ? "the server_id that it reads under" : `its slot and publication (millrace_${name})`} and its state

source:
  kind: ${kind}
  url: ${scalar(source)}   # the server itself, not a pooler
${tablesPart(found, kind)}
  # snapshot: none        # only what changes from now on. Default, initial: the tables are copied first
  # heartbeat: 10s        # how often an idle source's position is moved on

# Positions, shapes of tables, refused rows, the lease. On a server a second machine can take over.
# state: sqlite:.millrace/${name}.db
# state: postgres://user:\${PASSWORD}@host/database

sinks:
${(sinks.length === 0 ? [defaultSink(name)] : sinks).map((sink) => sinkPart(sink, name)).join("\n")}
${rulesPart(found, kind)}
# Health, metrics and API. Beyond this machine it wants tokens: millrace explain MR1005.
# admin:
#   listen: 127.0.0.1:8642
`;
}

function defaultSink(name: string): PlannedSink {
  return { name: "warehouse", kind: "duckdb", place: { key: "path", value: `./${name}.duckdb` } };
}

const KEPT = `    # deletes: soft       # rows deleted at the source stay, with _millrace_deleted true. Default: hard
    # mode: history       # a row for every change. Default, mirror: a row for a row of the source`;

/** The most likely options of a kind, each with its default in the comment. */
const CHOICES: Readonly<Record<string, (daemon: string) => string>> = {
  duckdb: () => `    # memoryLimit: 512MB  # DuckDB's own memory, apart from Millrace's
${KEPT}`,
  sqlite: (daemon) => `    # schema: ${daemon}   # what all tables' names begin with. Default: the source's schemas
${KEPT}`,
  postgres: (daemon) => `    # schema: ${daemon}   # all tables in this schema. Default: the source's schemas
${KEPT}`,
  clickhouse: (daemon) => `    # schema: ${daemon}   # all tables in this database. Default: the source's schemas
${KEPT}`,
  elasticsearch: (daemon) => `    # prefix: ${daemon}-   # what every index name begins with. Default: nothing
    # replicas: 1         # of new indices. Default: the engine's own`,
  redis: (daemon) => `    # prefix: "${daemon}:"   # what every key begins with. Default: nothing
    # format: json        # a row as one string. Default, hash: a field per column`,
};

function sinkPart({ name, kind, place }: PlannedSink, daemon: string): string {
  return `  ${name}:
    kind: ${kind}
    ${place.key}: ${scalar(place.value)}
${CHOICES[kind]?.(daemon) ?? ""}
    # tables: […]         # a subset of the source's
`;
}

function tablesPart(found: CapturedTables | null, kind: string): string {
  const example = found === null ? ["public.*", "!public.tmp_*"] : exampleGlobs(found);
  const isMysql = kind === "mysql";
  const choice = [
    `  # tables: [${example.map((glob) => JSON.stringify(glob)).join(", ")}]   # ${isMysql ? "database" : "schema"}.table, * is a wildcard, ! leaves out`,
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

/** As YAML, on one line. */
function scalar(value: string): string {
  return stringify(value, { lineWidth: 0 }).trimEnd();
}
