/** What only a SQLite file can meet: another program's file, lock, index or trigger, and readers beside the writer. */
import { copyFileSync, readFileSync, renameSync, truncateSync, writeFileSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { SqliteSink } from "../../connectors/sqlite/sink.ts";
import type { Batch } from "../../src/core/model/batch.ts";
import { rowVersion } from "../../src/core/model/position.ts";
import { DEFAULT_FORM } from "../../connectors/warehouse/own-columns.ts";
import {
  checkpointAt,
  failure,
  patch,
  put,
  remove,
  Reports,
  rowsBatch,
  timeout,
  UNCHANGED,
  type Write,
} from "../conformance/stage.ts";
import { tableVersion } from "../support/model/blocks.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";
import { sqliteTarget } from "../support/warehouses/sqlite-target.ts";

const orders = tableVersion({ table: "orders", columns: { id: "int8", status: "text", at: "timestamptz" } });
const AT = "2024-02-29 12:00:00.5+00";

async function opened(sink: { open: SqliteSink["open"]; prepare: SqliteSink["prepare"] }): Promise<void> {
  await sink.open(1, timeout());
  await sink.prepare([orders], timeout());
}

test("a file that Millrace did not make is refused and stays as it is", async () => {
  using folder = temporaryFolder();
  const [app, text, damaged] = [folder.file("app.db"), folder.file("text"), folder.file("damaged")];
  using database = new DatabaseSync(app);
  database.exec("create table settings (k text)");
  writeFileSync(text, "no database at all, but a text that is long enough to be read as one".repeat(20));
  using other = new DatabaseSync(damaged);
  other.exec("pragma application_id = 1298754668; create table t (a); insert into t values (1)");
  other.close();
  const bytes = readFileSync(damaged);
  writeFileSync(damaged, bytes.fill(0x5a, 100, 4_000));
  for (const [path, code] of [
    [app, "MR3106"],
    [text, "MR3202"],
    [damaged, "MR3202"],
  ] as const) {
    const before = readFileSync(path);
    const sink = new SqliteSink({ name: "s", owner: "shop/s", path, schema: undefined });
    const error = await failure(sink.open(1, timeout()));
    expect(error).toMatchObject({ code, kind: "fatal", message: expect.stringContaining(path) });
    await sink.close();
    expect(readFileSync(path).equals(before)).toBe(true);
  }
});

test("a file that is emptied in place stops the sink before anything is taken for durable", async () => {
  await using target = sqliteTarget();
  const first = await target.makeSink();
  await opened(first);
  const rows = Array.from({ length: 2_000 }, (_, i) => put([`${i}`, "new", AT]));
  await first.apply(rowsBatch(10n, [orders, rows]), new Reports(), timeout());
  // The log is folded in.
  await first.close();
  const sink = await target.makeSink();
  await opened(sink);
  const batch = (at: bigint) => rowsBatch(at, [orders, [put([`${at}`, "newer", AT])]]);
  await sink.apply(batch(15n), new Reports(), timeout());
  await sink.verify(timeout());
  truncateSync(target.path);
  for (const call of [() => sink.verify(timeout()), () => sink.apply(batch(20n), new Reports(), timeout())]) {
    expect(await failure(call())).toMatchObject({ code: "MR3110", kind: "reopen" });
  }
  // To SQLite it is a new file, whatever the log has.
  expect(await sink.open(2, timeout())).toBeNull();
  await sink.close();
});

test.for(["removed", "replaced"])(
  "a log that is %s while it is open is noticed, and what was written is there",
  async (how) => {
    await using target = sqliteTarget();
    const sink = await target.makeSink();
    await opened(sink);
    const batch = (at: bigint) => rowsBatch(at, [orders, [put([`${at}`, "new", AT])]]);
    await sink.apply(batch(10n), new Reports(), timeout());
    await sink.verify(timeout());
    const log = `${target.path}-wal`;
    renameSync(log, `${target.path}-moved`);
    if (how === "replaced") copyFileSync(`${target.path}-moved`, log);
    for (const call of [() => sink.verify(timeout()), () => sink.apply(batch(20n), new Reports(), timeout())]) {
      expect(await failure(call())).toMatchObject({ code: "MR3110", kind: "reopen" });
    }
    await sink.close();
    const next = await target.makeSink();
    expect(await next.open(2, timeout())).toEqual(batch(10n).checkpoint);
    await next.prepare([orders], timeout());
    await next.apply(batch(20n), new Reports(), timeout());
    using reader = new DatabaseSync(target.path, { readOnly: true });
    expect(
      reader
        .prepare('select id from "public.orders" order by 1')
        .all()
        .map(({ id }) => id),
    ).toEqual([10, 20]);
    await next.close();
  },
);

test("an index of the log that somebody cuts ends no process: SQLite makes it again", async () => {
  await using target = sqliteTarget();
  const sink = await target.makeSink();
  await opened(sink);
  const write = (at: bigint) =>
    sink.apply(rowsBatch(at, [orders, [put([`${at}`, "new", AT])]]), new Reports(), timeout());
  await write(10n);
  for (const [i, call] of [() => sink.verify(timeout()), () => write(20n)].entries()) {
    truncateSync(`${target.path}-shm`);
    expect(await failure(call())).toMatchObject({ code: "MR3110", kind: "reopen" });
    await sink.open(i + 2, timeout());
    await sink.prepare([orders], timeout());
  }
  await write(20n);
  expect((await target.readRows(orders)).map(({ cells }) => cells[0])).toEqual(["10", "20"]);
  await sink.close();
});

test("a table that somebody makes again with older rows is noticed at the next heartbeat; what keeps the rows is not", async () => {
  await using target = sqliteTarget();
  const sink = await target.makeSink();
  await opened(sink);
  const apply = async (at: bigint, ...entries: readonly Write[]) =>
    await sink.apply(rowsBatch(at, [orders, entries]), new Reports(), timeout());
  await apply(10n, put(["1", "new", AT]), put(["2", "new", AT]), put(["3", "new", AT]));
  const putBack = await target.copy!(orders);
  await apply(20n, put(["2", "paid", AT]));
  // Of two newest rows one goes, and the other lies elsewhere from here on.
  await apply(30n, put(["3", "paid", AT]));
  await apply(40n, remove(["3", null, null]));
  await apply(50n, put(["2", "sent", AT]));
  target.query('create index by_status on "public.orders" (status)');
  target.query("vacuum");
  await sink.verify(timeout());
  await putBack();
  const gone = { code: "MR3110", kind: "reopen", lostTables: [orders.id] };
  expect(await failure(sink.verify(timeout()))).toMatchObject(gone);
  await sink.open(2, timeout());
  expect(await sink.presence?.missing([orders], timeout())).toEqual([orders]);
  await sink.verify(timeout());
  await sink.prepare([orders], timeout());
  await sink.verify(timeout());
  // The source's row is as old as the copy's by now.
  await apply(60n, put(["1", "new", AT], { at: 10n }));
  await sink.verify(timeout());
  expect(await sink.presence?.missing([orders], timeout())).toEqual([]);
  await sink.close();
});

test("another program's transaction is waited for, and nothing else waits meanwhile", async () => {
  await using target = sqliteTarget();
  const sink = await target.makeSink();
  await opened(sink);
  using other = new DatabaseSync(target.path);
  other.exec("create table mine (a); begin immediate; insert into mine values (1)");
  let isApplied = false;
  const applying = sink
    .apply(rowsBatch(10n, [orders, [put(["1", "new", AT])]]), new Reports(), timeout())
    .then(() => (isApplied = true));
  // SQLite's own waiting would stand still here.
  const started = performance.now();
  for (let i = 0; i < 20; i++) await sleep(5);
  expect(performance.now() - started).toBeLessThan(3_000);
  expect(isApplied).toBe(false);
  other.exec("commit");
  await applying;
  expect(target.query(`select status from "public.orders"`)).toEqual([["new"]]);
  await sink.close();
});

test.each(["before", "while"])("what another sink begins %s this one is forgotten stays", async (moment) => {
  await using target = sqliteTarget();
  const making = (name: string): SqliteSink =>
    new SqliteSink({ name, owner: `shop/${name}`, path: target.path, schema: name });
  const batch = (at: bigint) => rowsBatch(at, [orders, [put([`${at}`, "new", AT])]]);
  const [going, coming] = [making("going"), making("coming")];
  await opened(going);
  await going.apply(batch(10n), new Reports(), timeout());
  if (moment === "before") await coming.open(1, timeout());
  // Whatever the order of these two is.
  await Promise.all([coming.open(1, timeout()), going.forget(timeout())]);
  await coming.prepare([orders], timeout());
  await coming.apply(batch(20n), new Reports(), timeout());
  await coming.verify(timeout());
  await coming.close();
  const again = making("coming");
  expect(await again.open(2, timeout())).toEqual(batch(20n).checkpoint);
  expect(await again.presence.missing([orders], timeout())).toEqual([]);
  expect(target.query('select id from "coming.orders" union all select id from "going.orders"')).toEqual([
    [20n],
    [10n],
  ]);
  expect(await going.look(timeout())).toBeNull();
  for (const sink of [going, again]) await sink.close();
});

test("a lock that stays is an error that is tried again, and names the file", { tags: "heavy" }, async () => {
  await using target = sqliteTarget();
  const sink = await target.makeSink();
  await opened(sink);
  using other = new DatabaseSync(target.path);
  other.exec("begin immediate");
  const batch = rowsBatch(10n, [orders, [put(["1", "new", AT])]]);
  const error = await failure(sink.apply(batch, new Reports(), timeout()));
  expect(error).toMatchObject({
    code: "MR2026",
    kind: "retryable",
    message: expect.stringContaining(target.path),
  });
  other.exec("rollback");
  await sink.apply(batch, new Reports(), timeout());
  await sink.close();
});

test("a reader sees whole transactions and one moment, while rows come", async () => {
  await using target = sqliteTarget();
  const sink = await target.makeSink();
  await opened(sink);
  using reader = new DatabaseSync(target.path, { readOnly: true });
  const many = (mark: string) => Array.from({ length: 5_000 }, (_, i) => put([`${i}`, mark, AT]));
  const counts = () =>
    reader.prepare(`select status, count(*) as n from "public.orders" group by status`).all().map(Object.values);
  await sink.apply(rowsBatch(10n, [orders, many("a")]), new Reports(), timeout());
  reader.exec("begin");
  expect(counts()).toEqual([["a", 5_000]]);
  const applied = new AbortController();
  const applying = sink
    .apply(rowsBatch(20n, [orders, many("b")]), new Reports(), timeout())
    .finally(() => applied.abort());
  for (; !applied.signal.aborted; await sleep(1)) expect(counts()).toEqual([["a", 5_000]]);
  await applying;
  reader.exec("commit");
  expect(counts()).toEqual([["b", 5_000]]);
  await sink.close();
});

test("indexes, views and triggers that somebody made outlive a copy of the table; one that refuses a row makes a dead letter", async () => {
  await using target = sqliteTarget();
  const sink = await target.makeSink();
  await opened(sink);
  await sink.apply(rowsBatch(10n, [orders, [put(["1", "new", AT])]]), new Reports(), timeout());
  for (const sql of [
    `create index by_status on "public.orders" (status)`,
    `create index by_at on "public.orders" (at)`,
    `create view open_orders as select id from "public.orders" where status = 'new'`,
    `create trigger no_secrets before insert on "public.orders" when new.status = 'secret' begin select raise(abort, 'no'); end`,
  ])
    target.query(sql);
  const retyped = tableVersion({
    table: "orders",
    columns: { id: "text", status: "text" },
    key: ["id"],
    version: 2,
    identities: { id: 1, status: 2 },
  });
  await sink.prepare([retyped], timeout());
  const reports = new Reports();
  await sink.apply(rowsBatch(20n, [retyped, [put(["2", "secret"]), put(["3", "new"])]]), reports, timeout());
  expect(reports.poisons.map(({ entry, error }) => [entry, error.code])).toEqual([[0, "MR3111"]]);
  expect(reports.poisons[0]?.error.message).not.toContain("secret");
  expect(target.query("select id from open_orders order by id")).toEqual([["1"], ["3"]]);
  const made = target.query(
    "select name from sqlite_schema where name like 'by_%' or name = 'no_secrets' order by name",
  );
  expect(made.flat()).toEqual(["by_at", "by_status", "no_secrets"]);
  await sink.close();
});

test.each(["hard", "soft"] as const)("what a trigger ignores is reported (deletes: %s)", async (deletes) => {
  await using target = sqliteTarget();
  const sink = await target.makeSink({ ...DEFAULT_FORM, deletes });
  await opened(sink);
  const apply = async (batch: Batch) => {
    const reports = new Reports();
    await sink.apply(batch, reports, timeout());
    return reports.poisons.map(({ entry, error }) => [entry, error.code]);
  };
  expect(await apply(rowsBatch(10n, [orders, ["1", "2", "3"].map((id) => put([id, "new", AT]))]))).toEqual([]);
  for (const [when, row] of [
    ["insert", "new"],
    ["update", "old"],
    ["delete", "old"],
  ] as const)
    target.query(
      `create trigger keep_${when} before ${when} on "public.orders" when ${row}.id in (3, 4) begin select raise(ignore); end`,
    );
  const entries = [
    put(["1", "paid", AT]),
    put(["3", "paid", AT]),
    put(["4", "new", AT]),
    patch(["2", UNCHANGED, AT]),
    remove(["9", null, null]),
  ];
  const kept = [
    [1, "MR3111"],
    [2, "MR3111"],
  ];
  for (const _ of [1, 2]) expect(await apply(rowsBatch(20n, [orders, entries]))).toEqual(kept);
  // Older than what is there.
  expect(await apply(rowsBatch(15n, [orders, [put(["1", "late", AT]), remove(["2", null, null])]]))).toEqual([]);
  const removes = ["1", "3"].map((id) => remove([id, null, null]));
  expect(await apply(rowsBatch(30n, [orders, removes]))).toEqual([[1, "MR3111"]]);
  expect(await apply(rowsBatch(40n, [orders, [patch(["3", UNCHANGED, AT])]]))).toEqual([[0, "MR3111"]]);
  const truncate: Batch = {
    kind: "truncate",
    table: orders,
    version: rowVersion(1, 50n),
    checkpoint: checkpointAt(51n),
  };
  expect(await failure(apply(truncate))).toMatchObject({ code: "MR2027", kind: "fatal", table: orders.id });
  for (const when of ["update", "delete"]) target.query(`drop trigger keep_${when}`);
  expect(await apply(truncate)).toEqual([]);
  await sink.close();
});

test("a change that a trigger keeps from a history is reported", async () => {
  await using target = sqliteTarget();
  const sink = await target.makeSink({ ...DEFAULT_FORM, mode: "history" });
  await opened(sink);
  target.query(`create trigger keep before insert on "public.orders" when new.id = 2 begin select raise(ignore); end`);
  for (const _ of [1, 2]) {
    const reports = new Reports();
    await sink.apply(rowsBatch(10n, [orders, ["1", "2"].map((id) => put([id, "new", AT]))]), reports, timeout());
    expect(reports.poisons.map(({ entry }) => entry)).toEqual([1]);
  }
  await sink.close();
});

test("a trigger of somebody's that names a missing table is told as its table's; a column of Millrace's that is gone is not", async () => {
  await using target = sqliteTarget();
  const sink = await target.makeSink();
  await opened(sink);
  target.query("create table seen (id text)");
  target.query(`create trigger note after insert on "public.orders" begin insert into seen values (new.id); end`);
  target.query("drop table seen");
  const write = (at: bigint) => sink.apply(rowsBatch(at, [orders, [put(["1", "new", AT])]]), new Reports(), timeout());
  expect(await failure(write(10n))).toMatchObject({ code: "MR2027", kind: "fatal", table: orders.id });
  target.query("drop trigger note");
  await write(20n);
  target.query(`alter table "public.orders" rename column status to state`);
  expect(await failure(write(30n))).toMatchObject({ code: "MR3110", kind: "reopen" });
  await sink.close();
});

test("values that were replaced or deleted leave no bytes in the file", async () => {
  await using target = sqliteTarget();
  const sink = await target.makeSink();
  await opened(sink);
  const ids = Array.from({ length: 3_000 }, (_, id) => `${id}`);
  const inPlain = ids.map((id) =>
    put([id, `in plain ${id} ${"text ".repeat(Number(id) % 500 === 0 ? 2_000 : 9)}`, AT]),
  );
  await sink.apply(rowsBatch(10n, [orders, inPlain]), new Reports(), timeout());
  const hidden = ids.slice(500).map((id) => put([id, "hidden", AT]));
  const removed = ids.slice(0, 500).map((id) => remove([id, null, null]));
  await sink.apply(rowsBatch(20n, [orders, [...hidden, ...removed]]), new Reports(), timeout());
  await sink.close();
  expect(readFileSync(target.path).includes("in plain")).toBe(false);
});

test("SQLite's own functions read what lies there", async () => {
  await using target = sqliteTarget();
  const sink = await target.makeSink();
  await opened(sink);
  await sink.apply(rowsBatch(10n, [orders, [put(["1", "new", AT])]]), new Reports(), timeout());
  expect(target.query(`select at, strftime('%s', at), typeof(id) from "public.orders"`)).toEqual([
    ["2024-02-29T12:00:00.500000Z", "1709208000", "integer"],
  ]);
  await sink.close();
});
