/** Turns rows that were read by SQL into blocks of OP_READ, in the layout of core's tuples. */
import { addRead, type Block, finishRead, readBlock } from "../../../../src/core/model/block.ts";
import { ByteWriter } from "../../../../src/core/bytes.ts";
import type { Position } from "../../../../src/core/model/position.ts";
import type { TableVersion } from "../../../../src/core/model/schema.ts";
import { CELL_NULL, readInt32 } from "../../../../src/core/model/tuple.ts";
import { keyText } from "../../../../src/core/model/row-id.ts";
import type { KeyText } from "../../../../src/core/contracts/row-reads.ts";

export const BLOCK_BYTES = 1024 * 1024;
const FREE_COUNT_MAX = 4;

/** Buffers of released blocks, for reuse. */
const free: ByteWriter[] = [];
/**
 * Buffers that have grown to a chunk's size, while chunks are read. New ones each time would fragment the process's memory:
 * the C library's allocator takes large pieces from its heap once it has seen one come back.
 */
const large: ByteWriter[] = [];
const LARGE_BYTES_MAX = 32 * BLOCK_BYTES;
/** After this time without a chunk they are dropped. */
const LARGE_KEPT_MS = 10_000;
let largeTimer: NodeJS.Timeout | undefined;

/** Fills one block (core/model/block). */
export class RowBlock {
  readonly #out: ByteWriter;
  readonly #block: Block;
  readonly #kinds: Uint8Array;
  readonly table: TableVersion;

  /** `kinds`: the form of each column's values, CELL_TEXT or CELL_BINARY. `isChunk`: it may grow beyond BLOCK_BYTES. */
  constructor(table: TableVersion, kinds: Uint8Array, epoch: number, isChunk = false) {
    this.table = table;
    this.#kinds = kinds;
    this.#out = (isChunk ? large.pop() : undefined) ?? free.pop() ?? new ByteWriter(BLOCK_BYTES + BLOCK_BYTES / 8);
    this.#out.reset();
    this.#block = readBlock(table, epoch, this.#out, ({ bytes }) => {
      if (bytes === this.#out.bytes) letGo(this.#out);
    });
  }

  get count(): number {
    return this.#block.count;
  }

  get byteCount(): number {
    return this.#out.length;
  }

  /**
   * Adds a row from a DataRow's or a binary COPY's payload: cell count, then per cell a length (-1: null) and bytes. If the
   * row has more cells than the table, only the first ones count. A tuple is this with a kind byte per cell.
   */
  append(bytes: Buffer, start: number, end: number): void {
    const kinds = this.#kinds;
    const count = kinds.length;
    const out = this.#out;
    out.reserve(end - start + count + 2);
    const to = out.bytes;
    const offset = out.length;
    to[offset] = count >> 8;
    to[offset + 1] = count;
    let write = offset + 2;
    let read = start + 2;
    for (let i = 0; i < count; i++) {
      const length = readInt32(bytes, read);
      if (length < 0) {
        to[write++] = CELL_NULL;
        read += 4;
        continue;
      }
      to[write++] = kinds[i]!;
      const cellEnd = read + 4 + length;
      if (length <= 36) while (read < cellEnd) to[write++] = bytes[read++]!;
      else {
        bytes.copy(to, write, read, cellEnd);
        write += 4 + length;
        read = cellEnd;
      }
    }
    out.length = write;
    addRead(this.#block, offset);
  }

  lastKey(): KeyText {
    return keyText(this.table, this.#out.bytes, this.#block.after[this.#block.count - 1]!);
  }

  /** Returns the block, which belongs to the caller from now on. */
  finish(until: Position): Block {
    const block = finishRead(this.#block, this.#out, until);
    if (block.bytes !== this.#out.bytes) letGo(this.#out);
    return block;
  }
}

function letGo(out: ByteWriter): void {
  const size = out.bytes.length;
  if (size < BLOCK_BYTES * 2) {
    if (free.length < FREE_COUNT_MAX) free.push(out);
  } else if (size <= LARGE_BYTES_MAX && large.length < FREE_COUNT_MAX) {
    large.push(out);
    largeTimer ??= setTimeout(() => (large.length = 0), LARGE_KEPT_MS).unref();
    largeTimer.refresh();
  }
}
