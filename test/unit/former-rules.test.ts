/** What a table stood under, and where the configuration names its new name. */
import { describe, expect, test, vi } from "vitest";
import * as z from "zod";
import { rulesOf, tableDefinition } from "../../src/config/tables.ts";
import type { TableShape } from "../../src/core/contracts/catalog.ts";
import type { Source } from "../../src/core/contracts/source.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import { keptElsewhere, memoryOf } from "../../src/daemon/ruled-source.ts";
import type { Rules } from "../../src/rules/definition.ts";
import { openMemory } from "../../src/state/sqlite/open.ts";
import { systemClock } from "../../src/core/clock.ts";
import { type StateStore, UNREAD } from "../../src/core/contracts/state-store.ts";
import { FormerRules, noMemory } from "../../src/rules/former-rules.ts";
import { RuleBook } from "../../src/rules/rule-book.ts";
import { withRules } from "../../src/rules/with-rules.ts";
import { firstVersion, tableVersion } from "../support/model/blocks.ts";

const HIDDEN = { columns: { mail: { mask: "redact" } } };

const shape = (table: string, more: Partial<TableVersion> = {}): TableVersion => ({
  ...tableVersion({ table, columns: { id: "int8", mail: "text", note: "text" } }),
  ...more,
});

function rulesFor(tables: object): Rules {
  const problem = (code: string, path: readonly string[], message: string): never => {
    throw new Error(`${code} ${path.join(".")}: ${message}`);
  };
  const parsed = z.record(z.string(), tableDefinition).parse(tables);
  return rulesOf(parsed, { maskKey: undefined, folder: ".", place: (path) => path.join("."), problem });
}

function bookOf(tables: object, former = new FormerRules(), selected: readonly string[] = []): RuleBook {
  const rules = rulesFor(tables);
  const memory = { ...noMemory(), former };
  return new RuleBook(rules, memory, ({ schema, table }) => selected.includes(`${schema}.${table}`));
}

/** As an earlier process registered it. */
const registered = (tables: object, of: TableVersion): TableVersion =>
  firstVersion(bookOf(tables).plan(of)?.shape ?? of);

const faultOf = (book: RuleBook, of: TableVersion, commit?: bigint): string | undefined =>
  book.plan(of, commit === undefined ? undefined : { epoch: 1, commit, index: 0 })?.shape.ruled?.fault?.code;

const users = shape("users", { relation: 7 });
const people = shape("people", { relation: 7, fingerprint: "people" });

test("under another name it is held back, unless the same is hidden there or the configuration names it", () => {
  const before = () => new FormerRules([registered({ "public.users": HIDDEN }, users)]);
  expect(faultOf(bookOf({ "public.users": HIDDEN }, before()), people)).toBe("MR1033");
  expect(faultOf(bookOf({}, before()), people)).toBe("MR1033");
  expect(faultOf(bookOf({ "public.*": HIDDEN }, before()), people)).toBeUndefined();
  expect(faultOf(bookOf({ "public.people": {} }, before()), people)).toBeUndefined();
  expect(faultOf(bookOf({}, before(), ["public.people"]), people)).toBeUndefined();
  const other = registered({}, shape("people", { relation: 8 }));
  const swapped = new FormerRules([registered({ "public.users": HIDDEN }, users), other]);
  expect(faultOf(bookOf({}, swapped, ["public.people"]), people)).toBe("MR1033");
});

