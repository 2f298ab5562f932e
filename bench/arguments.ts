import { InvalidArgumentError } from "commander";

/** Below this, the smallest pieces of work have no rows left, and waits for them would never end. */
const SCALE_MIN = 0.001;
const SCALE_MAX = 10;
const RUNS_MAX = 100;

export function scaleOf(text: string): number {
  const scale = text.trim() === "" ? Number.NaN : Number(text);
  if (scale >= SCALE_MIN && scale <= SCALE_MAX) return scale;
  throw new InvalidArgumentError(`It is a number from ${SCALE_MIN} to ${SCALE_MAX}.`);
}

export function runsOf(text: string): number {
  const runs = text.trim() === "" ? Number.NaN : Number(text);
  if (Number.isInteger(runs) && runs >= 1 && runs <= RUNS_MAX) return runs;
  throw new InvalidArgumentError(`It is a whole number from 1 to ${RUNS_MAX}.`);
}
