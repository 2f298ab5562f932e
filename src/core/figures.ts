/** Figures as people read them. */

/** A whole number: `1,234`. The platform's own formats would be 2 MB in memory, and 20 ms of a daemon's start. */
export function digits(value: number): string {
  return String(value).replaceAll(/\B(?=(?:\d{3})+$)/g, ",");
}

export function count(value: number, noun: string): string {
  return `${digits(value)} ${noun}${value === 1 ? "" : "s"}`;
}

const SINGULAR: ReadonlyMap<string, string> = new Map([
  ["are", "is"],
  ["were", "was"],
  ["have", "has"],
]);

/** What so many do, given for many: `differ`, and `differs` for one. */
export function verb(value: number, many: string): string {
  return value === 1 ? (SINGULAR.get(many) ?? `${many}s`) : many;
}

export function asDeadLetters(value: number): string {
  return value === 1 ? "as a dead letter" : "as dead letters";
}

export function seconds(value: number | null): string {
  if (value === null) return "-";
  return value < 10 ? `${value.toFixed(1)} s` : span(value * 1000);
}

/** Of milliseconds: in the unit that people would choose. */
export function span(ms: number): string {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 120) return `${s} s`;
  if (s < 7200) return `${Math.floor(s / 60)} min`;
  if (s < 172_800) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86_400)} days`;
}

export function bytes(value: number | null): string {
  if (value === null) return "-";
  const units = ["B", "KB", "MB", "GB", "TB"];
  const power = value < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(value) / 10));
  return `${power === 0 ? value : (value / 1024 ** power).toFixed(1)} ${units[power]}`;
}

/** A time in RFC 3339, to the minute. */
export function utc(time: string): string {
  return `${time.slice(0, 16).replace("T", " ")} UTC`;
}
