/**
 * The frontend messages that the driver does not offer in bulk: several statements, their COPY data and pipelined
 * Bind/Execute in one buffer and one write. The driver keeps the connection, its TLS and its parser. Layouts: chapter
 * "Message Formats" of the Postgres manual.
 */
import { ByteWriter } from "../../../../src/core/bytes.ts";

const QUERY = 0x51; // Q
const PARSE = 0x50; // P
const BIND = 0x42; // B
const EXECUTE = 0x45; // E
const SYNC = 0x53; // S
const COPY_DATA = 0x64; // d
const COPY_DONE = 0x63; // c

/** Larger frames gain nothing; smaller ones cost the server a call each. */
const COPY_FRAME_BYTES = 64 * 1024;
/** A buffer that one huge row has enlarged is released. */
const KEPT_BYTES_MAX = 16 * 1024 * 1024;

/** Signature, flags and extension of a binary COPY. */
export const COPY_HEADER = Buffer.concat([Buffer.from("PGCOPY\n\xff\r\n\0", "latin1"), Buffer.alloc(8)]);

/** Builds the bytes of one write. Reused; call `reset` before each use. */
export class Frames {
  out = new ByteWriter(1024 * 1024);
  #frame = 0;

  reset(): void {
    if (this.out.bytes.length > KEPT_BYTES_MAX) this.out = new ByteWriter(1024 * 1024);
    this.out.reset();
  }

  /** Statements separated by semicolons: one transaction, unless they say otherwise. */
  query(sql: string): void {
    const at = this.#begin(QUERY);
    this.out.utf8(sql);
    this.out.byte(0);
    this.#end(at);
  }

  parse(name: string, sql: string): void {
    const at = this.#begin(PARSE);
    this.out.ascii(name);
    this.out.byte(0);
    this.out.utf8(sql);
    this.out.byte(0);
    this.#int16(0);
    this.#end(at);
  }

  /**
   * Begins a Bind to the unnamed portal. Then reserve the parameters and their formats with `parameters`, fill `out`,
   * and close with `executeBound`.
   */
  bind(statement: string): number {
    const at = this.#begin(BIND);
    this.out.byte(0);
    this.out.ascii(statement);
    this.out.byte(0);
    return at;
  }

  /** Writes the parameter count and room for its format codes (all text); returns the position of the codes. */
  parameters(count: number): number {
    const { out } = this;
    out.reserve(4 + count * 2);
    this.#int16(count);
    const codes = out.length;
    out.bytes.fill(0, codes, codes + count * 2);
    out.length = codes + count * 2;
    this.#int16(count);
    return codes;
  }

  /** Marks parameter `ordinal` as binary. */
  asBinary(codes: number, ordinal: number): void {
    this.out.bytes[codes + ordinal * 2 + 1] = 1;
  }

  textParameter(text: string): void {
    const { out } = this;
    const at = out.length;
    out.reserve(4);
    out.length = at + 4;
    out.utf8(text);
    writeInt32(out.bytes, at, out.length - at - 4);
  }

  executeBound(bound: number): void {
    this.#int16(0);
    this.#end(bound);
    const at = this.#begin(EXECUTE);
    this.out.byte(0);
    this.out.reserve(4);
    writeInt32(this.out.bytes, this.out.length, 0);
    this.out.length += 4;
    this.#end(at);
  }

  sync(): void {
    this.#end(this.#begin(SYNC));
  }

  /** Begins the data of the next COPY statement of the query before. */
  beginCopy(binary: boolean): void {
    this.#frame = this.#begin(COPY_DATA);
    if (binary) this.out.copy(COPY_HEADER, 0, COPY_HEADER.length);
  }

  /** Call after each row: closes the frame when it is full. */
  rowWritten(): void {
    if (this.out.length - this.#frame < COPY_FRAME_BYTES) return;
    this.#end(this.#frame);
    this.#frame = this.#begin(COPY_DATA);
  }

  endCopy(binary: boolean): void {
    if (binary) this.#int16(-1);
    this.#end(this.#frame);
    this.#end(this.#begin(COPY_DONE));
  }

  #begin(type: number): number {
    const { out } = this;
    out.reserve(5);
    const at = out.length;
    out.bytes[at] = type;
    out.length = at + 5;
    return at;
  }

  #end(at: number): void {
    writeInt32(this.out.bytes, at + 1, this.out.length - at - 1);
  }

  #int16(value: number): void {
    const { out } = this;
    out.reserve(2);
    out.bytes[out.length] = value >> 8;
    out.bytes[out.length + 1] = value;
    out.length += 2;
  }
}

export function writeInt32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >> 24;
  bytes[at + 1] = value >> 16;
  bytes[at + 2] = value >> 8;
  bytes[at + 3] = value;
}
