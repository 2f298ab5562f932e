import { PerformanceObserver } from "node:perf_hooks";
import { getHeapSpaceStatistics, setFlagsFromString } from "node:v8";

/** Of both halves of V8's space for new objects. Twice as much gains no time (docs/benchmarks.md, memory). */
const BYTES_MAX = 8 * 1024 * 1024;
/** V8's own. */
const GROWTH = 2;

/**
 * Keeps V8's space for new objects from growing past `BYTES_MAX`. By itself it doubles up to 64 MiB while many objects
 * are made, is never given back while that goes on, and all of it becomes resident. An option of the command line
 * (`--max-semi-space-size`) would do the same for those who give it.
 */
export function keepYoungSpaceSmall(): void {
  let growth = GROWTH;
  const observer = new PerformanceObserver(() => {
    const young = getHeapSpaceStatistics().find((space) => space.space_name === "new_space");
    // It shrinks while the process is idle, and may grow again then.
    const next = young !== undefined && young.space_size * GROWTH > BYTES_MAX ? 1 : GROWTH;
    if (next === growth) return;
    growth = next;
    setFlagsFromString(`--semi-space-growth-factor=${growth}`);
  });
  observer.observe({ entryTypes: ["gc"] });
}
