/**
 * The events of a log, one at a time: lengths and checksums are verified, compressed transactions opened. What an event
 * means is for others: rows/decoder.ts for rows, log-interpreter.ts for all else.
 */
import { crc32, createZstdDecompress, type ZstdDecompress } from "node:zlib";
import { damaged, fatal } from "../errors.ts";
import { readUint16, readUint32, giveBack, inflated, Cursor } from "../wire/bytes.ts";
import * as code from "../wire/event-header.ts";
import type { SpooledEvent } from "../wire/spool.ts";
import { findMillraceError } from "../../../../src/core/errors.ts";
import { HEADER_BYTES, SIZE_AT } from "../wire/event-header.ts";

const VERSION_BYTES = 50;
const BINLOG_VERSION = 4;
const CHECKSUM_CRC32 = 1;
/** A compressed transaction up to this size is unpacked at once. */
const WHOLE_BYTES_MAX = 8 * 1024 * 1024;
const IN_USE = 1;

export class EventReader implements AsyncDisposable {
  readonly header = new code.EventHeader();
  /** For the present file; undefined before its first event. */
  format: LogFormat | undefined;
  /** The present event is here, from `at` (its header) to `until`, without checksum. */
  bytes: Uint8Array = new Uint8Array(0);
  at = 0;
  until = 0;
  /** Unpacked events of a compressed transaction, and where the next one begins. */
  #inner: Uint8Array | undefined;
  #innerAt = 0;
  #parts: AsyncGenerator<Uint8Array> | undefined;
  /** The file that `#parts` reads from, if there is one. */
  #spooled: SpooledEvent | undefined;

  /** Takes the event between `start` and `end`: header, body, and a checksum if the file has them. Returns its class. */
  take(bytes: Uint8Array, start: number, end: number): number {
    if (end - start < code.HEADER_BYTES) throw damaged("an event is shorter than its header");
    this.header.read(bytes, start);
    if (this.header.size !== end - start) throw damaged("an event has another length than it says");
    return this.#begin(bytes, start, this.#checked(bytes, start, end));
  }

  /** Takes an event that is too large for memory, and closes it after reading. Of a transaction it opens the content. */
  takeSpooled(event: SpooledEvent): number {
    const { header } = this;
    this.#spooled = event;
    header.read(event.head, 0);
    if (!event.isWhole) throw damaged("an event has another length than it says");
    const hasChecksum = this.format?.hasChecksums === true;
    if (hasChecksum && !event.isVerified) throw wrongChecksum();
    const end = event.byteCount - (hasChecksum ? code.CHECKSUM_BYTES : 0);
    const kind = this.#begin(event.head, 0, Math.min(event.head.length, end));
    if (kind === code.CLASS_PAYLOAD) this.#unpack(readSpooledPayload(event, end));
    return kind;
  }

  /** Begins to unpack the present event, a compressed transaction. */
  open(): void {
    this.#unpack(readPayload(this.bytes, this.at, this.until));
  }

  /** The class of the next event of the compressed transaction; undefined: there is none in this part of it. */
  takeInner(): number | undefined {
    const bytes = this.#inner;
    if (bytes === undefined || this.#innerAt >= bytes.length) {
      this.#inner = undefined;
      return undefined;
    }
    const start = this.#innerAt;
    if (bytes.length - start < code.HEADER_BYTES) throw damaged("an event is shorter than its header");
    this.header.read(bytes, start);
    const end = start + this.header.size;
    if (this.header.size < code.HEADER_BYTES || end > bytes.length)
      throw damaged("an event is longer than its transaction");
    return this.#begin(bytes, start, end);
  }

  /** Until then, `takeInner` returns the same event again. */
  passInner(): void {
    this.#innerAt = this.until;
  }

  /** Unpacks more of a large compressed transaction; false: it is finished. */
  async nextPart(): Promise<boolean> {
    const next = await this.#parts?.next();
    if (next === undefined || next.done === true) {
      this.#parts = undefined;
      this.#closeSpooled();
      return false;
    }
    this.#inner = next.value;
    this.#innerAt = 0;
    return true;
  }

