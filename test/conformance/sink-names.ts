import { expect, test } from "vitest";
import { tableVersion } from "../support/model/blocks.ts";
import type { SinkHarness } from "./sink.ts";
import { patch, put, remove, Stage, timeout, UNCHANGED } from "./stage.ts";

/** Names that Postgres allows: up to 63 bytes, anything but NUL. */
const NAMES: readonly string[] = [
  'quo"te',
  "apo'strophe",
  "back`tick",
  "two words",
  "dot.in.it",
  " leading and trailing ",
  "semi;colon",
  '"; drop table users; --',
  "'); select 1; --",
  "__proto__",
  "constructor",
  "toString",
  "UPPER",
  "Ünïcödé",
  "\u{1F600} emoji",
  "per%cent",
  "co:lon",
  "sl/ash\\back",
  "new\nline",
  "tab\there",
  "$1",
  "{brace}",
  "a,b",
  "*",
  "?",
  "select",
  "1digit",
  "-minus",
  "+plus",
  "#hash",
  "<tag>|pipe",
  "x".repeat(63),
  "é".repeat(31),
  "_id",
  "_source",
  "id",
  "excluded",
  "t",
  "s",
  "version",
];

export function nameTests(harness: SinkHarness): void {
  test("any table name", async () => {
    const tables = NAMES.map((name, i) =>
      tableVersion({ schema: i % 2 === 0 ? "public" : name, table: name, columns: { id: "int4", v: "text" } }),
    );
    await using stage = await Stage.of(harness, ...tables);
    for (const [i, table] of tables.entries()) {
      await stage.write(table, 10n + BigInt(i), [put(["1", table.table]), put(["2", "x"])]);
    }
    for (const [i, table] of tables.entries()) {
      if (i % 3 === 0) await stage.write(table, 100n + BigInt(i), [remove(["2", null])]);
    }
    for (const [i, table] of tables.entries()) {
      await stage.expectRows(
        table,
        i % 3 === 0
          ? [["1", table.table]]
          : [
              ["1", table.table],
              ["2", "x"],
            ],
      );
    }
  });

  test("any column name, in and beside the key", async () => {
    const table = tableVersion({
      table: "columns",
      columns: [...NAMES.map((name) => [name, "text"] as const), ["k.e\"y'", "text"], ["K.E\"Y'", "text"]],
      key: ["k.e\"y'", "__proto__"],
    });
    await using stage = await Stage.of(harness, table);
    const row = (mark: string) => table.columns.map((column, i) => (i % 7 === 3 ? null : `${mark} ${column.name}`));
    const keyed = (cells: (string | null)[]) => {
      const result = [...cells];
      for (const ordinal of table.key) result[ordinal] = `key ${ordinal}`;
      return result;
    };
    await stage.write(table, 10n, [put(keyed(row("a")))]);
    await stage.expectRows(table, [keyed(row("a"))]);
    const patched = keyed(row("b")).map((cell, i) => (i % 5 === 0 && !table.key.includes(i) ? UNCHANGED : cell));
    await stage.write(table, 20n, [patch(patched)]);
    const expected = keyed(row("b")).map((cell, i) => (patched[i] === UNCHANGED ? keyed(row("a"))[i]! : cell));
    await stage.expectRows(table, [expected]);
    const many = Array.from({ length: 40 }, (_, n) =>
      keyed(row(`${n}`)).map((cell, i) => (i === table.key[0] ? `k${n}` : cell)),
    );
    await stage.write(table, 30n, [remove(keyed(row("b"))), ...many.map((cells) => put(cells))]);
    await stage.expectRows(table, many);
  });

  letterCaseTest(harness);

  test("tables whose names differ in a dot's place only", async () => {
    const columns = [
      ["id", "int4"],
      ["v", "text"],
    ] as const;
    const tables = [
      tableVersion({ schema: "a.b", table: "c", columns, key: ["id"] }),
      tableVersion({ schema: "a", table: "b.c", columns, key: ["id"] }),
      tableVersion({ schema: "a%2Eb", table: "c", columns, key: ["id"] }),
    ];
    await using stage = await Stage.of(harness);
    const targets = tables.map((table) => stage.sink.target(table));
    // The daemon refuses two tables with one target, before either is prepared.
    const apart = tables.filter((_, i) => targets.indexOf(targets[i]!) === i);
    if (harness.namesMeet !== true) expect(apart).toHaveLength(3);
    await stage.prepare(...apart);
    for (const [i, table] of apart.entries()) await stage.write(table, 10n + BigInt(i), [put(["1", `${i}`])]);
    for (const [i, table] of apart.entries()) await stage.expectRows(table, [["1", `${i}`]]);
  });

  test("tables whose names differ in case are two, or refused", async () => {
    const columns = [
      ["id", "int4"],
      ["v", "text"],
    ] as const;
    const lower = tableVersion({ table: "items", columns, key: ["id"] });
    const upper = tableVersion({ table: "Items", columns, key: ["id"] });
    await using stage = await Stage.of(harness, lower);
    // The daemon refuses two tables with one target, before either is prepared.
    if (stage.sink.target(lower) === stage.sink.target(upper)) return;
    await stage.prepare(upper);
    await stage.write(lower, 10n, [put(["1", "lower"])]);
    await stage.write(upper, 20n, [put(["1", "upper"])]);
    await stage.expectRows(lower, [["1", "lower"]]);
    await stage.expectRows(upper, [["1", "upper"]]);
  });
}

export function letterCaseTest(harness: SinkHarness): void {
  test.for([true, false])(
    "columns with capital letters, and some that differ in case only, are found again: identities known: %s",
    async (isIdentified) => {
      const names = ["id", "createdAt", "CREATEDAT", "Änderung", "ÄNDERUNG"];
      const table = tableVersion({
        table: "Orders",
        columns: names.map((name, i) => [name, i === 0 ? "int8" : "text"] as const),
        key: ["id"],
        ...(isIdentified ? {} : { identities: Object.fromEntries(names.map((name) => [name, 0])) }),
      });
      await using stage = await Stage.of(harness, table);
      await stage.write(table, 10n, [put(["1", "a", "b", "c", "d"]), put(["2", "e", "f", "g", "h"])]);
      await stage.restart();
      expect(await stage.sink.presence?.missing([table], timeout())).toEqual(stage.sink.presence && []);
      await stage.prepare(table);
      await stage.write(table, 20n, [
        patch(["1", UNCHANGED, "B", UNCHANGED, "D"]),
        remove(["2", null, null, null, null]),
      ]);
      await stage.expectRows(table, [["1", "a", "B", "c", "D"]]);
    },
  );
}
