/**
 * Stores events that are too large for memory. A compressed transaction, or the text of a statement, can have up to a
 * gigabyte, and must not be used before its checksum is verified. Of a statement only the beginning is kept. A transaction
 * is written to a file without a name, so that a killed process leaves nothing behind.
 */
import { accessSync, closeSync, constants, mkdtempSync, openSync, read, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { crc32 } from "node:zlib";
import { roomFor } from "../../../../src/core/disk-room.ts";
import { invariant } from "../../../../src/core/invariant.ts";
import { damaged, sourceError } from "../errors.ts";
import { CHECKSUM_BYTES, isStatement, SIZE_AT, TRANSACTION_PAYLOAD, TYPE_AT } from "./event-header.ts";
import { giveBack, readUint32 } from "./bytes.ts";

const readAsync = promisify(read);

/** Larger events are not held in memory, except those with rows. */
const MEMORY_BYTES_MAX = 8 * 1024 * 1024;
/** The part of a statement that is examined, and the part before the packed bytes of a transaction, are smaller. */
const HEAD_BYTES = 256 * 1024;
const READ_BYTES = 256 * 1024;
/** A folder on a disk, even if the usual folder of temporary files is in memory. */
const DISK_FOLDER = "/var/tmp";

export class SpooledEvent implements Disposable {
  /** Its first bytes. */
  readonly head: Buffer;
  readonly byteCount: number;
  readonly #checksum = Buffer.alloc(CHECKSUM_BYTES);
  /** Undefined: only the beginning is kept. */
  #descriptor: number | undefined;
  #computed = 0;
  #length = 0;

  /** Undefined: it is held in memory. */
  static of(header: Uint8Array): SpooledEvent | undefined {
    const byteCount = readUint32(header, SIZE_AT);
    const type = header[TYPE_AT]!;
    const isKept = type === TRANSACTION_PAYLOAD;
    if (byteCount <= MEMORY_BYTES_MAX || !(isKept || isStatement(type))) return undefined;
    return new SpooledEvent(byteCount, HEAD_BYTES, isKept);
  }

  constructor(byteCount: number, headBytes: number, isKept: boolean) {
    this.byteCount = byteCount;
    this.head = Buffer.alloc(Math.min(headBytes, byteCount));
    if (isKept) this.#descriptor = withRoom(openNameless);
  }

  append(bytes: Uint8Array): void {
    const at = this.#length;
    if (at + bytes.length > this.byteCount) throw damaged("an event has another length than it says");
    if (at < this.head.length) this.head.set(bytes.subarray(0, this.head.length - at), at);
    const body = this.byteCount - CHECKSUM_BYTES;
    const bodyBytes = Math.max(0, Math.min(bytes.length, body - at));
    this.#computed = crc32(bytes.subarray(0, bodyBytes), this.#computed);
    if (bodyBytes < bytes.length) this.#checksum.set(bytes.subarray(bodyBytes), at + bodyBytes - body);
    this.#length += bytes.length;
    const descriptor = this.#descriptor;
    if (descriptor === undefined) return;
    withRoom(() => {
      let done = 0;
      while (done < bytes.length) done += writeSync(descriptor, bytes, done, bytes.length - done, at + done);
    });
  }

  get isWhole(): boolean {
    return this.#length === this.byteCount;
  }

  /** Whether its last bytes are the checksum of those before them. */
  get isVerified(): boolean {
    return this.#computed === readUint32(this.#checksum, 0);
  }

  /** Each part is only valid until the next is requested. */
  async *read(start: number, end: number): AsyncGenerator<Buffer> {
    const descriptor = this.#descriptor;
    invariant(descriptor !== undefined, "an event is read while its file is open");
    for (let at = start; at < end;) {
      const bytes = Buffer.allocUnsafeSlow(Math.min(READ_BYTES, end - at));
      const { bytesRead } = await readAsync(descriptor, bytes, 0, bytes.length, at);
      if (bytesRead === 0) throw damaged("a file that held a large event is cut short");
      yield bytes.subarray(0, bytesRead);
      giveBack(bytes);
      at += bytesRead;
    }
  }

  [Symbol.dispose](): void {
    if (this.#descriptor !== undefined) closeSync(this.#descriptor);
    this.#descriptor = undefined;
  }
}

function openNameless(): number {
  const folder = mkdtempSync(join(spoolFolder(), "millrace-"));
  try {
    return openSync(join(folder, "event"), "wx+", 0o600);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function spoolFolder(): string {
  if (process.env["TMPDIR"] !== undefined) return tmpdir();
  try {
    accessSync(DISK_FOLDER, constants.W_OK);
    return DISK_FOLDER;
  } catch {
    return tmpdir();
  }
}

function withRoom<T>(write: () => T): T {
  try {
    return write();
  } catch (error) {
    const why = error instanceof Error && "code" in error ? `: ${String(error.code)}` : "";
    const what = `a large transaction can't be put into a temporary file below ${roomFor(spoolFolder())}${why}`;
    throw sourceError("MR3213", "retryable", what, { cause: error });
  }
}
