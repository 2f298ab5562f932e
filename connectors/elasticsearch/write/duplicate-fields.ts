import { ByteWriter } from "../../../src/core/bytes.ts";
import { skipString, skipValue } from "../../../src/core/targets/json-fields.ts";

const QUOTE = 0x22;
const COMMA = 0x2c;
const OPEN = 0x7b;
const CLOSE = 0x7d;
/** The engines refuse deeper JSON anyway. */
const DEPTH_MAX = 1_000;

/**
 * The document with only the last of each object's duplicate fields, at its place; null if there are no duplicates.
 * Everything else is copied unchanged. For refused rows, not for the hot path.
 */
export function withoutDuplicateFields(document: Uint8Array): Buffer | null {
  const out = new ByteWriter(document.length);
  const state = { found: false };
  copyValue(out, document, 0, 0, state);
  return state.found ? out.view() : null;
}

/** Copies the value at `at` and returns the offset after it. */
function copyValue(out: ByteWriter, bytes: Uint8Array, at: number, depth: number, state: { found: boolean }): number {
  const first = bytes[at];
  if (depth < DEPTH_MAX && first === OPEN) return copyObject(out, bytes, at, depth, state);
  if (depth < DEPTH_MAX && first === 0x5b) return copyArray(out, bytes, at, depth, state);
  const end = skipValue(bytes, at);
  out.copy(bytes, at, end - at);
  return end;
}

function copyArray(out: ByteWriter, bytes: Uint8Array, at: number, depth: number, state: { found: boolean }): number {
  let i = at + 1;
  out.byte(0x5b);
  while (bytes[i] !== 0x5d) {
    if (bytes[i] === COMMA || isSpace(bytes[i]!)) out.byte(bytes[i++]!);
    else i = copyValue(out, bytes, i, depth + 1, state);
  }
  out.byte(0x5d);
  return i + 1;
}

function copyObject(out: ByteWriter, bytes: Uint8Array, at: number, depth: number, state: { found: boolean }): number {
  const last = new Map<string, number>();
  const fields: { readonly nameAt: number; readonly nameEnd: number; readonly valueAt: number }[] = [];
  let i = skipGaps(bytes, at + 1);
  while (bytes[i] !== CLOSE) {
    const nameEnd = skipString(bytes, i);
    const valueAt = skipGaps(bytes, nameEnd);
    const name: unknown = JSON.parse(Buffer.from(bytes.subarray(i, nameEnd)).toString("utf8"));
    if (last.has(String(name))) state.found = true;
    last.set(String(name), fields.length);
    fields.push({ nameAt: i, nameEnd, valueAt });
    i = skipGaps(bytes, skipValue(bytes, valueAt));
  }
  const kept = new Set(last.values());
  out.byte(OPEN);
  let isFirst = true;
  for (const [n, { nameAt, nameEnd, valueAt }] of fields.entries()) {
    if (!kept.has(n)) continue;
    if (!isFirst) out.byte(COMMA);
    isFirst = false;
    out.copy(bytes, nameAt, nameEnd - nameAt);
    out.byte(0x3a);
    copyValue(out, bytes, valueAt, depth + 1, state);
  }
  out.byte(CLOSE);
  return i + 1;
}

/** Skips white space, colons and commas. */
function skipGaps(bytes: Uint8Array, at: number): number {
  let i = at;
  while (bytes[i] !== QUOTE && (isSpace(bytes[i]!) || bytes[i] === COMMA || bytes[i] === 0x3a)) i++;
  return i;
}

function isSpace(byte: number): boolean {
  return byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09;
}
