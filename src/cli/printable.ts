/** Unicode's C0 and C1, except tab and line feed. */
const CONTROLS = /[^\P{Cc}\t\n]/gu;

/** Names and values from databases may hold control characters for terminals; shows them as `\x1b`. */
export function printable(text: string): string {
  return text.replaceAll(CONTROLS, (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`);
}
