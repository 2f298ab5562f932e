/** Version and commit time of a row as fields; rendered once per transaction, not per row. */
import type { Block } from "../../../../src/core/model/block.ts";
import { ByteWriter } from "../../../../src/core/bytes.ts";
import { writeUnixTimeJson } from "../../../../src/core/values/calendar.ts";

/** 2000-01-01, the start of Postgres' binary times, in microseconds of Unix time. */
const POSTGRES_EPOCH_US = 946_684_800_000_000n;

/** Two int8 fields with their lengths. */
export function binaryStamp(version: bigint, commitTimeUs: bigint): Buffer {
  const bytes = Buffer.alloc(24);
  bytes.writeInt32BE(8, 0);
  bytes.writeBigUInt64BE(version, 4);
  bytes.writeInt32BE(8, 12);
  bytes.writeBigInt64BE(commitTimeUs - POSTGRES_EPOCH_US, 16);
  return bytes;
}

export class BinaryStamp {
  readonly bytes = binaryStamp(0n, 0n);
  #block: Block | undefined;
  #tx = -1;

  of(block: Block, row: number): Buffer {
    const tx = block.tx[row]!;
    if (tx !== this.#tx || block !== this.#block) {
      this.#block = block;
      this.#tx = tx;
      this.bytes.writeBigUInt64BE(block.transactions.version[tx]!, 4);
      this.bytes.writeBigInt64BE(block.transactions.commitTimeUs[tx]! - POSTGRES_EPOCH_US, 16);
    }
    return this.bytes;
  }

  /** Blocks are reused: cached values of a block are void when a batch ends. */
  forget(): void {
    this.#block = undefined;
    this.#tx = -1;
  }
}

export class TextStamp {
  readonly #out = new ByteWriter(64);
  #block: Block | undefined;
  #tx = -1;

  /** Version, tab, commit time. */
  of(block: Block, row: number): Buffer {
    const tx = block.tx[row]!;
    if (tx !== this.#tx || block !== this.#block) {
      this.#block = block;
      this.#tx = tx;
      this.#out.reset();
      this.#out.ascii(`${block.transactions.version[tx]!}\t`);
      writeUnixTimeJson(this.#out, block.transactions.commitTimeUs[tx]!);
    }
    return this.#out.view();
  }

  forget(): void {
    this.#block = undefined;
    this.#tx = -1;
  }
}
