/** What V8 keeps of memory beyond what the program holds. It would rather save time; a daemon beside a database saves memory. */
import { PerformanceObserver } from "node:perf_hooks";
import { getHeapSpaceStatistics, setFlagsFromString } from "node:v8";

/** Of both halves of V8's space for new objects. Twice as much gains no time (docs/benchmarks.md, memory). */
const YOUNG_BYTES_MAX = 8 * 1024 * 1024;
/** V8's own. */
const YOUNG_GROWTH = 2;
/** How much the old objects may grow before they are collected, of what the last collection left. V8's own: up to 300. */
const OLD_GROWTH_PERCENT = 30;

/**
 * Keeps V8's heap near what it holds. By itself the space for new objects doubles up to 64 MiB while many are made, is never
 * given back while that goes on, and all of it becomes resident; and old objects may become four times as many before
 * they are collected. Options of the command line (`--max-semi-space-size`, `--heap-growing-percent`) would do the same
 * for those who give them.
 */
export function keepHeapSmall(): void {
  setFlagsFromString(`--heap-growing-percent=${OLD_GROWTH_PERCENT}`);
  // What is loaded and read at the start passes too quickly for the observer: it would have the space grow without being asked.
  let growth = 1;
  setFlagsFromString(`--semi-space-growth-factor=${growth}`);
  const observer = new PerformanceObserver(() => {
    const young = getHeapSpaceStatistics().find((space) => space.space_name === "new_space");
    // It shrinks while the process is idle, and may grow again then.
    const next = young !== undefined && young.space_size * YOUNG_GROWTH > YOUNG_BYTES_MAX ? 1 : YOUNG_GROWTH;
    if (next === growth) return;
    growth = next;
    setFlagsFromString(`--semi-space-growth-factor=${growth}`);
  });
  observer.observe({ entryTypes: ["gc"] });
}
