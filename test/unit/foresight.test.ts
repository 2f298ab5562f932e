/** What a table that is known by its name becomes further on in the log. */
import { expect, test } from "vitest";
import * as z from "zod";
import { rulesOf, tableDefinition } from "../../src/config/tables.ts";
import type { Source } from "../../src/core/contracts/source.ts";
import type { Position } from "../../src/core/model/position.ts";
import type { Rename, StreamOptions } from "../../src/core/contracts/change-log.ts";
import type { Rules } from "../../src/rules/definition.ts";
import { namedOtherwiseLater } from "../../src/rules/errors.ts";
import { Foresight } from "../../src/rules/foresight.ts";
import { FormerRules, noMemory } from "../../src/rules/former-rules.ts";
import { RuleBook } from "../../src/rules/rule-book.ts";
import { withRules } from "../../src/rules/with-rules.ts";
import { tableVersion } from "../support/model/blocks.ts";

const at = (commit: number) => ({ epoch: 1, commit: BigInt(commit), index: 0 });
const UNTIL = at(1_000);

const renamed = (from: string, to: string, columns: Rename["columns"] = []): Rename => ({
  from,
  to,
  columns,
  how: "renamed",
});
const how = (kind: Rename["how"], to: string, from = to): Rename => ({ from, to, columns: [], how: kind });

/** The ids that it has later on, `gone` if another table may get its name, and its columns' names; null: it stays as it is. */
function becomes(statements: readonly (readonly [number, ...Rename[]])[], id: string, position: number): string | null {
  const told = statements.map(([commit, ...renames]) => ({ position: at(commit), renames }));
  const future = new Foresight(told, UNTIL).of(id, at(position));
  if (future === undefined) return null;
  const tables = future.tables.map(({ id: later, columns }) => {
    const names = Array.from(columns, ([from, to]) => `${from}>${to.join("|")}`);
    return [later, ...names].join(" ");
  });
  return [...tables, ...(future.isReplaced ? ["gone"] : [])].join(", ");
}

test("names that go from table to table, before and behind each statement", () => {
  const chain = [
    [10, renamed("a", "b")],
    [20, renamed("b", "c")],
    [30, how("made", "a")],
  ] as const;
  expect([5, 15, 25].map((position) => becomes(chain, "a", position))).toEqual(["c", "gone", "gone"]);
  expect(becomes(chain, "a", 35)).toBeNull();
  expect([5, 15, 25].map((position) => becomes(chain, "b", position))).toEqual(["gone", "c", null]);
  const swap = [[10, renamed("a", "x"), renamed("b", "a"), renamed("x", "b")]] as const;
  expect([becomes(swap, "a", 5), becomes(swap, "b", 5), becomes(swap, "a", 10)]).toEqual(["b", "a", null]);
  const back = [
    [10, renamed("a", "b")],
    [20, renamed("b", "a")],
  ] as const;
  expect([becomes(back, "a", 5), becomes(back, "b", 15)]).toEqual([null, "a"]);
});

test("statements that the log has again, as its writer read them again, count once and where they were", () => {
  const [first, second] = [
    [10, renamed("a", "b")],
    [20, renamed("b", "c")],
  ] as const;
  for (const told of [
    [first, first, second, second],
    [first, second, first, second],
    [second, first],
  ]) {
    expect([5, 15, 25].map((position) => becomes(told, "a", position))).toEqual(["c", null, null]);
    expect([5, 15, 25].map((position) => becomes(told, "b", position))).toEqual(["gone", "c", null]);
  }
  const thereAndBack = [[10, renamed("a", "b"), renamed("b", "a"), renamed("a", "b")]] as const;
  expect(becomes(thereAndBack, "a", 5)).toBe("b");
});

test("columns keep up with several renames, also of names that are exchanged, and are dropped", () => {
  const columns = [
    [10, renamed("a", "a", [["Mail", "post"]])],
    [
      20,
      renamed("a", "b", [
        ["post", "x"],
        ["x", "post"],
      ]),
    ],
  ] as const;
  expect(becomes(columns, "a", 5)).toBe("b post>x x>post mail>x");
  expect(becomes([[10, renamed("a", "a", [["mail", ""]])]], "a", 5)).toBe("a mail>");
  const back = [
    [10, renamed("a", "a", [["mail", "m"]])],
    [20, renamed("a", "a", [["m", "mail"]])],
  ] as const;
  expect(becomes(back, "a", 5)).toBe("a m>mail");
});

test("rows that may be in several tables, and tables that may be made again", () => {
  expect(becomes([[10, how("exchanged", "part", "parts")]], "part", 5)).toBe("part, parts");
  // CONVERT PARTITION … TO TABLE takes rows along, CREATE TABLE … LIKE takes none.
  expect(becomes([[10, how("copied", "taken", "parts")]], "parts", 5)).toBe("parts, taken");
  expect(becomes([[10, how("made", "like"), how("copied", "like", "parts")]], "parts", 5)).toBeNull();
  expect(becomes([[10, how("perhaps made", "a")]], "a", 5)).toBe("a, gone");
});