test("a key of `tables` that was there for another table counts where it says so itself", () => {
  const FILTERED = { ...HIDDEN, where: "id > 0" };
  const naming = (rule: object, was: object = HIDDEN) => {
    const tables = { "public.users": was, "public.people": rule };
    const other = registered(tables, shape("people", { relation: 8 }));
    return faultOf(bookOf(tables, new FormerRules([registered(tables, users), other])), people);
  };
  expect(naming({})).toBe("MR1033");
  expect(naming({ columns: { note: { drop: true } } })).toBe("MR1033");
  expect(naming({ columns: { "*": { mask: "none" } } })).toBe("MR1033");
  expect(naming({ columns: { mail: { mask: "none" } } })).toBeUndefined();
  expect(naming({ columns: { mail: { drop: true } } })).toBeUndefined();
  expect(naming({ columns: { mail: { drop: true } } }, FILTERED)).toBe("MR1033");
  expect(naming({ columns: { mail: { drop: true } }, where: "id > 7" }, FILTERED)).toBe("MR1033");
  expect(naming({ columns: { mail: { drop: true } }, where: "id > 0" }, FILTERED)).toBeUndefined();
  expect(naming({ columns: { mail: { mask: "none" } }, where: "true" }, FILTERED)).toBeUndefined();
  // Rows of the table itself have passed under the name since.
  const tables = { "public.users": HIDDEN, "public.people": { columns: { mail: { mask: "none" } } } };
  const passed = new FormerRules([
    registered(tables, users),
    registered(tables, shape("people", { relation: 8 })),
    { ...registered(tables, people), since: { epoch: 1, commit: 9n, index: 0 } },
  ]);
  expect(faultOf(bookOf({ ...tables, "public.people": {} }, passed), people)).toBeUndefined();
});

test("a table of which one partition stands under rules is held back, whichever partition the log names", () => {
  const archive = shape("archive", { relation: 20, fingerprint: "archive" });
  const book = bookOf({ "public.users": HIDDEN });
  const look = (...parts: readonly number[]): void =>
    book.begin({ tables: [users, { ...archive, parts }], refused: [] });
  look(30);
  expect(faultOf(book, users)).toBeUndefined();
  expect(faultOf(book, { ...archive, parts: [30] }, 1n)).toBeUndefined();
  // Attached: the log shows it before a look does. It names the partition of the row at which it tells the table.
  expect(faultOf(book, { ...archive, parts: [7] }, 2n)).toBe("MR1033");
  expect(faultOf(book, { ...archive, parts: [30] }, 3n)).toBe("MR1033");
  expect(faultOf(book, archive, 4n)).toBe("MR1033");
  // A look that may have begun before.
  look(30);
  expect(faultOf(book, archive)).toBe("MR1033");
  look(30, 7);
  for (const parts of [[7], [30], undefined])
    expect(faultOf(book, { ...archive, ...(parts === undefined ? {} : { parts }) })).toBe("MR1033");
  // The version as it was registered before, as a read asks for it.
  expect(faultOf(book, archive)).toBe("MR1033");
  look(30);
  expect(faultOf(book, archive)).toBeUndefined();
});

test("partitions whose table's rules were taken off are free from there on, those that were detached before are not", async () => {
  const orders = shape("orders", { relation: 7, fingerprint: "orders" });
  const part = (relation: number) => shape(`orders_${relation}`, { relation, fingerprint: `part ${relation}` });
  const state = openMemory(systemClock);
  /** A process that finds these partitions, and what the next one knows. */
  const run = async (tables: object, commit: bigint, ...parts: readonly number[]): Promise<RuleBook> => {
    const versions = [...(await state.schemas.versions(orders.id))];
    const book = bookOf(tables, new FormerRules(versions));
    const found = { ...orders, parts };
    book.begin({ tables: [found], refused: [] });
    // As it was registered, it names no partitions.
    const shapes = [book.shape(found), book.shape(orders)];
    await state.schemas.resolve(shapes.slice(1), { epoch: 1, commit, index: 0 });
    return book;
  };
  const faults = (book: RuleBook) => [30, 31, 32].map((relation) => faultOf(book, part(relation)));
  const HELD = "MR1033";
  expect(faults(await run({ "public.orders": HIDDEN }, 1n, 30, 31, 32))).toEqual([HELD, HELD, HELD]);
  const free = [undefined, HELD, undefined];
  expect(faults(await run({}, 2n, 30, 32))).toEqual(free);
  // Detached while no process runs.
  expect(faults(await run({}, 3n, 32))).toEqual(free);
  // Under rules again.
  await run({ "public.orders": HIDDEN }, 4n, 32);
  expect(faults(await run({}, 5n))).toEqual([undefined, HELD, HELD]);
  expect(faults(await run({}, 6n))).toEqual([undefined, HELD, HELD]);
  await state.close();
});

