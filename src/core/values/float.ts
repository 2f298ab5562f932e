/**
 * Floats as Postgres prints them since version 12: the shortest digits that read back as the same value, and among
 * those the nearest; but never digits that lie exactly in the middle between two floats, which a reader has to round to
 * even (so 1e23 is printed 9.999999999999999e+22). JavaScript's own shortest form differs in the last point and in
 * where the exponent begins.
 */
const FLOAT32_MIN_NORMAL = 2 ** -126;
const bits = new DataView(new ArrayBuffer(8));

export function readFloat64(bytes: Uint8Array, at: number): number {
  for (let i = 0; i < 8; i++) bits.setUint8(i, bytes[at + i]!);
  return bits.getFloat64(0);
}

export function readFloat32(bytes: Uint8Array, at: number): number {
  for (let i = 0; i < 4; i++) bits.setUint8(i, bytes[at + i]!);
  return bits.getFloat32(0);
}

export function formatFloat64(value: number): string {
  const magnitude = Math.abs(value);
  // Between these bounds JavaScript prints the same digits without an exponent, and no midpoint is that short.
  if (magnitude >= 1e-4 && magnitude < 1e15) return String(value);
  if (magnitude === 0 || !Number.isFinite(value)) return Object.is(value, -0) ? "-0" : String(value);
  const [digits, exponent] = shortest64(magnitude);
  return layout(value < 0, digits, exponent, 15);
}

export function formatFloat(bitCount: number, value: number): string {
  return bitCount === 32 ? formatFloat32(value) : formatFloat64(value);
}

export function formatFloat32(value: number): string {
  const magnitude = Math.abs(value);
  if (magnitude === 0 || !Number.isFinite(value)) return Object.is(value, -0) ? "-0" : String(value);
  if (magnitude < 1e6 && Number.isInteger(value)) return String(value);
  const [digits, exponent] = shortest32(magnitude);
  return layout(value < 0, digits, exponent, 6);
}

/** Significant digits without trailing zeros, and the decimal exponent of the first. */
type Decimal = readonly [digits: string, exponent: number];

function layout(negative: boolean, digits: string, exponent: number, fixedBelow: number): string {
  const sign = negative ? "-" : "";
  if (exponent < -4 || exponent >= fixedBelow) {
    const mantissa = digits.length === 1 ? digits : `${digits[0]}.${digits.slice(1)}`;
    const power = String(Math.abs(exponent)).padStart(2, "0");
    return `${sign}${mantissa}e${exponent < 0 ? "-" : "+"}${power}`;
  }
  if (exponent < 0) return `${sign}0.${"0".repeat(-exponent - 1)}${digits}`;
  const whole = exponent + 1;
  if (digits.length <= whole) return sign + digits.padEnd(whole, "0");
  return `${sign}${digits.slice(0, whole)}.${digits.slice(whole)}`;
}

function shortest64(magnitude: number): Decimal {
  const found = parseExponential(magnitude.toExponential());
  // Digits of a midpoint times a power of ten: only whole numbers in this range can be that (their odd part has 54 bits
  // and must be a multiple of the power of five).
  if (magnitude < 2 ** 53 || magnitude > 1e41) return found;
  const exact = BigInt(magnitude);
  const neighbours = { below: BigInt(neighbour64(magnitude, -1n)), above: BigInt(neighbour64(magnitude, 1n)) };
  const candidate = BigInt(found[0]) * 10n ** BigInt(found[1] + 1 - found[0].length);
  if (isStrictlyNearer(candidate, exact, neighbours)) return found;
  const length = String(exact).length;
  for (let count = found[0].length; count < length; count++) {
    const unit = 10n ** BigInt(length - count);
    const floor = (exact / unit) * unit;
    const pair = [floor, floor + unit].filter((value) => isStrictlyNearer(value, exact, neighbours));
    const best = pair.reduce<bigint | undefined>(
      (a, b) => (a === undefined || b - exact < exact - a ? b : a),
      undefined,
    );
    if (best !== undefined) return trimmed(String(best), String(best).length - 1);
  }
  return trimmed(String(exact), length - 1);
}

