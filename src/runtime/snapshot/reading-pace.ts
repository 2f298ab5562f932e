/** How long the source rests between two chunks. */
/** A chunk is read for a third of a second, and opening a session takes time too. */
const READ_MS_USUAL = 700;
const BEHIND_MS_USUAL = 1_000;
const PAUSE_MS_MAX = 5_000;

/**
 * `readMs`: how long the source took for the rows; `behindMs`: how long its log took to show the high watermark. The pause
 * is the sum of what both exceed their usual values by. So a busy source is asked half as often, and a lagging log catches up.
 */
export function pauseAfter({ readMs, behindMs }: { readonly readMs: number; readonly behindMs: number }): number {
  const slowMs = Math.max(0, readMs - READ_MS_USUAL);
  const lateMs = Math.max(0, behindMs - BEHIND_MS_USUAL);
  return Math.min(PAUSE_MS_MAX, slowMs + lateMs);
}
