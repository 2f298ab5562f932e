/** How the source is left alone between two chunks. */
/** A chunk reads for a third of a second, and opens a session. */
const READ_MS_USUAL = 700;
const BEHIND_MS_USUAL = 1_000;
const PAUSE_MS_MAX = 5_000;

/**
 * `readMs`: how long the source took for the rows; `behindMs`: its log until the second mark was seen in it.
 * For as long as it was slower than usual with the chunk, and as what it wrote into its log came later than usual: who is
 * busy is asked half as often, and what lags behind catches up.
 */
export function pauseAfter({ readMs, behindMs }: { readonly readMs: number; readonly behindMs: number }): number {
  const slowMs = Math.max(0, readMs - READ_MS_USUAL);
  const lateMs = Math.max(0, behindMs - BEHIND_MS_USUAL);
  return Math.min(PAUSE_MS_MAX, slowMs + lateMs);
}
