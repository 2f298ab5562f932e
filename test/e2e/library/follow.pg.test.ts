/** `follow` inside a program: what a transaction looks like, where it goes on, and what it leaves alone. */
import { existsSync, rmSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { expect, test } from "vitest";
import {
  follow,
  type Change,
  type FollowOptions,
  type LogEntry,
  type Transaction,
} from "../../../src/library/millrace.ts";
import { freshDatabase } from "../../support/run/services.ts";
import { temporaryFolder } from "../../support/run/temporary-folder.ts";
import { eventually } from "../../support/run/waiting.ts";

/** Takes transactions until one fits, each done before the next; the last one is not done. */
async function until(
  following: AsyncIterator<Transaction, undefined>,
  fits: (transaction: Transaction, seen: readonly Transaction[]) => boolean,
): Promise<readonly Transaction[]> {
  const seen: Transaction[] = [];
  for (;;) {
    const { value, done } = await following.next();
    if (done === true) throw new Error("it ended");
    seen.push(value);
    if (fits(value, seen)) return seen;
    await value.done();
  }
}

const has = (op: Change["op"]) => (transaction: Transaction) => transaction.changes.some((change) => change.op === op);
const rows = (transactions: readonly Transaction[]) =>
  transactions.flatMap(({ changes }) => changes).filter((change) => change.op !== "schema" && change.op !== "s");

/** A slot is active while it is made; what commits before its beginning is not in its stream. */
const SLOT_BEGUN =
  "select from pg_replication_slots where database = $1 and active and confirmed_flush_lsn is not null";

test("an initial snapshot, then transactions with exact values, from where the state says", async () => {
  await using source = await freshDatabase();
  using folder = temporaryFolder();
  await source.query(`create table orders (id bigint primary key, amount numeric(30,10), at timestamptz, note text, doc jsonb, ids bigint[]);
    insert into orders values (9007199254740993, 12345678901234567890.1234567890, '2026-11-20 06:43:15.123456+00', 'a', '{"n":9007199254740993,"x":0.1}', '{1,9007199254740993}')`);
  const options: FollowOptions = {
    source: source.url,
    tables: ["public.orders"],
    state: `sqlite:${folder.file("follow.db")}`,
    name: source.name,
    heartbeat: "500ms",
  };
  {
    await using following = follow(options);
    const seen = await until(following, has("r"));
    const row = rows(seen)[0];
    expect(row).toMatchObject({
      op: "r",
      key: { id: 9007199254740993n },
      before: null,
      after: {
        id: 9007199254740993n,
        amount: "12345678901234567890.1234567890",
        at: "2026-11-20T06:43:15.123456Z",
        note: "a",
        doc: { n: 9007199254740993n, x: 0.1 },
        ids: [1n, 9007199254740993n],
      },
      unchanged: [],
      source: { kind: "postgres", schema: "public", table: "orders", snapshot: true },
    });
    expect(seen[0]?.changes[0]).toMatchObject({
      op: "schema",
      keyColumns: ["id"],
      columns: [{ name: "id", type: "int", native: "bigint" }, {}, {}, {}, {}, {}],
    });
    await seen.at(-1)!.done();
    await source.query(
      "begin; insert into orders (id) values (1), (2); update orders set id = 3 where id = 2; delete from orders where id = 1; commit",
    );
    const changed = (await until(following, has("d"))).at(-1)!;
    expect(changed.isLast).toBe(true);
    expect(changed.isSnapshot).toBe(false);
    expect(rows([changed]).map(({ op, key, before }) => ({ op, key, before }))).toEqual([
      { op: "c", key: { id: 1n }, before: null },
      { op: "c", key: { id: 2n }, before: null },
      { op: "u", key: { id: 3n }, before: { id: 2n } },
      { op: "d", key: { id: 1n }, before: { id: 1n } },
    ]);
    await changed.done();
    await source.query("truncate orders");
    // It is not done, and comes again.
    await until(following, has("t"));
  }
  await source.query("insert into orders (id) values (7)");
  await using again = follow(options);
  const seen = await until(again, has("c"));
  expect(rows(seen).map(({ op, key }) => ({ op, key }))).toEqual([
    { op: "t", key: null },
    { op: "c", key: { id: 7n } },
  ]);
  await seen.at(-1)!.done();
});

test("a large transaction comes in pieces, each with the position behind it", async () => {
  await using source = await freshDatabase();
  await source.query("create table big (id int primary key); create table small (id int primary key)");
  const options: FollowOptions = {
    source: source.url,
    snapshot: "none",
    name: source.name,
    heartbeat: "500ms",
    batch: { rows: 1_000 },
  };
  let from: string | null = null;
  const ids: number[] = [];
  const lasts: boolean[] = [];
  {
    await using following = follow({ ...options, from });
    // An empty transaction: it follows.
    const [first] = await until(following, () => true);
    from = first!.position;
    await first!.done();
    await source.query("begin; insert into big select generate_series(1, 3500); insert into small values (1); commit");
    const part = await until(following, ({ changes, isLast }) => {
      for (const change of changes)
        if (change.op === "c" && change.source.table === "big") ids.push(Number(change.key["id"]));
      if (changes.length > 0) lasts.push(isLast);
      return ids.length > 1_500;
    });
    from = part.at(-1)!.position;
    await part.at(-1)!.done();
  }
  expect(lasts.every((isLast) => !isLast)).toBe(true);
  await using again = follow({ ...options, from });
  const rest = await until(again, ({ changes, isLast }) => {
    for (const change of changes)
      if (change.op === "c" && change.source.table === "big") ids.push(Number(change.key["id"]));
    return isLast && ids.length >= 3_500;
  });
  expect(ids).toEqual(Array.from({ length: 3_500 }, (_, i) => i + 1));
  const versions = new Set(
    rest.flatMap(({ changes }) => changes).flatMap((change) => ("version" in change ? [change.version] : [])),
  );
  expect(versions.size).toBe(1);
});

test("changes of shape are events in their place, and only what has other values is read again", async () => {
  await using source = await freshDatabase();
  await source.query("create table t (id int primary key, a text); insert into t values (1, 'x')");
  await using following = follow({ source: source.url, name: source.name, heartbeat: "300ms" });
  await (await until(following, has("s"))).at(-1)!.done();
  await source.query(
    "begin; insert into t values (2, 'y'); alter table t add column b int; insert into t values (3, 'z', 4); commit",
  );
  const seen = await until(following, (_, all) => rows(all).length === 2);
  const ops = seen
    .flatMap(({ changes }) => changes)
    .map((change) => [change.op, change.op === "schema" ? change.columns.length : change.schema.version]);
  expect(ops).toEqual([
    ["c", 1],
    ["schema", 3],
    ["c", 2],
  ]);
  await seen.at(-1)!.done();
  await source.query("alter table t add column c int not null default 5");
  const read = await until(following, has("s"));
  expect(rows(read).map((change) => ("after" in change ? change.after : null))).toEqual([
    { id: 1, a: "x", b: null, c: 5 },
    { id: 2, a: "y", b: null, c: 5 },
    { id: 3, a: "z", b: 4, c: 5 },
  ]);
});

test("values that the log left out are marked, or the row is read in their place", async () => {
  await using source = await freshDatabase();
  using folder = temporaryFolder();
  const body = "long".repeat(1_000);
  await source.query(`create table t (id int primary key, n int, body text); alter table t alter body set storage external;
    insert into t values (1, 1, repeat('long', 1000))`);
  const options: FollowOptions = {
    source: source.url,
    snapshot: "none",
    name: source.name,
    state: `sqlite:${folder.file("s.db")}`,
  };
  {
    await using following = follow(options);
    const asked = following.next();
    await eventually(async () => (await source.query(SLOT_BEGUN, [source.name])).rowCount === 1);
    await source.query("update t set n = 2");
    const { value } = await asked;
    expect(rows([value!])).toMatchObject([{ op: "u", after: { id: 1, n: 2 }, unchanged: ["body"] }]);
    await value!.done();
  }
  await source.query("update t set n = 3");
  await using completing = follow({ ...options, unchanged: "complete" });
  const seen = await until(completing, has("r"));
  expect(rows(seen)).toMatchObject([{ op: "r", after: { id: 1, n: 3, body }, unchanged: [] }]);
});

test("an abort ends the loop behind the transaction in hand, and leaves nothing in the process", async () => {
  await using source = await freshDatabase();
  await source.query("create table t (id int primary key); insert into t values (1)");
  const listeners = () => process.eventNames().map((name) => [String(name), process.listenerCount(name)]);
  const before = {
    listeners: listeners(),
    title: process.title,
    keys: Object.keys(globalThis),
    umask: process.umask(),
  };
  const stopping = new AbortController();
  let count = 0;
  for await (const transaction of follow({ source: source.url, name: source.name, signal: stopping.signal })) {
    stopping.abort(new Error("for a reason of the program"));
    await transaction.done();
    count++;
  }
  expect(count).toBe(1);
  const after = { listeners: listeners(), title: process.title, keys: Object.keys(globalThis), umask: process.umask() };
  expect(after).toEqual(before);
  const { rows: slots } = await source.query("select active from pg_replication_slots where database = $1", [
    source.name,
  ]);
  expect(slots).toEqual([{ active: false }]);
});

test("done in another order holds back what comes before, and too late is refused", async () => {
  await using source = await freshDatabase();
  using folder = temporaryFolder();
  await source.query("create table t (id int primary key)");
  const options: FollowOptions = {
    source: source.url,
    snapshot: "none",
    name: source.name,
    state: `sqlite:${folder.file("s.db")}`,
  };
  const idsOf = (transaction: Transaction) =>
    rows([transaction]).map((change) => ("key" in change ? change.key?.["id"] : null));
  let late: Transaction;
  {
    await using following = follow(options);
    const asked = following.next();
    await eventually(async () => (await source.query(SLOT_BEGUN, [source.name])).rowCount === 1);
    await source.query("insert into t values (1)");
    const first = (await asked).value!;
    await first.done();
    await source.query("insert into t values (2); insert into t values (3)");
    await source.query("begin; insert into t values (4); commit");
    const second = (await following.next()).value!;
    const third = second.hasNext ? (await following.next()).value! : null;
    if (third !== null) void third.done().catch(() => undefined);
    late = second;
  }
  await expect(late.done()).rejects.toMatchObject({ code: "MR1172" });
  await using again = follow(options);
  expect(idsOf((await again.next()).value!)[0]).toBe(2);
});

test("what can't be right is refused: another log, a position of nobody, a state that is in use, a wrong login", async () => {
  await using source = await freshDatabase();
  await using other = await freshDatabase();
  using folder = temporaryFolder();
  for (const database of [source, other])
    await database.query("create table t (id int primary key); insert into t values (1)");
  const options = { source: source.url, name: source.name };
  const first = follow(options);
  const { value } = await first.next();
  await value!.done();
  const from = value!.position;
  await first.return();
  await expect(follow({ ...options, source: other.url, from }).next()).rejects.toMatchObject({ code: "MR2013" });
  await expect(follow({ ...options, from: "0/1;2.3;x;y" }).next()).rejects.toMatchObject({ code: "MR1171" });
  await expect(follow({ ...options, unchanged: "complete" }).next()).rejects.toMatchObject({ code: "MR1171" });
  const wrong = new URL(source.url);
  wrong.password = "wrong";
  wrong.username = "nobody_there";
  await expect(follow({ ...options, source: wrong.href }).next()).rejects.toMatchObject({ name: "MillraceError" });
  // The slot was dropped: what was committed since is gone.
  await source.query("insert into t values (2)");
  await source.query("select pg_drop_replication_slot($1)", [`millrace_${source.name}`]);
  await expect(follow({ ...options, from }).next()).rejects.toMatchObject({ name: "MillraceError" });
  const state = `sqlite:${folder.file("s.db")}`;
  await using holding = follow({ ...options, state });
  await holding.next();
  await expect(follow({ ...options, state }).next()).rejects.toMatchObject({ code: "MR1213" });
});

/** An idle program that has its table, and what its log tells. */
async function idle(source: { readonly url: string; readonly name: string; query(sql: string): Promise<unknown> }) {
  const folder = temporaryFolder();
  const path = folder.file("follow.db");
  await source.query("create table orders (id bigint primary key); insert into orders values (1)");
  const stop = new AbortController();
  const { promise: waits, resolve } = Promise.withResolvers<void>();
  const log = ({ message }: LogEntry): void => {
    if (message.includes("what has to be stored waits")) resolve();
  };
  const options = { source: source.url, tables: ["public.orders"], state: `sqlite:${path}`, name: source.name };
  const following = follow({ ...options, signal: stop.signal, log });
  await (await until(following, has("s"))).at(-1)!.done();
  return { following, options, path, stop, waits, [Symbol.dispose]: () => folder[Symbol.dispose]() };
}

test("a stop ends the loop without an error while the state does not answer", async () => {
  await using source = await freshDatabase();
  using program = await idle(source);
  const next = program.following.next();
  using other = new DatabaseSync(program.path);
  other.exec("BEGIN IMMEDIATE");
  await program.waits;
  program.stop.abort();
  expect(await next).toEqual({ done: true, value: undefined });
});

test("a state that is removed is put back, and the loop goes on with it", async () => {
  await using source = await freshDatabase();
  using program = await idle(source);
  rmSync(program.path);
  await source.query("insert into orders values (2)");
  await (await until(program.following, has("c"))).at(-1)!.done();
  expect(existsSync(program.path)).toBe(true);
  await program.following.return();
  await using again = follow(program.options);
  await source.query("insert into orders values (3)");
  expect(rows(await until(again, has("c"))).map(({ op, key }) => ({ op, key }))).toEqual([
    { op: "c", key: { id: 3n } },
  ]);
});

test("who leaves in the middle of a batch leaves at once, and nothing is called a failure", async () => {
  await using source = await freshDatabase();
  using folder = temporaryFolder();
  await source.query("create table orders (id bigint primary key); insert into orders values (1)");
  const said: LogEntry[] = [];
  const state = `sqlite:${folder.file("follow.db")}`;
  const options = {
    source: source.url,
    tables: ["public.orders"],
    state,
    name: source.name,
    log: (one: LogEntry) => said.push(one),
  };
  for await (const transaction of follow(options)) {
    await transaction.done();
    if (has("r")(transaction)) for (let id = 2; id < 100; id++) await source.query(`insert into orders values (${id})`);
    if (!transaction.isSnapshot && transaction.hasNext) break;
  }
  expect(said.filter(({ level }) => level === "warn" || level === "error")).toEqual([]);
});
