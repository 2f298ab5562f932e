/** Exact comparison of numbers: whole ones of any size, decimals of any digits. */

/** `digits` divided by ten to the power of `scale`. */
interface Decimal {
  readonly digits: bigint;
  readonly scale: number;
}

/** Whole numbers that a double holds exactly, larger ones, decimals; NaN and the infinities as numbers. */
export type Numeric = number | bigint | Decimal;

const NUMBER = /^([+-]?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d{1,4}))?$/;
const EXACT_DIGITS = 15;

/** Undefined if the text is no number. */
export function parseNumeric(text: string): Numeric | undefined {
  if (text.length <= EXACT_DIGITS && /^-?\d+$/.test(text)) return Number(text);
  if (text === "NaN" || text === "Infinity" || text === "-Infinity") return Number(text);
  const [, sign = "", whole = "", fraction = "", exponent = "0"] = NUMBER.exec(text) ?? [];
  if (whole === "" && fraction === "") return undefined;
  const magnitude = BigInt(whole + fraction);
  const digits = sign === "-" ? -magnitude : magnitude;
  const scale = fraction.length - Number(exponent);
  if (scale > 0) return { digits, scale };
  return digits * 10n ** BigInt(-scale);
}

/** Below, at or above zero. NaN equals itself and is above everything else, as in Postgres. */
export function compareNumerics(a: Numeric, b: Numeric): number {
  if (typeof a === "object" || typeof b === "object") return compareDecimals(a, b);
  if (Number.isNaN(a) || Number.isNaN(b)) return Number(Number.isNaN(a)) - Number(Number.isNaN(b));
  return a < b ? -1 : a > b ? 1 : 0;
}

/** The same if one of the two is a float: both are compared as doubles, as in Postgres. */
export function compareAsDoubles(a: Numeric, b: Numeric): number {
  return compareNumerics(asDouble(a), asDouble(b));
}

function asDouble(value: Numeric): number {
  return typeof value === "object" ? Number(`${value.digits}e${-value.scale}`) : Number(value);
}

function compareDecimals(a: Numeric, b: Numeric): number {
  if (typeof a === "number" && !Number.isInteger(a)) return beyondAll(a);
  if (typeof b === "number" && !Number.isInteger(b)) return -beyondAll(b);
  const left = asDecimal(a);
  const right = asDecimal(b);
  const scale = Math.max(left.scale, right.scale);
  const difference = scaled(left, scale) - scaled(right, scale);
  return difference < 0n ? -1 : difference > 0n ? 1 : 0;
}

/** Values that are not whole numbers here: NaN and the infinities. */
function beyondAll(value: number): number {
  return value === -Infinity ? -1 : 1;
}

function asDecimal(value: Numeric): Decimal {
  return typeof value === "object" ? value : { digits: BigInt(value), scale: 0 };
}

function scaled({ digits, scale }: Decimal, to: number): bigint {
  return digits * 10n ** BigInt(to - scale);
}
