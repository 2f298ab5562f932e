import type { ByteWriter } from "../../../src/core/bytes.ts";
import type { Step, TableWrites } from "../../../src/core/model/batch.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import type { Header } from "../client/record-batch.ts";

/** How changes look in the topics. An entry is one of `TableWrites`: see there. */
export interface Format {
  /** The record's key. Records of one key have the same bytes here, so that they are in one partition. */
  key(out: ByteWriter, writes: TableWrites, entry: number): void;
  value(out: ByteWriter, writes: TableWrites, entry: number): void;
  headers(writes: TableWrites, entry: number): readonly Header[];
  /** What every partition of the table's topic gets; null: the format has nothing for it. */
  barrier(barrier: Barrier): BarrierRecord | null;
  /** What the topic of transactions gets behind the last change of one; null: the format has nothing for it. */
  end?(transaction: EndedTransaction): EndRecord | null;
  /** What the topic of schemas gets before the first row of a version; null: the format has nothing for it. */
  schema?(table: TableVersion): EndRecord | null;
}

/** Rows are gone, and no key tells which. */
export type Barrier =
  | { readonly kind: "truncate"; readonly step: Extract<Step, { readonly kind: "truncate" }> }
  | { readonly kind: "sweep"; readonly table: TableVersion; readonly below: bigint };

export interface BarrierRecord {
  readonly key: Buffer | null;
  readonly value: Buffer;
  readonly headers: readonly Header[];
}

export interface EndedTransaction {
  readonly version: bigint;
  /** How many changes of each table it has, by table id. */
  readonly counts: ReadonlyMap<string, number>;
}

export interface EndRecord {
  readonly key: Buffer;
  readonly value: Buffer;
}
