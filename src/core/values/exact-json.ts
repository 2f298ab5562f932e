/** As `JSON.parse` has it. */
type Parsed = ReturnType<typeof JSON.parse>;

/** JSON in which numbers that a double can't hold keep all their digits when it is written again. */
interface ExactJson {
  rawJSON(text: string): object;
  isRawJSON(value: unknown): value is { readonly rawJSON: string };
  parse(text: string, revive: (key: string, value: unknown, context: { readonly source?: string }) => unknown): Parsed;
}

// oxlint-disable-next-line typescript/no-unsafe-type-assertion -- TypeScript does not know these parts of JSON yet
const EXACT = JSON as unknown as ExactJson;

/** May match a number that a double can't hold. */
const LONG_NUMBER = /[\d.]{16}|\d[eE][-+]?\d/;
const WHOLE = /^-?\d+$/;

/** For printing. */
export function exactJson(text: string): object {
  return longNumbers(text, (source) => EXACT.rawJSON(source));
}

/** For calculating: a number that would be rounded is a `bigint` if it is whole, else an object of `JSON.rawJSON`. */
export function losslessJson(text: string): object {
  return longNumbers(text, (source, value) => {
    if (Number.isSafeInteger(value) || isExactly(value, source)) return value;
    return WHOLE.test(source) ? BigInt(source) : EXACT.rawJSON(source);
  });
}

/** The text of an object of `JSON.rawJSON`; null: it is none. */
export function rawText(value: object): string | null {
  return EXACT.isRawJSON(value) ? value.rawJSON : null;
}

/** JSON in which `made` makes the numbers; it is not asked where a double certainly holds all of them. */
export function longNumbers(text: string, made: (source: string, value: number) => unknown): Parsed {
  return LONG_NUMBER.test(text) ? everyNumber(text, made) : JSON.parse(text);
}

/** The same, asked for each of them. */
export function everyNumber(text: string, made: (source: string, value: number) => unknown): Parsed {
  return EXACT.parse(text, (_key, value, { source }) =>
    typeof value === "number" ? made(source ?? String(value), value) : value,
  );
}

/** Whether the double that was parsed from this text is the number that it says. */
export function isExactly(value: number, source: string): boolean {
  return digitsOf(String(value)) === digitsOf(source);
}

/** Those that count. */
function digitsOf(number: string): string {
  const [digits = ""] = number.split(/[eE]/);
  return digits.replaceAll(/[-.]/g, "").replace(/^0+/, "").replace(/0+$/, "");
}
