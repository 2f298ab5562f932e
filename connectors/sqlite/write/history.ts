/**
 * Appends to a table's history. A row is one change; (key, version, offset) identifies it and is unique, so an existing
 * change is not appended again when the log is read again.
 */
import { DELETE, isIfHeld, PATCH, type Truncate } from "../../../src/core/model/batch.ts";
import { changeOffset, changeOp, holdsReads, READ_OFFSET } from "../../../src/core/targets/history.ts";
import {
  COMMIT_TIME_COLUMN,
  OFFSET_COLUMN,
  OP_COLUMN,
  SEEN_COLUMN,
  UNCHANGED_COLUMN,
  VERSION_COLUMN,
} from "../../warehouse/own-columns.ts";
import type { SqliteFile } from "../file.ts";
import { chained, isRow, keyNames, parameters, type SqliteLayout } from "../tables/layout.ts";
import { FLOAT } from "../types.ts";
import type { TableWrite } from "./mirror.ts";
import type { IsInPiece, Slices } from "./slices.ts";

const OWN = [OP_COLUMN, OFFSET_COLUMN, UNCHANGED_COLUMN, VERSION_COLUMN, COMMIT_TIME_COLUMN];
const PLACE = `(${VERSION_COLUMN}, ${OFFSET_COLUMN})`;
const NEWEST = `ORDER BY ${VERSION_COLUMN} DESC, ${OFFSET_COLUMN} DESC LIMIT 1`;
/** The statements of one layout; their values are the cells, then `OWN`. */
class HistorySql {
  readonly append: string;
  /** The change is there. Values: the key, version and offset. */
  readonly exists: string;
  /** The latest row of the key: number, op, version, offset, whether it holds these cells, whether a truncate follows it. */
  readonly latest: string;
  readonly see: string;
  readonly #layout: SqliteLayout;
  readonly #completed = new Map<string, string>();

  constructor(layout: SqliteLayout) {
    this.#layout = layout;
    const { columns, key, table, sqlName } = layout;
    const names = [...columns.map((column) => column.sqlName), ...OWN];
    this.append = `INSERT INTO ${sqlName} (${names.join(", ")}) VALUES (${parameters(names.length).join(", ")}) ON CONFLICT DO NOTHING`;
    const [version, offset] = parameters(2, key.length + 1);
    this.exists = `SELECT 1 FROM ${sqlName} WHERE ${isRow(layout, 1)} AND ${PLACE} = (${version}, ${offset})`;
    const held = columns.map((column, i) => {
      const isSame = `${column.sqlName} IS ?${i + 1}`;
      if (column.sqlite.form !== FLOAT) return isSame;
      // Both zeros are equal, and point in different directions.
      return `${isSame} AND (typeof(${column.sqlName}) <> 'real' OR atan2(0, ${column.sqlName}) = atan2(0, ?${i + 1}))`;
    });
    const truncated = `SELECT ${VERSION_COLUMN}, ${OFFSET_COLUMN} FROM ${sqlName} WHERE ${OP_COLUMN} = 't' ${NEWEST}`;
    const at = table.key.map((ordinal, k) => `${key[k]!.sqlName} = ?${ordinal + 1}`).join(" AND ");
    this.latest =
      `SELECT _rowid_, ${OP_COLUMN}, ${VERSION_COLUMN}, ${UNCHANGED_COLUMN} IS NULL AND ${chained("AND", held)}, ` +
      `coalesce(${PLACE} < (${truncated}), 0) FROM ${sqlName} WHERE ${at} ${NEWEST}`;
    this.see = `UPDATE ${sqlName} SET ${SEEN_COLUMN} = ?1 WHERE _rowid_ = ?2`;
  }

