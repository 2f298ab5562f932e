/** Several globs that fit one table: of each thing, the most exact one that says something of it decides. */
import { describe, expect, test } from "vitest";
import * as z from "zod";
import { rulesOf, tableDefinition } from "../../src/config/tables.ts";
import { byExactness, mostExactFirst, TableSelection } from "../../src/core/table-selection.ts";
import type { CapturedTables } from "../../src/core/contracts/catalog.ts";
import type { SinkForm } from "../../src/core/contracts/sink.ts";
import type { Source } from "../../src/core/contracts/source.ts";
import type { Rules } from "../../src/rules/definition.ts";
import { noMemory } from "../../src/rules/former-rules.ts";
import { ruleFindings, unapproved } from "../../src/rules/with-rules.ts";
import { tableVersion } from "../support/model/blocks.ts";
import {
  chosenKeyOf,
  columnRuling,
  driftMaxOf,
  mergedRule,
  optionDeciders,
  policyOf,
  spelledOtherwise,
  tie,
  zeroDatesOf,
} from "../../src/rules/merged-rule.ts";

const USERS = { schema: "public", table: "users" };

function rules(tables: object): Rules {
  const parsed = z.record(z.string(), tableDefinition).parse(tables);
  const problem = (code: string, path: readonly string[], message: string): never => {
    throw new Error(`${code} ${path.join(".")}: ${message}`);
  };
  return rulesOf(parsed, { maskKey: "0123456789abcdef", folder: ".", place: (path) => path.join("."), problem });
}

function seen(tables: object, column: string): string {
  const { mask, drop, rename } = columnRuling(mergedRule(rules(tables), USERS)!, column);
  return [drop ? "drop" : (mask ?? "plain"), ...(rename === null ? [] : [rename])].join(" ");
}

test.each([
  ["public.users", ["public.users", "public.user?", "public.user*", "public.*", "*.users", "*.*", "*.**"]],
  ["a*b", ["a*b", "a?b", "a**b", "a*"]],
])("the order of globs that fit %s", (name, order) => {
  const patterns = order.toReversed().map((pattern) => ({ pattern }));
  expect(mostExactFirst(patterns, name).map(({ pattern }) => pattern)).toEqual(order);
  for (const [i, one] of order.entries())
    for (const later of order.slice(i + 1)) expect(byExactness(one, later, name)).toBeLessThan(0);
});

test("a copy of a column that pgroll makes is hidden as the column is, unless a rule names it", () => {
  const own = { mail: { mask: "redact", rename: "m" }, note: { drop: true } };
  expect(seen({ "public.users": { columns: own } }, "_pgroll_new_mail")).toBe("redact");
  expect(seen({ "public.users": { columns: own } }, "_pgroll_new_note")).toBe("drop");
  expect(seen({ "public.users": { columns: own } }, "_pgroll_new_other")).toBe("plain");
  const named = { ...own, _pgroll_new_mail: { mask: "none" } };
  expect(seen({ "public.users": { columns: named } }, "_pgroll_new_mail")).toBe("plain");
});

