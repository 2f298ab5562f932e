/**
 * How the sink writes one table version: names and forms of the cells, computed once in `prepare`. Statements are built
 * when they are sent, because keeping them for thousands of tables would cost memory.
 */
import type { TableVersion } from "../../../../src/core/model/schema.ts";
import type { ColumnType } from "../../../../src/core/model/types.ts";
import { quoteIdentifier, quoteTable } from "../../../../src/postgres/quote.ts";
import type { CellForms } from "../values/cells.ts";
import { STAGED_DELETE, STAGED_MOVE, STAGED_PATCH, STAGED_PUT } from "./staged.ts";
import { type FoundTable, rowsOf } from "./found-table.ts";
import { HistoryTable } from "./history-table.ts";
import { fitted, inScope, type TargetName } from "./names.ts";
import { type EntryRange, timeOf, inRange } from "./staged.ts";
import { COMMIT_TIME_COLUMN, DELETED_COLUMN, type TargetForm, VERSION_COLUMN } from "../../../warehouse/own-columns.ts";

/** The first columns of a staging table. */
const STAMP = ["_ord integer", "_action integer", "_mask bytea", "_version bigint", "_time timestamptz"];
/** The last columns of a history's staging table. */
const CHANGE = ["_op text", "_offset bigint"];

interface TargetTableParts {
  readonly version: TableVersion;
  readonly name: TargetName;
  readonly ordinal: number;
  readonly types: readonly string[];
  readonly forms: CellForms;
  /** Columns of the target that the table no longer has. */
  readonly retired: readonly string[];
  readonly form: TargetForm;
  /** As the target has it; null: it was not there before. */
  readonly existing: FoundTable | null;
}

export class TargetTable {
  readonly version: TableVersion;
  readonly name: TargetName;
  readonly quoted: string;
  /** As statements name its rows. */
  readonly rows: string;
  readonly isNew: boolean;
  /** Distinguishes this version's statements and staging table from others in this process. */
  readonly ordinal: number;
  readonly columnCount: number;
  readonly columnTypes: readonly ColumnType[];
  readonly keyColumns: readonly number[];
  readonly allColumns: readonly number[];
  readonly isKey: Uint8Array;
  readonly forms: CellForms;
  /** Whether the last rows had to be sent as text. One stream carries one form only, so this form is tried first. */
  textRows = false;
  /** For how many batches `updateStaged` is not tried. */
  batchesWithoutUpdate = 0;

  /** Quoted names of triggers that may keep rows from being written: what a batch has written is looked for. */
  triggers: readonly string[] = [];

  /** Null: a mirror. */
  readonly history: HistoryTable | null;
  /** Which columns of a deleted row are staged: the key's, in a history all that the log carried. */
  readonly inDelete: Uint8Array;
  readonly stagedFieldCount: number;
  readonly #columns: readonly string[];
  readonly #types: readonly string[];
  /** `column = NULL` for columns that the table no longer has. */
  readonly #retired: readonly string[];
  /** Whether deleted rows are marked instead of removed. */
  readonly #soft: boolean;

