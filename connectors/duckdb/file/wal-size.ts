const MIB = 1024 * 1024;
const BYTES_MIN = 16 * MIB;
const BYTES_MAX = 64 * MIB;
/** DuckDB also holds rows in memory, beside the index, until they are folded in. */
const SHARE = 8;

const UNITS: ReadonlyMap<string, number> = new Map([
  ["K", 1e3],
  ["KI", 1024],
  ["M", 1e6],
  ["MI", MIB],
  ["G", 1e9],
  ["GI", 1024 * MIB],
  ["T", 1e12],
  ["TI", 1024 * 1024 * MIB],
]);

/**
 * How far the log beside the file may grow before a commit folds it in. Each folding compresses the last rows of every
 * table again, so a small log costs CPU time (docs/benchmarks.md).
 */
export function walBytesMax(memoryLimit: string): number {
  const bytes = memoryBytes(memoryLimit) / SHARE;
  return Math.round(Math.min(BYTES_MAX, Math.max(BYTES_MIN, bytes)));
}

/** 0 for any other form. */
export function memoryBytes(memoryLimit: string): number {
  const [, digits = "0", unit = ""] = /^([\d.]+)\s*([KMGT]I?)B$/.exec(memoryLimit.trim().toUpperCase()) ?? [];
  return Number(digits) * (UNITS.get(unit) ?? 0);
}