describe("a more exact rule adds to the others", () => {
  const WIDE = { "public.*": { columns: { "*mail*": { mask: "hash" }, tax: { drop: true } }, where: "id > 0" } };

  test.each([
    ["a filter", { where: "id > 1" }],
    ["a key", { key: ["id"] }],
    ["a policy", { schemaChange: "pause" }],
    ["a limit", { reconcile: { maxDrift: 1 } }],
    ["another column's mask", { columns: { phone: { mask: "redact" } } }],
    ["nothing", {}],
  ])("and %s lifts no mask", (_, rule) => {
    const tables = { ...WIDE, "public.users": rule };
    expect(seen(tables, "email")).toBe("hash");
    expect(seen(tables, "tax")).toBe("drop");
    expect(mergedRule(rules(tables), USERS)?.where?.text).toBe("where" in rule ? "id > 1" : "id > 0");
  });

  test("and a rename neither", () => {
    const tables = { ...WIDE, "public.users": { columns: { email: { rename: "mail" }, tax: { rename: "no" } } } };
    expect(seen(tables, "email")).toBe("hash mail");
    expect(seen(tables, "tax")).toBe("drop");
  });

  test("another mask replaces one, and `none` lifts it, together with the name that came with it", () => {
    const wide = { "public.*": { columns: { email: { mask: "hash", rename: "digest" } } } };
    expect(seen({ ...wide, "public.users": { columns: { email: { mask: "partial" } } } }, "email")).toBe(
      "partial digest",
    );
    expect(seen({ ...wide, "public.users": { columns: { email: { mask: "none" } } } }, "email")).toBe("plain");
    expect(seen({ ...wide, "public.users": { columns: { email: { mask: "none", rename: "m" } } } }, "email")).toBe(
      "plain m",
    );
  });

  test("globs over tables count first", () => {
    const tables = {
      "public.*": { columns: { email: { mask: "hash" } } },
      "public.users": { columns: { "*": { mask: "none" } } },
    };
    expect(seen(tables, "email")).toBe("plain");
  });

  test("`where: true` lifts a filter", () => {
    const tables = rules({ ...WIDE, "public.users": { where: "true" } });
    expect(mergedRule(tables, USERS)?.where).toBeNull();
    expect(mergedRule(tables, { schema: "public", table: "orders" })?.where?.text).toBe("id > 0");
  });

  test("each option by itself", () => {
    const tables = rules({
      "*.*": { zeroDates: "text", droppedColumns: "drop", reconcile: { maxDrift: 3 } },
      "public.*": { key: ["id"], compatibility: "full" },
      "public.users": { schemaChange: "pause" },
    });
    expect(policyOf(tables, USERS)).toEqual({
      schemaChange: "pause",
      newTables: "take",
      compatibility: "full",
      droppedColumns: "drop",
    });
    expect(chosenKeyOf(tables, USERS)).toEqual({ columns: ["id"], isForMany: true });
    expect(zeroDatesOf(tables, USERS)).toBe("text");
    expect(driftMaxOf(tables, "public.users")).toBe(3);
    expect(optionDeciders(mergedRule(tables, USERS)!)).toEqual({
      key: "public.*",
      zeroDates: "*.*",
      schemaChange: "public.users",
      compatibility: "public.*",
      droppedColumns: "*.*",
      "reconcile.maxDrift": "*.*",
    });
  });
});

describe("two rules of which neither is more exact", () => {
  const tied = (tables: object) => tie(mergedRule(rules(tables), USERS)!, USERS, ["id", "email"])?.message ?? null;

  test("must not say different things", () => {
    expect(tied({ "public.*": { columns: { "em*il": { mask: "hash" }, "e*ail": { mask: "none" } } } })).toMatch(
      /"e\*ail" and "em\*il" say different things of column "email" of table public\.users/,
    );
    expect(tied({ "public.u*s": { where: "id > 1" }, "public.us*": { where: "id > 2" } })).toMatch(
      /"public\.u\*s" and "public\.us\*" say different things of table public\.users/,
    );
    expect(
      tied({
        "public.u*s": { columns: { email: { mask: "hash" } } },
        "public.us*": { columns: { email: { rename: "a" } } },
        "public.*er?": { columns: { email: { rename: "b" } } },
      }),
    ).toBeNull();
  });

  test("may say the same, or be overruled", () => {
    const wide = { "public.u*s": { schemaChange: "pause" }, "public.us*": { schemaChange: "ignore" } };
    expect(tied(wide)).not.toBeNull();
    expect(tied({ ...wide, "public.users": { schemaChange: "evolve" } })).toBeNull();
    expect(tied({ "public.u*s": { where: "id > 1" }, "public.us*": { where: "id > 1" } })).toBeNull();
  });
});

