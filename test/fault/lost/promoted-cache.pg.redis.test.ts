/**
 * A replica of the cache that lacks the last steps is promoted: the sink notices, and goes on from what the replica has.
 * @module-tag heavy
 */
import { Redis } from "ioredis";
import { expect, test } from "vitest";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { type TcpProxy, tcpProxy } from "../../support/network/proxy.ts";
import { ownRedis } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

const ROWS = 50;
const PREPARE = `create table item (id int primary key, body text, n int);
  alter table item alter column body set storage external;
  insert into item select g, repeat('x', 5000), 0 from generate_series(1, ${ROWS}) g`;

/** A primary and its replica; what is primary has one address. */
class Pair implements AsyncDisposable {
  readonly #stack: AsyncDisposableStack;
  readonly address: TcpProxy;
  /** The replica's way to its primary. */
  readonly copying: TcpProxy;
  readonly #servers: readonly Redis[];
  readonly #urls: readonly string[];
  #primary = 0;

  private constructor(stack: AsyncDisposableStack, address: TcpProxy, copying: TcpProxy, urls: readonly string[]) {
    this.#stack = stack;
    this.address = address;
    this.copying = copying;
    this.#urls = urls;
    this.#servers = urls.map((url) => stack.adopt(new Redis(url), (client) => client.disconnect()));
  }

  static async start(): Promise<Pair> {
    const stack = new AsyncDisposableStack();
    const settings = { "repl-diskless-sync-delay": "0" };
    const first = stack.use(await ownRedis({ settings }));
    const second = stack.use(await ownRedis({ settings }));
    const address = stack.use(await tcpProxy(first.url));
    const copying = stack.use(await tcpProxy(first.url));
    const pair = new Pair(stack, address, copying, [first.url, second.url]);
    await pair.follow();
    return pair;
  }

  get url(): string {
    return this.address.url(this.#urls[0]!);
  }

  get primary(): Redis {
    return this.#servers[this.#primary]!;
  }

  get replica(): Redis {
    return this.#servers[1 - this.#primary]!;
  }

  /** The server that does not serve becomes a replica of the one that does. */
  async follow(): Promise<void> {
    this.copying.redirect(this.#urls[this.#primary]!);
    await this.replica.replicaof(this.copying.host, this.copying.port);
    await eventually(async () => expect(await this.replica.info("replication")).toContain("master_link_status:up"));
  }

  /** The replica takes the address over, as it is. */
  async promote(): Promise<void> {
    await this.replica.replicaof("NO", "ONE");
    this.#primary = 1 - this.#primary;
    this.address.redirect(this.#urls[this.#primary]!);
    this.address.cut();
    this.copying.cut();
    await this.copying.resume();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack[Symbol.asyncDispose]();
  }
}

async function running(pair: Pair, heartbeat: string): Promise<RunningPipeline> {
  return await RunningPipeline.start(PREPARE, {
    kinds: [],
    configure: (config) => ({
      ...config,
      source: { ...config.source, heartbeat },
      sinks: { cache: { kind: "redis", url: pair.url } },
    }),
  });
}

async function expectEqual(pipeline: RunningPipeline, pair: Pair): Promise<void> {
  await pipeline.settled();
  const { rows } = await pipeline.source.query<{ id: number; n: number; bytes: number }>(
    "select id, n, length(body) as bytes from item order by id",
  );
  const held = await Promise.all(
    rows.map(async ({ id }) => {
      const [n, body] = await pair.primary.hmget(`public:item:${id}`, "n", "body");
      return { id, n: Number(n), bytes: body?.length ?? 0 };
    }),
  );
  expect(held).toEqual(rows);
  const keys = await pair.primary.keys("public:item:*");
  expect(keys).toHaveLength(rows.length);
  const compared = await pipeline.installation.command("reconcile");
  expect(compared).toMatchObject({ exitCode: 0 });
}

const positionIn = async (server: Redis, pipeline: RunningPipeline): Promise<string | null> =>
  await server.hget(`_millrace:${pipeline.source.name}.cache`, "position");

test("steps that have moved the position", async () => {
  await using pair = await Pair.start();
  await using pipeline = await running(pair, "500ms");
  await pipeline.settled();
  for (const down of [false, true]) {
    await pipeline.run("update item set n = n + 1 where id % 3 = 0");
    await pipeline.settled();
    pair.copying.stall();
    await pipeline.run("update item set n = n + 1 where id % 2 = 0; delete from item where id % 10 = 1");
    await pipeline.settled();
    if (down) await pipeline.kill();
    await pair.promote();
    if (down) await pipeline.start();
    // A heartbeat shows it. Until then the sink has, as far as anybody knows, what it was given.
    else await eventually(async () => expect(pipeline.daemon.said).toMatch(/MR1308/));
    await expectEqual(pipeline, pair);
    await pipeline.run(`insert into item select g, repeat('y', 5000), 1 from generate_series(100, 110) g
      on conflict (id) do update set n = item.n + 1`);
    await expectEqual(pipeline, pair);
    await pair.follow();
  }
});

test("a removal at a position that the replica has", async () => {
  await using pair = await Pair.start();
  await using pipeline = await running(pair, "10m");
  await pipeline.settled();
  // Of a key that the source lacks: what ends a read of the table removes it.
  await pair.primary.hset("public:item:999", { _millrace_version: "1", id: "999" });
  await eventually(async () => expect(await pair.replica.exists("public:item:999")).toBe(1));
  const before = await positionIn(pair.replica, pipeline);
  pair.address.delay(300);
  await pipeline.readAgain("public.item");
  await eventually(async () => expect(await positionIn(pair.replica, pipeline)).not.toBe(before), { everyMs: 5 });
  pair.copying.stall();
  await eventually(async () => {
    const reads = await pipeline.installation.ask<readonly { readonly state: string }[]>("GET", "/api/v1/snapshots");
    expect(reads!.map(({ state }) => state)).toEqual(reads!.map(() => "done"));
  });
  expect(await pair.primary.exists("public:item:999")).toBe(0);
  expect(await pair.replica.exists("public:item:999")).toBe(1);
  expect(await positionIn(pair.replica, pipeline)).toBe(await positionIn(pair.primary, pipeline));
  await pair.promote();
  await pair.address.resume();
  await pipeline.run("update item set n = 6 where id = 8");
  await expectEqual(pipeline, pair);
});
