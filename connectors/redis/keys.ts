/**
 * The keys that the sink writes:
 *
 *   <prefix><schema>:<table>:<id>        a row (`%` and `:` inside schema, table and key values percent-encoded)
 *   <prefix><schema>:<table>:<value>:<id>  the same of a table whose route adds a column with this value
 *   <prefix><document>:<id>              a document
 *   <prefix>_millrace:<pipeline>.<sink>  the sink's checkpoint
 *   <prefix>_millrace:owners             which sink writes which tables' keys (owners.ts)
 *   _millrace:prefixes                   which sink has which prefix (owners.ts)
 *   <prefix>_millrace::…                 the version of a row that was deleted, for an hour
 *   <prefix>_millrace::f:…               the sink's fence in a cluster slot (write/fence.ts)
 *
 * No row has a key of the last five forms: a row's key has two colons or more, and its table is not empty; a
 * document's name begins with a letter.
 */
import { ByteWriter } from "../../src/core/bytes.ts";

const OPEN = 0x7b; // '{'
const CLOSE = 0x7d; // '}'

/**
 * A prefix may pin all keys to one cluster slot by a complete hash tag (`{shop}:`). With half a tag the slot would
 * depend on the rest of the key.
 */
export function isPrefixUsable(prefix: string): boolean {
  const rest = prefix.replace(/^[^{}]*\{[^{}]+\}/, "");
  return !/[{}]/.test(rest);
}

export function checkpointKey(prefix: string, pipeline: string, sink: string): string {
  return `${prefix}_millrace:${pipeline}.${sink}`;
}

/** A daemon's name has no colon, and a checkpoint's key has a dot. */
export function ownersKey(prefix: string): string {
  return `${prefix}_millrace:owners`;
}

/** For all sinks of a database, whatever their prefixes. */
export const PREFIXES_KEY = "_millrace:prefixes";

/** The key of a row's tombstone, in the same cluster slot. */
export class TombstoneKeys {
  /** What they begin with; the fences of cluster slots, too. */
  readonly start: string;
  readonly #prefix: Buffer;
  readonly #prefixHasTag: boolean;
  readonly #tagged: Buffer;
  readonly #wrapped: Buffer;
  readonly #numbered: Buffer;

  constructor(prefix: string) {
    this.start = `${prefix}_millrace::`;
    this.#prefix = Buffer.from(prefix);
    this.#prefixHasTag = prefix.includes("{");
    this.#tagged = Buffer.from(`${this.start}k:`);
    this.#wrapped = Buffer.from(`${this.start}t:{`);
    this.#numbered = Buffer.from(`${this.start}n:{`);
  }

  write(out: ByteWriter, key: Uint8Array, start: number, end: number): void {
    const rest = start + this.#prefix.length;
    const open = indexInRange(key, OPEN, start, end);
    const close = open < 0 ? -1 : indexInRange(key, CLOSE, open + 1, end);
    if (this.#prefixHasTag || close > open + 1) {
      // The key's own hash tag is the first one again.
      out.copy(this.#tagged, 0, this.#tagged.length);
      out.copy(key, rest, end - rest);
      return;
    }
    if (indexInRange(key, CLOSE, start, end) < 0) {
      out.copy(this.#wrapped, 0, this.#wrapped.length);
      out.copy(key, start, end - start);
      out.byte(CLOSE);
      return;
    }
    // Redis hashes the whole key; because it has a closing brace, it can't be inside a tag.
    out.copy(this.#numbered, 0, this.#numbered.length);
    out.ascii(tagOfSlot(slotOf(key, start, end)));
    out.byte(CLOSE);
    out.copy(key, rest, end - rest);
  }

  /** The key of the row that a tombstone is for; null if it is none. */
  rowOf(tombstone: Buffer): Buffer | null {
    const after = (start: Buffer): Buffer | null =>
      tombstone.subarray(0, start.length).equals(start) ? tombstone.subarray(start.length) : null;
    const wrapped = after(this.#wrapped);
    if (wrapped !== null) return wrapped.subarray(0, -1);
    const numbered = after(this.#numbered);
    const rest = after(this.#tagged) ?? numbered?.subarray(numbered.indexOf(CLOSE) + 1) ?? null;
    return rest === null ? null : Buffer.concat([this.#prefix, rest]);
  }

  of(key: string): string {
    const bytes = Buffer.from(key);
    const out = new ByteWriter(bytes.length + 256);
    this.write(out, bytes, 0, bytes.length);
    return out.view().toString("utf8");
  }
}

/** The SCAN pattern that matches exactly the keys that begin with `start`. */
export function scanPattern(start: string): string {
  return `${start.replaceAll(/[*?[\]\\^-]/g, String.raw`\$&`)}*`;
}

export const SLOT_COUNT = 16_384;

const TABLE = Uint16Array.from({ length: 256 }, (_, byte) => {
  let crc = byte << 8;
  for (let bit = 0; bit < 8; bit++) crc = (crc & 0x8000) === 0 ? crc << 1 : (crc << 1) ^ 0x1021;
  return crc & 0xffff;
});

/** A key's slot among the 16,384 of a cluster: CRC16 (XMODEM) of its hash tag, else of the whole key. */
export function slotOf(key: Uint8Array, start = 0, end = key.length): number {
  const open = indexInRange(key, OPEN, start, end);
  const close = open < 0 ? -1 : indexInRange(key, CLOSE, open + 1, end);
  return close > open + 1 ? crc16(key, open + 1, close) : crc16(key, start, end);
}

/** The first position of `byte` in the range, or -1. `indexOf` would search to the end of the buffer. */
export function indexInRange(bytes: Uint8Array, byte: number, start: number, end: number): number {
  for (let i = start; i < end; i++) if (bytes[i] === byte) return i;
  return -1;
}

function crc16(bytes: Uint8Array, start: number, end: number): number {
  let crc = 0;
  for (let i = start; i < end; i++) crc = ((crc << 8) & 0xffff) ^ TABLE[(crc >> 8) ^ bytes[i]!]!;
  return crc % SLOT_COUNT;
}

let tags: string[] | undefined;

/** A short text without braces whose slot this is. */
export function tagOfSlot(slot: number): string {
  tags ??= numbersPerSlot();
  return tags[slot]!;
}

function numbersPerSlot(): string[] {
  const found: string[] = Array.from({ length: SLOT_COUNT });
  let missing = SLOT_COUNT;
  for (let n = 0; missing > 0; n++) {
    const text = String(n);
    const slot = slotOf(Buffer.from(text));
    if (found[slot] !== undefined) continue;
    found[slot] = text;
    missing--;
  }
  return found;
}
