/** C0 and C1 of Unicode but for the tabulator and the line feed. */
const CONTROLS = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g;

/** Names and values as they come from databases may hold what commands a terminal; `\x1b` is shown in its place. */
export function printable(text: string): string {
  return text.replaceAll(CONTROLS, (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`);
}
