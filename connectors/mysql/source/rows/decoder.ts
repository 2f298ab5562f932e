/**
 * The log's events, one at a time: checksums are verified, table maps kept, rows appended to a block, compressed
 * transactions opened. What is not of rows is the session's: GTIDs, statements, commits, rotations.
 *
 *   const decoder = new Decoder(target, options)
 *   for each event:  again: switch (decoder.take(bytes, start, end))
 *     TOOK_NOTHING        go on
 *     TOOK_CONTROL        `decoder.header` has its header; it lies in `decoder.bytes` from `decoder.at` to `decoder.until`,
 *                         without checksum
 *     TOOK_TABLE_NEEDED   rows of `decoder.needed`, whose version nobody has looked up: set it, then take the event again
 *     TOOK_PAYLOAD        a transaction's events follow: `takeInner()` until it returns TOOK_END, answering as here; and
 *                         again while `await nextPart()` is true
 */
import { crc32 } from "node:zlib";
import { Block } from "../../../../src/core/model/block.ts";
import { ByteWriter } from "../../../../src/core/bytes.ts";
import { damaged, fatal, pages } from "../../errors.ts";
import * as code from "../log/events.ts";
import { type LogFormat, readFormat } from "../log/format.ts";
import { readUint32, readUint48 } from "../log/little-endian.ts";
import { type Payload, readPayload, readSpooledPayload, unpack, unpackInParts } from "../log/payload.ts";
import { PartialImages, type RowOptions, Rows, RowTarget } from "./rows.ts";
import type { SpooledEvent } from "../log/spool.ts";
import { type TableMap, TableMaps } from "./table-map.ts";

export const TOOK_NOTHING = 0;
export const TOOK_CONTROL = 1;
export const TOOK_TABLE_NEEDED = 2;
export const TOOK_PAYLOAD = 3;
export const TOOK_END = 4;

/** A rows event with this id only ends a statement. */
const NO_TABLE = 0xff_ffff;
/** A compressed transaction up to this size is unpacked at once. */
const WHOLE_BYTES_MAX = 8 * 1024 * 1024;
const IN_USE = 1;

export class Decoder {
  readonly header = new code.EventHeader();
  readonly maps = new TableMaps();
  readonly #rows: Rows;
  /** For the present file; undefined before its first event. */
  format: LogFormat | undefined;
  /** The position of the last event that was left to the session. */
  bytes: Uint8Array = new Uint8Array(0);
  at = 0;
  until = 0;
  needed: TableMap | undefined;
  #inner: Uint8Array | undefined;
  #innerAt = 0;
  #parts: AsyncGenerator<Uint8Array> | undefined;
  /** The file that `#parts` reads from, if there is one. */
  #spooled: SpooledEvent | undefined;

  constructor(target: RowTarget, options: RowOptions) {
    this.#rows = new Rows(target, options);
  }

  /** For a reader that only looks at transactions and files, and passes no other events. */
  static withoutRows(): Decoder {
    return new Decoder(new RowTarget(new ByteWriter(0), new Block(new Uint8Array(0))), { zeroDates: () => "null" });
  }

  /** Takes the event between `start` and `end`: header, body, and a checksum if the file has them. */
  take(bytes: Uint8Array, start: number, end: number): number {
    if (end - start < code.HEADER_BYTES) throw damaged("an event is shorter than its header");
    this.header.read(bytes, start);
    if (this.header.size !== end - start) throw damaged("an event has another length than it says");
    return this.#dispatch(bytes, start, this.#checked(bytes, start, end));
  }

  /** Takes an event that is too large for memory, and closes it after reading. */
  takeSpooled(event: SpooledEvent): number {
    const { header } = this;
    this.#spooled = event;
    header.read(event.head, 0);
    if (!event.isWhole) throw damaged("an event has another length than it says");
    const hasChecksum = this.format?.hasChecksums === true;
    if (hasChecksum && !event.isVerified) throw wrongChecksum();
    const end = event.byteCount - (hasChecksum ? code.CHECKSUM_BYTES : 0);
    if (code.isStatement(header.type)) return this.#control(event.head, 0, Math.min(event.head.length, end));
    this.#open(readSpooledPayload(event, end));
    return TOOK_PAYLOAD;
  }

  /** The next event of the compressed transaction. */
  takeInner(): number {
    const bytes = this.#inner;
    if (bytes === undefined || this.#innerAt >= bytes.length) {
      this.#inner = undefined;
      return TOOK_END;
    }
    const start = this.#innerAt;
    if (bytes.length - start < code.HEADER_BYTES) throw damaged("an event is shorter than its header");
    this.header.read(bytes, start);
    const end = start + this.header.size;
    if (this.header.size < code.HEADER_BYTES || end > bytes.length)
      throw damaged("an event is longer than its transaction");
    const took = this.#dispatch(bytes, start, end);
    if (took !== TOOK_TABLE_NEEDED) this.#innerAt = end;
    return took;
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

  #open(payload: Payload): void {
    this.#innerAt = 0;
    const { bytes } = payload.packed;
    const isSmall = bytes !== undefined && payload.plainByteCount <= WHOLE_BYTES_MAX;
    this.#inner = isSmall ? unpack(bytes, payload) : undefined;
    this.#parts = isSmall ? undefined : unpackInParts(payload);
  }

  #dispatch(bytes: Uint8Array, start: number, end: number): number {
    const { header } = this;
    switch (code.classOf(header.type, header.flags)) {
      case code.CLASS_CONTROL:
        return this.#control(bytes, start, end);
      case code.CLASS_FORMAT:
        return this.#control(bytes, start, end);
      case code.CLASS_TABLE_MAP:
        this.maps.take(bytes, start, end, this.format?.flavour ?? "mysql");
        return TOOK_NOTHING;
      case code.CLASS_ROWS:
        return this.#takeRows(bytes, start, end);
      case code.CLASS_PAYLOAD:
        this.#open(readPayload(bytes, start, end));
        return TOOK_PAYLOAD;
      default:
        throw fatal(
          "MR2101",
          `the log holds an event of kind ${header.type}, which this version does not know`,
          pages.MR2101?.remedy ?? "",
        );
    }
  }

  #control(bytes: Uint8Array, start: number, end: number): number {
    this.bytes = bytes;
    this.at = start;
    this.until = end;
    return TOOK_CONTROL;
  }

  #takeRows(bytes: Uint8Array, start: number, end: number): number {
    if (end - start < code.HEADER_BYTES + 8) throw damaged("a rows event is shorter than its header");
    const tableId = readUint48(bytes, start + code.HEADER_BYTES);
    if (tableId === NO_TABLE) {
      this.maps.endStatement();
      return TOOK_NOTHING;
    }
    const map = this.maps.find(tableId);
    if (map === undefined) throw damaged("rows of a table that the statement did not name");
    if (map.version === undefined) return this.#need(map);
    try {
      if (this.#rows.append(this.header.type, bytes, start, end, map)) this.maps.endStatement();
    } catch (error) {
      // Found before the first row was appended.
      if (!(error instanceof PartialImages)) throw error;
      map.fault = error.known;
      return this.#need(map);
    }
    if (map.fault !== undefined) {
      // Only these rows were passed by.
      map.fault = undefined;
      map.version = undefined;
    }
    return TOOK_NOTHING;
  }

  #need(map: TableMap): number {
    map.version = undefined;
    this.needed = map;
    return TOOK_TABLE_NEEDED;
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
