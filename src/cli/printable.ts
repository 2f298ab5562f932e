/** C0 and C1 of Unicode but for the tabulator and the line feed. */
const CONTROLS = /[^\P{Cc}\t\n]/gu;

/** Names and values as they come from databases may hold what commands a terminal; `\x1b` is shown in its place. */
export function printable(text: string): string {
  return text.replaceAll(CONTROLS, (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`);
}