describe("an allow-list", () => {
  const WIDE = { "public.*": { columns: { only: ["id", "note", "*mail"], "*mail": { mask: "hash" } } } };

  test("leaves out what it does not name, and merges with masks", () => {
    expect(["id", "note", "email", "phone"].map((name) => seen(WIDE, name))).toEqual([
      "plain",
      "plain",
      "hash",
      "drop",
    ]);
    const more = { ...WIDE, "public.users": { where: "id > 1", columns: { note: { mask: "redact" } } } };
    expect(["id", "note", "email", "phone"].map((name) => seen(more, name))).toEqual([
      "plain",
      "redact",
      "hash",
      "drop",
    ]);
  });

  test("is lifted by another one and by `mask: none`, and by no mask or new name", () => {
    const under = (columns: object) => seen({ ...WIDE, "public.users": { columns } }, "phone");
    expect(under({ phone: { mask: "partial" } })).toBe("drop");
    expect(under({ phone: { rename: "tel" } })).toBe("drop");
    expect(under({ "*": { mask: "redact" } })).toBe("drop");
    expect(under({ phone: { mask: "none" } })).toBe("plain");
    expect(under({ only: ["id", "phone"] })).toBe("plain");
    expect(under({ only: ["id"], phone: { mask: "none" } })).toBe("drop");
  });

  test("lifts no mask and no drop of a less exact rule", () => {
    const wide = { "public.*": { columns: { email: { mask: "hash" }, tax: { drop: true } } } };
    const tables = { ...wide, "public.users": { columns: { only: ["id", "email", "tax"] } } };
    expect(["email", "tax", "phone"].map((name) => seen(tables, name))).toEqual(["hash", "drop", "drop"]);
  });

  test("is no rule for a column of that name", () => {
    expect(seen({ "public.users": { columns: { only: { mask: "redact" } } } }, "only")).toBe("redact");
    expect(seen({ "public.users": { columns: { only: { mask: "redact" } } } }, "id")).toBe("plain");
  });
});

describe("a name that a rule misses by the spelling of its letters", () => {
  const codeOf = (tables: object, schema: string, table: string, ...columns: string[]) =>
    spelledOtherwise(rules(tables), { schema, table }, columns)?.message;

  test.each([
    ["a table", { "public.users": { columns: { email: { mask: "hash" } } } }, "Users", "email"],
    ["a glob over tables", { "PUBLIC.u*": { where: "id > 1" } }, "users", "id"],
    ["an allow-list", { "public.users": { columns: { only: ["id"] } } }, "USERS", "id"],
    ["a column", { "public.*": { columns: { email: { drop: true } } } }, "users", "Email"],
    ["a glob over columns", { "public.users": { columns: { "*Mail": { mask: "hash" } } } }, "users", "email"],
    ["accents", { "public.*": { columns: { "pr\u00e9nom": { drop: true } } } }, "users", "pre\u0301nom"],
  ])("%s", (_, tables, table, column) => {
    expect(codeOf(tables, "public", table, column)).toMatch(/by the case or the form of letters alone/);
  });

  test.each([
    ["it is named", { "public.users": { columns: { email: { drop: true } } }, "public.Users": {} }, "Users", "email"],
    ["it is lifted", { "public.*": { columns: { email: { drop: true }, Email: { mask: "none" } } } }, "users", "Email"],
    ["nothing would be hidden", { "public.Users": { columns: { Id: { rename: "x" } } } }, "users", "id"],
    ["it is hidden", { "public.*": { columns: { email: { drop: true }, E: { mask: "hash" } } } }, "users", "email"],
  ])("is no error if %s", (_, tables, table, column) => {
    expect(codeOf(tables, "public", table, column)).toBeUndefined();
  });
});

test("the first dot of a pattern stands behind the schema", () => {
  const selected = (patterns: string[], schema: string, table: string) =>
    new TableSelection(patterns).matches(schema, table);
  expect(selected(["a.*"], "a", "b.c")).toBe(true);
  expect(selected(["a.*"], "a.b", "c")).toBe(false);
  expect(selected(["a?b.c", "!a.b.c"], "a.b", "c")).toBe(true);
  expect(selected(["*.*", "!A.B.c"], "a", "b.C")).toBe(false);
  expect(new TableSelection(["a.b.c"]).isLiteral("a.b", "c")).toBe(false);
  expect(mergedRule(rules({ "a.*": { where: "id > 1" } }), { schema: "a.b", table: "c" })).toBeNull();
});

/** What is found where the source has one table. `captured`: what else its catalogue tells. */
async function findings(given: Rules, captured: Pick<CapturedTables, "partlyLogged"> = {}) {
  const tables = [tableVersion({ table: "users", columns: { id: "int8", mail: "text" } })];
  const tried = async (): Promise<CapturedTables> => ({ tables, refused: [], generations: new Map(), ...captured });
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- what is asked of it
  const source = { catalog: { tables: tried } } as unknown as Pick<Source, "catalog">;
  return await ruleFindings(source, given, noMemory(), () => false, new AbortController().signal);
}