describe("partitions whose table's rules were taken off, with a state between the processes", () => {
  const orders = shape("orders", { relation: 8, fingerprint: "orders" });
  const part = shape("orders_31", { relation: 31, fingerprint: "part 31" });
  const from = { epoch: 1, commit: 2n, index: 0 };
  const { signal } = new AbortController();

  /** A process that finds these tables in its share, and those in another one. */
  async function opened(state: StateStore, tables: object, own: readonly TableShape[], others: readonly TableShape[]) {
    const elsewhere = { tables: others, refused: [] };
    const captured = { tables: own, refused: [], generations: new Map(), elsewhere };
    const source: unknown = {
      catalog: { tables: async () => captured },
      log: {},
      positions: {},
      admin: {},
      rows: {},
    };
    const rules = rulesFor(tables);
    const memory = { ...(await memoryOf({ rules }, state)), ...keptElsewhere(state) };
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- what is asked of it
    return withRules(source as Source, rules, memory);
  }

  test.each([
    ["are free also in a share that does not have the table", true, []],
    ["are held back there if they were detached before", false, ["MR1033"]],
  ])("%s", async (_, isSeen, codes) => {
    const state = openMemory(systemClock);
    const look = async (tables: object, own: readonly TableShape[], parts: readonly number[]) =>
      await (await opened(state, tables, own, [{ ...orders, parts }])).catalog.tables(signal);
    await look({ "public.orders": HIDDEN }, [], [30, 31]);
    if (isSeen) await look({}, [], [30, 31]);
    const { refused } = await look({}, [part], [30]);
    expect(refused.map(({ code }) => code)).toEqual(codes);
    await state.close();
  });

  test("are registered as free also by a start that went on without an answer of the source", async () => {
    const state = openMemory(systemClock);
    const others = { "public.accounts": { columns: { iban: { mask: "redact" } } } };
    const accounts = tableVersion({ table: "accounts", columns: { id: "int8", iban: "text" } });
    const all = [accounts, { ...orders, parts: [30, 31] }];
    const first = await opened(state, { ...others, "public.orders": HIDDEN }, all, []);
    await state.schemas.resolve((await first.catalog.tables(signal)).tables, { ...from, commit: 1n });
    const second = await opened(state, others, all, []);
    await state.schemas.resolve(await second.revised(await state.schemas.list(), from, signal), from);
    const third = await opened(state, others, [accounts, { ...orders, parts: [30] }, part], []);
    expect((await third.catalog.tables(signal)).refused).toEqual([]);
    await state.close();
  });
});

test("a new table with all its columns is held back; one that was there first, and one with fewer, are not", () => {
  const copy = shape("copy", { relation: 9, fingerprint: "copy" });
  const book = bookOf({ "public.users": HIDDEN }, new FormerRules([registered({ "public.users": HIDDEN }, users)]));
  expect(faultOf(book, copy)).toBe("MR1033");
  const part = { ...copy, id: "public.part", relation: 10, columns: copy.columns.slice(0, 2) };
  expect(faultOf(book, part)).toBeUndefined();
  // Made to have other types, and seen before: it stays held back, whatever becomes of its columns.
  const [id, mail, note] = copy.columns;
  const altered = { ...copy, columns: [{ ...id!, native: "int4" }, mail!], fingerprint: "altered" };
  expect(faultOf(book, altered)).toBe("MR1033");
  const renamed = { ...copy, columns: [id!, { ...mail!, name: "post" }, note!], fingerprint: "renamed" };
  expect(faultOf(book, renamed)).toBe("MR1033");
  expect(faultOf(book, { ...copy, columns: [id!, note!], fingerprint: "dropped" })).toBeUndefined();
  const first = bookOf({ "public.users": HIDDEN });
  first.begin({ tables: [users, copy], refused: [] });
  expect(faultOf(first, users)).toBeUndefined();
  expect(faultOf(first, copy)).toBeUndefined();
});

