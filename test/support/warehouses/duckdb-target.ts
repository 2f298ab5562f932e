/** A DuckDB file as the conformance suite and the tests of the sink look at it: through SQL of their own. */
import { isDense } from "./duckdb-landing.ts";
import { rmSync } from "node:fs";
import type { Json } from "@duckdb/node-api";
import { checkFile } from "../../../connectors/duckdb/check.ts";
import { Database } from "../../../connectors/duckdb/file/database.ts";
import { duckdbSink, type DuckdbSinkOptions } from "../../../connectors/duckdb/sink.ts";
import type { Store } from "../../../connectors/duckdb/store.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import type { ColumnType } from "../../../src/core/model/types.ts";
import type { HistoryRow, MarkedRow, PoisonCase, SinkTarget, TargetRow } from "../../conformance/sink.ts";
import { tableVersion } from "../model/blocks.ts";
import { type Kept, liveRows } from "../compare/live-rows.ts";
import { temporaryFolder } from "../run/temporary-folder.ts";
import { DEFAULT_FORM, type TargetForm } from "../../../connectors/warehouse/own-columns.ts";

const SETTINGS = { memoryLimit: "256MB", threads: 2 };

/** The forms that the suite runs over. */
export const FORMS: readonly TargetForm[] = [
  DEFAULT_FORM,
  { deletes: "soft", mode: "mirror" },
  { deletes: "hard", mode: "history" },
];

const documents = tableVersion({ table: "documents", columns: { id: "int4", body: "json" } });

export const refusal = (): PoisonCase => ({
  table: documents,
  good: (i) => [`${i}`, `{"n": ${i}}`],
  bad: (i) => [`${i}`, '{"a secret": '],
});

export interface DuckdbTarget extends SinkTarget {
  readonly path: string;
  makeSink(other?: string | TargetForm, daemon?: string): ReturnType<typeof duckdbSink>;
  /** Runs SQL on the file, also while a sink has it open. */
  readonly query: RunSql;
}

/** `died`: the process before died, so the engine runs in one of its own. */
export function duckdbTarget(
  form: TargetForm = DEFAULT_FORM,
  { died = false, ...options }: Pick<DuckdbSinkOptions, "logger" | "upkeep"> & { readonly died?: boolean } = {},
): DuckdbTarget {
  const folder = temporaryFolder();
  const path = folder.file("warehouse.duckdb");
  const query: RunSql = (sql) => onStore(Database.acquire({ path, ...SETTINGS }), sql);
  return {
    path,
    query,
    makeSink: (other = form, daemon = "shop") => {
      const name = typeof other === "string" ? other : "warehouse";
      const given = typeof other === "string" ? form : other;
      const sink = duckdbSink({
        name,
        owner: `${daemon}/${name}`,
        path,
        schema: undefined,
        form: given,
        ...SETTINGS,
        ...options,
      });
      sink.follows({ died, errors: [] });
      return sink;
    },
    check: async (tables, daemon, signal) => {
      const { deletes, mode } = form;
      const given = { name: "warehouse", owner: `${daemon}/warehouse`, path, schema: undefined, ...SETTINGS };
      return await checkFile({ ...given, form: { deletes, mode } }, signal, tables);
    },
    // The file is warehouse.duckdb, so its catalogue is `warehouse`.
    ...readerOf(query, "warehouse", form),
    async wipe() {
      for (const file of [path, `${path}.wal`]) rmSync(file, { force: true });
    },
    async occupy(table) {
      await query(`create schema if not exists ${quote(table.schema)}`);
      await query(`create table ${nameOf(table)} (id integer primary key)`);
    },
    async copy(table) {
      const [name, copy] = [nameOf(table), nameOf({ ...table, table: "millrace_copy" })];
      await query(`create table ${copy} as from ${name}`);
      return async () => {
        await query(`drop table ${name}`);
        await query(`alter table ${copy} rename to ${quote(table.table)}`);
      };
    },
    async obstruct(table) {
      await query(`alter table ${nameOf(table)} rename to millrace_hidden`);
      const back = `alter table ${quote(table.schema)}.millrace_hidden rename to ${quote(table.table)}`;
      return { [Symbol.asyncDispose]: async () => void (await query(back)) };
    },
    async [Symbol.asyncDispose]() {
      folder[Symbol.dispose]();
    },
  };
}

export type RunSql = (sql: string) => Promise<readonly (readonly Json[])[]>;

export async function onStore(acquired: Promise<Store>, sql: string): Promise<readonly (readonly Json[])[]> {
  const store = await acquired;
  try {
    const connection = await store.connect();
    try {
      const run = async () => (await connection.runAndReadAll(sql)).getRowsJson();
      // What writes takes its turn, as a sink does that shares the file: between turns nobody of this process writes into it.
      return /^\s*(select|from|with)\b/i.test(sql) ? await run() : await store.exclusively(run);
    } finally {
      connection.disconnectSync();
    }
  } finally {
    await store.release();
  }
}

/** What the suite reads of the tables in a catalogue. */
export function readerOf(
  query: RunSql,
  catalogue: string,
  form: TargetForm,
): Required<Pick<SinkTarget, "readMarked" | "readHistory" | "readRows">> {
  const at = { query, catalogue };
  return {
    readMarked: (table) => readMarked(at, table),
    readHistory: (table) => readHistory(at, table),
    readRows: (table) => readRows(at, table, form),
  };
}

