/**
 * Dates, times and spans of time as numbers that compare: microseconds, or whole days for dates. They are exact: bigint
 * if a double is not.
 */

type Instant = number | bigint;

const DAY_US = 86_400_000_000;
const SAFE_DAYS = 100_000;
const DATE = /^(\d{4,7})-(\d{2})-(\d{2})/;
const CLOCK = /^(\d{1,2}):(\d{2})(?::(\d{2})(?:\.(\d{1,6}))?)?/;
const ZONE = /^(?:Z|z|([+-])(\d{2})(?::?(\d{2})(?::(\d{2}))?)?)/;
/** MySQL's TIME: up to 838 hours, of either sign. */
const SIGNED_TIME = /^(-?)(\d{1,3}):(\d{2})(?::(\d{2})(?:\.(\d{1,6}))?)?$/;
const SIGNED_HOURS_MAX = 838;
/** An interval as Postgres prints it: units with a sign of their own, then a clock with one. */
const SPAN_UNIT = /^([+-]?\d{1,10}) (year|mon|day)s?(?: |$)/;
const SPAN_CLOCK = /^([+-]?)(\d{1,10}):(\d{2})(?::(\d{2})(?:\.(\d{1,6}))?)?$/;
const SPAN_DAYS: Readonly<Record<string, number>> = { year: 360, mon: 30, day: 1 };
/** Above the seconds of any offset, so that the instant decides first. */
const ZONE_RANGE = 131_072n;

/** Days since 1970-01-01. Undefined if the text is no date. */
export function parseDate(text: string): Instant | undefined {
  const infinite = infinity(text);
  if (infinite !== undefined) return infinite;
  const isBc = text.endsWith(" BC");
  const own = isBc ? text.slice(0, -3) : text;
  const match = DATE.exec(own);
  return match === null || match[0].length !== own.length ? undefined : daysOf(match, isBc);
}

/** Microseconds of the day. */
export function parseTime(text: string): Instant | undefined {
  const match = CLOCK.exec(text);
  return match === null || match[0].length !== text.length ? undefined : clockUs(match);
}

/** As Postgres orders `timetz`: by the instant, then the more eastern zone first. Without an offset the time is UTC. */
export function parseZonedTime(text: string): Instant | undefined {
  const clock = CLOCK.exec(text);
  const us = clock === null ? undefined : clockUs(clock);
  if (clock === null || us === undefined) return undefined;
  const rest = text.slice(clock[0].length).trimStart();
  const offset = rest === "" ? null : ZONE.exec(rest);
  if (rest !== "" && offset?.[0].length !== rest.length) return undefined;
  const east = offset === null ? 0 : offsetUs(offset);
  return BigInt(us - east) * ZONE_RANGE - BigInt(east / 1_000_000);
}

/** Microseconds of MySQL's TIME, which is a span of time as well. */
export function parseSignedTime(text: string): Instant | undefined {
  const [whole, sign, hours, ...rest] = SIGNED_TIME.exec(text) ?? [];
  if (whole === undefined || Number(hours) > SIGNED_HOURS_MAX) return undefined;
  const us = spanUs(hours, rest);
  return us === undefined ? undefined : Number(sign === "-" ? -us : us);
}

/** Microseconds of an interval, with months of 30 days and days of 24 hours, as Postgres compares them. */
export function parseInterval(text: string): Instant | undefined {
  const infinite = infinity(text);
  if (infinite !== undefined) return infinite;
  let us = 0n;
  let rest = text;
  for (let unit = SPAN_UNIT.exec(rest); unit !== null; unit = SPAN_UNIT.exec(rest)) {
    us += BigInt(unit[1] ?? 0) * BigInt(SPAN_DAYS[unit[2] ?? ""] ?? 0) * BigInt(DAY_US);
    rest = rest.slice(unit[0].length);
  }
  if (rest === "") return text === "" ? undefined : us;
  const [clock, sign, hours, ...smaller] = SPAN_CLOCK.exec(rest) ?? [];
  const span = clock === undefined ? undefined : spanUs(hours, smaller);
  if (span === undefined) return undefined;
  return sign === "-" ? us - span : us + span;
}

/**
 * Microseconds since 1970-01-01. With `zone` the text may name a zone (default UTC), and the result is in UTC. Without it,
 * a text with a zone is invalid.
 */
export function parseTimestamp(text: string, zone: boolean): Instant | undefined {
  const infinite = infinity(text);
  if (infinite !== undefined) return infinite;
  const isBc = text.endsWith(" BC");
  let rest = isBc ? text.slice(0, -3) : text;
  const date = DATE.exec(rest);
  const days = date === null ? undefined : daysOf(date, isBc);
  if (date === null || days === undefined) return undefined;
  rest = rest.slice(date[0].length);
  let us = 0;
  if (rest !== "") {
    const clock = /^[ Tt]/.test(rest) ? CLOCK.exec(rest.slice(1)) : null;
    const time = clock === null ? undefined : clockUs(clock);
    if (clock === null || time === undefined) return undefined;
    us = time;
    rest = rest.slice(1 + clock[0].length).trimStart();
  }
  if (rest !== "") {
    const offset = zone ? ZONE.exec(rest) : null;
    if (offset === null || offset[0].length !== rest.length) return undefined;
    us -= offsetUs(offset);
  }
  return Math.abs(days) < SAFE_DAYS ? days * DAY_US + us : BigInt(days) * BigInt(DAY_US) + BigInt(us);
}

function infinity(text: string): number | undefined {
  if (text === "infinity") return Infinity;
  return text === "-infinity" ? -Infinity : undefined;
}

function daysOf([, yearText, monthText, dayText]: RegExpExecArray, isBc: boolean): number | undefined {
  const [month, day] = [Number(monthText), Number(dayText)];
  const year = isBc ? 1 - Number(yearText) : Number(yearText);
  if (month < 1 || month > 12 || day < 1 || day > daysInMonth(year, month)) return undefined;
  // Years begin in March, so that a leap day is the last day of its year.
  const shifted = month > 2 ? year : year - 1;
  const era = Math.floor(shifted / 400);
  const yearOfEra = shifted - era * 400;
  const dayOfYear = Math.floor((153 * ((month + 9) % 12) + 2) / 5) + day - 1;
  return (
    era * 146_097 + yearOfEra * 365 + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100) + dayOfYear - 719_468
  );
}

function daysInMonth(year: number, month: number): number {
  if (month !== 2) return [4, 6, 9, 11].includes(month) ? 30 : 31;
  return year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0) ? 29 : 28;
}

function clockUs([, hours, minutes, seconds = "0", fraction = ""]: RegExpExecArray): number | undefined {
  const [h, m, s] = [Number(hours), Number(minutes), Number(seconds)];
  const us = ((h * 60 + m) * 60 + s) * 1_000_000 + Number(fraction.padEnd(6, "0"));
  return m > 59 || s > 60 || us > DAY_US ? undefined : us;
}

function offsetUs([, sign, hours = "0", minutes = "0", seconds = "0"]: RegExpExecArray): number {
  const us = ((Number(hours) * 60 + Number(minutes)) * 60 + Number(seconds)) * 1_000_000;
  return sign === "-" ? -us : us;
}

function spanUs(hours: string | undefined, [minutes, seconds = "0", fraction = ""]: string[]): bigint | undefined {
  if (Number(minutes) > 59 || Number(seconds) > 59) return undefined;
  const whole = (BigInt(hours ?? 0) * 60n + BigInt(minutes ?? 0)) * 60n + BigInt(seconds);
  return whole * 1_000_000n + BigInt(fraction.padEnd(6, "0"));
}
