/**
 * NUL in texts of MySQL. Postgres does not allow it, so its symbol U+2400 replaces it, in keys too. Two keys that
 * differ only in that become one.
 */
import type { ByteWriter } from "../../../../src/core/bytes.ts";

const NUL = "\0";
const PICTURE = "\u2400";
const PICTURE_BYTES = Buffer.from(PICTURE);

export function visibleText(text: string): string {
  return text.replaceAll(NUL, PICTURE);
}

export function nulCount(bytes: Uint8Array, start: number, length: number): number {
  let count = 0;
  for (let i = start, end = start + length; i < end; i++) if (bytes[i] === 0) count++;
  return count;
}

/** Writes the text with NUL replaced. */
export function copyVisible(out: ByteWriter, bytes: Uint8Array, start: number, length: number): void {
  if (nulCount(bytes, start, length) === 0) return out.copy(bytes, start, length);
  let from = start;
  for (let i = start, end = start + length; i <= end; i++) {
    if (i < end && bytes[i] !== 0) continue;
    out.copy(bytes, from, i - from);
    if (i < end) out.copy(PICTURE_BYTES, 0, PICTURE_BYTES.length);
    from = i + 1;
  }
}
