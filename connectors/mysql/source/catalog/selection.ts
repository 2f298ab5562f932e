/** Which of the catalogue's tables are captured, and why others can't be. */
import type { TableName } from "../../../../src/core/contracts/connector.ts";
import type { CapturedTables, NamedTable, RefusedTable, TableShape } from "../../../../src/core/contracts/catalog.ts";
import { tableId } from "../../../../src/core/model/schema.ts";
import { copyRefusal } from "../../../kit/online-copies.ts";
import { quoteName, quoteTable } from "../../quote.ts";
import { type CatalogTable, readCatalog } from "./catalog.ts";
import type { SourceContext } from "../context.ts";
import { sourceError } from "../errors.ts";
import { readLogFilter } from "./log-filter.ts";
import { hiddenTables } from "./hidden.ts";
import { findKey, type FoundKey } from "./keys.ts";
import { type Described, described } from "./logged-shapes.ts";
import { catalogShape } from "./shapes.ts";

const NO_ROWS = new Set(["VIEW", "SYSTEM VIEW", "SEQUENCE", "TEMPORARY", "LOCAL TEMPORARY"]);

interface Refusal {
  readonly reason: string;
  readonly fix: string;
  readonly fixWith?: RefusedTable["fixWith"];
  readonly chosenKey?: "unknown" | "unfit";
}

export interface SelectedTables extends CapturedTables {
  readonly missing: readonly string[];
  /** Why the log leaves out databases with tables that are to be captured; a sentence for each database. */
  readonly unlogged: readonly string[];
  /** By table id, when it was last altered. */
  readonly altered: ReadonlyMap<string, string>;
  /** By table id, even if another shape than the catalogue's is followed. */
  readonly described: ReadonlyMap<string, Described>;
}

/** Engines whose tables change only by rows that this server logs; those of others lie elsewhere, or are not kept. */
const ENGINES = new Set(["innodb", "myisam", "aria", "memory", "archive", "csv", "rocksdb", "tokudb", "mroonga"]);

/**
 * With `strict`, as at a start, a table that is named literally and can't be captured is an error, and so is one that the
 * server does not log. While the daemon runs it is refused like others, so that one table does not stop all. `known`: see
 * `Catalog`.
 */
export async function selectTables(
  context: SourceContext,
  strict: boolean,
  signal: AbortSignal,
  known: readonly NamedTable[] = [],
): Promise<SelectedTables> {
  const filter = await readLogFilter(context, signal);
  const catalog = await readCatalog(context, null, signal);
  context.spelling.learn(catalog);
  const tables: TableShape[] = [];
  const refused: CapturedTables["refused"][number][] = [];
  const generations = new Map<string, string>();
  const told = new Map<string, Described>();
  const altered = new Map<string, string>();
  const rowful = catalog.filter(({ type }) => !NO_ROWS.has(type));
  const names = Map.groupBy([...rowful, ...known], ({ schema }) => schema);
  const unlogged = new Map<string, string>();
  for (const table of catalog) {
    if (!context.captures(table.schema, table.table)) continue;
    const isLiteral = context.isLiteral(table.schema, table.table);
    if (NO_ROWS.has(table.type) && !isLiteral) continue;
    const copy = isLiteral ? null : copyRefusal(table, namesIn(names.get(table.schema)));
    if (copy !== null) {
      refused.push({ id: tableId(table.schema, table.table), ...copy, isCopy: true });
      continue;
    }
    const zeroDates = context.zeroDates(table);
    const said = catalogShape(table, context);
    const shape = said === undefined ? undefined : context.shapes.of(table, said);
    if (said !== undefined) told.set(said.id, described(table, said));
    const setting = filter.excludes(table.schema);
    const left = setting === undefined ? undefined : `the log leaves out the database ${table.schema} (${setting})`;
    if (left !== undefined) unlogged.set(table.schema, left);
    const refusal =
      left === undefined
        ? refusalOf(table, shape, findKey(table, context.chosenKey(table)))
        : { reason: left, fix: LOG_FIX };
    if (shape !== undefined && refusal === undefined) {
      tables.push(shape);
      // With another choice the table has other rows. Statements that the log leaves out may have altered it.
      const marks = [...(zeroDates === "null" ? [] : [zeroDates]), ...(filter.isSet ? [table.altered] : [])];
      altered.set(shape.id, table.altered.replace("~", ""));
      generations.set(shape.id, [table.generation, ...marks].join(" "));
      continue;
    }
    const { reason, fix, fixWith, chosenKey }: Refusal = refusal ?? NO_KEY;
    if (strict && left !== undefined) throw sourceError("MR2114", "fatal", left, fix);
    if (isLiteral && strict)
      throw sourceError("MR2115", "fatal", `${table.schema}.${table.table} can't be captured: ${reason}`, fix);
    const id = tableId(table.schema, table.table);
    const more = { ...(fixWith && { fixWith }), ...(chosenKey && { chosenKey }) };
    refused.push({ id, reason, fix, ...more });
  }
  const shown = new Set(catalog.map(({ schema, table }) => tableId(schema, table)));
  refused.push(...(await hiddenTables(context, known, shown, signal)));
  const named = new Set(catalog.map(({ schema, table }) => `${schema}.${table}`));
  const missing = context.literals.filter((literal) => !named.has(literal));
  if (strict && missing[0] !== undefined)
    throw sourceError(
      "MR2115",
      "fatal",
      `the table ${missing[0]} does not exist, or the user may not read it`,
      "Correct its name in `tables` (database.table), create it first, or GRANT SELECT on it.",
    );
  return {
    tables,
    refused,
    generations,
    missing,
    idle: context.idle(catalog),
    described: told,
    altered,
    unlogged: [...unlogged.values()],
  };
}

