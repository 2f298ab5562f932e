import { isUtf8 } from "node:buffer";
import type { ByteWriter } from "../../../src/core/bytes.ts";
import { type Batch, DELETE, type TableWrites } from "../../../src/core/model/batch.ts";
import type { Block, TransactionOrigin } from "../../../src/core/model/block.ts";
import { DIALECTS, type TableVersion } from "../../../src/core/model/schema.ts";
import type { Header } from "../client/record-batch.ts";
import { invariant } from "../../../src/core/invariant.ts";

/** How changes look in the topics. An entry is one of `TableWrites`: see there. */
export interface Format {
  /** The record's key. Records of one key have the same bytes here, so that they are in one partition. */
  key(out: ByteWriter, writes: TableWrites, entry: number): void;
  /** May throw `Inexpressible`, as `key` may; and `NoUtf8`, also for the key, which it repeats. */
  value(out: ByteWriter, writes: TableWrites, entry: number, context: RecordContext): void;
  headers(writes: TableWrites, entry: number): readonly Header[];
  /** Where the table's topic gets it; null: the format has nothing for it. */
  barrier(barrier: Barrier, context: RecordContext): BarrierRecord | null;
  /** The name of a transaction in its own records and in those of its changes; without it they have no name. */
  transactionId?(transaction: NamedTransaction): string;
  /** What the topic of transactions gets before the first change of one. */
  begin?(transaction: Begun): EndRecord;
  /** What the topic of transactions gets behind the last change of one; null: the format has nothing for it. */
  end?(transaction: EndedTransaction): EndRecord | null;
  /** Called before a version's first row in the topic. */
  register?(table: TableVersion, topic: string, signal: AbortSignal): Promise<void>;
  /** The same for the topic of transactions. */
  registerTransactions?(topic: string, signal: AbortSignal): Promise<void>;
  /** What the topic of schemas gets before the first row of a version; null: the format has nothing for it. */
  schema?(table: TableVersion): EndRecord | null;
}

/** Of a record in its transaction and in time. One object, which the next record changes. */
export interface RecordContext {
  /** When the record is made. */
  nowMs: number;
  /** The change moves a row to another key: this record is one of two. */
  isMoved: boolean;
  /** Null where transactions are not told, or the row was read and is of none. */
  transaction: { readonly id: string; readonly total: number; readonly inTable: number } | null;
}

/** The value of a column that the format has no form for. */
export class Inexpressible extends Error {
  readonly column: string;

  constructor(column: string) {
    super(`column ${column} has a value that the format can't express`);
    this.column = column;
  }
}

/** A text of the row is no UTF-8, and records are. */
export class NoUtf8 extends Error {}

/** For what was written of a table's row behind `from`. */
export function expectUtf8(out: ByteWriter, from: number, { dialect }: Pick<TableVersion, "dialect">): void {
  if (DIALECTS[dialect].hasHalves && !isUtf8(out.bytes.subarray(from, out.length))) throw new NoUtf8();
}

/** Rows are gone, and no key tells which. */
export type Barrier =
  | { readonly kind: "truncate"; readonly batch: Extract<Batch, { readonly kind: "truncate" }> }
  | { readonly kind: "sweep"; readonly table: TableVersion; readonly below: bigint };

export interface BarrierRecord {
  readonly key: Buffer | null;
  readonly value: Buffer;
  readonly headers: readonly Header[];
  /** Whether each partition gets it, or only the first. */
  readonly isEverywhere: boolean;
}

export interface NamedTransaction {
  readonly version: bigint;
  /** 0 if the source has none. */
  readonly xid: number;
  readonly origin: TransactionOrigin | undefined;
}

export interface Begun {
  readonly id: string;
  readonly timeMs: number;
}

export interface EndedTransaction extends Begun {
  readonly version: bigint;
  /** How many changes of each table it has, by table id. */
  readonly counts: ReadonlyMap<string, number>;
}

export interface EndRecord {
  readonly key: Buffer;
  readonly value: Buffer;
}

/** Where an entry's bytes are. */
export function entryOf(
  writes: TableWrites,
  entry: number,
): { readonly block: Block; readonly row: number; readonly isDelete: boolean } {
  const block = writes.blocks[writes.block[entry]!];
  invariant(block !== undefined, "an entry is of a block");
  return { block, row: writes.row[entry]!, isDelete: writes.action[entry] === DELETE };
}
