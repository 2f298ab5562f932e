/**
 * A row's values as one unique text: each value after its length in UTF-8 bytes and a colon, `~` for NULL. Targets
 * build the same text, so that a whole row is compared at once.
 */
export function sizedLine(cells: readonly (string | null)[]): string {
  let line = "";
  for (const cell of cells) line += cell === null ? "~" : `${Buffer.byteLength(cell)}:${cell}`;
  return line;
}
