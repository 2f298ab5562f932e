/**
 * Which JSON texts are the same value: the product's judge (core/targets/expected-json), the tests' own reader
 * (support/model/json-text) and the servers' binary JSON must agree. A server says it by what it prints of two texts.
 */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { withoutDuplicateFields } from "../../connectors/elasticsearch/write/bulk.ts";
import { expectedJson, normalJson } from "../../src/core/targets/expected-json.ts";
import { jsonLanding } from "../support/model/json-landing.ts";
import { readJson } from "../support/model/json-text.ts";
import { freshDatabase, freshMysqlDatabase, mysqlUrl } from "../support/run/services.ts";

const JSON_TYPE = { kind: "json" } as const;

/** Two texts that mostly are spellings of one value. */
type Pair = readonly [string, string];

const space = fc.constantFrom("", "", "", " ", "\t", "\r\n  ");

/** Scalars that are easily taken for each other. */
const nearMiss: Pair[] = [
  ["5", '"5"'],
  ["5", '"number:5"'],
  ['"number:5"', '"text:number:5"'],
  ["null", '"null"'],
  ["true", '"true"'],
  ['"a"', '"A"'],
  ['"\u00e9"', '"e\u0301"'],
  ['"\\n"', '"\\\\n"'],
  ['""', "null"],
  ["[]", "{}"],
];
/** jsonb keeps a fraction's last zeros and every digit; MySQL makes doubles of what is no integer of 64 bits. */
const nearNumbers: Pair[] = [
  ["1.5", "1.50"],
  ["1", "1.0"],
  ["12345678901234567890123456789", "12345678901234567890123456780"],
  ["0.1", "0.10000000000000001"],
];

function escaped(character: string, how: number): string {
  const units = Array.from({ length: character.length }, (_, i) => character.charCodeAt(i));
  if (how === 0) return units.map((unit) => `\\u${unit.toString(16).padStart(4, "0")}`).join("");
  if (how === 1) return units.map((unit) => `\\u${unit.toString(16).padStart(4, "0").toUpperCase()}`).join("");
  if (how === 2 && character === "/") return "\\/";
  return JSON.stringify(character).slice(1, -1);
}

function spelling(text: string): fc.Arbitrary<string> {
  const characters = Array.from(text);
  return fc
    .array(fc.nat({ max: 9 }), { minLength: characters.length, maxLength: characters.length })
    .map((hows) => `"${characters.map((character, i) => escaped(character, hows[i]!)).join("")}"`);
}

/** Of neither server: the code point 0, which jsonb refuses. */
const characters = fc
  .string({
    unit: fc.oneof(
      fc.constantFrom(...Array.from('ab/\\"{}[],: \n\t\u0001\u007f\u2028\u{1F600}')),
      fc.string({ unit: "binary", minLength: 1, maxLength: 1 }),
    ),
    maxLength: 6,
  })
  .map((text) => text.replaceAll("\0", ""));