  /** Releases a compressed transaction that was not read to its end. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#parts?.return(undefined);
    this.#closeSpooled();
  }

  #closeSpooled(): void {
    this.#spooled?.[Symbol.dispose]();
    this.#spooled = undefined;
  }

  #begin(bytes: Uint8Array, start: number, end: number): number {
    this.bytes = bytes;
    this.at = start;
    this.until = end;
    return code.classOf(this.header.type, this.header.flags);
  }

  #unpack(payload: Payload): void {
    this.#innerAt = 0;
    const { bytes } = payload;
    const isSmall = bytes !== undefined && payload.plainByteCount <= WHOLE_BYTES_MAX;
    this.#inner = isSmall ? unpack(bytes, payload) : undefined;
    this.#parts = isSmall ? undefined : unpackInParts(payload);
  }

  /** Verifies the checksum if the file has them, and returns where the event ends without it. */
  #checked(bytes: Uint8Array, start: number, end: number): number {
    const { header } = this;
    if (header.type === code.FORMAT_DESCRIPTION) {
      const format = readFormat(bytes, start, end);
      if (format === undefined) throw damaged("a file begins with a format that is unknown");
      this.format = format;
      // In a file without checksums, the server changes this event for a reader that begins inside the file, and leaves the
      // checksum as it was.
      if (format.hasChecksums) verify(closed(bytes.subarray(start, end)), 0, end - start - code.CHECKSUM_BYTES);
      return end - code.CHECKSUM_BYTES;
    }
    const body = end - code.CHECKSUM_BYTES;
    if (this.format === undefined || (header.flags & code.FLAG_ARTIFICIAL) !== 0) {
      // Events that the server makes up follow its present setting, or have none, whatever the file's setting is.
      return body > start + code.HEADER_BYTES && isVerified(bytes, start, body) ? body : end;
    }
    if (!this.format.hasChecksums) return end;
    verify(bytes, start, body);
    return body;
  }
}

/** What the event that begins a file says about the others. */
interface LogFormat {
  readonly flavour: code.Flavour;
  /** Whether every event of this file ends in a CRC-32 of the rest. This event's own is always there. */
  readonly hasChecksums: boolean;
}

/** Undefined if its version is unknown. */
function readFormat(bytes: Uint8Array, start: number, end: number): LogFormat | undefined {
  const body = start + code.HEADER_BYTES;
  const algorithmAt = end - code.CHECKSUM_BYTES - 1;
  if (algorithmAt < body + 2 + VERSION_BYTES + 5 || readUint16(bytes, body) !== BINLOG_VERSION) return undefined;
  const version = Buffer.from(bytes.subarray(body + 2, body + 2 + VERSION_BYTES)).toString("latin1");
  return {
    flavour: /mariadb/i.test(version.replace(/\0.*$/s, "")) ? "mariadb" : "mysql",
    hasChecksums: bytes[algorithmAt] === CHECKSUM_CRC32,
  };
}

/** The first event of a file that is being written says so; the flag was set after the checksum was computed. */
function closed(event: Uint8Array): Uint8Array {
  const copy = Uint8Array.from(event);
  copy[code.FLAGS_AT] = copy[code.FLAGS_AT]! & ~IN_USE;
  return copy;
}

function verify(bytes: Uint8Array, start: number, body: number): void {
  if (!isVerified(bytes, start, body)) throw wrongChecksum();
}

function wrongChecksum(): Error {
  return damaged("an event's checksum is not that of its content");
}

function isVerified(bytes: Uint8Array, start: number, body: number): boolean {
  return crc32(bytes.subarray(start, body)) === readUint32(bytes, body);
}

// TRANSACTION_PAYLOAD: a whole transaction of MySQL in one event, compressed (`binlog_transaction_compression`, which any
// session can turn on). Its events have no checksums and no positions.

const END = 0;
const PAYLOAD_SIZE = 1;
const COMPRESSION = 2;
const PLAIN_SIZE = 3;
const ZSTD = 0;
const NOT_COMPRESSED = 255;
const CHUNK_BYTES = 1024 * 1024;
const WHAT = "compressed transactions";

/** A transaction as it is stored in its event. */
interface Payload {
  readonly isPacked: boolean;
  readonly plainByteCount: number;
  /** Its bytes, if they are in memory. */
  readonly bytes: Uint8Array | undefined;
  /** Its bytes in parts. Each is only valid until the next is requested. */
  read(): AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
}

/** The fields before the transaction's bytes, and the position of those. */
interface Fields extends Pick<Payload, "isPacked" | "plainByteCount"> {
  readonly at: number;
  readonly byteCount: number;
}

/** The transaction in the event between `start` and `end` (checksum not included). */
function readPayload(event: Uint8Array, start: number, end: number): Payload {
  const { at, byteCount, ...rest } = readFields(new Cursor(event, start + HEADER_BYTES, end), end);
  // A copy, because others reuse the buffer while it is read.
  const bytes = Uint8Array.from(event.subarray(at, at + byteCount));
  return { ...rest, bytes, read: () => [bytes] };
}

function readSpooledPayload(event: SpooledEvent, end: number): Payload {
  const { at, byteCount, ...rest } = readFields(new Cursor(event.head, HEADER_BYTES, event.head.length), end);
  return { ...rest, bytes: undefined, read: () => event.read(at, at + byteCount) };
}

/** `end`: of the whole event; the cursor may have only its beginning. */
function readFields(cursor: Cursor, end: number): Fields {
  try {
    return read(cursor, end);
  } catch (error) {
    if (error instanceof RangeError) throw damaged("a compressed transaction is cut short", error);
    throw error;
  }
}

