/**
 * Dates and times as numbers that compare: microseconds, or whole days for dates. They are exact: bigint if a double is
 * not.
 */

export type Instant = number | bigint;

const DAY_US = 86_400_000_000;
const SAFE_DAYS = 100_000;
const DATE = /^(\d{4,7})-(\d{2})-(\d{2})/;
const CLOCK = /^(\d{2}):(\d{2})(?::(\d{2})(?:\.(\d{1,6}))?)?/;
const ZONE = /^(?:Z|z|([+-])(\d{2})(?::?(\d{2}))?)/;

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

function offsetUs([, sign, hours = "0", minutes = "0"]: RegExpExecArray): number {
  const us = (Number(hours) * 60 + Number(minutes)) * 60_000_000;
  return sign === "-" ? -us : us;
}
