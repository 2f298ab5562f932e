/** Durations and sizes, as text. Without zod (quantity-keys.ts has it): every command loads this at its start. */
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

/** In the largest unit of which it is a whole number: 60,000 ms is 1m, 90,000 ms is 90s. */
export function inUnits(value: number, units: Readonly<Record<string, number>>): string {
  const [unit, size] =
    Object.entries(units).findLast(([, one]) => value >= one && value % one === 0) ?? Object.entries(units)[0]!;
  return `${value / size}${unit}`;
}
