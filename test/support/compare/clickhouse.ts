/** Tables in ClickHouse, over HTTP by `fetch`. */
import { askClickhouse, landed, nameIn, readable, spelt } from "../warehouses/clickhouse-values.ts";
import type { Kept } from "./live-rows.ts";
import { sinkRow } from "./postgres.ts";
import { rowId, type SinkReader, type SinkRow, VERSION } from "./reader.ts";
import type { SourceTable } from "./source-table.ts";

export interface ClickhouseSinkAddress {
  readonly kind: "clickhouse";
  readonly url: string;
  /** The database of all tables. */
  readonly schema: string;
  readonly kept?: Kept;
}

export async function clickhouseReader({ url, schema, kept }: ClickhouseSinkAddress): Promise<SinkReader> {
  return {
    mayRepeat: false,
    expected: (column, text) => landed(column, text, column.isKey),
    idOf: (_key, landedKey) => rowId(landedKey),
    rows: (table) => readRows(url, schema, table, kept),
    [Symbol.asyncDispose]: async () => undefined,
  };
}

async function* readRows(url: string, schema: string, table: SourceTable, kept?: Kept): AsyncGenerator<SinkRow[]> {
  const found = await askClickhouse(
    url,
    `SELECT name FROM system.columns WHERE database = '${schema}' AND table = '${table.table.replaceAll(/[\\']/g, "\\$&")}'`,
  );
  const there = new Set(found.map(([name]) => name ?? ""));
  if (there.size === 0) return;
  const surplus = [...there].filter(
    (name) => table.columns.every((column) => column.name !== name) && !name.startsWith("_millrace_"),
  );
  const cells = table.columns.map((column) => (there.has(column.name) ? readable(column) : "NULL"));
  const others = surplus.map((name) => `toString(${nameIn(name)})`);
  const list = [`toString(${VERSION})`, "_millrace_exact", ...cells, ...others].join(", ");
  const rows = await askClickhouse(url, `SELECT ${list} FROM ${live(schema, table, kept)}`);
  yield rows.map(([version, exact, ...values]) => {
    const beside = new Map<string, unknown>(exact ? Object.entries(JSON.parse(exact)) : []);
    const shown = values.map((value, i) => {
      const column = table.columns[i];
      if (column === undefined || value === null) {
        const text = beside.get(column?.name ?? "");
        return typeof text === "string" ? text : value;
      }
      return spelt(column, column.isKey, value);
    });
    return sinkRow(table, [version ?? null, ...shown], surplus);
  });
}

/** The view shows the same, but only the table's present columns. */
function live(schema: string, { table, key, columns }: SourceTable, kept?: Kept): string {
  const place = nameIn(schema, table);
  if (kept !== "history") return `${place} FINAL WHERE _millrace_deleted = 0`;
  const keys = key.map((i) => nameIn(columns[i]!.name)).join(", ");
  return (
    `(SELECT * FROM ${place} FINAL WHERE _millrace_op != 't' ORDER BY _millrace_version DESC, _millrace_offset DESC LIMIT 1 BY ${keys}) ` +
    `WHERE _millrace_op != 'd' AND (_millrace_version, _millrace_offset) > ` +
    `(SELECT max((_millrace_version, _millrace_offset)) FROM ${place} WHERE _millrace_op = 't')`
  );
}
