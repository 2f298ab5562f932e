/** A SQLite file as the conformance suite and the tests of the sink look at it: through SQL of their own. */
import { rmSync } from "node:fs";
import { DatabaseSync, type SQLOutputValue } from "node:sqlite";
import { checkFile } from "../../../connectors/sqlite/check.ts";
import { SqliteSink } from "../../../connectors/sqlite/sink.ts";
import { DEFAULT_FORM, type TargetForm } from "../../../connectors/warehouse/own-columns.ts";
import type { Column, TableVersion } from "../../../src/core/model/schema.ts";
import type { HistoryRow, MarkedRow, PoisonCase, SinkTarget, TargetRow } from "../../conformance/sink.ts";
import { tableVersion } from "../model/blocks.ts";
import { landingOf } from "../model/json-landing.ts";
import { plainOf, readJson, spelledJson } from "../model/json-text.ts";
import { temporaryFolder } from "../run/temporary-folder.ts";

/** The forms that the suite runs over. */
export const SQLITE_FORMS: readonly TargetForm[] = [
  DEFAULT_FORM,
  { deletes: "soft", mode: "mirror" },
  { deletes: "hard", mode: "history" },
];

const numbers = tableVersion({ table: "numbers", columns: { id: "int4", n: "int8" } });

/** What no source sends: a STRICT table takes no text for an integer. */
export const sqliteRefusal = (): PoisonCase => ({
  table: numbers,
  good: (i) => [`${i}`, `${i}`],
  bad: (i) => [`${i}`, "a secret"],
});

export interface SqliteTarget extends SinkTarget {
  readonly path: string;
  /** Runs SQL on the file, also while a sink has it open. Integers are bigints. */
  readonly query: (sql: string) => readonly (readonly SQLOutputValue[])[];
}

/** `isNest`: values and versions are packed. */
export function sqliteTarget(form: TargetForm = DEFAULT_FORM, isNest = false): SqliteTarget {
  const folder = temporaryFolder();
  const path = folder.file("replica.sqlite");
  const query = (sql: string) => inFile(path, sql);
  /** A nest notes no newest row: nobody but Millrace writes into its file. */
  const copy: SinkTarget["copy"] = async (table) => {
    const name = nameOf(table);
    const [[made] = []] = query(`select sql from sqlite_schema where name = '${table.schema}.${table.table}'`);
    query(`create table millrace_copy as select * from ${name}`);
    return async () => {
      query(`drop table ${name}`);
      query(String(made));
      query(`insert into ${name} select * from millrace_copy`);
    };
  };

  return {
    path,
    query,
    makeSink: (other = form, daemon = "shop") =>
      new SqliteSink({ name: "replica", owner: `${daemon}/replica`, path, schema: undefined, form: other }),
    check: async (tables, daemon, signal) =>
      await checkFile({ name: "replica", owner: `${daemon}/replica`, path, schema: undefined, form }, signal, tables),
    readRows: async (table) => (isNest ? nestRows(query, table) : liveRows(query, table, form)),
    readMarked: async (table) => markedRows(query, table),
    readHistory: async (table) => historyRows(query, table),
    async wipe() {
      for (const file of [path, `${path}-wal`, `${path}-shm`]) rmSync(file, { force: true });
    },
    async occupy(table) {
      query(`create table ${nameOf(table)} (id integer primary key)`);
    },
    ...(isNest ? {} : { copy }),
    async obstruct(table) {
      query(`alter table ${nameOf(table)} rename to millrace_hidden`);
      return {
        [Symbol.asyncDispose]: async () => void query(`alter table millrace_hidden rename to ${nameOf(table)}`),
      };
    },
    async [Symbol.asyncDispose]() {
      folder[Symbol.dispose]();
    },
  };
}

/** How a cell lands, by the connector's README. */
export function sqliteLanding({ type, native }: Pick<Column, "type" | "native">, text: string): string {
  if (type.kind === "bool") return text === "t" ? "1" : "0";
  if (type.kind === "float" && text !== "-0")
    return String(type.bits === 32 ? Math.fround(Number(text)) : Number(text));
  if (["date", "time", "timestamp"].includes(type.kind)) return plainOf(landingOf(type, text));
  return type.kind === "array" && native !== "box[]" ? spelledJson(landingOf(type, text)) : text;
}

type RunSql = SqliteTarget["query"];

function inFile(path: string, sql: string): readonly (readonly SQLOutputValue[])[] {
  using database = new DatabaseSync(path, { timeout: 10_000 });
  const statement = database.prepare(sql);
  statement.setReadBigInts(true);
  statement.setReturnArrays(true);
  return statement.all().map((row) => Object.values(row));
}

