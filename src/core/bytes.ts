/** A growing buffer that rows are rendered into. It is reused, so that no cell allocates memory. */
export class ByteWriter {
  bytes: Buffer;
  length = 0;
  readonly #doubledMax: number;

  /** `doubledMax`: up to this capacity it grows to the double; beyond, only to what is needed. */
  constructor(capacity = 64 * 1024, doubledMax = Number.POSITIVE_INFINITY) {
    this.bytes = Buffer.allocUnsafeSlow(capacity);
    this.#doubledMax = doubledMax;
  }

  /** Makes room for `count` more bytes; call it once per cell, then write through `bytes` and `length`. */
  reserve(count: number): void {
    if (this.length + count > this.bytes.length) this.#grow(this.length + count);
  }

  byte(value: number): void {
    this.reserve(1);
    this.bytes[this.length++] = value;
  }

  /** Copies a range. Short ranges go byte by byte: a loop beats the call below some 40 bytes. A whole buffer needs no view. */
  copy(from: Uint8Array, start: number, count: number): void {
    this.reserve(count);
    const to = this.bytes;
    let at = this.length;
    if (count <= 40) for (let i = start, end = start + count; i < end; i++) to[at++] = from[i]!;
    else to.set(count === from.length ? from : from.subarray(start, start + count), at);
    this.length += count;
  }

  /** Text of ASCII characters only. */
  ascii(text: string): void {
    this.reserve(text.length);
    for (let i = 0; i < text.length; i++) this.bytes[this.length++] = text.charCodeAt(i);
  }

  utf8(text: string): void {
    this.reserve(text.length * 3);
    this.length += this.bytes.write(text, this.length, "utf8");
  }

  /** A view of the written bytes; valid until the next write. */
  view(): Buffer {
    return this.bytes.subarray(0, this.length);
  }

  reset(): void {
    this.length = 0;
  }

  #grow(needed: number): void {
    const bytes = Buffer.allocUnsafeSlow(Math.max(needed, Math.min(this.bytes.length * 2, this.#doubledMax)));
    bytes.set(this.bytes.subarray(0, this.length));
    this.bytes = bytes;
  }
}

/** A buffer that one huge value has enlarged is released. */
const KEPT_BYTES_MAX = 1024 * 1024;

const pool: ByteWriter[] = [];

/** Lends an empty writer during the call; calls may be nested. */
export function withScratch(use: (scratch: ByteWriter) => void): void {
  const scratch = pool.pop() ?? new ByteWriter(1024);
  scratch.reset();
  try {
    use(scratch);
  } finally {
    if (scratch.bytes.length <= KEPT_BYTES_MAX) pool.push(scratch);
  }
}