interface Place {
  readonly query: RunSql;
  readonly catalogue: string;
}

export function quote(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

export function nameOf(table: TableVersion, catalogue = "warehouse"): string {
  return `${catalogue}.${quote(table.schema)}.${quote(table.table)}`;
}

/** Names in the target, in the order of the source's columns. A name that DuckDB can't have is found by its place. */
async function columnsOf({ query, catalogue }: Place, table: TableVersion): Promise<string[]> {
  const rows = await query(
    `select column_name from (describe ${nameOf(table, catalogue)}) where not starts_with(column_name, '_millrace_')`,
  );
  const found = rows.map(([name]) => text(name));
  return table.columns.map(({ name }, i) => (found.includes(name) ? name : found[i]!));
}

/** Cells that `_millrace_exact` has are shown as that text. */
async function readRows(at: Place, table: TableVersion, form: TargetForm): Promise<TargetRow[]> {
  const { query, catalogue } = at;
  const names = await columnsOf(at, table);
  const [exact] = await query(
    `select count(*)::integer from (describe ${nameOf(table, catalogue)}) where column_name = '_millrace_exact'`,
  );
  const keys = table.key.map((i) => quote(names[i]!));
  const cells = table.columns.map(({ type }, i) => readable(type, quote(names[i]!), table.key.includes(i)));
  const rows = await query(
    `select _millrace_version::varchar, ${exact?.[0] === 1 ? "_millrace_exact::varchar" : "null"}, ${cells.join(", ")} ` +
      `from ${liveRows(nameOf(table, catalogue), keys, keptIn(form))}`,
  );
  return rows.map(([version, beside, ...values]) => {
    const kept = new Map<string, unknown>(Object.entries(parsedObject(beside)));
    return {
      version: BigInt(text(version)),
      cells: values.map((value, i) => {
        const kind = kept.get(names[i]!);
        if (typeof kind === "string") return kind;
        return value === null ? null : spelt(table.columns[i]!.type, value, table.key.includes(i));
      }),
    };
  });
}

async function readMarked({ query, catalogue }: Place, table: TableVersion): Promise<MarkedRow[]> {
  const cells = table.columns.map(({ name }) => `${quote(name)}::varchar`);
  const rows = await query(
    `select _millrace_version::varchar, epoch_us(_millrace_commit_time)::varchar, _millrace_deleted, ${cells.join(", ")} ` +
      `from ${nameOf(table, catalogue)} order by ${table.key.map((i) => quote(table.columns[i]!.name)).join(", ")}`,
  );
  return rows.map(([version, us, deleted, ...values]) => ({
    version: BigInt(text(version)),
    commitTimeUs: BigInt(text(us)),
    isDeleted: deleted === true,
    cells: values.map((value) => (value === null ? null : text(value))),
  }));
}

async function readHistory({ query, catalogue }: Place, table: TableVersion): Promise<HistoryRow[]> {
  const cells = table.columns.map(({ name }) => `${quote(name)}::varchar`);
  const keys = table.key.map((i) => quote(table.columns[i]!.name));
  const rows = await query(
    `select _millrace_version::varchar, _millrace_offset::varchar, _millrace_op, ` +
      `coalesce(array_to_string(_millrace_unchanged, ','), ''), ${cells.join(", ")} from ${nameOf(table, catalogue)} ` +
      `order by _millrace_version, _millrace_offset, ${keys.join(", ")}, _millrace_op desc`,
  );
  return rows.map(([version, offset, op, unchanged, ...values]) => ({
    version: BigInt(text(version)),
    offset: Number(text(offset)),
    op: text(op),
    unchanged: text(unchanged)
      .split(",")
      .filter((name) => name !== ""),
    cells: values.map((value) => (value === null ? null : text(value))),
  }));
}

export function keptIn(form: TargetForm): Kept | undefined {
  if (form.mode === "history") return "history";
  return form.deletes === "soft" ? "soft" : undefined;
}

function parsedObject(json: Json | undefined): object {
  const parsed: unknown = JSON.parse(typeof json === "string" ? json : "{}");
  return typeof parsed === "object" && parsed !== null ? parsed : {};
}

function text(value: Json | undefined): string {
  if (typeof value !== "string") throw new TypeError("the query should give text here");
  return value;
}

function readable(type: ColumnType, name: string, isKey: boolean): string {
  if (type.kind === "bytes") return `'\\x' || lower(hex(${name}))`;
  if (type.kind === "bool" || type.kind === "float") return name;
  // The binding takes a byte order mark off the front of a string.
  if (isDense(type) && !isKey) return name;
  if (type.kind !== "array" || isKey) return `hex(${name}::varchar)`;
  if (type.of.kind === "array") return name;
  return `list_transform(${name}, lambda x: ${readable(type.of, "x", false)})`;
}

function spelt(type: ColumnType, value: Json, isKey: boolean): string {
  if (type.kind === "bool") return value === true || value === "t" ? "t" : "f";
  if (type.kind === "float") return String(Number(value));
  if (type.kind === "bytes") return text(value);
  if (isDense(type) && Array.isArray(value)) return JSON.stringify(value.map(String));
  if (type.kind === "array" && !isKey && Array.isArray(value)) {
    return JSON.stringify(value.map((element) => (element === null ? null : spelt(type.of, element, false))));
  }
  return Buffer.from(text(value), "hex").toString();
}
