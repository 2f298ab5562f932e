/** The changes of a batch as parts of an entry of the log: one for each shape of a table and day of commit, in commit order. */
import { isUtf8 } from "node:buffer";
import { ByteWriter } from "../../../src/core/bytes.ts";
import type { RefusedEntry } from "../../../src/core/contracts/sink.ts";
import type { MillraceError } from "../../../src/core/errors.ts";
import { invariant } from "../../../src/core/invariant.ts";
import { DELETE, type Batch } from "../../../src/core/model/batch.ts";
import type { Block } from "../../../src/core/model/block.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import { CellMap } from "../../../src/core/model/tuple.ts";
import { changeOffset, changeOp } from "../../../src/core/targets/history.ts";
import { inCommitOrder, type RowsBatch } from "../../kit/ordered-changes.ts";
import { filesError } from "../errors.ts";
import type { Part, Shape } from "../log/entry.ts";
import type { OfTransaction, RowWriter } from "./row-text.ts";

export interface BatchParts {
  readonly shapes: readonly Shape[];
  readonly parts: readonly Part[];
  /** In the order of `parts`. They are valid until the next batch. */
  readonly bytes: readonly Buffer[];
  /** The sequence after that of the last change. */
  readonly next: number;
  /** What no reader could read, and is in no part. */
  readonly refused: readonly RefusedEntry[];
}

/** What a batch needs of the log. */
export interface BatchNumbers {
  /** The sequence of its first change. */
  readonly sequence: number;
  /** `Head.begun` */
  readonly begun: number;
  /** Whether the sink held the table completely before. */
  readonly holds: (tableId: string) => boolean;
}

interface OpenPart {
  readonly table: TableVersion;
  readonly date: string;
  readonly out: ByteWriter;
  from: bigint;
  until: bigint;
  rows: number;
  rowBytesMax: number;
}

const FIRST_BYTES = 16 * 1024;
const US_PER_MS = 1000n;
/** Above the version of every row. */
const ANY_VERSION = 2n ** 63n - 1n;

export class BatchRows {
  readonly #writer: RowWriter;
  readonly #cells = new CellMap();
  readonly #parts = new Map<TableVersion, Map<string, OpenPart>>();
  #block: Block | null = null;
  #tx = -1;
  #of: OfTransaction = { version: "", commitTimeUs: 0n, id: "" };
  #date = "";
  #sequence = 0;
  #refused: RefusedEntry[] = [];

  constructor(writer: RowWriter) {
    this.#writer = writer;
  }

  /** `nowMs`: the time of what has no commit. */
  partsOf(batch: Batch, numbers: BatchNumbers, nowMs: number): BatchParts {
    const all = this.#written(batch, numbers, nowMs, false);
    // A text that is no UTF-8 would make a whole file unreadable. Such rows are rare, so they are looked for in a second pass.
    return all.bytes.every((bytes) => isUtf8(bytes)) ? all : this.#written(batch, numbers, nowMs, true);
  }