  /**
   * Appends a change whose unchanged cells (`u` in `mask`) are those of the row before it. A deleted row, one that a truncate
   * removed before the change, or one with unknown values, supplies nothing. Values: the base's key, the carried cells, `OWN`, and
   * the last row that may be a base.
   */
  completed(mask: string): string {
    let sql = this.#completed.get(mask);
    if (sql === undefined) {
      const { columns, key, sqlName } = this.#layout;
      let at = key.length;
      const cells = columns.map((column, i) => (mask[i] === "u" ? `base.${column.sqlName}` : `?${++at}`));
      const [op, offset, unchanged, version, time, last] = parameters(OWN.length + 1, at + 1);
      const before =
        `SELECT * FROM ${sqlName} WHERE ${isRow(this.#layout, 1)} AND ${PLACE} < (${version}, ${offset}) ` +
        `AND _rowid_ <= ${last} ${NEWEST}`;
      const isBetween = `${PLACE} > (base.${VERSION_COLUMN}, base.${OFFSET_COLUMN}) AND ${PLACE} < (${version}, ${offset})`;
      sql =
        `INSERT INTO ${sqlName} (${[...columns.map((column) => column.sqlName), ...OWN].join(", ")}) ` +
        `SELECT ${[...cells, op, offset, unchanged, version, time].join(", ")} FROM (${before}) AS base ` +
        `WHERE base.${OP_COLUMN} <> 'd' AND base.${UNCHANGED_COLUMN} IS NULL ` +
        `AND NOT EXISTS (SELECT 1 FROM ${sqlName} WHERE ${OP_COLUMN} = 't' AND ${isBetween}) ON CONFLICT DO NOTHING`;
      this.#completed.set(mask, sql);
    }
    return sql;
  }
}

export class HistoryWriter {
  readonly #sql = new WeakMap<SqliteLayout, HistorySql>();

  /** In the order of the log. What a change leaves out is that of the row before the batch: a history's row numbers only grow. */
  async write(at: TableWrite): Promise<void> {
    const { file, layout, writes } = at;
    let sql = this.#sql.get(layout);
    if (sql === undefined) this.#sql.set(layout, (sql = new HistorySql(layout)));
    const statements = sql;
    if (holdsReads(writes)) return await at.each((i) => appendRead(at, statements, i));
    const [[found = null] = []] = writes.patchCount > 0 ? file.rows(`SELECT max(_rowid_) FROM ${layout.sqlName}`) : [];
    const last = typeof found === "bigint" ? found : 0n;
    await at.each((i) => append(at, statements, i, last));
  }
}

function append(at: TableWrite, sql: HistorySql, entry: number, last: bigint): void {
  const { rows, layout, writes } = at;
  const block = at.blockOf(entry);
  const row = writes.row[entry]!;
  const action = writes.action[entry]!;
  const tuple = (action === DELETE ? block.before : block.after)[row]!;
  const op = changeOp(writes, entry);
  const offset = changeOffset(block, row);
  rows.begin(writes, entry);
  if (action === PATCH) {
    const mask = rows.maskAt(layout, block.bytes, tuple);
    const ifHeld = isIfHeld(writes, entry);
    if (writes.fresh[entry] !== 1) {
      rows.key(layout, block.bytes, writes.moved[entry] === 1 ? block.before[row]! : tuple);
      rows.cells(layout, block.bytes, tuple, "left out");
      rows.values.push(op, offset, null, rows.version, rows.commitTime, last);
      if (at.run(sql.completed(mask), entry) !== 0) return;
      rows.begin(writes, entry);
    }
    rows.key(layout, block.bytes, tuple);
    if (at.file.rows(sql.exists, ...rows.values, rows.version, offset).length > 0) return;
    at.incomplete.push(entry);
    if (ifHeld) return;
    rows.begin(writes, entry);
    rows.cells(layout, block.bytes, tuple, "null");
    const unknown = layout.columns.filter((_, i) => mask[i] === "u").map(({ name }) => name);
    rows.values.push(op, offset, JSON.stringify(unknown), rows.version, rows.commitTime);
  } else {
    rows.cells(layout, block.bytes, tuple, "none");
    rows.values.push(op, offset, null, rows.version, rows.commitTime);
  }
  if (at.run(sql.append, entry) !== 0) return;
  rows.begin(writes, entry);
  rows.key(layout, block.bytes, tuple);
  if (at.file.rows(sql.exists, ...rows.values, rows.version, offset).length === 0) at.ignored(entry);
}

