/**
 * MySQL's names of transactions with tags. Their event is a list of numbered fields. An integer has one to nine bytes: one
 * more than the first byte has set bits at its low end.
 */
import { damaged } from "../../errors.ts";
import { HEADER_BYTES } from "../log/events.ts";
import { readUint } from "../log/little-endian.ts";
import type { TransactionName } from "./transaction-name.ts";

const UUID_BYTES = 16;
const FIELD_UUID = 1;
const FIELD_NUMBER = 2;
const FIELD_TAG = 3;
const FIELD_COMMITTED = 6;
const FIELD_ORIGIN = 7;

export function readTaggedGtid(bytes: Uint8Array, start: number, end: number): TransactionName {
  const fields = new Fields(bytes, start + HEADER_BYTES, end);
  // The form's version, the size, and the last field that a reader must know.
  for (let i = 0; i < 3; i++) fields.integer();
  let [uuid, number, tag] = ["", 0, ""];
  let committedUs = 0n;
  let originUs: bigint | undefined;
  while (fields.at < end) {
    const field = fields.integer();
    if (field > FIELD_ORIGIN) break;
    if (field === FIELD_UUID) uuid = fields.uuid();
    else if (field === FIELD_TAG) tag = fields.text();
    else {
      const value = fields.integer();
      // Its sign is the lowest bit.
      if (field === FIELD_NUMBER) number = Math.floor(value / 2);
      else if (field === FIELD_COMMITTED) committedUs = BigInt(value);
      else if (field === FIELD_ORIGIN) originUs = BigInt(value);
    }
  }
  if (uuid === "" || number === 0) throw damaged("the name of a transaction is cut short");
  return {
    gtid: `${tag === "" ? uuid : `${uuid}:${tag}`}:${number}`,
    committedUs,
    originUs: originUs ?? committedUs,
    isAlone: false,
    isPrepared: false,
    isMixed: false,
  };
}

/** A tag as it is stored in lists of names: its length, then its letters. */
export function readTag(bytes: Uint8Array, at: number, end: number): { readonly tag: string; readonly next: number } {
  const fields = new Fields(bytes, at, end);
  const tag = fields.text();
  return { tag, next: fields.at };
}

export function uuidText(bytes: Uint8Array, at: number): string {
  const hex = Buffer.from(bytes.subarray(at, at + UUID_BYTES)).toString("hex");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

class Fields {
  readonly #bytes: Uint8Array;
  readonly #end: number;
  at: number;

  constructor(bytes: Uint8Array, at: number, end: number) {
    this.#bytes = bytes;
    this.at = at;
    this.#end = end;
  }

  integer(): number {
    const first = this.#bytes[this.at] ?? 0;
    let more = 0;
    while (more < 8 && (first & (1 << more)) !== 0) more++;
    if (this.at + more >= this.#end) throw damaged("the name of a transaction is cut short");
    const rest = this.#uint(this.at + 1, more);
    this.at += 1 + more;
    const value = more >= 7 ? rest : rest * 2 ** (7 - more) + (first >> (more + 1));
    if (!Number.isSafeInteger(value)) throw damaged("the name of a transaction has a number that is too large");
    return value;
  }

  text(): string {
    const length = this.integer();
    if (this.at + length > this.#end) throw damaged("the name of a transaction is cut short");
    const text = Buffer.from(this.#bytes.subarray(this.at, this.at + length)).toString("latin1");
    this.at += length;
    return text;
  }

  /** Each of its bytes is an integer. */
  uuid(): string {
    return uuidText(
      Uint8Array.from({ length: UUID_BYTES }, () => this.integer()),
      0,
    );
  }

  #uint(at: number, count: number): number {
    const low = Math.min(count, 6);
    return readUint(this.#bytes, at, low) + readUint(this.#bytes, at + low, count - low) * 2 ** 48;
  }
}
