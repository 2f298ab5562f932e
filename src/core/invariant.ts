/** Throws when something that must hold does not: a bug in Millrace, never wrong input. */
export function invariant(condition: unknown, text: string): asserts condition {
  if (!condition) throw new Error(`invariant broken: ${text}`);
}
