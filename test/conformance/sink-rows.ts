import { expect, test } from "vitest";
import { tableVersion } from "../support/model/blocks.ts";
import { isNoMirror, type PoisonCase, type SinkHarness } from "./sink.ts";
import type { Batch } from "../../src/core/model/batch.ts";
import { rowVersion } from "../../src/core/model/position.ts";
import {
  patch,
  checkpointAt,
  put,
  remove,
  Reports,
  rowsBatch,
  Stage,
  timeout,
  UNCHANGED,
  type Write,
  writes,
} from "./stage.ts";

export const users = tableVersion({ table: "users", columns: { id: "int8", name: "text", note: "text" } });

export const lines = tableVersion({
  table: "lines",
  columns: { order_id: "int8", qty: "int4", sku: "text" },
  key: ["sku", "order_id"],
});

const prices = tableVersion({ table: "prices", columns: { amount: "numeric", label: "text" } });

/** A batch well above the size at which a sink may take another path. */
const MANY = 3_000;

export function rowTests(harness: SinkHarness): void {
  test("insert, update and delete", async () => {
    await using stage = await Stage.of(harness, users);
    await stage.write(users, 10n, [
      put(["1", "ann", null], { fresh: true }),
      put(["2", "bob", "x"], { fresh: true }),
      put(["3", "cid", ""], { fresh: true }),
    ]);
    await stage.expectRows(users, [
      ["1", "ann", null],
      ["2", "bob", "x"],
      ["3", "cid", ""],
    ]);
    await stage.write(users, 20n, [put(["2", "bob", null]), remove(["1", null, null]), put(["4", "dan", "y"])]);
    await stage.expectRows(users, [
      ["2", "bob", null],
      ["3", "cid", ""],
      ["4", "dan", "y"],
    ]);
    await stage.expectVersions(users, [10n, 20n, 20n]);
  });

  test("one row alone", async () => {
    await using stage = await Stage.of(harness, users);
    await stage.write(users, 10n, [put(["1", "ann", "a"], { fresh: true })]);
    await stage.expectRows(users, [["1", "ann", "a"]]);
    await stage.write(users, 20n, [put(["1", "eve", null])]);
    await stage.expectRows(users, [["1", "eve", null]]);
    await stage.write(users, 30n, [remove(["1", null, null])]);
    await stage.expectRows(users, []);
  });

  test("a delete of a row that a filter may have left out removes the row, and tells nobody of one that was never there", async (context) => {
    if (isNoMirror(harness, context, "of others, the runtime asks before")) return;
    const { columns, key, fingerprint } = users;
    const ruled = { rules: "r", source: { columns, key, fingerprint }, lineage: [], filtered: true, fault: null };
    const filtered = { ...users, ruled };
    await using stage = await Stage.of(harness, filtered);
    await stage.write(filtered, 10n, [put(["1", "ann", null]), put(["2", "bob", null])]);
    const [was, never] = ["1", "777777"].map((id) => remove([id, null, null], { isDoubted: true }));
    await stage.write(filtered, 20n, [was!, never!]);
    await stage.write(filtered, 21n, [never!]);
    await stage.expectRows(filtered, [["2", "bob", null]]);
    expect((await stage.target.readKeys?.(filtered)) ?? "").not.toContain("777777");
    await stage.write(filtered, 30n, [put(["1", "ann", "again"]), remove(["2", null, null], { isDoubted: true })]);
    await stage.expectRows(filtered, [["1", "ann", "again"]]);
  });

  test("several tables in one batch", async () => {
    await using stage = await Stage.of(harness, users, lines);
    await stage.apply(
      rowsBatch(10n, [users, [put(["1", "ann", null])]], [lines, [put(["7", "2", "a:b"]), put(["7", "3", "a"])]]),
    );
    await stage.expectRows(users, [["1", "ann", null]]);
    await stage.expectRows(lines, [
      ["7", "2", "a:b"],
      ["7", "3", "a"],
    ]);
  });

  test("tables are emptied before the rows of the same step, where the sink takes both", async (context) => {
    await using stage = await Stage.of(harness, users, lines);
    context.skip(stage.sink.batchLimits?.hasTruncates !== true, "a truncate is a step of its own");
    context.skip(stage.sink.form === "history", "of a history: sink-history.ts");
    await stage.write(users, 10n, [put(["1", "ann", "x"]), put(["2", "bob", "x"]), put(["3", "cid", "x"])]);
    await stage.write(lines, 11n, [put(["1", "1", "a"])]);
    const [reports, version] = [new Reports(), rowVersion(1, 20n)];
    const rows = writes(users, 20n, [put(["2", "again", null]), patch(["3", "new", UNCHANGED])]);
    const truncates = [users, lines].map((table) => ({ table, version }));
    await stage.apply({ kind: "rows", truncates, tables: [rows], checkpoint: checkpointAt(21n) }, reports);
    await stage.expectRows(users, [["2", "again", null]]);
    await stage.expectRows(lines, []);
    // Its base was emptied too.
    expect(reports.incompleteEntries).toHaveLength(1);
  });

  test("a composite key tells rows apart by all of its columns", async () => {
    await using stage = await Stage.of(harness, lines);
    await stage.write(lines, 10n, [
      put(["1", "1", "a"]),
      put(["1", "2", "1:a"]),
      put(["11", "3", "a"]),
      put(["1", "4", ""]),
      put(["1", "5", "%"]),
      put(["1", "6", "%25"]),
      put(["1", "7", "A"]),
    ]);
    await stage.write(lines, 20n, [
      remove(["1", null, "a"]),
      put(["1", "20", "1:a"]),
      remove(["1", null, ""]),
      put(["1", "60", "%25"]),
    ]);
    await stage.expectRows(lines, [
      ["1", "20", "1:a"],
      ["11", "3", "a"],
      ["1", "5", "%"],
      ["1", "60", "%25"],
      ["1", "7", "A"],
    ]);
  });

  test("a step given twice has its effect once", async () => {
    await using stage = await Stage.of(harness, users);
    await stage.write(users, 10n, [put(["1", "ann", null]), put(["2", "bob", null])]);
    const batch = rowsBatch(20n, [users, [put(["3", "cid", null], { fresh: true }), remove(["1", null, null])]]);
    await stage.apply(batch);
    await stage.apply(batch);
    await stage.restart(users);
    await stage.apply(batch);
    await stage.expectRows(users, [
      ["2", "bob", null],
      ["3", "cid", null],
    ]);
    await stage.expectVersions(users, [10n, 20n]);
  });

  test("a row is never set back", async () => {
    await using stage = await Stage.of(harness, users);
    await stage.write(users, 30n, [put(["1", "new", null]), put(["2", "new", null])]);
    await stage.write(users, 40n, [put(["1", "old", "old"], { at: 20n }), remove(["2", null, null], { at: 20n })]);
    await stage.expectRows(users, [
      ["1", "new", null],
      ["2", "new", null],
    ]);
    await stage.expectVersions(users, [30n, 30n]);
  });

  test("a row is never set back by a large step either", async () => {
    await using stage = await Stage.of(harness, users);
    const all = (name: string): Write[] => Array.from({ length: 100 }, (_, i) => put([`${i}`, name, null]));
    await stage.write(users, 30n, all("new"));
    await stage.apply(rowsBatch(40n, [users, all("old").map((write) => ({ ...write, at: 20n }))]));
    const removals = Array.from({ length: 100 }, (_, i) => remove([`${i}`, null, null], { at: 20n }));
    await stage.apply(rowsBatch(50n, [users, removals]));
    await stage.expectRows(
      users,
      Array.from({ length: 100 }, (_, i) => [`${i}`, "new", null]),
    );
  });

  test("an equal version writes, and deletes", async (context) => {
    if (isNoMirror(harness, context, "another change has another offset")) return;
    await using stage = await Stage.of(harness, users);
    await stage.write(users, 30n, [put(["1", "a", null]), put(["2", "a", null])]);
    await stage.write(users, 30n, [put(["1", "b", "c"]), remove(["2", null, null])]);
    await stage.expectRows(users, [["1", "b", "c"]]);
  });

  test("delete, then insert of the same key", async (context) => {
    if (isNoMirror(harness, context, "another change has another offset")) return;
    await using stage = await Stage.of(harness, users);
    await stage.write(users, 10n, [put(["1", "a", "b"])]);
    await stage.write(users, 20n, [remove(["1", null, null])]);
    await stage.write(users, 30n, [put(["1", "c", null], { fresh: true })]);
    await stage.expectRows(users, [["1", "c", null]]);
    await stage.write(users, 30n, [remove(["1", null, null])]);
    await stage.write(users, 30n, [put(["1", "d", null], { fresh: true })]);
    await stage.expectRows(users, [["1", "d", null]]);
  });

  test("rows that were deleted at a later version can be written after a reset", async (context) => {
    if (isNoMirror(harness, context, "nothing hides its rows")) return;
    await using stage = await Stage.of(harness, users);
    await stage.write(users, 10n, [put(["1", "a", null]), put(["2", "b", null])]);
    await stage.write(users, 90n, [remove(["1", null, null])]);
    await stage.sink.rows?.expel([users], rowVersion(1, 20n), timeout());
    await stage.prepare(users);
    await stage.write(users, 100n, [put(["1", "read", null], { at: 30n }), put(["2", "read", null], { at: 30n })]);
    await stage.expectRows(users, [
      ["1", "read", null],
      ["2", "read", null],
    ]);
  });

  test("a log read again ends in the same rows", async () => {
    await using stage = await Stage.of(harness, users);
    const log = [
      rowsBatch(10n, [users, [put(["1", "a", null], { fresh: true }), put(["2", "a", null], { fresh: true })]]),
      rowsBatch(20n, [users, [put(["1", "b", null]), remove(["2", null, null])]]),
      rowsBatch(30n, [users, [remove(["1", null, null]), put(["2", "c", "d"], { fresh: true })]]),
      rowsBatch(40n, [users, [put(["3", "e", null], { fresh: true })]]),
    ];
    for (const batch of log) await stage.apply(batch);
    for (const start of [3, 1, 0]) {
      await stage.restart(users);
      for (const batch of log.slice(start)) await stage.apply(batch);
      await stage.expectRows(users, [
        ["2", "c", "d"],
        ["3", "e", null],
      ]);
    }
  });

  test("the hint that a key is new may be wrong both ways", async () => {
    await using stage = await Stage.of(harness, users);
    const many = Array.from({ length: 60 }, (_, i) => `${i}`);
    await stage.write(
      users,
      10n,
      many.slice(0, 30).map((id) => put([id, "a", null], { fresh: false })),
    );
    await stage.write(
      users,
      20n,
      many.map((id) => put([id, "b", null], { fresh: true })),
    );
    await stage.write(users, 30n, [put(["0", "c", null], { fresh: true }), put(["99", "c", null], { fresh: false })]);
    await stage.expectRows(users, [["0", "c", null], ["99", "c", null], ...many.slice(1).map((id) => [id, "b", null])]);
  });

  test("rows are made ready while the sink waits with the step before, and in vain", async () => {
    await using stage = await Stage.of(harness, users, lines);
    const many = (at: bigint, name: string) =>
      rowsBatch(
        at,
        [users, Array.from({ length: MANY }, (_, i) => put([`${i}`, `${name}${i}`, null], { fresh: at === 10n }))],
        [lines, [put(["1", `${at}`, "a"])]],
      );
    const [first, second, never, third] = [many(10n, "a"), many(20n, "b"), many(30n, "never"), many(40n, "c")];
    const announcing = (batch: Batch) =>
      Object.assign(new Reports(), {
        waiting: () => batch.kind === "rows" && stage.sink.prefetch?.prefetchRows(batch.tables),
      });
    await stage.sink.apply(first, announcing(second), timeout());
    await stage.sink.apply(second, announcing(never), timeout());
    await stage.expectRows(
      users,
      Array.from({ length: MANY }, (_, i) => [`${i}`, `b${i}`, null]),
    );
    await stage.sink.apply(third, new Reports(), timeout());
    await stage.expectRows(
      users,
      Array.from({ length: MANY }, (_, i) => [`${i}`, `c${i}`, null]),
    );
    await stage.expectVersions(lines, [40n]);
  });

  test("a large step mixes all kinds", async () => {
    await using stage = await Stage.of(harness, users);
    const ids = Array.from({ length: MANY }, (_, i) => `${i}`);
    await stage.write(
      users,
      10n,
      ids.map((id) => put([id, `n${id}`, null], { fresh: true })),
    );
    await stage.write(
      users,
      20n,
      ids.map((id, i) => {
        if (i % 3 === 0) return remove([id, null, null]);
        if (i % 3 === 1) return put([id, `m${id}`, "x"]);
        return put([`${MANY + i}`, "fresh", null], { fresh: true });
      }),
    );
    const expected = ids.flatMap((id, i) => {
      if (i % 3 === 0) return [];
      if (i % 3 === 1) return [[id, `m${id}`, "x"]];
      return [
        [id, `n${id}`, null],
        [`${MANY + i}`, "fresh", null],
      ];
    });
    await stage.expectRows(users, expected);
  });

  test("null is not the empty string", async () => {
    await using stage = await Stage.of(harness, users);
    await stage.write(users, 10n, [put(["1", "", null]), put(["2", null, ""])]);
    await stage.expectRows(users, [
      ["1", "", null],
      ["2", null, ""],
    ]);
    await stage.write(users, 20n, [put(["1", null, ""]), put(["2", "", null])]);
    await stage.expectRows(users, [
      ["1", null, ""],
      ["2", "", null],
    ]);
  });

  test("keys that differ in bytes only: the put stays, whichever comes first", async (context) => {
    if (isNoMirror(harness, context, "the order of the log decides")) return;
    await using stage = await Stage.of(harness, prices);
    await stage.write(prices, 10n, [put(["1.0", "a"]), put(["2.0", "a"])]);
    await stage.write(prices, 20n, [
      remove(["1.0", null]),
      put(["1.00", "b"]),
      put(["2.00", "b"]),
      remove(["2.0", null]),
    ]);
    await stage.expectRows(prices, [
      ["1.00", "b"],
      ["2.00", "b"],
    ]);
  });

  refusalTest(harness);
}

