/**
 * NUL in texts of MySQL. Postgres does not allow it, so its symbol U+2400 replaces it. In a key no two texts may become one:
 * there a U+2410 (the symbol of an escape) precedes each of the two symbols that the text itself has.
 */
import type { ByteWriter } from "../../../../src/core/bytes.ts";
import type { TableVersion } from "../../../../src/core/model/schema.ts";

const PICTURE_BYTES = Buffer.from("\u2400");
const ESCAPE_BYTES = Buffer.from("\u2410");
const [FIRST, SECOND, OF_PICTURE] = PICTURE_BYTES;
const OF_ESCAPE = ESCAPE_BYTES[2];

/** As a value of this column is shown, if it is of MySQL. */
export function visibleText({ dialect, key }: TableVersion, ordinal: number, text: string): string {
  if (dialect !== "mysql") return text;
  return (key.includes(ordinal) ? text.replaceAll(/[\u2400\u2410]/g, "\u2410$&") : text).replaceAll("\0", "\u2400");
}

/** How many bytes are no part of the text as it is shown. */
export function hiddenCount(bytes: Uint8Array, start: number, length: number, isKey: boolean): number {
  let count = 0;
  for (let i = start, end = start + length; i < end; i++) if (bytes[i] === 0 || (isKey && isSymbol(bytes, i))) count++;
  return count;
}

/** Writes the text as it is shown. */
export function copyVisible(out: ByteWriter, bytes: Uint8Array, start: number, length: number, isKey: boolean): void {
  if (hiddenCount(bytes, start, length, isKey) === 0) return out.copy(bytes, start, length);
  let from = start;
  const end = start + length;
  for (let i = start; i < end; i++) {
    const isNul = bytes[i] === 0;
    if (!isNul && !(isKey && isSymbol(bytes, i))) continue;
    out.copy(bytes, from, i - from);
    const shown = isNul ? PICTURE_BYTES : ESCAPE_BYTES;
    out.copy(shown, 0, shown.length);
    from = isNul ? i + 1 : i;
  }
  out.copy(bytes, from, end - from);
}

/** The text is whole, so its bytes begin no character where its last ones lie. */
function isSymbol(bytes: Uint8Array, at: number): boolean {
  const third = bytes[at + 2];
  return bytes[at] === FIRST && bytes[at + 1] === SECOND && (third === OF_PICTURE || third === OF_ESCAPE);
}
