import type { ByteWriter } from "../../../src/core/bytes.ts";
import type { KeyedTable, TableVersion } from "../../../src/core/model/schema.ts";
import type { CellMap } from "../../../src/core/model/tuple.ts";
import type { RowText } from "../log/entry.ts";

/** What is the same for all changes of a transaction in a table. */
export interface OfTransaction {
  readonly version: string;
  readonly commitTimeUs: bigint;
  /** Its name at the source: a transaction id or a GTID. "": it has none, or is not known. */
  readonly id: string;
}

/** The operation of an entry: those of an envelope, and `s` for a sweep. */
export type Op = "c" | "u" | "d" | "r" | "t" | "s";

/** A change of a row. `cells` are those of `bytes`. */
export interface Row {
  /** Grows from change to change, over all tables. */
  readonly sequence: number;
  readonly table: KeyedTable;
  readonly bytes: Uint8Array;
  readonly cells: CellMap;
  readonly op: Op;
  readonly offset: number;
  /** Only the key's cells have a meaning. */
  readonly isKeyOnly: boolean;
}

/** A truncate or a sweep, which is of no row: of a table's columns it has those of its scope. */
export interface Mark extends Pick<Row, "sequence" | "offset"> {
  readonly table: TableVersion;
  readonly op: "t" | "s";
}

/** How changes are written in the log: one line each, or what a line is in the format. */
export interface RowWriter {
  readonly text: RowText;
  row(out: ByteWriter, row: Row, of: OfTransaction): void;
  mark(out: ByteWriter, mark: Mark, of: OfTransaction): void;
}