  constructor({ version, name, ordinal, types, forms, retired, form, existing }: TargetTableParts) {
    this.#soft = form.deletes === "soft";
    this.version = version;
    this.name = name;
    this.quoted = quoteTable(name.schema, name.table);
    this.rows = rowsOf(this.quoted, existing?.kind);
    this.isNew = existing === null;
    this.ordinal = ordinal;
    this.columnCount = version.columns.length;
    this.columnTypes = version.columns.map((column) => column.type);
    this.keyColumns = version.key;
    this.allColumns = version.columns.map((_, i) => i);
    this.isKey = Uint8Array.from(version.columns, (_, i) => Number(version.key.includes(i)));
    this.forms = forms;
    this.#columns = version.columns.map((column) => quoteIdentifier(fitted(column.name)));
    this.#types = types;
    this.#retired = retired.map((column) => `${quoteIdentifier(column)} = NULL`);
    const isHistory = form.mode === "history";
    this.stagedFieldCount = STAMP.length + types.length + version.key.length + (isHistory ? CHANGE.length : 0);
    this.inDelete = isHistory ? new Uint8Array(this.columnCount).fill(1) : this.isKey;
    const names = version.columns.map((column) => fitted(column.name));
    const { quoted, rows, stage } = this;
    this.history = isHistory
      ? new HistoryTable({ quoted, rows, stage, columns: this.#columns, names, key: version.key })
      : null;
  }

  get stage(): string {
    return stageName(this.ordinal);
  }

  get createStage(): string {
    const cells = this.#types.map((type, i) => `c${i} ${type}`);
    const bases = this.keyColumns.map((c) => `b${c} ${this.#types[c]}`);
    const columns = [...STAMP, ...cells, ...bases, ...(this.history === null ? [] : CHANGE)];
    return `CREATE TEMPORARY TABLE IF NOT EXISTS millrace_stage_${this.ordinal} (${columns.join(", ")}) ON COMMIT DELETE ROWS`;
  }

  copyDirect(binary: boolean): string {
    return `COPY ${this.quoted} (${VERSION_COLUMN}, ${COMMIT_TIME_COLUMN}, ${this.#columns.join(", ")}) FROM STDIN${formatOf(binary)}`;
  }

  copyStage(binary: boolean): string {
    return `COPY ${this.stage} FROM STDIN${formatOf(binary)}`;
  }

  /** How many stamp values `remove` takes before the key: the version, and with soft deletes the time. */
  get removeStampCount(): number {
    return this.#soft ? 2 : 1;
  }

  /** Guarded by version; see DESIGN for why deletes run before puts. */
  deleteStaged(range?: EntryRange): string {
    if (this.#soft) {
      const sets = `${DELETED_COLUMN} = true, ${VERSION_COLUMN} = s._version, ${COMMIT_TIME_COLUMN} = s._time`;
      return `UPDATE ${this.rows} AS t SET ${sets} FROM ${this.stage} AS s WHERE s._action = ${STAGED_DELETE}${inRange(range)} AND ${this.#sameKey("c")} AND t.${VERSION_COLUMN} <= s._version`;
    }
    return `DELETE FROM ${this.rows} AS t USING ${this.stage} AS s WHERE s._action = ${STAGED_DELETE}${inRange(range)} AND ${this.#sameKey("c")} AND t.${VERSION_COLUMN} <= s._version`;
  }

  /** Deletes the old rows of the keys that are about to be put: they could conflict in a second unique index. */
  displaceStaged(range?: EntryRange): string {
    return `DELETE FROM ${this.rows} AS t USING ${this.stage} AS s WHERE s._action = ${STAGED_PUT}${inRange(range)} AND ${this.#sameKey("c")} AND t.${VERSION_COLUMN} <= s._version`;
  }

  /** `distinct`: two entries may have the same key for the target (`1` as text and as binary). */
  putStaged(distinct: boolean, range?: EntryRange): string {
    const keys = this.keyColumns.map((c) => `s.c${c}`).join(", ");
    const cells = this.#columns.map((_, i) => `s.c${i}`).join(", ");
    const source = `FROM ${this.stage} AS s WHERE s._action = ${STAGED_PUT}${inRange(range)}`;
    const order = distinct ? ` ORDER BY ${keys}, s._version DESC, s._ord DESC` : "";
    return `INSERT INTO ${this.quoted} AS t (${this.#columns.join(", ")}, ${VERSION_COLUMN}, ${COMMIT_TIME_COLUMN}) SELECT ${distinct ? `DISTINCT ON (${keys}) ` : ""}${cells}, s._version, s._time ${source}${order} ${this.#onConflict()}`;
  }

  /**
   * Writes puts onto existing rows, without the lock and the second lookup of ON CONFLICT. A key identifies one row, so
   * the number of updated rows equals the number of puts only if each put found its own row, and none was newer.
   */
  updateStaged(): string {
    // A deleted row may have the same key in other bytes: all cells of the new row are written.
    const cells = this.#columns.map((name, i) => `${name} = s.c${i}`);
    const written = cells.filter((_, i) => this.#soft || this.isKey[i] !== 1);
    const sets = [...written, `${VERSION_COLUMN} = s._version`, `${COMMIT_TIME_COLUMN} = s._time`, ...this.#also];
    return `UPDATE ${this.rows} AS t SET ${sets.join(", ")} FROM ${this.stage} AS s WHERE s._action = ${STAGED_PUT} AND ${this.#sameKey("c")} AND t.${VERSION_COLUMN} <= s._version`;
  }

  /**
   * Changes these columns of a row in place. Fails with SQLSTATE 22012 if the row does not exist, or is newer. $1 and
   * $2 are version and time, then follow the key and the columns in their order.
   */
  patchInPlace(changed: readonly number[]): string {
    const keys = this.keyColumns.map((c, i) => `t.${this.#columns[c]} = $${i + 3}::${this.#types[c]}`);
    const first = this.keyColumns.length + 3;
    const cells = changed.map((c, i) => `${this.#columns[c]} = $${first + i}::${this.#types[c]}`);
    const sets = [
      `${VERSION_COLUMN} = $1::bigint`,
      `${COMMIT_TIME_COLUMN} = $2::timestamptz`,
      ...cells,
      ...this.#retired,
    ];
    return `WITH moved AS (UPDATE ${this.rows} AS t SET ${sets.join(", ")} WHERE ${keys.join(" AND ")} AND t.${VERSION_COLUMN} <= $1::bigint${this.#andLive} RETURNING 1) SELECT 1 / count(*) FROM moved`;
  }

  truncateTo(version: bigint, commitTimeUs: bigint | undefined): string {
    return this.#removeAll(version, commitTimeUs, `<= ${version}`);
  }

  sweepBelow(version: bigint): string {
    return this.#removeAll(version, undefined, `< ${version}`);
  }

  /** A row that was already deleted keeps the version and the time of its own delete. Fails if a trigger keeps a row. */
  #removeAll(version: bigint, timeUs: bigint | undefined, guard: string): string {
    const where = `WHERE ${VERSION_COLUMN} ${guard}${this.#andLive}${this.#inScope}`;
    const time = timeUs === undefined ? "now()" : timeOf(timeUs);
    const remove = this.#soft
      ? `UPDATE ${this.rows} AS t SET ${DELETED_COLUMN} = true, ${VERSION_COLUMN} = ${version}, ${COMMIT_TIME_COLUMN} = ${time} ${where}`
      : `DELETE FROM ${this.rows} AS t ${where}`;
    if (this.triggers.length === 0) return remove;
    return `${remove}; SELECT 1 / (NOT EXISTS (SELECT FROM ${this.rows} AS t ${where}))::int`;
  }

  /** The other columns of a written row: it is no longer deleted, and retired columns are null. */
  get #also(): readonly string[] {
    return this.#soft ? [`${DELETED_COLUMN} = false`, ...this.#retired] : this.#retired;
  }

  get #inScope(): string {
    return inScope(this.version);
  }

  get #andLive(): string {
    return this.#soft ? ` AND NOT t.${DELETED_COLUMN}` : "";
  }

