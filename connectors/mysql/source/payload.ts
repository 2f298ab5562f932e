/**
 * TRANSACTION_PAYLOAD: a whole transaction of MySQL in one event, compressed (`binlog_transaction_compression`, which any
 * session can turn on). Its events have no checksums and no positions.
 */
import { createZstdDecompress } from "node:zlib";
import { damaged, fatal, pages } from "../errors.ts";
import { HEADER_BYTES } from "./events.ts";
import { inflated } from "./inflate.ts";
import { Cursor } from "./little-endian.ts";

const END = 0;
const PAYLOAD_SIZE = 1;
const COMPRESSION = 2;
const PLAIN_SIZE = 3;
const ZSTD = 0;
const NOT_COMPRESSED = 255;
const SIZE_AT = 9;
const CHUNK_BYTES = 1024 * 1024;
const WHAT = "compressed transactions";

/** A transaction as it lies in its event. */
export interface Payload {
  /** A copy: it is read while others use the buffer that it came in. */
  readonly packed: Uint8Array;
  readonly isPacked: boolean;
  readonly plainByteCount: number;
}

/** The transaction in the event between `start` and `end` (checksum not included). */
export function readPayload(bytes: Uint8Array, start: number, end: number): Payload {
  try {
    return read(new Cursor(bytes, start + HEADER_BYTES, end));
  } catch (error) {
    if (error instanceof RangeError) throw damaged("a compressed transaction is cut short", error);
    throw error;
  }
}

function read(cursor: Cursor): Payload {
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
  const packed = Uint8Array.from(cursor.span(payloadSize === 0 ? cursor.end - cursor.at : payloadSize));
  if (compression === NOT_COMPRESSED) return { packed, isPacked: false, plainByteCount: packed.length };
  if (compression === ZSTD) return { packed, isPacked: true, plainByteCount };
  const what = `a transaction is compressed in a way (${compression}) that is unknown`;
  throw fatal("MR2101", what, pages.MR2101?.remedy ?? "");
}

/** All its events, one after the other: for one that is small. */
export function unpack({ packed, isPacked, plainByteCount }: Payload): Uint8Array {
  return isPacked ? inflated(packed, "zstd", plainByteCount, WHAT) : packed;
}

/** Its events in parts of whole ones, so that a large transaction takes little more memory than its largest event. */
export async function* unpackInParts({ packed, isPacked, plainByteCount }: Payload): AsyncGenerator<Uint8Array> {
  let pending: Buffer[] = [];
  let pendingBytes = 0;
  /** Bytes of the event that `pending` begins with, or of a header. */
  let needed = HEADER_BYTES;
  let byteCount = 0;
  for await (const chunk of isPacked ? plainChunks(packed) : [Buffer.from(packed)]) {
    byteCount += chunk.length;
    pendingBytes += chunk.length;
    pending.push(chunk);
    if (byteCount > plainByteCount) break;
    if (pendingBytes < needed) continue;
    const bytes = Buffer.concat(pending);
    const whole = wholeEvents(bytes);
    if (whole > 0) yield bytes.subarray(0, whole);
    const rest = bytes.subarray(whole);
    pending = rest.length === 0 ? [] : [rest];
    pendingBytes = rest.length;
    needed = rest.length < HEADER_BYTES ? HEADER_BYTES : rest.readUInt32LE(SIZE_AT);
  }
  if (pendingBytes > 0 || byteCount !== plainByteCount) throw damaged(`${WHAT} have another length than they say`);
}

async function* plainChunks(packed: Uint8Array): AsyncGenerator<Buffer> {
  const stream = createZstdDecompress({ chunkSize: CHUNK_BYTES });
  stream.end(packed);
  try {
    for await (const chunk of stream) if (chunk instanceof Buffer) yield chunk;
  } catch (error) {
    throw damaged(`${WHAT} can't be unpacked`, error);
  }
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