/** Half of a pair of surrogates, as a column of MySQL in `ucs2` can have. */
const HALF = Uint8Array.of(0x61, 0xed, 0xa0, 0x80);

const halves = (): PoisonCase => ({
  table: tableVersion({ table: "halves", dialect: "mysql", columns: { id: "int4", v: "text" } }),
  good: (i) => [`${i}`, "\u00e9 \ufffd"],
  bad: (i) => [`${i}`, HALF],
});

const halfKeys = (): PoisonCase => ({
  table: tableVersion({ table: "half_keys", dialect: "mysql", columns: { name: "text", v: "text" } }),
  good: (i) => [`\ufffd${i}`, "v"],
  bad: (i) => [Buffer.concat([Buffer.from(`${i}`), HALF]), "v"],
});

export function refusalTest(harness: SinkHarness): void {
  refused("a row that the target refuses", harness, harness.refusal);
  const { keepsAnyBytes = false } = harness;
  refused("a text that is no UTF-8", harness, keepsAnyBytes ? undefined : halves);
  refused("a key that is no UTF-8", harness, keepsAnyBytes ? undefined : halfKeys);

  test("a row under a key that is no UTF-8 can change and go, and keeps no other one waiting", async (context) => {
    if (keepsAnyBytes) return context.skip("it keeps any bytes");
    const { table, good, bad } = halfKeys();
    await using stage = await Stage.of(harness, table);
    await stage.write(table, 10n, [put(bad(1)), put(good(1)), put(good(2))]);
    await stage.write(table, 20n, [patch([bad(1)[0]!, UNCHANGED]), put(good(3))]);
    await stage.write(table, 30n, [remove([bad(1)[0]!, null]), remove([good(1)[0]!, null])]);
    await stage.expectRows(table, [good(2), good(3)]);
    expect((await stage.checkpointNow())?.position.commit).toBe(31n);
    return undefined;
  });
}