  #onConflict(): string {
    const keys = this.keyColumns.map((c) => this.#columns[c]).join(", ");
    // A deleted row may have the same key in other bytes (1.0 and 1.00): all cells of the new row are written.
    const others = this.#columns.filter((_, i) => this.#soft || this.isKey[i] === 0);
    const sets = [...others, VERSION_COLUMN, COMMIT_TIME_COLUMN].map((name) => `${name} = excluded.${name}`);
    sets.push(...this.#also);
    return `ON CONFLICT (${keys}) DO UPDATE SET ${sets.join(", ")} WHERE t.${VERSION_COLUMN} <= excluded.${VERSION_COLUMN}`;
  }

  /** One row as parameters: version, commit time and the cells in their order. */
  get put(): string {
    const values = this.#types.map((type, i) => `$${i + 3}::${type}`);
    return `INSERT INTO ${this.quoted} AS t (${VERSION_COLUMN}, ${COMMIT_TIME_COLUMN}, ${this.#columns.join(", ")}) VALUES ($1::bigint, $2::timestamptz, ${values.join(", ")}) ${this.#onConflict()}`;
  }

  /** One row as parameters: the stamp values (`removeStampCount`), then the key. */
  get remove(): string {
    if (this.#soft) {
      const marked = this.keyColumns.map((c, i) => `t.${this.#columns[c]} = $${i + 3}::${this.#types[c]}`);
      return `UPDATE ${this.rows} AS t SET ${DELETED_COLUMN} = true, ${VERSION_COLUMN} = $1::bigint, ${COMMIT_TIME_COLUMN} = $2::timestamptz WHERE ${marked.join(" AND ")} AND t.${VERSION_COLUMN} <= $1::bigint`;
    }
    const keys = this.keyColumns.map((c, i) => `t.${this.#columns[c]} = $${i + 2}::${this.#types[c]}`);
    return `DELETE FROM ${this.rows} AS t WHERE ${keys.join(" AND ")} AND t.${VERSION_COLUMN} <= $1::bigint`;
  }

  /**
   * Takes unchanged cells from the base row, before any delete. A base under an old key must not be newer than the
   * change: then it is another row by now, with other cells.
   */
  get complete(): string {
    const cells = this.#columns.map(
      (name, i) => `c${i} = CASE WHEN get_bit(s._mask, ${i}) = 1 THEN t.${name} ELSE s.c${i} END`,
    );
    return `UPDATE ${this.stage} AS s SET _action = ${STAGED_PUT}, ${cells.join(", ")} FROM ${this.rows} AS t WHERE ${this.#sameKey("b")} AND (s._action = ${STAGED_PATCH} OR s._action = ${STAGED_MOVE} AND t.${VERSION_COLUMN} <= s._version)${this.#andLive}`;
  }