function read(cursor: Cursor, end: number): Fields {
  let payloadSize = 0;
  let plainByteCount = 0;
  let compression = ZSTD;
  for (;;) {
    const kind = cursor.packed();
    if (kind === END) break;
    const length = cursor.packed();
    const value = new Cursor(cursor.span(length), 0, length);
    if (kind === PAYLOAD_SIZE) payloadSize = value.packed();
    else if (kind === COMPRESSION) compression = value.packed();
    else if (kind === PLAIN_SIZE) plainByteCount = value.packed();
  }
  const { at } = cursor;
  const byteCount = payloadSize === 0 ? end - at : payloadSize;
  if (byteCount > end - at) throw new RangeError("the event ends before its content does");
  if (compression === ZSTD) return { at, byteCount, isPacked: true, plainByteCount };
  if (compression === NOT_COMPRESSED) return { at, byteCount, isPacked: false, plainByteCount: byteCount };
  const what = `a transaction is compressed in a way (${compression}) that is unknown`;
  throw fatal("MR2023", what);
}

/** All its events, one after the other: for a small one. */
function unpack(bytes: Uint8Array, { isPacked, plainByteCount }: Payload): Uint8Array {
  return isPacked ? inflated(bytes, "zstd", plainByteCount, WHAT) : bytes;
}

/**
 * Its events in parts of whole events, so that a large transaction needs little more memory than its largest event. A part
 * is only valid until the next is requested.
 */
async function* unpackInParts(payload: Payload): AsyncGenerator<Uint8Array> {
  const { isPacked, plainByteCount } = payload;
  let pending: Buffer[] = [];
  let pendingBytes = 0;
  /** Bytes of the event that `pending` begins with, or of a header. */
  let needed = HEADER_BYTES;
  let byteCount = 0;
  for await (const chunk of isPacked ? plainChunks(payload) : buffers(payload)) {
    byteCount += chunk.length;
    pendingBytes += chunk.length;
    pending.push(chunk);
    if (byteCount > plainByteCount) break;
    if (pendingBytes < needed) continue;
    const bytes = joined(pending, pendingBytes);
    const whole = wholeEvents(bytes);
    if (whole > 0) yield bytes.subarray(0, whole);
    const rest = Buffer.allocUnsafeSlow(bytes.length - whole);
    bytes.copy(rest, 0, whole);
    giveBack(bytes);
    pending = rest.length === 0 ? [] : [rest];
    pendingBytes = rest.length;
    needed = rest.length < HEADER_BYTES ? HEADER_BYTES : rest.readUInt32LE(SIZE_AT);
  }
  if (pendingBytes > 0 || byteCount !== plainByteCount) throw damaged(`${WHAT} have another length than they say`);
}

async function* plainChunks(payload: Payload): AsyncGenerator<Buffer> {
  const stream = createZstdDecompress({ chunkSize: CHUNK_BYTES });
  void fill(stream, payload);
  try {
    for await (const chunk of stream) if (chunk instanceof Buffer) yield chunk;
  } catch (error) {
    throw findMillraceError(error) ?? damaged(`${WHAT} can't be unpacked`, error);
  }
}

/** A failure ends the stream; its reader sees the error. */
async function fill(stream: ZstdDecompress, payload: Payload): Promise<void> {
  try {
    for await (const chunk of payload.read()) await written(stream, chunk);
    stream.end();
  } catch (error) {
    stream.destroy(error instanceof Error ? error : undefined);
  }
}

function written(stream: ZstdDecompress, chunk: Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    stream.write(chunk, (error) => {
      if (error) reject(error);
      else resolve();
    });
  });
}

async function* buffers(payload: Payload): AsyncGenerator<Buffer> {
  for await (const { buffer, byteLength, byteOffset } of payload.read())
    yield Buffer.from(buffer, byteOffset, byteLength);
}

/** In its own memory, which can be freed. */
function joined(parts: readonly Buffer[], byteCount: number): Buffer {
  const whole = Buffer.allocUnsafeSlow(byteCount);
  let at = 0;
  for (const part of parts) {
    at += part.copy(whole, at);
    const { buffer } = part;
    // The last part that zlib wrote: nothing more comes there.
    const isFilled = buffer.byteLength === CHUNK_BYTES && part.byteOffset + part.length === CHUNK_BYTES;
    if (isFilled) giveBack(Buffer.from(buffer));
  }
  return whole;
}

/** Bytes of the events that are there whole. */
function wholeEvents(bytes: Buffer): number {
  let at = 0;
  while (bytes.length - at >= HEADER_BYTES) {
    const size = bytes.readUInt32LE(at + SIZE_AT);
    if (size < HEADER_BYTES) throw damaged("an event is shorter than its header");
    if (at + size > bytes.length) break;
    at += size;
  }
  return at;
}