const string: fc.Arbitrary<Pair> = characters.chain((text) => fc.tuple(spelling(text), spelling(text)));
/** Nothing that has to be escaped: in rare runs the platform gave a name of a line break, `\n`, as a backslash. */
const name = fc
  .oneof(
    fc.constantFrom("a", "b", "bb", "1", "0", "10", "__proto__", "constructor", ""),
    characters.map((text) => text.replaceAll(/["\\\p{Cc}]/gu, "")),
  )
  .chain((text) => fc.tuple(spelling(text), spelling(text)));

function pairs(number: fc.Arbitrary<string>, misses: readonly Pair[]): fc.Arbitrary<Pair> {
  const same = fc.oneof(number, fc.constantFrom("null", "true", "false"));
  const { pair } = fc.letrec<{ pair: Pair }>((tie) => ({
    pair: fc.oneof(
      { maxDepth: 5, withCrossShrink: true },
      { weight: 8, arbitrary: same.map((text): Pair => [text, text]) },
      { weight: 6, arbitrary: string },
      { weight: 1, arbitrary: fc.constantFrom(...misses) },
      { weight: 4, arbitrary: fc.array(tie("pair"), { maxLength: 4 }).chain(listOf) },
      { weight: 6, arbitrary: fc.array(fc.tuple(name, tie("pair")), { maxLength: 5 }).chain(objectOf) },
    ),
  }));
  return pair;
}

function listOf(items: readonly Pair[]): fc.Arbitrary<Pair> {
  return fc.tuple(space, space).map((spaces): Pair => {
    const spelled = (side: 0 | 1) => `[${spaces[side]}${items.map((item) => item[side]).join(`${spaces[side]},`)}]`;
    return [spelled(0), spelled(1)];
  });
}

/** The second text has its fields in another order; where a name comes twice, that may be another value. */
function objectOf(fields: readonly (readonly [Pair, Pair])[]): fc.Arbitrary<Pair> {
  const order = fc.shuffledSubarray([...fields.keys()], { minLength: fields.length, maxLength: fields.length });
  return fc.tuple(order, space, space).map(([shuffled, ...spaces]): Pair => {
    const spelled = (side: 0 | 1, places: Iterable<number>) => {
      const gap = spaces[side];
      const parts = [...places].map((i) => `${gap}${fields[i]![0][side]}${gap}:${gap}${fields[i]![1][side]}`);
      return `{${parts.join(",")}${gap}}`;
    };
    return [spelled(0, fields.keys()), spelled(1, shuffled)];
  });
}

const integer = fc
  .oneof(fc.constantFrom("0", "5", "-1", "18446744073709551615"), fc.maxSafeInteger().map(String))
  .map((text) => (text === "-0" ? "0" : text));
/** Written as jsonb prints them: it has neither exponents nor a negative zero. */
const decimal = fc
  .tuple(
    fc.bigInt(-(10n ** 40n), 10n ** 40n),
    fc.string({ unit: fc.constantFrom(...Array.from("0123456789")), minLength: 1, maxLength: 20 }),
  )
  .map(([whole, part]) => `${whole === 0n ? 1n : whole}.${part}`);
const anyNumber = fc
  .tuple(
    fc.constantFrom("", "-"),
    fc.oneof(
      integer.map((text) => text.replace("-", "")),
      decimal.map((text) => text.replace("-", "")),
    ),
    fc.constantFrom("", "e5", "E+05", "e-400"),
  )
  .map((parts) => parts.join(""));

async function holdAll(pair: fc.Arbitrary<Pair>, print: (texts: readonly string[]) => Promise<readonly string[]>) {
  const met = { equal: 0, other: 0 };
  const batch = fc.array(pair, { minLength: 60, maxLength: 120 });
  await fc.assert(
    fc.asyncProperty(batch, async (given) => {
      const texts = given.flat();
      const printed = await print(texts);
      expect(printed.length).toBe(texts.length);
      for (const [i, text] of texts.entries()) {
        expect(jsonLanding(JSON_TYPE, printed[i]!)).toBe(jsonLanding(JSON_TYPE, text));
        expect(normalJson(printed[i]!)).toBe(normalJson(text));
      }
      for (const [i, [one, other]] of given.entries()) {
        const isEqual = printed[2 * i] === printed[2 * i + 1];
        met[isEqual ? "equal" : "other"]++;
        expect(jsonLanding(JSON_TYPE, one) === jsonLanding(JSON_TYPE, other), `${one} and ${other}`).toBe(isEqual);
        expect(expectedJson(JSON_TYPE, one) === expectedJson(JSON_TYPE, other), `${one} and ${other}`).toBe(isEqual);
      }
    }),
    // To make a long batch short can take minutes.
    { numRuns: 15, interruptAfterTimeLimit: 60_000 },
  );
  // Neither answer is always right.
  expect(Math.min(met.equal, met.other)).toBeGreaterThan(50);
}

describe("texts are the same value where a server prints them alike", () => {
  test("Postgres' jsonb", async () => {
    await using database = await freshDatabase();
    await holdAll(pairs(fc.oneof(integer, decimal), [...nearMiss, ...nearNumbers]), async (texts) => {
      const { rows } = await database.query<{ printed: string }>(
        "select text::jsonb::text as printed from unnest($1::text[]) with ordinality as given (text, i) order by i",
        [texts],
      );
      return rows.map(({ printed }) => printed);
    });
  });

  test("MySQL's JSON", async () => {
    await using database = await freshMysqlDatabase(mysqlUrl("mysql"));
    await holdAll(pairs(integer, nearMiss), async (texts) => {
      const each = texts.map((_, i) => `select ${i} as i, cast(cast(? as json) as char) as printed`);
      // In a list: a union prints a bare null as nothing.
      const lists = texts.map((text) => `[${text}]`);
      const sql = database.connection.format(`${each.join(" union all ")} order by i`, lists);
      return (await database.texts(sql)).map(([, printed]) => printed?.slice(1, -1) ?? "");
    });
  });
});

test("the product and the tests' reader agree, numbers of all spellings included", () => {
  fc.assert(
    fc.property(pairs(anyNumber, [...nearMiss, ...nearNumbers, ["1e5", "1E5"], ["-0", "0"]]), ([one, other]) => {
      const isEqual = jsonLanding(JSON_TYPE, one) === jsonLanding(JSON_TYPE, other);
      expect(normalJson(one) === normalJson(other)).toBe(isEqual);
      expect(normalJson(jsonLanding(JSON_TYPE, one))).toBe(normalJson(one));
    }),
    { numRuns: 1000 },
  );
});

test("a value that lies deeper than the stack reaches is spelled as it is at the top", () => {
  const depth = 6_000;
  const around = (text: string) => `${"[".repeat(depth)}${text}${"]".repeat(depth)}`;
  fc.assert(
    fc.property(pairs(anyNumber, nearMiss), ([text]) => {
      expect(normalJson(around(text)) === around(normalJson(text)), text).toBe(true);
    }),
  );
});

test("what a search engine is given in place of names that come twice is the same value", () => {
  fc.assert(
    fc.property(pairs(anyNumber, nearMiss), ([text]) => {
      const cleaned = withoutDuplicateFields(Buffer.from(text))?.toString() ?? text;
      expect(jsonLanding(JSON_TYPE, cleaned)).toBe(jsonLanding(JSON_TYPE, text));
      expect(normalJson(cleaned)).toBe(normalJson(text));
    }),
    { numRuns: 1000 },
  );
});

test("what is no JSON is refused, as by the platform", () => {
  const letters = fc.string({ unit: fc.constantFrom(...Array.from('[]{},:"\\u0e-+.1 \ntrue')), maxLength: 8 });
  const isRead = (read: (text: string) => unknown, text: string) => {
    try {
      read(text);
      return true;
    } catch (error) {
      expect(error).toBeInstanceOf(SyntaxError);
      return false;
    }
  };
  fc.assert(
    fc.property(
      fc.oneof(
        letters,
        letters.map((text) => `"${text}"`),
        letters.map((text) => `[${text}]`),
        letters.map((text) => `{"a":${text}}`),
      ),
      (text) => {
        expect(isRead(readJson, text)).toBe(isRead(JSON.parse, text));
      },
    ),
    { numRuns: 5000 },
  );
});