test("a table that takes the name of one under rules shows nothing under new names of columns", () => {
  const rules = { "public.u*": { columns: { "*mail*": { mask: "redact" } } } };
  const [id, mail, note] = users.columns;
  const post = { ...mail!, name: "post" };
  const remade = { ...users, relation: 9, columns: [id!, post, note!], fingerprint: "remade" };
  const before = () => new FormerRules([registered(rules, users)]);
  expect(faultOf(bookOf(rules, before()), remade)).toBe("MR1025");
  // A restart in between.
  const again = new FormerRules([registered(rules, users), firstVersion(bookOf(rules, before()).plan(remade)!.shape)]);
  expect(faultOf(bookOf(rules, again), { ...remade, columns: [id!, post], fingerprint: "less" })).toBe("MR1025");
  const named = { "public.u*": { columns: { "*mail*": { mask: "redact" }, post: { mask: "none" } } } };
  expect(faultOf(bookOf(named, before()), remade)).toBeUndefined();
  expect(faultOf(bookOf(rules, before()), { ...remade, columns: [id!, note!] })).toBeUndefined();
  expect(faultOf(bookOf(rules, before()), { ...remade, columns: [id!, post, mail!] })).toBeUndefined();
  // One that was captured under another name.
  const known = registered({}, shape("next", { relation: 9, columns: remade.columns }));
  const swapped = new FormerRules([registered(rules, users), known]);
  expect(faultOf(bookOf(rules, swapped), remade)).toBe("MR1025");
});

test("a column that the server computed from a hidden one stays hidden when it becomes a plain one", () => {
  const [id, mail, note] = users.columns;
  const post = { ...note!, name: "post", identity: 9 };
  const computed = { ...users, columns: [id!, mail!, post], fingerprint: "computed" };
  const generated = {
    ...computed,
    origins: { generated: { post: { from: ["mail"], identity: 9 } }, parents: [], rows: {} },
  };
  const plain = { ...computed, columns: [id!, mail!, post, note!], fingerprint: "plain" };
  const rules = { "public.users": HIDDEN };
  const later = { epoch: 1, commit: 9n, index: 0 };
  for (const versions of [[], [registered(rules, users)]]) {
    const book = bookOf(rules, new FormerRules(versions));
    const held = book.plan(generated)?.shape;
    expect(held?.ruled?.fault?.code).toBe("MR1025");
    expect(faultOf(book, plain)).toBe("MR1025");
    const again = () => new FormerRules([...versions, { ...firstVersion(held!), version: 2, since: later }]);
    expect(faultOf(bookOf(rules, again()), plain)).toBe("MR1025");
    for (const ruling of [{ mask: "null" }, { mask: "none" }]) {
      const named = bookOf({ "public.users": { columns: { ...HIDDEN.columns, post: ruling } } }, again());
      expect([faultOf(named, generated), faultOf(named, plain)]).toEqual([undefined, undefined]);
    }
    expect(faultOf(bookOf(rules, again()), { ...users, fingerprint: "dropped" })).toBeUndefined();
  }
});

test("a hidden column that a shape of the log lacks, or has without its number, is hidden when it is there again", () => {
  const rules = { "public.u*": { columns: { "*mail*": { mask: "redact" } } } };
  const [id, mail, note] = users.columns;
  const unnumbered = { ...users, columns: [id!, { ...mail!, identity: -2 }, note!], fingerprint: "unnumbered" };
  const renamed = { ...users, columns: [id!, { ...mail!, name: "post" }, note!], fingerprint: "renamed" };
  for (const versions of [[registered(rules, users)], []]) {
    const book = bookOf(rules, new FormerRules(versions));
    expect(faultOf(book, unnumbered)).toBeUndefined();
    expect(faultOf(book, renamed)).toBe("MR1025");
    const lacking = bookOf(rules, new FormerRules(versions));
    expect(faultOf(lacking, { ...users, columns: [id!, note!], fingerprint: "lacking" })).toBeUndefined();
    expect(faultOf(lacking, renamed)).toBe(versions.length > 0 ? "MR1025" : undefined);
  }
});