/** Appends a row that was read beside the stream, unless the latest row of its key is the same already, which is marked as seen. */
function appendRead(at: TableWrite, sql: HistorySql, entry: number): void {
  const { file, rows, layout, writes } = at;
  const block = at.blockOf(entry);
  const row = writes.row[entry]!;
  const tuple = (writes.action[entry] === DELETE ? block.before : block.after)[row]!;
  const op = changeOp(writes, entry);
  rows.begin(writes, entry);
  rows.cells(layout, block.bytes, tuple, "none");
  const [found] = file.rows(sql.latest, ...rows.values);
  if (found === undefined) {
    if (op !== "r") return;
  } else {
    const [id, last, version, isSame, isTruncated] = found;
    if (typeof id !== "bigint" || typeof version !== "bigint" || version > rows.version) return;
    const isOver = last === "d" || isTruncated === 1n;
    if (isOver && op === "d") return;
    if (!isOver && op === "r" && isSame === 1n) return void file.run(sql.see, rows.version, id);
  }
  rows.values.push(op, changeOffset(block, row), null, rows.version, rows.commitTime);
  at.run(sql.append, entry);
}

/** A row without a key, once. */
export function appendTruncate(
  file: SqliteFile,
  { sqlName }: SqliteLayout,
  { version, record }: Truncate,
  timeText: (us: bigint) => string,
): void {
  const offset = record?.index ?? READ_OFFSET;
  const time = timeText(record?.commitTimeUs ?? BigInt(Date.now()) * 1000n);
  file.run(
    `INSERT INTO ${sqlName} (${[OP_COLUMN, OFFSET_COLUMN, VERSION_COLUMN, COMMIT_TIME_COLUMN].join(", ")}) SELECT 't', ?1, ?2, ?3 ` +
      `WHERE NOT EXISTS (SELECT 1 FROM ${sqlName} WHERE ${OP_COLUMN} = 't' AND ${VERSION_COLUMN} = ?2 AND ${OFFSET_COLUMN} = ?1)`,
    offset,
    version,
    time,
  );
}

/** Appends a delete for each existing key that no read from `below` on has seen. */
export async function appendSweep(
  file: SqliteFile,
  slices: Slices,
  layout: SqliteLayout,
  below: bigint,
  now: string,
): Promise<void> {
  const { sqlName, key } = layout;
  const isKey = key.map((column) => `later.${column.sqlName} = r.${column.sqlName}`).join(" AND ");
  const after = (name: string): string =>
    `(${name}.${VERSION_COLUMN}, ${name}.${OFFSET_COLUMN}) > (r.${VERSION_COLUMN}, r.${OFFSET_COLUMN})`;
  const sweep = (isInPiece: IsInPiece): string =>
    `INSERT INTO ${sqlName} (${[keyNames(layout), OP_COLUMN, OFFSET_COLUMN, VERSION_COLUMN, COMMIT_TIME_COLUMN].join(", ")}) ` +
    `SELECT ${key.map((column) => `r.${column.sqlName}`).join(", ")}, 'd', ?1, ?2, ?3 FROM ${sqlName} AS r ` +
    `WHERE ${isInPiece("r")} AND r.${OP_COLUMN} NOT IN ('d', 't') AND max(r.${VERSION_COLUMN}, coalesce(r.${SEEN_COLUMN}, 0)) < ?2 ` +
    `AND NOT EXISTS (SELECT 1 FROM ${sqlName} AS later WHERE ${isKey} AND ${after("later")}) ` +
    `AND NOT EXISTS (SELECT 1 FROM ${sqlName} AS truncated WHERE truncated.${OP_COLUMN} = 't' AND ${after("truncated")}) ` +
    `ON CONFLICT DO NOTHING`;
  await slices.overRows(file, sqlName, sweep, READ_OFFSET, below, now);
}