test("where there are too many renames, nothing is known of any table before the end", () => {
  const many = new Foresight(null, UNTIL);
  expect(many.of("a", at(999))?.isUnknown).toBe(true);
  expect(many.of("a", UNTIL)).toBeUndefined();
});

test("of a table that is held back, its message says whose rules hide what", () => {
  const table = tableVersion({ table: "a", columns: { id: "int8" } });
  const ahead = { place: "tables", hidden: ["mail"], filtered: false };
  const said = (later: string | null, by: "former" | "later"): string =>
    namedOtherwiseLater(table, { ...ahead, later, by }).message;
  expect(said("public.b", "later")).toContain('becomes public.b further on in the log; rules for public.b hide "mail"');
  expect(said(null, "later")).toContain("further on in the log; rules for what it becomes hide");
  expect(said(null, "former")).toContain("further on in the log; the rules that it stood under before hide");
  expect(said(table.id, "former")).toContain("gets other columns further on in the log; the rules that it stood under");
});

/** Rules as they are in `tables`. */
function rulesIn(tables: object): Rules {
  const problem = (code: string): never => {
    throw new Error(code);
  };
  const parsed = z.record(z.string(), tableDefinition).parse(tables);
  return rulesOf(parsed, { maskKey: undefined, folder: ".", place: (path) => path.join("."), problem });
}

test.each([7, 20, 30])(
  "what a table stood under counts for a stream from %i too, before and behind where it was registered",
  async (from) => {
    const columns = { id: "int8", mail: "text" };
    const people = tableVersion({ schema: "s", table: "people", columns, dialect: "mysql", relation: 2 });
    const book = new RuleBook(rulesIn({ "s.people": { columns: { mail: { mask: "redact" } } } }));
    const before = { ...people, ...book.shape(people), since: at(20) };
    let shows: StreamOptions["resolve"] | undefined;
    const source: unknown = {
      catalog: { tables: async () => ({ tables: [people], refused: [], generations: new Map() }) },
      log: {
        renames: async (
          _from: Position,
          _to: null,
          onRenamed: (renames: readonly Rename[], position: Position) => void,
        ) => {
          onRenamed([how("made", people.id)], at(200));
          return 300n;
        },
        stream: async (_from: Position, options: StreamOptions) => {
          shows = options.resolve;
          return {};
        },
      },
      positions: {},
      admin: {},
      rows: {},
    };
    const memory = { ...noMemory(), former: new FormerRules([before]), versions: new Map([[people.id, [before]]]) };
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- what is asked of it
    const ruled = withRules(source as Source, rulesIn({ "s.people": {} }), memory);
    const { signal } = new AbortController();
    const revised = await ruled.revised([before], at(from), signal);
    expect(revised.map((shape) => shape.ruled?.fault?.code)).toEqual(["MR1033"]);
    const shown: unknown[] = [];
    const resolve: StreamOptions["resolve"] = async (shape, since) => {
      shown.push([since.commit, shape.ruled?.fault?.code]);
      return { ...shape, version: 2, since };
    };
    await ruled.log.stream(at(from), { temporary: false, resolve }, signal);
    const positions = [10, 25, 250].filter((position) => position >= from);
    for (const position of positions) await shows!(people, at(position));
    expect(shown).toEqual(positions.map((position) => [BigInt(position), position < 200 ? "MR1033" : undefined]));
  },
);

test("a share looks through the log if a table of another one is under rules: it may have come from here", async () => {
  const rules = rulesIn({ "s.people": { columns: { mail: { mask: "redact" } } } });
  const columns = { id: "int8", mail: "text" };
  const looked = async (dialect: "mysql" | "postgres"): Promise<readonly bigint[]> => {
    const from: bigint[] = [];
    const people = tableVersion({ schema: "s", table: "people", columns, dialect, relation: 2 });
    const orders = tableVersion({ schema: "s", table: "orders", columns, dialect, relation: 1 });
    const elsewhere = { tables: [people], refused: [] };
    const captured = { tables: [orders], refused: [], generations: new Map(), elsewhere };
    const source: unknown = {
      catalog: { tables: async () => captured },
      log: {
        renames: async ({ commit }: Position) => {
          from.push(commit);
          return commit;
        },
      },
      positions: {},
      admin: {},
      rows: {},
    };
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- what is asked of it
    const { revised } = withRules(source as Source, rules);
    await revised([], at(7), new AbortController().signal);
    return from;
  };
  expect(await looked("mysql")).toEqual([7n]);
  expect(await looked("postgres")).toEqual([]);
});