test("a table that gets all its columns later is held back, but not one that had them", () => {
  const [id, mail, note] = users.columns;
  const less = shape("later", { relation: 9, columns: [id!, note!], fingerprint: "less" });
  const more = { ...less, columns: [id!, mail!, note!], fingerprint: "more" };
  const rules = { "public.users": HIDDEN };
  const versions = [registered(rules, users), registered(rules, less)];
  expect(faultOf(bookOf(rules, new FormerRules(versions)), more)).toBe("MR1033");
  // A stream that goes back behind a change.
  const back = new FormerRules([registered(rules, users), firstVersion(more), registered(rules, less)]);
  expect(faultOf(bookOf(rules, back), more)).toBeUndefined();
});

test("where the log has renames, they count once, from their position on", () => {
  // Its columns have no numbers.
  const columns = users.columns.map((column) => ({ ...column, identity: -column.identity }));
  const mysql = { dialect: "mysql", relation: 1, columns } as const;
  const rules = { "public.users": HIDDEN };
  const book = bookOf(rules, new FormerRules([registered(rules, shape("users", mysql)), shape("next", mysql)]));
  const at = { epoch: 1, commit: 100n, index: 0 };
  const swap = [
    { from: "public.users", to: "public.old", columns: [], how: "renamed" as const },
    { from: "public.next", to: "public.users", columns: [], how: "renamed" as const },
  ];
  expect(book.rename(swap, at)).toEqual(swap);
  expect(book.rename(swap, at)).toEqual([]);
  expect(faultOf(book, shape("old", mysql), 200n)).toBe("MR1033");
  expect(faultOf(book, shape("users", mysql), 200n)).toBeUndefined();
  const names = [["mail", "note"] as const, ["NOTE", "mail"] as const];
  const own = [{ from: "public.users", to: "public.users", columns: names, how: "renamed" as const }];
  expect(book.rename(own, { ...at, commit: 300n })).toHaveLength(1);
  expect(faultOf(book, shape("users", mysql), 250n)).toBeUndefined();
  expect(faultOf(book, shape("users", mysql), 400n)).toBe("MR1025");
});

test("what the catalogue has of a table that takes a name further on in the log does not free the rows that come before", () => {
  const [id, mail, note] = users.columns.map((column) => ({ ...column, identity: -column.identity }));
  const mysql = { dialect: "mysql", relation: 1 } as const;
  const rules = { "public.u*": { columns: { "*mail*": { mask: "redact" } } } };
  const ours = shape("users", { ...mysql, columns: [id!, mail!, note!] });
  const book = bookOf(rules, new FormerRules([registered(rules, ours)]));
  const made = [{ from: ours.id, to: ours.id, columns: [], how: "made" as const }];
  expect(book.rename(made, { epoch: 1, commit: 100n, index: 0 })).toEqual(made);
  const now = { ...ours, columns: [id!, note!], fingerprint: "now" };
  const then = { ...ours, columns: [id!, { ...mail!, name: "post" }, note!], fingerprint: "then" };
  expect(faultOf(book, now)).toBeUndefined();
  expect(faultOf(book, then, 150n)).toBe("MR1025");
  expect(faultOf(book, now, 200n)).toBeUndefined();
});

test("rows of CREATE OR REPLACE TABLE … SELECT, which stand before the statement, are those of another table", () => {
  const [id, mail, note] = users.columns.map((column) => ({ ...column, identity: -column.identity }));
  const mysql = { dialect: "mysql", relation: 1 } as const;
  const rules = { "public.u*": { columns: { "*mail*": { mask: "redact" } } } };
  const ours = shape("users", { ...mysql, columns: [id!, mail!, note!] });
  const made = [{ from: ours.id, to: ours.id, columns: [], how: "made" as const }];
  const then = { ...ours, columns: [id!, { ...mail!, name: "post" }, note!], fingerprint: "then" };
  for (const commit of [99n, 100n]) {
    const book = bookOf(rules, new FormerRules([registered(rules, ours)]));
    book.rename(made, { epoch: 1, commit: 100n, index: 0 });
    expect(faultOf(book, then, commit)).toBe("MR1025");
  }
});

