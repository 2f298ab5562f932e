/**
 * The statements that append to a table's history in the target. A row is one change; (key, version, offset) identifies
 * it and is unique, so an existing change is not appended again when the log is read again.
 */
import { READ_OFFSET } from "../../../../src/core/targets/history.ts";
import { quoteLiteral } from "../../../../src/postgres/quote.ts";
import { STAGED_IF_HELD, STAGED_MOVE, STAGED_PATCH } from "./staged.ts";
import { type EntryRange, timeOf, inRange } from "./staged.ts";
import {
  COMMIT_TIME_COLUMN,
  OFFSET_COLUMN,
  OP_COLUMN,
  SEEN_COLUMN,
  UNCHANGED_COLUMN,
  VERSION_COLUMN,
} from "../../../warehouse/own-columns.ts";

/** Columns of a history besides the source's, version and commit time. */
export const HISTORY_COLUMNS: readonly string[] = [
  `${OP_COLUMN} text NOT NULL`,
  `${OFFSET_COLUMN} bigint NOT NULL`,
  `${UNCHANGED_COLUMN} text[]`,
  `${SEEN_COLUMN} bigint`,
];

export interface HistoryParts {
  readonly quoted: string;
  /** As statements name its rows. */
  readonly rows: string;
  readonly stage: string;
  /** Quoted, in the order of the source. */
  readonly columns: readonly string[];
  /** Their names in the target. */
  readonly names: readonly string[];
  readonly key: readonly number[];
}

export class HistoryTable {
  readonly #parts: HistoryParts;
  readonly #insert: string;

  constructor(parts: HistoryParts) {
    this.#parts = parts;
    const list = [...parts.columns, OP_COLUMN, OFFSET_COLUMN, UNCHANGED_COLUMN, VERSION_COLUMN, COMMIT_TIME_COLUMN];
    this.#insert = `INSERT INTO ${parts.quoted} (${list.join(", ")})`;
  }

  /** Appends staged changes of the log, in their order. */
  append(hasPatches: boolean, range?: EntryRange): string {
    const { columns, key, stage } = this.#parts;
    if (!hasPatches) {
      const cells = columns.map((_, i) => `s.c${i}`).join(", ");
      return `${this.#insert} SELECT ${cells}, s._op, s._offset, NULL, s._version, s._time FROM ${stage} AS s WHERE true${inRange(range)} ORDER BY s._ord ${this.#unlessThere}`;
    }
    const cells = columns.map((name, i) => {
      const base = key.includes(i) ? `s.b${i}` : `b.${name}`;
      return `CASE WHEN s._mask IS NOT NULL AND get_bit(s._mask, ${i}) = 1 THEN ${base} ELSE s.c${i} END`;
    });
    const unknown = `CASE WHEN s._mask IS NOT NULL AND b.${VERSION_COLUMN} IS NULL THEN ${this.#maskedNames} END`;
    return `${this.#insert} SELECT ${cells.join(", ")}, s._op, s._offset, ${unknown}, s._version, s._time FROM ${stage} AS s LEFT JOIN LATERAL ${this.#base} AS b ON ${this.#isUsable} WHERE NOT ${this.#isNotHeld}${inRange(range)} ORDER BY s._ord ${this.#unlessThere}`;
  }

  /** Entries with cells whose value is unknown. An existing change needs none. */
  incomplete(mark: number): string {
    const isUnknown = `s._mask IS NOT NULL AND NOT EXISTS (SELECT FROM ${this.#base} AS b WHERE ${this.#isUsable})`;
    return `SELECT ${mark}, s._ord FROM ${this.#parts.stage} AS s WHERE ${isUnknown} AND NOT ${this.#isThere} ORDER BY 2`;
  }

  /** The changes of the log that triggers kept from being written. One of a row that is not held is not there either. */
  unwritten(mark: number): string {
    const isMeant = `s._action <> ${STAGED_IF_HELD} OR EXISTS (SELECT FROM ${this.#base} AS b WHERE ${this.#isUsable})`;
    return `SELECT ${mark}, s._ord FROM ${this.#parts.stage} AS s WHERE (${isMeant}) AND NOT ${this.#isThere} ORDER BY 2`;
  }

