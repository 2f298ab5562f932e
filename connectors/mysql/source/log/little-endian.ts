/** Numbers in the format of the protocol and the log: little-endian, lengths in one to nine bytes. */

export function readUint16(bytes: Uint8Array, at: number): number {
  return bytes[at]! | (bytes[at + 1]! << 8);
}

export function readUint24(bytes: Uint8Array, at: number): number {
  return bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16);
}

export function readUint32(bytes: Uint8Array, at: number): number {
  return (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0;
}

/** Table ids have 48 bits. */
export function readUint48(bytes: Uint8Array, at: number): number {
  return readUint32(bytes, at) + readUint16(bytes, at + 4) * 2 ** 32;
}

/** A number of `count` bytes, at most six. */
export function readUint(bytes: Uint8Array, at: number, count: number): number {
  let value = 0;
  for (let i = count - 1; i >= 0; i--) value = value * 256 + bytes[at + i]!;
  return value;
}

/** A cursor in a range of bytes that it must not leave. */
export class Cursor {
  readonly bytes: Uint8Array;
  readonly end: number;
  at: number;

  constructor(bytes: Uint8Array, at: number, end: number) {
    this.bytes = bytes;
    this.at = at;
    this.end = end;
  }

  get isAtEnd(): boolean {
    return this.at >= this.end;
  }

  byte(): number {
    this.need(1);
    return this.bytes[this.at++]!;
  }

  uint(count: number): number {
    this.need(count);
    const value = readUint(this.bytes, this.at, count);
    this.at += count;
    return value;
  }

  /** A length-encoded integer. */
  packed(): number {
    const first = this.byte();
    if (first < 0xfb) return first;
    if (first === 0xfc) return this.uint(2);
    if (first === 0xfd) return this.uint(3);
    if (first !== 0xfe) throw new RangeError("no length begins like this");
    const value = this.uint(6);
    if (this.uint(2) !== 0) throw new RangeError("a length beyond 48 bits");
    return value;
  }

  /** The next bytes, not copied. */
  span(count: number): Uint8Array {
    this.need(count);
    const from = this.at;
    this.at += count;
    return this.bytes.subarray(from, this.at);
  }

  need(count: number): void {
    if (count > this.end - this.at) throw new RangeError("the event ends before its content does");
  }
}
