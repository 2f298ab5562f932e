/**
 * TRANSACTION_PAYLOAD: a whole transaction of MySQL in one event, compressed (`binlog_transaction_compression`, which any
 * session can turn on). Its events have no checksums and no positions.
 */
import { createZstdDecompress, type ZstdDecompress } from "node:zlib";
import { findMillraceError } from "../../../../src/core/errors.ts";
import { damaged, fatal } from "../errors.ts";
import { HEADER_BYTES, SIZE_AT } from "../wire/event-header.ts";
import { giveBack, inflated, Cursor } from "../wire/bytes.ts";
import type { SpooledEvent } from "../wire/spool.ts";

const END = 0;
const PAYLOAD_SIZE = 1;
const COMPRESSION = 2;
const PLAIN_SIZE = 3;
const ZSTD = 0;
const NOT_COMPRESSED = 255;
const CHUNK_BYTES = 1024 * 1024;
const WHAT = "compressed transactions";

/** A transaction as it is stored in its event. */
export interface Payload {
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
export function readPayload(event: Uint8Array, start: number, end: number): Payload {
  const { at, byteCount, ...rest } = readFields(new Cursor(event, start + HEADER_BYTES, end), end);
  // A copy, because others reuse the buffer while it is read.
  const bytes = Uint8Array.from(event.subarray(at, at + byteCount));
  return { ...rest, bytes, read: () => [bytes] };
}

export function readSpooledPayload(event: SpooledEvent, end: number): Payload {
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
export function unpack(bytes: Uint8Array, { isPacked, plainByteCount }: Payload): Uint8Array {
  return isPacked ? inflated(bytes, "zstd", plainByteCount, WHAT) : bytes;
}

/**
 * Its events in parts of whole events, so that a large transaction needs little more memory than its largest event. A part
 * is only valid until the next is requested.
 */
export async function* unpackInParts(payload: Payload): AsyncGenerator<Uint8Array> {
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