test("rules that say nothing, and a key that makes no hash, are told", async () => {
  const told = async (tables: object, maskKey: string | null): Promise<readonly string[]> => {
    const { hints, problems } = await findings({ ...rules(tables), maskKey });
    expect(problems).toEqual([]);
    return hints.map(({ what }) => what);
  };
  const key = "0123456789abcdef";
  expect(await told({ "public.users": {}, "public.*": {} }, null)).toEqual(["tables.public.*: says nothing"]);
  expect(await told({ "public.*": { columns: { mail: { mask: "redact" } } } }, key)).toEqual([
    "maskKey makes no hash: no rule has `mask: hash`",
  ]);
  for (const rule of [{ schemaChange: "pause" }, { where: "true" }, { columns: { mail: { mask: "hash" } } }])
    expect((await told({ "public.*": rule }, key)).filter((what) => what.endsWith("says nothing"))).toEqual([]);
});

test("a filter that asks more than the key suspends its table where a log would get the keys of what it leaves out", async () => {
  const statement = "ALTER TABLE public.users REPLICA IDENTITY FULL";
  const partlyLogged = new Map([["public.users", statement]]);
  const told = async (
    where: string,
    forms: readonly SinkForm[],
    logged = partlyLogged,
  ): Promise<readonly unknown[]> => {
    const selections = forms.map((form) => ({ sink: `the ${form}`, form, patterns: [] }));
    const { problems } = await findings(
      { ...rules({ "public.users": { where } }), selections },
      { partlyLogged: logged },
    );
    return problems.map(({ code, message, fix, isContained }) => [code, message, fix, isContained]);
  };
  const message = expect.stringMatching(/the log in the log would have keys of rows that never matched$/);
  expect(await told("mail = 'a'", ["log", "mirror"])).toEqual([["MR1020", message, statement, true]]);
  expect(await told("id > 5", ["log"])).toEqual([]);
  expect(await told("mail = 'a'", ["mirror", "stream", "history"])).toEqual([]);
  expect(await told("mail = 'a'", ["log"], new Map())).toEqual([]);
});

test("what takes in new tables that do not wait for a person, where rules hide something", () => {
  const mail = { columns: { mail: { mask: "redact" } } };
  const pause = { schemaChange: "pause" };
  expect(unapproved(rules({ "public.users": mail }), [])).toEqual(["*.*"]);
  expect(unapproved(rules({ "public.*": mail }), ["public.*", "shop.a*", "shop.b", "!shop.c*"])).toEqual([
    "public.*",
    "shop.a*",
  ]);
  expect(unapproved(rules({ "public.*": { ...mail, ...pause } }), ["public.*", "shop.a*"])).toEqual(["shop.a*"]);
  expect(unapproved(rules({ "public.users": mail, "*.*": pause }), ["public.*", "shop.a*"])).toEqual([]);
  expect(unapproved(rules({ "public.*": { columns: { only: ["id"] } } }), ["public.u*"])).toEqual([]);
  expect(unapproved(rules({ "public.users": { ...mail, ...pause } }), ["public.*"])).toEqual(["public.*"]);
  expect(unapproved(rules({ "public.users": mail }), ["public.users"])).toEqual([]);
  expect(unapproved(rules({ "public.users": { columns: { mail: { rename: "m" } } } }), [])).toEqual([]);
  const evolve = { schemaChange: "evolve" };
  const besides = (others: Record<string, object>, selected: readonly string[]): readonly string[] =>
    unapproved(rules({ "public.*": { ...mail, ...pause }, ...others }), selected);
  expect(besides({ "public.tmp_*": evolve, "shop.tmp_*": evolve }, ["public.*"])).toEqual(["public.tmp_*"]);
  expect(besides({ "*.*": pause, "*.a?": evolve }, ["*.*"])).toEqual(["*.a?"]);
  expect(besides({ "*.*": evolve, "*.tmp_*": evolve, "public.users": evolve }, ["public.*"])).toEqual([]);
  expect(besides({ "public.t*": evolve, "public.tmp_*": pause }, ["public.tmp_*"])).toEqual([]);
});
