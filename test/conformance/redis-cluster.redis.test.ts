import { Cluster, Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { definition, factory } from "../../connectors/redis/config.ts";
import { quietLog } from "../support/run/quiet-log.ts";
import { fieldLanding, freshClusterPrefix, keysUnder, readHashRows } from "../support/caches/redis-rows.ts";
import type { Sink } from "../../src/core/contracts/sink.ts";
import { sinkConformance } from "./sink.ts";
import { users } from "./sink-rows.ts";
import { checkpointAt, failure, put, Reports, rowsBatch, timeout } from "./stage.ts";
import { freePort } from "../../scripts/services/processes/port.ts";
import { type HeldBytes, type TcpProxy, tcpProxy } from "../support/network/proxy.ts";
import { ownRedis } from "../support/run/services.ts";
import { eventually } from "../support/run/waiting.ts";

const SLOT_COUNT = 16_384;
const NODE_COUNT = 3;

interface RedisCluster extends AsyncDisposable {
  /** Of its first node. */
  readonly url: string;
  readonly urls: readonly string[];
  /** Where the nodes are that clients know by their proxies. */
  readonly direct: Readonly<Record<string, { host: string; port: number }>>;
  hold(from?: string): HeldBytes;
}

/** Three Redis nodes of a test's own, joined to a cluster, and a proxy before each to which the cluster sends clients. */
async function ownRedisCluster(): Promise<RedisCluster> {
  await using stack = new AsyncDisposableStack();
  const nodes = [];
  const proxies: TcpProxy[] = [];
  const direct: Record<string, { host: string; port: number }> = {};
  for (let n = 0; n < NODE_COUNT; n++) {
    const busPort = await freePort();
    const settings = { "cluster-enabled": "yes", "cluster-port": String(busPort), "cluster-node-timeout": "5000" };
    const service = stack.use(await ownRedis({ settings }));
    const client = stack.adopt(new Redis(service.url), (redis) => redis.disconnect());
    const proxy = stack.use(await tcpProxy(service.url));
    await client.config("SET", "cluster-announce-port", String(proxy.port));
    proxies.push(proxy);
    const { hostname, port } = new URL(service.url);
    direct[`${proxy.host}:${proxy.port}`] = { host: hostname, port: Number(port) };
    nodes.push({ service, client, busPort });
  }
  for (const [n, { client }] of nodes.entries()) {
    const from = Math.floor((n * SLOT_COUNT) / NODE_COUNT);
    const to = Math.floor(((n + 1) * SLOT_COUNT) / NODE_COUNT) - 1;
    await client.call("CLUSTER", "ADDSLOTSRANGE", from, to);
    const { hostname, port } = new URL(nodes[0]!.service.url);
    if (n > 0) await client.call("CLUSTER", "MEET", hostname, port, nodes[0]!.busPort);
  }
  for (const { client } of nodes) {
    await eventually(async () => {
      const info = String(await client.call("CLUSTER", "INFO"));
      return /cluster_state:ok/.test(info) && /cluster_known_nodes:3/.test(info);
    });
  }
  const urls = nodes.map((node) => node.service.url);
  const owned = stack.move();
  const hold = (from?: string): HeldBytes => {
    const held = proxies.map((proxy) => proxy.hold(from));
    return {
      reached: Promise.race(held.map(({ reached }) => reached)),
      release: async () => void (await Promise.all(held.map(async (each) => await each.release()))),
    };
  };
  return { url: urls[0]!, urls, direct, hold, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** The first call that changes something; what is asked before passes. */
const HELD_FROM = { write: "EVALSHA", expel: "'DEL', KEYS[i]", forget: "return redis.call('DEL', KEYS[1])" } as const;

let cluster: RedisCluster;
let client: Cluster;

beforeAll(async () => {
  cluster = await ownRedisCluster();
  client = new Cluster([cluster.url], { natMap: cluster.direct });
});

afterAll(async () => {
  client.disconnect();
  await cluster[Symbol.asyncDispose]();
});

sinkConformance({
  name: "redis cluster",
  keepsAnyBytes: true,
  async target() {
    const keys = freshClusterPrefix(client);
    const options = definition.parse({ url: cluster.url, prefix: keys.prefix, cluster: true });
    return {
      makeSink: () => factory.create({ name: "cache", daemon: "shop", folder: "/", options }, quietLog),
      readRows: (table) => readHashRows(client, client.nodes("master"), keys.prefix, table),
      wipe: () => keys.wipe(),
      hold: (work) => cluster.hold(HELD_FROM[work]),
      [Symbol.asyncDispose]: () => keys.wipe(),
    };
  },
  landed: fieldLanding,
  transactional: false,
  isHeld: true,
});

describe("the fences of a cluster's slots", () => {
  const TEN = Array.from({ length: 10 }, (_, i) => put([`${i}`, "a", null]));

  function sinkAt(prefix: string): Promise<Sink> {
    const options = definition.parse({ url: cluster.url, prefix, cluster: true });
    return factory.create({ name: "cache", daemon: "shop", folder: "/", options }, quietLog);
  }

  async function opened(prefix: string, lease: number): Promise<Sink & AsyncDisposable> {
    const sink = await sinkAt(prefix);
    await sink.open(lease, timeout());
    await sink.prepare([users], timeout());
    return Object.assign(sink, { [Symbol.asyncDispose]: () => sink.close() });
  }

  async function fences(prefix: string): Promise<string[]> {
    const pages = await Promise.all(client.nodes("master").map((node) => keysUnder(node, `${prefix}_millrace::f:`)));
    return pages.flat();
  }

  test("there is one for each slot with rows, whatever took it away, until the sink's metadata goes", async () => {
    const keys = freshClusterPrefix(client);
    await using _ = { [Symbol.asyncDispose]: () => keys.wipe() };
    await using sink = await opened(keys.prefix, 1);
    await sink.apply(rowsBatch(10n, [users, TEN]), new Reports(), timeout());
    const made = await fences(keys.prefix);
    expect(made).toHaveLength(TEN.length);
    await client.del(made[0]!);
    await client.multi().del(made[1]!).set(made[1]!, "not ours").exec();
    await client.hset(made[2]!, "claim", "900.of-another-time");
    await sink.apply(rowsBatch(20n, [users, TEN]), new Reports(), timeout()).catch(() => {});
    await sink.apply(rowsBatch(20n, [users, TEN]), new Reports(), timeout());
    expect((await fences(keys.prefix)).toSorted()).toEqual(made.toSorted());
    await sink.forget(timeout());
    expect(await fences(keys.prefix)).toEqual([]);
  });

  test("a late call finds them also if the progress key was lost, and if all keys are in one slot", async () => {
    for (const tag of ["", "{shop}:"]) {
      const { prefix: start } = freshClusterPrefix(client);
      const prefix = `${start}${tag}`;
      await using sink = await opened(prefix, 1);
      await sink.apply(rowsBatch(10n, [users, TEN]), new Reports(), timeout());
      const held = cluster.hold(HELD_FROM.write);
      const stop = new AbortController();
      const lost = failure(sink.apply(rowsBatch(20n, [users, TEN]), new Reports(), stop.signal));
      await held.reached;
      stop.abort();
      await lost;
      await client.del(`${prefix}_millrace:shop.cache`);
      await using next = await opened(prefix, 1);
      await next.apply(
        { kind: "truncate", table: users, version: 1n << 60n, checkpoint: checkpointAt(31n) },
        new Reports(),
        timeout(),
      );
      await held.release();
      expect(await readHashRows(client, client.nodes("master"), prefix, users)).toEqual([]);
      await next.forget(timeout());
    }
  });
});
