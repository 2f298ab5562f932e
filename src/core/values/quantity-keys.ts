/** Durations and sizes as keys of the configuration. */
import * as z from "zod";
import { DURATION, DURATION_MS, inUnits, parseByteCount, parseDurationMs, SIZE, SIZE_BYTES } from "./quantity.ts";

/** What a duration or a size may be, for the pages that list the configuration's keys. */
export interface Range {
  readonly atLeast: number;
  readonly atMost: number;
  /** As a user writes it. */
  readonly text: (value: number) => string;
}

const ranges = new WeakMap<z.ZodType, Range>();

export function rangeOf(type: z.ZodType): Range | undefined {
  return ranges.get(type);
}

export function duration(atLeastMs: number, atMostMs: number) {
  return quantity("duration such as 500ms, 10s, 5m, 1h, 7d", DURATION, parseDurationMs, {
    atLeast: atLeastMs,
    atMost: atMostMs,
    text: (ms) => inUnits(ms, DURATION_MS),
  });
}

export function size(atLeast: number, atMost: number) {
  return quantity("size such as 512KB, 64MB, 1GB", SIZE, parseByteCount, {
    atLeast,
    atMost,
    text: (byteCount) => inUnits(byteCount, SIZE_BYTES),
  });
}

function quantity(what: string, pattern: RegExp, parsed: (text: string) => number | undefined, range: Range) {
  const { atLeast, atMost, text } = range;
  const [noun] = what.split(" ");
  const type = z
    .string({ error: `expected a ${what}` })
    .regex(pattern, { error: `expected a ${what}` })
    .transform((given) => parsed(given) ?? Number.NaN)
    .refine((value) => value >= atLeast && value <= atMost, {
      error: `expected a ${noun} from ${text(atLeast)} to ${text(atMost)}`,
    });
  ranges.set(type, range);
  return type;
}