  /**
   * Appends staged rows that were read beside the stream, unless the latest row of their key is the same already. Marks
   * the rows as seen, for `sweep`.
   */
  appendReads(range?: EntryRange): readonly string[] {
    const { columns, stage, rows, key } = this.#parts;
    const latest = `LATERAL ${this.#latest("c")} AS b`;
    const keys = key.map((c) => `t.${columns[c]} = l.k${c}`);
    const found = key.map((c) => `b.${columns[c]} AS k${c}`);
    const seen = `UPDATE ${rows} AS t SET ${SEEN_COLUMN} = l.seen FROM (SELECT ${found.join(", ")}, b.${VERSION_COLUMN} AS v, b.${OFFSET_COLUMN} AS o, s._version AS seen FROM ${stage} AS s CROSS JOIN ${latest} WHERE s._op = 'r'${inRange(range)} AND b.${VERSION_COLUMN} <= s._version AND ${this.#isHeld}) AS l WHERE ${keys.join(" AND ")} AND t.${VERSION_COLUMN} = l.v AND t.${OFFSET_COLUMN} = l.o`;
    const cells = columns.map((_, i) => `s.c${i}`).join(", ");
    const isNew = `CASE WHEN b.${VERSION_COLUMN} IS NULL THEN s._op = 'r' ELSE b.${VERSION_COLUMN} <= s._version AND NOT (${this.#isHeld}) END`;
    const append = `${this.#insert} SELECT ${cells}, s._op, s._offset, NULL, s._version, s._time FROM ${stage} AS s LEFT JOIN ${latest} ON true WHERE ${isNew}${inRange(range)} ORDER BY s._ord ${this.#unlessThere}`;
    return [seen, append];
  }

  /** A row without a key. */
  truncate(version: bigint, record: { readonly index: number; readonly commitTimeUs: bigint } | undefined): string {
    const { quoted, rows, columns, key } = this.#parts;
    const offset = record?.index ?? READ_OFFSET;
    const time = record === undefined ? "now()" : timeOf(record.commitTimeUs);
    const there = `${columns[key[0]!]} IS NULL AND ${VERSION_COLUMN} = ${version} AND ${OFFSET_COLUMN} = ${offset}`;
    return `INSERT INTO ${quoted} (${OP_COLUMN}, ${OFFSET_COLUMN}, ${VERSION_COLUMN}, ${COMMIT_TIME_COLUMN}) SELECT 't', ${offset}, ${version}, ${time} WHERE NOT EXISTS (SELECT FROM ${rows} WHERE ${there})`;
  }

  /** Appends a delete for each existing key that no read from `below` on has seen. */
  sweep(below: bigint): string {
    const { quoted, rows, columns, key } = this.#parts;
    const keys = key.map((c) => columns[c]);
    const latest = `SELECT DISTINCT ON (${keys.join(", ")}) ${keys.join(", ")}, ${OP_COLUMN}, ${VERSION_COLUMN}, ${OFFSET_COLUMN}, ${SEEN_COLUMN} FROM ${rows} WHERE ${keys[0]} IS NOT NULL ORDER BY ${keys.join(", ")}, ${VERSION_COLUMN} DESC, ${OFFSET_COLUMN} DESC`;
    const isGone = `NOT (${this.#isOver}) AND greatest(b.${VERSION_COLUMN}, b.${SEEN_COLUMN}) < ${below}`;
    return `INSERT INTO ${quoted} (${keys.join(", ")}, ${OP_COLUMN}, ${OFFSET_COLUMN}, ${VERSION_COLUMN}, ${COMMIT_TIME_COLUMN}) SELECT ${keys.map((name) => `b.${name}`).join(", ")}, 'd', ${READ_OFFSET}, ${below}, now() FROM (${latest}) AS b WHERE ${isGone} ${this.#unlessThere}`;
  }

