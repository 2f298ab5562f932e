/**
 * A row's values as one text that no other row has: each behind its length in bytes of UTF-8 and a colon, `~` for NULL.
 * Targets put their rows together the same way, so that a row is compared at once.
 */
export function sizedLine(cells: readonly (string | null)[]): string {
  let line = "";
  for (const cell of cells) line += cell === null ? "~" : `${Buffer.byteLength(cell)}:${cell}`;
  return line;
}
