/**
 * Reads JSON that the formats of this folder wrote: without blanks, and members in the order of their schema. It checks what it
 * steps over, so that a format that changes is found by its first record.
 */
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const CLOSE_BRACKET = 0x5d;
const CLOSE_BRACE = 0x7d;
const LETTER_N = 0x6e;
const LETTER_T = 0x74;
/** So many characters of a number are exact in a double. */
const SAFE_DIGITS = 15;

export class JsonCursor {
  bytes: Buffer = Buffer.alloc(0);
  at = 0;
  /** Where the text that was read last lies in `bytes`. */
  start = 0;
  end = 0;

  begin(bytes: Buffer): void {
    this.bytes = bytes;
    this.at = 0;
  }

  /** Batches over the same bytes as these. */
  expect(token: Buffer): void {
    const end = this.at + token.length;
    if (token.compare(this.bytes, this.at, end) !== 0)
      throw new Error(`a record is not what its schema says: it lacks ${token.toString()}`);
    this.at = end;
  }

  /** Batches over `null`; false if the value is another. */
  takeNull(): boolean {
    if (this.bytes[this.at] !== LETTER_N) return false;
    this.at += 4;
    return true;
  }

  takeBoolean(): boolean {
    const is = this.bytes[this.at] === LETTER_T;
    this.at += is ? 4 : 5;
    return is;
  }

  /** An array's elements, behind its opening bracket. False: it has ended. */
  hasElement(isFirst: boolean): boolean {
    if (this.bytes[this.at] === CLOSE_BRACKET) {
      this.at++;
      return false;
    }
    if (!isFirst) this.at++;
    return true;
  }

  takeInteger(): number | bigint {
    this.#bare();
    const text = this.bytes.toString("latin1", this.start, this.end);
    return text.length <= SAFE_DIGITS ? Number(text) : BigInt(text);
  }

  /** Numbers that JSON lacks are strings: "NaN", "Infinity", "-Infinity". */
  takeNumber(): number {
    if (this.bytes[this.at] === QUOTE) this.#quoted();
    else this.#bare();
    return Number(this.bytes.toString("latin1", this.start, this.end));
  }

  /** A string's bytes as UTF-8: a part of `bytes` where nothing is escaped in it. */
  takeString(): Buffer {
    if (this.#quoted()) return this.bytes.subarray(this.start, this.end);
    const text: unknown = JSON.parse(this.bytes.toString("utf8", this.start - 1, this.end + 1));
    return Buffer.from(String(text));
  }

  takeBase64(): Buffer {
    this.#quoted();
    return Buffer.from(this.bytes.toString("latin1", this.start, this.end), "base64");
  }

  /** Up to what ends a number. */
  #bare(): void {
    this.start = this.at;
    while (this.at < this.bytes.length && !isEnd(this.bytes[this.at]!)) this.at++;
    this.end = this.at;
  }

  /** True: nothing in it is escaped. */
  #quoted(): boolean {
    const { bytes } = this;
    let isPlain = true;
    let at = this.at + 1;
    for (; bytes[at] !== QUOTE; at++) {
      if (at >= bytes.length) throw new Error("a string of the record does not end");
      if (bytes[at] === BACKSLASH) {
        isPlain = false;
        at++;
      }
    }
    this.start = this.at + 1;
    this.end = at;
    this.at = at + 1;
    return isPlain;
  }
}

function isEnd(byte: number): boolean {
  return byte === COMMA || byte === CLOSE_BRACKET || byte === CLOSE_BRACE;
}