  /** The entries that `complete` left without a base. An entry whose row is newer needs none. */
  incomplete(mark: number): string {
    return `SELECT ${mark}, s._ord FROM ${this.stage} AS s WHERE s._action IN (${STAGED_PATCH}, ${STAGED_MOVE}) AND NOT EXISTS (SELECT FROM ${this.rows} AS t WHERE ${this.#sameKey("c")} AND t.${VERSION_COLUMN} > s._version) ORDER BY 2`;
  }

  /** The entries that triggers kept from being written. One whose row is newer needs none. */
  unwritten(mark: number): string {
    const there = (condition: string): string =>
      `EXISTS (SELECT FROM ${this.rows} AS t WHERE ${this.#sameKey("c")} AND t.${VERSION_COLUMN} ${condition} s._version)`;
    const isMissing = `s._action = ${STAGED_PUT} AND NOT ${there(">=")}`;
    return `SELECT ${mark}, s._ord FROM ${this.stage} AS s WHERE ${isMissing} OR s._action = ${STAGED_DELETE} AND ${there("<")} ORDER BY 2`;
  }

  #sameKey(prefix: "b" | "c"): string {
    return this.keyColumns.map((c) => `t.${this.#columns[c]} = s.${prefix}${c}`).join(" AND ");
  }
}

/** Of the table with this ordinal, in the session that writes to it. */
export function stageName(ordinal: number): string {
  return `pg_temp.millrace_stage_${ordinal}`;
}

function formatOf(binary: boolean): string {
  return binary ? " (FORMAT binary)" : "";
}