  get #isThere(): string {
    const same = `${this.#sameKey("t", "c")} AND t.${VERSION_COLUMN} = s._version AND t.${OFFSET_COLUMN} = s._offset`;
    return `EXISTS (SELECT FROM ${this.#parts.rows} AS t WHERE ${same})`;
  }

  /** The row of the base key before the change. */
  get #base(): string {
    const before = `s._action IN (${STAGED_PATCH}, ${STAGED_MOVE}, ${STAGED_IF_HELD}) AND (t.${VERSION_COLUMN}, t.${OFFSET_COLUMN}) < (s._version, s._offset)`;
    return this.#latest("b", ` AND ${before}`);
  }

  #latest(prefix: "b" | "c", further = ""): string {
    return `(SELECT t.* FROM ${this.#parts.rows} AS t WHERE ${this.#sameKey("t", prefix)}${further} ORDER BY t.${VERSION_COLUMN} DESC, t.${OFFSET_COLUMN} DESC LIMIT 1)`;
  }

  /** A deleted row, one that a truncate removed before the change, or one with unknown values, supplies nothing. */
  get #isUsable(): string {
    const { rows, columns, key } = this.#parts;
    const isTruncate = key.map((c) => `t.${columns[c]} IS NULL`).join(" AND ");
    const place = `(t.${VERSION_COLUMN}, t.${OFFSET_COLUMN})`;
    const isBetween = `${place} > (b.${VERSION_COLUMN}, b.${OFFSET_COLUMN}) AND ${place} < (s._version, s._offset)`;
    return `b.${OP_COLUMN} <> 'd' AND b.${UNCHANGED_COLUMN} IS NULL AND NOT EXISTS (SELECT FROM ${rows} AS t WHERE ${isTruncate} AND ${isBetween})`;
  }

  /** Behind the join with its base `b`. */
  get #isNotHeld(): string {
    return `(s._action = ${STAGED_IF_HELD} AND b.${VERSION_COLUMN} IS NULL)`;
  }

  /** A condition on the latest row `b` of a key: it is a deleted one. */
  get #isOver(): string {
    const { rows, columns, key } = this.#parts;
    const truncated = `(SELECT ${VERSION_COLUMN}, ${OFFSET_COLUMN} FROM ${rows} WHERE ${columns[key[0]!]} IS NULL ORDER BY 1 DESC, 2 DESC LIMIT 1)`;
    return `b.${OP_COLUMN} = 'd' OR coalesce((b.${VERSION_COLUMN}, b.${OFFSET_COLUMN}) < ${truncated}, false)`;
  }

  /** The latest row `b` equals the row `s` that was read. Compared as text, because some types have no equality. */
  get #isHeld(): string {
    const there = this.#parts.columns.map((name) => `b.${name}::text`).join(", ");
    const read = this.#parts.columns.map((_, i) => `s.c${i}::text`).join(", ");
    const isSame = `b.${UNCHANGED_COLUMN} IS NULL AND ROW(${there}) IS NOT DISTINCT FROM ROW(${read})`;
    return `CASE WHEN ${this.#isOver} THEN s._op = 'd' ELSE s._op = 'r' AND ${isSame} END`;
  }

  get #maskedNames(): string {
    const names = this.#parts.names.map(
      (name, i) => `CASE WHEN get_bit(s._mask, ${i}) = 1 THEN ${quoteLiteral(name)} END`,
    );
    return `array_remove(ARRAY[${names.join(", ")}], NULL)`;
  }

  get #unlessThere(): string {
    const keys = this.#parts.key.map((c) => this.#parts.columns[c]).join(", ");
    return `ON CONFLICT (${keys}, ${VERSION_COLUMN}, ${OFFSET_COLUMN}) DO NOTHING`;
  }

  #sameKey(table: string, prefix: "b" | "c"): string {
    return this.#parts.key.map((c) => `${table}.${this.#parts.columns[c]} = s.${prefix}${c}`).join(" AND ");
  }
}
