/** Throws when something that must hold does not: a defect of Millrace, never of its input. */
export function invariant(condition: unknown, text: string): asserts condition {
  if (!condition) throw new Error(`invariant broken: ${text}`);
}
