/** Durations and sizes, as text and as keys of the configuration. */
import * as z from "zod";

export const DURATION_MS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;
export const SIZE_BYTES = { B: 1, KB: 1024, MB: 1024 ** 2, GB: 1024 ** 3, TB: 1024 ** 4 } as const;

/** Plain regular expressions, because the editors' schema has them too. */
export const DURATION = /^\d+(\.\d+)?(ms|s|m|h|d)$/;
export const SIZE = /^\d+(\.\d+)?(B|KB|MB|GB|TB)$/;

/** `500ms`, `10s`, `1.5h`; undefined for any other form. */
export function parseDurationMs(text: string): number | undefined {
  return parse(text, DURATION, DURATION_MS);
}

/** `64MB` is 64 · 1024 · 1024 bytes; undefined for any other form. */
export function parseByteCount(text: string): number | undefined {
  return parse(text, SIZE, SIZE_BYTES);
}

function parse(text: string, form: RegExp, units: Readonly<Record<string, number>>): number | undefined {
  if (!form.test(text)) return undefined;
  const unit = /[A-Za-z]+$/.exec(text)?.[0] ?? "";
  const factor = units[unit];
  if (factor === undefined) return undefined;
  const value = Math.round(Number(text.slice(0, -unit.length)) * factor);
  return Number.isSafeInteger(value) ? value : undefined;
}

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

/** In the largest unit of which it is a whole number: 60,000 ms is 1m, 90,000 ms is 90s. */
function inUnits(value: number, units: Readonly<Record<string, number>>): string {
  const [unit, size] =
    Object.entries(units).findLast(([, one]) => value >= one && value % one === 0) ?? Object.entries(units)[0]!;
  return `${value / size}${unit}`;
}