test("a stream that is behind several renames finds the rules that rows stood under between them", () => {
  const columns = users.columns.map((column) => ({ ...column, identity: -column.identity }));
  const mysql = { dialect: "mysql", relation: 1, columns } as const;
  const [ours, people] = [shape("users", mysql), shape("people", { ...mysql, fingerprint: "people" })];
  const tables = { "public.users": HIDDEN };
  const versions = [registered(tables, ours), registered({}, people)];
  const swap = [
    { from: ours.id, to: "public.t", columns: [], how: "renamed" as const },
    { from: people.id, to: ours.id, columns: [], how: "renamed" as const },
    { from: "public.t", to: people.id, columns: [], how: "renamed" as const },
  ];
  const at = (commit: bigint) => ({ epoch: 1, commit, index: 0 });
  const gone = [{ from: people.id, to: "public.folk", columns: [], how: "renamed" as const }];
  for (const [then, isBack] of [
    [swap, true],
    [gone, false],
  ] as const) {
    const book = bookOf(tables, new FormerRules(versions));
    const kept = [{ renames: book.rename(swap, at(100n)), position: at(100n) }];
    expect(faultOf(book, people, 120n)).toBe("MR1033");
    kept.push({ renames: book.rename(then, at(200n)), position: at(200n) });
    for (const one of [book, bookOf(tables, new FormerRules(versions, kept))]) {
      const faults = [50n, 100n, 150n, 199n].map((commit) => faultOf(one, people, commit));
      expect(faults).toEqual([undefined, "MR1033", "MR1033", "MR1033"]);
      expect(faultOf(one, isBack ? people : shape("folk", mysql), 250n)).toBe(isBack ? undefined : "MR1033");
    }
  }
});

test("a table is another one for its name if the log has shown its rows, or that it lost the name", () => {
  const columns = users.columns.map((column) => ({ ...column, identity: -column.identity }));
  const mysql = { dialect: "mysql", relation: 1, columns } as const;
  const [ours, next] = [shape("users", mysql), shape("next", { ...mysql, fingerprint: "next" })];
  const tables = { "public.users": HIDDEN, "public.next": {} };
  const swap = (...shownBy: readonly ("look" | "log")[]): string | undefined => {
    const book = bookOf(tables);
    book.begin({ tables: [ours], refused: [] });
    expect(faultOf(book, ours, 10n)).toBeUndefined();
    if (shownBy.includes("look")) expect(faultOf(book, next)).toBeUndefined();
    if (shownBy.includes("log")) expect(faultOf(book, next, 20n)).toBeUndefined();
    const at = { epoch: 1, commit: 100n, index: 0 };
    const renames = [
      { from: ours.id, to: "public.old", columns: [], how: "renamed" as const },
      { from: next.id, to: ours.id, columns: [], how: "renamed" as const },
      { from: "public.old", to: next.id, columns: [], how: "renamed" as const },
    ];
    const kept = [{ renames: book.rename(renames, at), position: at }];
    const later = bookOf(tables, new FormerRules([registered(tables, ours)], kept));
    expect(faultOf(later, next, 300n)).toBe("MR1033");
    return faultOf(book, next, 200n);
  };
  expect(swap("log")).toBe("MR1033");
  expect(swap("look", "log")).toBe("MR1033");
  expect(swap("look")).toBe("MR1033");
  expect(swap()).toBe("MR1033");
});

