/**
 * `import debezium`: whatever the expressions of a list are, the configuration selects nothing that they do not select and shows
 * nothing that they hide, or it does not load.
 */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { importedFrom } from "../../src/cli/import/debezium.ts";
import { parseDebezium } from "../../src/cli/import/debezium-config.ts";
import { rulesOf, tableDefinition } from "../../src/config/tables.ts";
import { TableSelection } from "../../src/core/table-selection.ts";
import { columnRuling, mergedRule, spelledOtherwise } from "../../src/rules/merged-rule.ts";
import { testSeed } from "../support/run/random.ts";

const NAMES = ["a", "b", "ab", "aab", "a1", "a12", "a_b", "b-a", "aB"];
const TABLES = ["a", "ab", "ba", "a1", "a_b", "A"].flatMap((schema) => NAMES.map((table) => ({ schema, table })));

const words = (text: string): fc.Arbitrary<string> => fc.constantFrom(...text.split(" "));
const usual = words(String.raw`a b ab 1 _ a1 A . .* .* .? [ab] \d [0-9] b? (a|b) (?:ab|a) a{2} (_b)? [^.]*`);
const odd = words(
  String.raw`\. \w \W \S [^a] [a-c] [a\-1] \d+ \w* (?!a) (?!.*b$) (?=a) (?<!b) (?i) b+ () (a|) $ ^ \b x{0} (ab){1\,2} * ? ` +
    String.raw`\Qa\E \x61 [a&&[^b]] \p{L} (a|b$) (^a|b) a|b | ((a)|(b))* \* \? !`,
);
const part = fc
  .array(fc.oneof({ arbitrary: usual, weight: 9 }, { arbitrary: odd, weight: 1 }), { minLength: 1, maxLength: 3 })
  .map((parts) => parts.join(""));
const expressions = fc.array(
  fc
    .tuple(fc.array(part, { minLength: 1, maxLength: 3 }), words(String.raw`\. \. \. . [.] .* .+\.`))
    .map(([parts, dot]) => parts.join(dot)),
  { minLength: 1, maxLength: 3 },
);

/** Whether Debezium takes the name; null: only Java knows. */
function readerOf(list: readonly string[]): ((name: string) => boolean) | null {
  const readers: RegExp[] = [];
  for (const expression of list) {
    if (/\\[QEpx]|&&/.test(expression)) return null;
    try {
      readers.push(new RegExp(`^(?:${expression.replaceAll("(?i)", "").replaceAll(String.raw`\,`, ",")})$`, "is"));
    } catch {
      return null;
    }
  }
  return (name) => readers.some((one) => one.test(name));
}

/** Null: it does not load. */
function imported(keys: object) {
  const own = { "connector.class": "PostgresConnector", "topic.prefix": "p", ...keys };
  const { kind, config } = parseDebezium("connector.json", JSON.stringify(own));
  const { config: made, left } = importedFrom(kind, config);
  return left.some(({ isBlocking }) => isBlocking) && JSON.stringify(made).includes("undecided") ? null : made;
}

const RUNS = { numRuns: 300, seed: testSeed() };
/** Lists that were taken wrongly once. */
const FOUND: [string[]][] = [
  [[String.raw`A\.a\.a`, String.raw`a.+\.ab`]],
  [["a.(?!.*b$)."]],
  [[String.raw`((a|b|ab|ba|aa|1|_)(a|b|1)){3}\.(((a|b|1|_|ab|A|B|ba|aa|bb){2}){3}){3}`]],
];
/** So many lists at least are told by globs: the test is about those. */
const KNOWN = 20;

test.each(["table.include.list", "table.exclude.list"])("%s", (key) => {
  let known = 0;
  const holds = (list: readonly string[]): void => {
    const takes = readerOf(list);
    const made = imported({ [key]: list.join(",") });
    if (made === null || takes === null) return;
    known++;
    const selection = new TableSelection(made.source.tables ?? []);
    for (const { schema, table } of TABLES)
      if (takes(`${schema}.${table}`) !== (key === "table.include.list"))
        expect([schema, table, selection.matches(schema, table)]).toEqual([schema, table, false]);
  };
  fc.assert(fc.property(expressions, holds), { ...RUNS, examples: FOUND });
  expect(known).toBeGreaterThan(KNOWN);
});

test.each(["column.exclude.list", "column.mask.with.3.chars", "column.include.list"])("%s", (key) => {
  let known = 0;
  const isIncluding = key === "column.include.list";
  const holds = (list: readonly string[]): void => {
    const takes = readerOf(list);
    const tables = isIncluding ? { "table.include.list": String.raw`a\.a,ab\.b` } : {};
    const made = imported({ [key]: list.join(","), ...tables });
    if (made === null || takes === null) return;
    known++;
    const selection = new TableSelection(made.source.tables ?? []);
    const parsed = Object.entries(made.tables ?? {}).map(([glob, rule]) => [glob, tableDefinition.parse(rule)]);
    const rules = rulesOf(Object.fromEntries(parsed), {
      maskKey: undefined,
      folder: ".",
      place: String,
      problem: expect.unreachable,
    });
    for (const table of TABLES.filter((one) => selection.matches(one.schema, one.table))) {
      const rule = mergedRule(rules, table);
      for (const column of NAMES) {
        if (takes(`${table.schema}.${table.table}.${column}`) === isIncluding) continue;
        const { mask, drop } = rule === null ? { mask: null, drop: false } : columnRuling(rule, column);
        // Or its table is refused.
        const isHidden = drop || mask !== null || spelledOtherwise(rules, table, [column]) !== null;
        expect([table, column, isHidden]).toEqual([table, column, true]);
      }
    }
  };
  fc.assert(fc.property(expressions, holds), { ...RUNS, examples: FOUND });
  expect(known).toBeGreaterThan(isIncluding ? 0 : KNOWN);
});