function* namesIn(tables: readonly TableName[] = []): Generator<string> {
  for (const { table } of tables) yield table;
}

/** Whether a table that was never followed stays left out. */
export function isLeftOut(table: CatalogTable, context: SourceContext): boolean {
  const shape = catalogShape(table, context);
  return refusalOf(table, shape, findKey(table, context.chosenKey(table))) !== undefined;
}

export const LOG_FIX =
  "Take binlog-do-db and binlog-ignore-db out of the server's configuration and restart it, or leave the database out of `tables`.";
const NO_KEY: Refusal = { reason: "it has no usable key", fix: "Give it a primary key." };

/** `former`: the columns of a key that the table had. */
function keyFix({ columns, nullableUnique }: CatalogTable, name: string, former: readonly string[] = []): string {
  if (former.length > 0 && former.every((column) => columns.some((one) => one.name === column)))
    return `ALTER TABLE ${name} ADD PRIMARY KEY (${former.map(quoteName).join(", ")});`;
  if (nullableUnique === undefined)
    return `ALTER TABLE ${name} ADD PRIMARY KEY (…), or a unique index over NOT NULL columns.`;
  const nullable = columns.filter((column) => column.nullable && nullableUnique.columns.includes(column.name));
  const changes = nullable.map((column) => `MODIFY ${quoteName(column.name)} ${column.columnType} NOT NULL`);
  return `ALTER TABLE ${name} ${changes.join(", ")}; makes its unique index ${quoteName(nullableUnique.name)} a key, or ADD PRIMARY KEY (…).`;
}

function refusalOf(table: CatalogTable, shape: TableShape | undefined, key: FoundKey): Refusal | undefined {
  const name = quoteTable(table.schema, table.table);
  if (NO_ROWS.has(table.type))
    return {
      reason: "it is no base table, and what it shows is not in the log",
      fix: "Capture the tables beneath it.",
    };
  if (table.engine !== "" && !ENGINES.has(table.engine.toLowerCase()))
    return {
      reason: `the log does not show how rows of the engine ${table.engine} change`,
      fix: "Leave it out of `tables`.",
    };
  if (table.history?.isPrecise === true)
    return {
      reason: "it has a transaction-precise history, so that its changes are logged as statements",
      fix: "Leave it out of `tables`, or let its history have times: columns of type TIMESTAMP(6) AS ROW START and AS ROW END.",
    };
  if (key.kind === "unknown" || key.kind === "unfit") return { ...key, chosenKey: key.kind };
  if (shape === undefined) {
    const fixWith = (former: readonly string[]) => keyFix(table, name, former);
    return { reason: NO_KEY.reason, fix: keyFix(table, name), fixWith };
  }
  const reserved = shape.columns.find((column) => column.name.startsWith("_millrace_"));
  if (reserved !== undefined)
    return {
      reason: `its column ${reserved.name} has a name that Millrace reserves`,
      fix: "Rename the column.",
    };
  return undefined;
}