function refused(what: string, harness: SinkHarness, caseOf: (() => PoisonCase) | undefined): void {
  test(`${what} is reported, and the others are applied`, async (context) => {
    const poison = caseOf?.();
    if (poison === undefined) return context.skip("this target refuses no such row");
    const { table, good, bad } = poison;
    await using stage = await Stage.of(harness, table);
    const few = await stage.write(table, 10n, [put(good(1)), put(bad(1)), put(good(2))]);
    expect(few.poisons.map((report) => [report.table, report.entry, report.error.kind])).toEqual([
      [table.table, 1, "poison"],
    ]);
    await stage.expectRows(table, [good(1), good(2)]);
    const text = `${few.poisons[0]?.error.message} ${few.poisons[0]?.error.hint}`;
    for (const cell of bad(1)) if (typeof cell === "string" && cell.length > 3) expect(text).not.toContain(cell);

    const alone = await stage.write(table, 20n, [put(bad(2))]);
    expect(alone.poisons.map((report) => report.entry)).toEqual([0]);
    expect((await stage.checkpointNow())?.position.commit).toBe(21n);

    const ids = Array.from({ length: 120 }, (_, i) => i + 10);
    await stage.restart(table);
    const many = await stage.write(
      table,
      30n,
      ids.map((i) => put(i % 50 === 7 ? bad(i) : good(i), { fresh: true })),
    );
    expect(many.poisons.map((report) => report.entry).toSorted((a, b) => a - b)).toEqual([47, 97]);
    const taken = ids.filter((i) => i % 50 !== 7).map(good);
    await stage.expectRows(table, [good(1), good(2), ...taken]);
    return undefined;
  });
}
