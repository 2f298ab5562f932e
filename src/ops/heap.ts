/** Limits the memory that V8 keeps unused. V8 favours speed; a daemon beside a database should save memory. */
import { PerformanceObserver } from "node:perf_hooks";
import { getHeapSpaceStatistics, setFlagsFromString } from "node:v8";

/** Size of both halves of V8's space for new objects. Doubling it gains no speed (docs/benchmarks.md, memory). */
const YOUNG_BYTES_MAX = 8 * 1024 * 1024;
/** V8's default. */
const YOUNG_GROWTH = 2;
/**
 * How much old objects may grow, relative to the last collection, before V8 collects them again. V8's default: up to
 * 300.
 */
const OLD_GROWTH_PERCENT = 30;

/**
 * Keeps V8's heap close to what it holds. By default the space for new objects doubles up to 64 MiB under load, is not
 * given back while the load lasts, and all of it becomes resident; old objects may grow to four times before V8
 * collects them. The options `--max-semi-space-size` and `--heap-growing-percent` do the same on the command line.
 */
export function keepHeapSmall(): void {
  setFlagsFromString(`--heap-growing-percent=${OLD_GROWTH_PERCENT}`);
  // Loading at the start allocates too fast for the observer: the space would grow unnoticed.
  let growth = 1;
  setFlagsFromString(`--semi-space-growth-factor=${growth}`);
  const observer = new PerformanceObserver(() => {
    const young = getHeapSpaceStatistics().find((space) => space.space_name === "new_space");
    // It shrinks while the process is idle; after that it may grow again.
    const next = young !== undefined && young.space_size * YOUNG_GROWTH > YOUNG_BYTES_MAX ? 1 : YOUNG_GROWTH;
    if (next === growth) return;
    growth = next;
    setFlagsFromString(`--semi-space-growth-factor=${growth}`);
  });
  observer.observe({ entryTypes: ["gc"] });
}