  #written(batch: Batch, { sequence, begun, holds }: BatchNumbers, nowMs: number, isChecked: boolean): BatchParts {
    this.#parts.clear();
    this.#sequence = sequence;
    this.#refused = [];
    if (batch.kind === "rows") this.#rows(batch, isChecked);
    else if (batch.kind === "truncate") {
      const { table, version, record } = batch;
      const id = record === undefined ? "" : idOf(record.xid, record.origin?.gtid);
      const commitTimeUs = record?.commitTimeUs ?? BigInt(nowMs) * US_PER_MS;
      this.#mark(table, "t", this.#sequence++, record?.index ?? 0, { version: String(version), commitTimeUs, id });
    } else if (batch.kind === "sweep") {
      const commitTimeUs = BigInt(nowMs) * US_PER_MS;
      for (const { table, below } of batch.sweeps) {
        // Versions may have begun again since readers loaded what was here before.
        if (!holds(table.id)) this.#mark(table, "s", begun, 0, { version: String(ANY_VERSION), commitTimeUs, id: "" });
        this.#mark(table, "s", this.#sequence++, 0, { version: String(below), commitTimeUs, id: "" });
      }
    }
    this.#block = null;
    return this.#taken();
  }

  #rows(batch: RowsBatch, isChecked: boolean): void {
    const cells = this.#cells;
    inCommitOrder(batch, (writes, entry) => {
      const block = writes.blocks[writes.block[entry]!];
      invariant(block !== undefined, "an entry is of a block");
      const row = writes.row[entry]!;
      this.#enter(block, block.tx[row]!);
      const isKeyOnly = writes.action[entry] === DELETE;
      const { bytes } = block;
      cells.read(bytes, isKeyOnly ? block.before[row]! : block.after[row]!);
      const part = this.#partOf(writes.table, block.transactions.version[block.tx[row]!]!);
      const at = part.out.length;
      const sequence = this.#sequence++;
      const [op, offset] = [changeOp(writes, entry), changeOffset(block, row)];
      this.#writer.row(part.out, { sequence, table: writes.table, bytes, cells, op, offset, isKeyOnly }, this.#of);
      if (isChecked && !isUtf8(part.out.bytes.subarray(at, part.out.length))) {
        part.out.length = at;
        this.#refused.push({ writes, entry, error: noUtf8(writes.table.id) });
      } else counted(part, at);
    });
  }

  #mark(table: TableVersion, op: "t" | "s", sequence: number, offset: number, of: OfTransaction): void {
    this.#date = dateOf(of.commitTimeUs);
    const part = this.#partOf(table, BigInt(of.version));
    const at = part.out.length;
    this.#writer.mark(part.out, { sequence, table, op, offset }, of);
    counted(part, at);
  }

  /** The changes of a transaction follow each other. */
  #enter(block: Block, tx: number): void {
    if (block === this.#block && tx === this.#tx) return;
    const { version, commitTimeUs, xid, origins } = block.transactions;
    this.#block = block;
    this.#tx = tx;
    const id = idOf(xid[tx]!, origins[tx]?.gtid);
    this.#of = { version: String(version[tx]!), commitTimeUs: commitTimeUs[tx]!, id };
    this.#date = dateOf(commitTimeUs[tx]!);
  }

  #partOf(table: TableVersion, version: bigint): OpenPart {
    let dates = this.#parts.get(table);
    if (dates === undefined) this.#parts.set(table, (dates = new Map()));
    let part = dates.get(this.#date);
    if (part === undefined) {
      const out = new ByteWriter(FIRST_BYTES);
      part = { table, date: this.#date, out, from: version, until: version, rows: 0, rowBytesMax: 0 };
      dates.set(this.#date, part);
    }
    if (version < part.from) part.from = version;
    if (version > part.until) part.until = version;
    return part;
  }

  #taken(): BatchParts {
    const tables = [...this.#parts.keys()];
    const open = tables.flatMap((table, shape) =>
      [...this.#parts.get(table)!.values()].filter(({ rows }) => rows > 0).map((part) => ({ part, shape })),
    );
    this.#parts.clear();
    return {
      shapes: tables.map(shapeOf),
      parts: open.map(({ part: { date, from, until, rows, rowBytesMax, out }, shape }) => ({
        shape,
        date,
        from: String(from),
        until: String(until),
        rows,
        bytes: out.length,
        rowBytesMax,
      })),
      bytes: open.map(({ part }) => part.out.view()),
      next: this.#sequence,
      refused: this.#refused,
    };
  }
}

function counted(part: OpenPart, at: number): void {
  part.rows++;
  part.rowBytesMax = Math.max(part.rowBytesMax, part.out.length - at);
}

function noUtf8(table: string): MillraceError {
  return filesError("MR3111", "poison", `files can't hold a row of ${table}: a text of it is no UTF-8`);
}

function shapeOf({ id, schema, table, fingerprint, columns, key }: TableVersion): Shape {
  return { id, schema, table, fingerprint, columns: columns.map(({ name, type }) => ({ name, type })), key: [...key] };
}

function idOf(xid: number, gtid: string | null | undefined): string {
  return gtid ?? (xid === 0 ? "" : String(xid));
}

function dateOf(timeUs: bigint): string {
  return new Date(Number(timeUs / US_PER_MS)).toISOString().slice(0, 10);
}
