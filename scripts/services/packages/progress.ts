/** Prints the progress of downloads to stderr: what, how much, and how long it took. */
import type { Progress } from "../service.ts";

const LINE_EVERY_MS = 2_000;
const running = new Map<string, { startedAt: number; printedAt: number }>();

export function printProgress(progress: Progress): void {
  const now = Date.now();
  const state = running.get(progress.what);
  if (state === undefined) {
    running.set(progress.what, { startedAt: now, printedAt: now });
    const size = progress.totalBytes === undefined ? "" : ` (about ${megabytes(progress.totalBytes)})`;
    process.stderr.write(`fetching ${progress.what}${size}\n`);
  } else if (progress.done) {
    running.delete(progress.what);
    const seconds = ((now - state.startedAt) / 1000).toFixed(1);
    process.stderr.write(`fetched ${progress.what}: ${megabytes(progress.receivedBytes)} in ${seconds} s\n`);
  } else if (now - state.printedAt >= LINE_EVERY_MS) {
    state.printedAt = now;
    const total = progress.totalBytes === undefined ? "" : ` of ${megabytes(progress.totalBytes)}`;
    process.stderr.write(`  ${progress.what}: ${megabytes(progress.receivedBytes)}${total}\n`);
  }
}

function megabytes(byteCount: number): string {
  return `${(byteCount / 1_000_000).toFixed(byteCount < 10_000_000 ? 1 : 0)} MB`;
}
