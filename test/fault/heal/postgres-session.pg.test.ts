/**
 * The stream under pressure and when the connection breaks. On a server of its own: one of its processes that can't send
 * keeps whoever drops a database, or makes a slot, waiting as long, in all databases.
 */
import { firstVersion } from "../../support/model/blocks.ts";
import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { RunningPostgres } from "../../../scripts/services/servers/postgres/postgres.ts";
import { createLog, Follower, never, openSource, registry } from "../../support/postgres/postgres-source.ts";
import { tcpProxy } from "../../support/network/proxy.ts";
import { freshDatabase, ownPostgres } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

const MB = 1024 * 1024;
/** The stream's largest single read, and connections that were made through the proxy before it. */
const READ_BYTES_MAX = MB;

let server: RunningPostgres;
beforeAll(async () => void (server = await ownPostgres()));
afterAll(() => server[Symbol.asyncDispose]());

test.runIf(process.platform === "linux")(
  "while blocks are held the socket is left alone, and everything comes when they are let go",
  async () => {
    await using database = await freshDatabase(server);
    await database.query("create table t (id int primary key, a text); alter table t alter a set storage external");
    await using proxy = await tcpProxy(database.url);
    await using source = await openSource(database, { url: proxy.url(database.url) });
    const log = await createLog(source);
    const stream = await source.log.stream(
      log.position,
      { temporary: false, resolve: registry(), byteCountMax: 16 * MB },
      never,
    );
    await using follower = new Follower(stream);
    for (let i = 0; i < 8; i++) {
      await database.query(`insert into t select ${i * 100} + g, repeat('x', 100000) from generate_series(1, 100) g`);
    }
    // 80 MB are on their way; nobody reads.
    let before = -1;
    await eventually(
      async () => {
        const now = proxy.counters.bytesToClient;
        const still = now > 0 && now === before;
        before = now;
        return still;
      },
      { everyMs: 500 },
    );
    // How much waits in the kernel is the kernel's affair (tcp_rmem allows tens of MB): what counts is what we took.
    const taken = proxy.counters.bytesToClient - (await queuedInKernel(proxy.port));
    expect(taken).toBeGreaterThan(8 * MB);
    expect(taken).toBeLessThanOrEqual(16 * MB + READ_BYTES_MAX);
    await follower.catchUp(source);
    expect(follower.rows).toHaveLength(800);
  },
);

test("a row of 50 MB comes whole, among small ones", async () => {
  await using database = await freshDatabase(server);
  await database.query("create table t (id int primary key, a text); alter table t alter a set storage external");
  await using source = await openSource(database);
  const log = await createLog(source);
  await using follower = await Follower.from(source, log.position);
  await database.query(`begin; insert into t values (1, 'small'); insert into t values (2, repeat('y', ${50 * MB}));
    insert into t values (3, 'small'); commit`);
  await follower.catchUp(source);
  expect(follower.rows.map((row) => String(row.after?.["a"]).length)).toEqual([5, 50 * MB, 5]);
  expect(follower.rows.map((row) => row.position.index)).toEqual([0, 1, 2]);
});

test("a walsender that is terminated is a passing fault, and the stream goes on where it was", async () => {
  await using database = await freshDatabase(server);
  await database.query("create table t (id int primary key)");
  await using source = await openSource(database);
  const log = await createLog(source);
  {
    await using follower = await Follower.from(source, log.position);
    await database.query("insert into t values (1)");
    await follower.catchUp(source);
    await database.query("select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = $1", [
      `millrace_${database.name}`,
    ]);
    await expect(readOn(follower)).rejects.toMatchObject({ kind: "retryable", code: "MR2006" });
  }
  await database.query("insert into t values (2)");
  await using again = await Follower.from(source, log.position);
  await again.catchUp(source);
  expect(again.rows.map((row) => row.after?.["id"])).toEqual(["1", "2"]);
});

test.each(["cut", "half-closed"] as const)("a connection that is %s is a passing fault", async (how) => {
  await using database = await freshDatabase(server);
  await database.query("create table t (id int primary key)");
  await using proxy = await tcpProxy(database.url);
  await using source = await openSource(database, { url: proxy.url(database.url) });
  const log = await createLog(source);
  await using follower = await Follower.from(source, log.position);
  await follower.catchUp(source);
  if (how === "cut") proxy.cut();
  else proxy.halfClose("client");
  await expect(readOn(follower)).rejects.toMatchObject({ kind: "retryable" });
});

test.concurrent(
  "a server that goes silent is noticed, and a pause of 25 seconds is none",
  { tags: "heavy" },
  async () => {
    await using database = await freshDatabase(server);
    await database.query("create table t (id int primary key)");
    await using proxy = await tcpProxy(database.url);
    await using source = await openSource(database, { url: proxy.url(database.url) });
    const log = await createLog(source);
    await using follower = await Follower.from(source, log.position);
    await follower.catchUp(source);
    const startedMs = performance.now();
    proxy.stall("toClient");
    await expect(readOn(follower, 55_000)).rejects.toMatchObject({
      kind: "retryable",
      code: "MR2022",
      message: expect.stringContaining(`${proxy.host}:${proxy.port}`),
      hint: expect.stringContaining("look whether the server there runs"),
    });
    expect(performance.now() - startedMs).toBeGreaterThan(25_000);
  },
);

test.concurrent("a copy whose connection falls silent ends by itself", { tags: "long" }, async () => {
  await using database = await freshDatabase(server);
  await database.query(
    "create table t (id int primary key, a text); insert into t select g, repeat('x', 1000) from generate_series(1, 20000) g",
  );
  await using proxy = await tcpProxy(database.url);
  await using source = await openSource(database, { url: proxy.url(database.url) });
  const log = await createLog(source, true);
  const reading = (async () => {
    for await (const block of log.copy!.read(firstVersion(log.copy!.tables[0]!), never)) {
      proxy.stall("toClient");
      block.release();
    }
  })();
  await expect(reading).rejects.toMatchObject({ code: "MR2022", kind: "retryable" });
  await proxy.resume();
  await log.copy!.close();
});

test("waiting for changes ends with its signal, and the stream is usable afterwards", async () => {
  await using database = await freshDatabase(server);
  await database.query("create table t (id int primary key)");
  await using source = await openSource(database);
  const log = await createLog(source);
  await using follower = await Follower.from(source, log.position);
  await follower.readTo(await source.log.tip(never));
  await expect(readOn(follower, 200)).rejects.toMatchObject({ kind: "aborted" });
  await database.query("insert into t values (1)");
  expect(await follower.catchUp(source)).toHaveLength(1);
});

async function readOn(follower: Follower, withinMs = 20_000): Promise<void> {
  const signal = AbortSignal.timeout(withinMs);
  for (;;) await follower.readOne(signal);
}

/** Bytes of connections to or from `port` that were sent and not read yet: /proc/net/tcp's queues. */
async function queuedInKernel(port: number): Promise<number> {
  const suffix = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  const sockets = (await readFile("/proc/net/tcp", "utf8")).split("\n").slice(1);
  let sum = 0;
  for (const fields of sockets.map((line) => line.trim().split(/\s+/))) {
    const [, local = "", remote = "", state = "", queues = ""] = fields;
    if (state !== "01" || !(local.endsWith(suffix) || remote.endsWith(suffix))) continue;
    for (const queue of queues.split(":")) sum += Number.parseInt(queue, 16);
  }
  return sum;
}
