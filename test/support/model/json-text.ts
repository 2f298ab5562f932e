/**
 * JSON as RFC 8259 has it, read by states over tokens and without JSON.parse, so that it can judge code that uses that.
 * A number is its digits. An object has no order, and the last of equal names counts: section 4 leaves that open, and
 * Postgres' jsonb and MySQL's JSON have it so.
 */
export type Json = null | boolean | string | Digits | readonly Json[] | ReadonlyMap<string, Json>;

/** A number as it is written. */
export class Digits {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

/** An array or object that is not closed yet. */
type Open =
  | { readonly close: "]"; readonly items: Json[] }
  | { readonly close: "}"; readonly fields: Map<string, Json>; name: string };

/** "first …": here the container may also end. */
type Awaited = "value" | "first value" | "name" | "first name" | "colon" | "comma" | "end";

const WORDS: ReadonlyMap<string, Json> = new Map([
  ["true", true],
  ["false", false],
  ["null", null],
]);

export function readJson(text: string): Json {
  const open: Open[] = [];
  const state: { awaited: Awaited; whole: Json } = { awaited: "value", whole: null };
  const settle = (value: Json): void => {
    const inner = open.at(-1);
    state.awaited = inner === undefined ? "end" : "comma";
    if (inner === undefined) state.whole = value;
    else if (inner.close === "]") inner.items.push(value);
    else inner.fields.set(inner.name, value);
  };
  for (const token of tokensOf(text)) {
    const { awaited } = state;
    const inner = open.at(-1);
    const mayClose = awaited === "comma" || awaited === "first value" || awaited === "first name";
    const isValue = awaited === "value" || awaited === "first value";
    if (mayClose && token === inner?.close) {
      open.pop();
      settle(inner.close === "]" ? inner.items : inner.fields);
    } else if (awaited === "comma" && token === ",") {
      state.awaited = inner?.close === "]" ? "value" : "name";
    } else if (awaited === "colon" && token === ":") {
      state.awaited = "value";
    } else if (!isValue && inner?.close === "}" && awaited.endsWith("name") && token.startsWith('"')) {
      inner.name = charactersOf(token);
      state.awaited = "colon";
    } else if (isValue && token === "[") {
      open.push({ close: "]", items: [] });
      state.awaited = "first value";
    } else if (isValue && token === "{") {
      open.push({ close: "}", fields: new Map(), name: "" });
      state.awaited = "first name";
    } else if (isValue && !PUNCTUATION.includes(token)) {
      const word = WORDS.get(token);
      settle(word !== undefined ? word : token.startsWith('"') ? charactersOf(token) : new Digits(token));
    } else {
      throw new SyntaxError(`JSON: ${awaited} awaited`);
    }
  }
  if (state.awaited !== "end") throw new SyntaxError(`JSON ends where ${state.awaited} is awaited`);
  return state.whole;
}

const PUNCTUATION = "[]{},:";
const SPACE = " \t\n\r";
/** Sections 3 and 6. */
const SCALAR = /true|false|null|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;

function* tokensOf(text: string): Generator<string> {
  for (let at = 0; at < text.length;) {
    const character = text[at]!;
    let end = at + 1;
    if (character === '"') {
      end = endOfString(text, at);
    } else if (!SPACE.includes(character) && !PUNCTUATION.includes(character)) {
      SCALAR.lastIndex = at;
      if (!SCALAR.test(text)) throw new SyntaxError("JSON: no token");
      end = SCALAR.lastIndex;
    }
    if (!SPACE.includes(character)) yield text.slice(at, end);
    at = end;
  }
}

function endOfString(text: string, start: number): number {
  for (let at = start + 1; at < text.length; at++) {
    if (text[at] === '"') return at + 1;
    if (text[at] === "\\") at++;
    else if (text[at]! < " ") throw new SyntaxError("JSON: a control character in a string");
  }
  throw new SyntaxError("JSON: a string without end");
}

/** Section 7. */
const ESCAPES: Readonly<Record<string, string>> = {
  '"': '"',
  "\\": "\\",
  "/": "/",
  b: "\b",
  f: "\f",
  n: "\n",
  r: "\r",
  t: "\t",
};

function charactersOf(quoted: string): string {
  return quoted.slice(1, -1).replaceAll(/\\(?:u([0-9a-fA-F]{4})|(.))/gs, (_all, hex?: string, letter = "") => {
    const character = hex === undefined ? ESCAPES[letter] : String.fromCharCode(Number.parseInt(hex, 16));
    if (character === undefined) throw new SyntaxError("JSON: no such escape");
    return character;
  });
}

/** One spelling for equal JSON: no white space, fewest escapes, names in order, every digit as it is written. */
export function spelledJson(value: Json): string {
  if (value instanceof Digits) return value.text;
  if (value instanceof Map) {
    const fields = [...fieldsOf(value)].toSorted(([a], [b]) => (a < b ? -1 : 1));
    return `{${fields.map(([name, field]) => `${JSON.stringify(name)}:${spelledJson(field)}`).join(",")}}`;
  }
  if (Array.isArray(value)) return `[${value.map(spelledJson).join(",")}]`;
  return JSON.stringify(value);
}

/** The fields of an object. */
export function fieldsOf(value: Json | undefined): ReadonlyMap<string, Json> {
  if (value instanceof Map) return value;
  throw new TypeError("expected a JSON object");
}

export function itemsOf(value: Json | undefined): readonly Json[] {
  if (Array.isArray(value)) return value;
  throw new TypeError("expected a JSON array");
}

/** What stands between the quotes of a scalar. */
export function plainOf(value: Json | undefined): string {
  return value instanceof Digits ? value.text : typeof value === "string" ? value : spelledJson(value ?? null);
}