function quote(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

function nameOf({ schema, table }: TableVersion): string {
  return quote(`${schema}.${table}`);
}

/** Names in the target, in the order of the source's columns. A name that SQLite can't have is found by its place. */
function columnsOf(query: RunSql, table: TableVersion): string[] {
  const literal = `'${`${table.schema}.${table.table}`.replaceAll("'", "''")}'`;
  const rows = query(`select name from pragma_table_info(${literal}) where name not like '#_millrace#_%' escape '#'`);
  const found = rows.map(([name]) => String(name));
  return table.columns.map(({ name }, i) => (found.includes(name) ? name : found[i]!));
}

export function sqliteReadable(name: string): string {
  return `case typeof(${quote(name)}) when 'text' then 't' || hex(${quote(name)}) when 'blob' then 'b' || hex(${quote(name)}) else ${quote(name)} end`;
}

/** A cell that `sqliteReadable` has selected, as `sqliteLanding` spells it. */
export function sqliteCell(
  { type, native }: Pick<Column, "type" | "native">,
  isKey: boolean,
  value: SQLOutputValue | undefined,
): string | null {
  if (value === null || value === undefined) return null;
  if (typeof value === "number") return Object.is(value, -0) ? "-0" : String(value);
  if (typeof value !== "string") return String(value);
  if (value.startsWith("b")) return `\\x${value.slice(1).toLowerCase()}`;
  const text = Buffer.from(value.slice(1), "hex").toString();
  if (type.kind !== "array" || native === "box[]") return text;
  return isKey ? text : spelledJson(readJson(text));
}

function cellsOf(table: TableVersion, values: readonly SQLOutputValue[]): (string | null)[] {
  return values.map((value, i) => sqliteCell(table.columns[i]!, table.key.includes(i), value));
}

function liveRows(query: RunSql, table: TableVersion, { deletes, mode }: TargetForm): TargetRow[] {
  const names = columnsOf(query, table);
  const cells = names.map(sqliteReadable).join(", ");
  const keys = table.key.map((i) => quote(names[i]!)).join(", ");
  const latest =
    `(select * from (select *, row_number() over (partition by ${keys} order by _millrace_version desc, _millrace_offset desc) as _place ` +
    `from ${nameOf(table)} where _millrace_op <> 't') as l where _place = 1 and _millrace_op <> 'd' and not exists (select 1 from ${nameOf(table)} as t ` +
    `where t._millrace_op = 't' and (t._millrace_version, t._millrace_offset) > (l._millrace_version, l._millrace_offset)))`;
  const from =
    mode === "history" ? latest : `${nameOf(table)}${deletes === "soft" ? " where not _millrace_deleted" : ""}`;
  return query(`select _millrace_version, ${cells} from ${from}`).map(([version, ...values]) => ({
    version: BigInt(String(version)),
    cells: cellsOf(table, values),
  }));
}

/** The first version of all counts 1. */
const NEST_ORIGIN = (1n << 55n) - 1n;

function nestRows(query: RunSql, table: TableVersion): TargetRow[] {
  const cells = columnsOf(query, table).map(sqliteReadable).join(", ");
  return query(`select _millrace_version, ${cells} from ${nameOf(table)}`).map(([version, ...values]) => ({
    version: BigInt(String(version)) + NEST_ORIGIN,
    cells: values.map((value, i) => unpacked(table.columns[i]!.type, value) ?? cellsOf(table, values)[i]!),
  }));
}

/** Null: it is not packed. */
function unpacked(type: Column["type"], value: SQLOutputValue): string | null {
  if (type.kind === "uuid" && typeof value === "string" && value.startsWith("b"))
    return value
      .slice(1)
      .toLowerCase()
      .replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
  if (typeof value !== "bigint" || !["date", "time", "timestamp"].includes(type.kind)) return null;
  const digits = (shift: bigint, bits: number, count: number): string =>
    String(BigInt.asUintN(bits, value >> shift)).padStart(count, "0");
  const day = (by: bigint): string => `${digits(9n + by, 14, 4)}-${digits(5n + by, 4, 2)}-${digits(by, 5, 2)}`;
  const clock = `${digits(32n, 7, 2)}:${digits(26n, 6, 2)}:${digits(20n, 6, 2)}.${digits(0n, 20, 6)}`;
  if (type.kind === "timestamp") return `${day(39n)}T${clock}${type.zone ? "Z" : ""}`;
  return type.kind === "date" ? day(0n) : clock;
}

function markedRows(query: RunSql, table: TableVersion): MarkedRow[] {
  const names = table.columns.map(({ name }) => name);
  const rows = query(
    `select _millrace_version, _millrace_commit_time, _millrace_deleted, ${names.map(sqliteReadable).join(", ")} ` +
      `from ${nameOf(table)} order by ${table.key.map((i) => quote(names[i]!)).join(", ")}`,
  );
  return rows.map(([version, time, deleted, ...values]) => ({
    version: BigInt(String(version)),
    commitTimeUs: microsecondsOf(String(time)),
    isDeleted: deleted === 1n,
    cells: cellsOf(table, values),
  }));
}

function microsecondsOf(time: string): bigint {
  const fraction = /\.(\d{6})Z$/.exec(time)?.[1] ?? "";
  return BigInt(Date.parse(`${time.slice(0, 19)}Z`)) * 1000n + BigInt(fraction);
}

function historyRows(query: RunSql, table: TableVersion): HistoryRow[] {
  const names = table.columns.map(({ name }) => name);
  const keys = table.key.map((i) => quote(names[i]!)).join(", ");
  const rows = query(
    `select _millrace_version, _millrace_offset, _millrace_op, coalesce(_millrace_unchanged, '[]'), ${names.map(sqliteReadable).join(", ")} ` +
      `from ${nameOf(table)} order by _millrace_version, _millrace_offset, ${keys}, _millrace_op desc`,
  );
  return rows.map(([version, offset, op, unchanged, ...values]) => ({
    version: BigInt(String(version)),
    offset: Number(offset),
    op: String(op),
    unchanged: [...JSON.parse(String(unchanged))].map(String),
    cells: cellsOf(table, values),
  }));
}