function isStrictlyNearer(value: bigint, exact: bigint, neighbours: { below: bigint; above: bigint }): boolean {
  return 2n * value > exact + neighbours.below && 2n * value < exact + neighbours.above;
}

function neighbour64(value: number, step: bigint): number {
  bits.setFloat64(0, value);
  bits.setBigUint64(0, bits.getBigUint64(0) + step);
  return bits.getFloat64(0);
}

function shortest32(magnitude: number): Decimal {
  bits.setFloat32(0, magnitude);
  const pattern = bits.getUint32(0);
  bits.setUint32(0, pattern + 1);
  const upper = (finiteAbove(bits.getFloat32(0)) - magnitude) / 2;
  bits.setUint32(0, pattern - 1);
  const lower = (magnitude - bits.getFloat32(0)) / 2;
  // Six digits always survive a normal float32, so at most one number of up to six digits lies near enough.
  for (let count = magnitude < FLOAT32_MIN_NORMAL ? 1 : 6; count < 9; count++) {
    const nearest = nearest32(magnitude, count);
    if (isWithin(nearest, magnitude, lower, upper)) return nearest;
    // Below a power of two floats are twice as dense: the nearest digits may be outside the range there, and the next
    // ones inside.
    if (lower === upper) continue;
    const next = nextUp(nearest, count);
    if (isWithin(next, magnitude, lower, upper)) return next;
  }
  return nearest32(magnitude, 9);
}

/** The nearest number of `count` digits; of two equally near ones the even one (toExponential takes the larger). */
function nearest32(magnitude: number, count: number): Decimal {
  const found = parseExponential(magnitude.toExponential(count - 1));
  const last = found[0].charCodeAt(count - 1);
  if (last % 2 !== 1) return found;
  const longer = parseExponential(magnitude.toExponential(count));
  const isTie = longer[0].length === count + 1 && longer[0].endsWith("5") && compareExactly(longer, magnitude) === 0;
  if (!isTie) return found;
  return trimmed(found[0].slice(0, -1) + String.fromCharCode(last - 1), found[1]);
}

/** The largest float32 has its upper neighbour where the exponent would overflow. */
function finiteAbove(value: number): number {
  return Number.isFinite(value) ? value : 2 ** 128;
}

function isWithin(decimal: Decimal, magnitude: number, lower: number, upper: number): boolean {
  const nearest = Number(`${decimal[0]}e${decimal[1] + 1 - decimal[0].length}`);
  const distance = nearest - magnitude;
  // Rounding to a double keeps the order, so only an exact hit of the bound is undecided.
  if (distance !== upper && distance !== -lower) return distance < upper && distance > -lower;
  const side = compareExactly(decimal, nearest);
  return distance > 0 ? side < 0 : side > 0;
}

function nextUp([digits, exponent]: Decimal, count: number): Decimal {
  const next = String(Number(digits.padEnd(count, "0")) + 1);
  return trimmed(next, exponent + next.length - count);
}

/** Sign of `decimal - value`, exactly. */
function compareExactly([digits, exponent]: Decimal, value: number): number {
  bits.setFloat64(0, value);
  const pattern = bits.getBigUint64(0);
  const power = Number((pattern >> 52n) & 0x7ffn) - 1075;
  let left = BigInt(digits);
  let right = (pattern & 0xf_ffff_ffff_ffffn) | 0x10_0000_0000_0000n;
  const ten = exponent + 1 - digits.length;
  if (ten >= 0) left *= 10n ** BigInt(ten);
  else right *= 10n ** BigInt(-ten);
  if (power >= 0) right <<= BigInt(power);
  else left <<= BigInt(-power);
  return left < right ? -1 : Number(left > right);
}

function parseExponential(text: string): Decimal {
  const e = text.indexOf("e");
  const digits = e === 1 ? text.slice(0, 1) : text[0] + text.slice(2, e);
  return trimmed(digits, Number(text.slice(e + 1)));
}

function trimmed(digits: string, exponent: number): Decimal {
  let end = digits.length;
  while (end > 1 && digits.charCodeAt(end - 1) === 0x30) end--;
  return [digits.slice(0, end), exponent];
}