test("several tables whose columns were renamed at one position are all followed, and are kept", async () => {
  const columns = users.columns.map((column) => ({ ...column, identity: -column.identity }));
  const tables = ["users", "people"].map((table) => shape(table, { dialect: "mysql", relation: 1, columns }));
  const rules = { "public.*": HIDDEN };
  const versions = tables.map((table) => registered(rules, table));
  const book = bookOf(rules, new FormerRules(versions));
  const at = { epoch: 1, commit: 100n, index: 0 };
  const state = openMemory(systemClock);
  for (const { id } of tables) {
    const rename = { from: id, to: id, columns: [["mail", "post"] as const], how: "renamed" as const };
    expect(book.rename([rename], at)).toEqual([rename]);
    expect(book.rename([rename], at)).toEqual([]);
    for (let i = 0; i < 2; i++) await state.schemas.rename([rename], at);
  }
  const later = bookOf(rules, new FormerRules(versions, await state.schemas.renames()));
  for (const one of [book, later])
    for (const { table } of tables) {
      const renamed = columns.map((column) => ({ ...column, name: column.name === "mail" ? "post" : column.name }));
      expect(faultOf(one, shape(table, { dialect: "mysql", relation: 1, columns: renamed }), 200n)).toBe("MR1025");
    }
  await state.close();
});

test("thousands of tables that look alike are told apart by what they have and hide, not each from each", () => {
  const columns = users.columns.map((column) => ({ ...column, identity: -column.identity }));
  const rules = { "public.a*": HIDDEN };
  const tables = ["a", "b"].flatMap((name) =>
    Array.from({ length: 1_000 }, (_, i) => shape(`${name}${i}`, { dialect: "mysql", relation: 1, columns })),
  );
  const former = new FormerRules(tables.map((table) => registered(rules, table)));
  const spelled = vi.spyOn(String.prototype, "normalize");
  expect(former.rename([UNREAD], { epoch: 1, commit: 100n, index: 0 })).toEqual([UNREAD]);
  const { length } = spelled.mock.calls;
  spelled.mockRestore();
  expect(length).toBeLessThan(10 * tables.length);
  const book = bookOf(rules, former);
  expect(faultOf(book, tables[0]!, 200n)).toBeUndefined();
  expect(faultOf(book, tables.at(-1)!, 200n)).toBe("MR1033");
});

test("behind a part of the log that nobody reads, tables that look alike may have each other's names", () => {
  const columns = users.columns.map((column) => ({ ...column, identity: -column.identity }));
  const mysql = (table: string, of = columns): TableVersion =>
    shape(table, { dialect: "mysql", relation: 1, columns: of });
  const NOTE = { columns: { note: { drop: true } } };
  const all = ["users", "people", "staff", "other"].map((table) =>
    mysql(table, table === "other" ? columns.slice(0, 1) : columns),
  );
  const behind = (tables: Readonly<Record<string, object>>, now = tables): Record<string, string | undefined> => {
    const former = new FormerRules(all.map((table) => registered(tables, table)));
    const at = { epoch: 1, commit: 100n, index: 0 };
    const kept = former.rename([UNREAD], at);
    const later = new FormerRules(
      all.map((table) => registered(tables, table)),
      [{ renames: kept, position: at }],
    );
    const told = [former, later].map((one) => {
      const book = bookOf(now, one);
      book.begin({ tables: all, refused: [] });
      return Object.fromEntries(all.map((table) => [table.table, faultOf(book, table, 200n)]));
    });
    expect(told[1]).toEqual(told[0]);
    return told[0]!;
  };
  const MAIL_SHOWN = { columns: { mail: { mask: "none" } } };
  const none = { users: undefined, people: undefined, staff: undefined, other: undefined };
  expect(behind({ "public.*s*": HIDDEN, "public.people": HIDDEN })).toEqual(none);
  expect(behind({ "public.users": HIDDEN })).toEqual({ ...none, people: "MR1033", staff: "MR1033" });
  const before = { "public.users": HIDDEN, "public.people": {}, "public.staff": HIDDEN };
  expect(behind(before)).toEqual({ ...none, people: "MR1033" });
  expect(behind(before, { ...before, "public.people": MAIL_SHOWN })).toEqual(none);
  expect(behind(before, { ...before, "public.people": HIDDEN })).toEqual(none);
  const apart = { "public.users": HIDDEN, "public.people": NOTE, "public.staff": {} };
  expect(behind(apart)).toEqual({ ...none, users: "MR1033", people: "MR1033", staff: "MR1033" });
});
