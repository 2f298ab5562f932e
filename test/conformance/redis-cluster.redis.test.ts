import { Cluster, type Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { definition, factory } from "../../connectors/redis/config.ts";
import { Connection } from "../../connectors/redis/connection.ts";
import { quietLog } from "../support/run/quiet-log.ts";
import { ownRedisCluster, type RedisCluster } from "../support/caches/redis-cluster.ts";
import { fieldLanding, freshClusterPrefix, keysUnder, readHashRows } from "../support/caches/redis-rows.ts";
import type { Sink } from "../../src/core/contracts/sink.ts";
import { findMillraceError } from "../../src/core/errors.ts";
import { NO_TLS_KEYS } from "../../src/tls/options.ts";
import { sinkConformance } from "./sink.ts";
import { users } from "./sink-rows.ts";
import { checkpointAt, failure, put, Reports, rowsBatch, timeout } from "./stage.ts";

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
      makeSink: (_, daemon = "shop") => factory.create({ name: "cache", daemon, folder: "/", options }, quietLog),
      check: async (tables, daemon, signal) =>
        await factory.check({ name: "cache", daemon, folder: "/", options }, signal, tables),
      readRows: (table) => readHashRows(client, client.nodes("master"), keys.prefix, table),
      wipe: () => keys.wipe(),
      hold: (work) => cluster.hold(HELD_FROM[work]),
      [Symbol.asyncDispose]: () => keys.wipe(),
    };
  },
  landed: fieldLanding,
  transactional: false,
  isHeld: true,
  // The same code as on one server, which `redis.redis.test.ts` has: here it is which node a call goes to.
  heavy: ["values", "names", "tables", "tenants", "shapes", "unchanged cells", "compacted changes"],
});

test("settings of the nodes are told where all have the same: no error says which node it is of", async () => {
  const told = async () => {
    const settings = { url: cluster.url, cluster: true, tls: NO_TLS_KEYS };
    await using connection = await Connection.open(settings, timeout());
    const { argumentBytesMax, clientLimits, clientsMax, saveFolder } = connection;
    return { argumentBytesMax, clientLimits, clientsMax, saveFolder };
  };
  await client.ping();
  const nodes = client.nodes("master");
  expect(nodes).toHaveLength(3);
  const set = async (node: Redis, ...to: readonly string[]): Promise<void> =>
    void (await node.config("SET", "maxclients", to[0]!, "maxmemory-clients", to[1]!, "proto-max-bulk-len", to[2]!));
  for (const node of nodes) {
    await set(node, "500", "64mb", "1mb");
    expect(await told()).toEqual({ argumentBytesMax: 2 ** 20, clientLimits: [], clientsMax: null, saveFolder: null });
    await set(node, "10000", "0", "512mb");
  }
  for (const node of nodes) await set(node, "500", "64mb", "512mb");
  expect(await told()).toMatchObject({
    clientLimits: [{ name: "maxmemory-clients", value: String(64 * 2 ** 20), usual: "0" }],
    clientsMax: "500",
  });
  for (const node of nodes) await set(node, "10000", "0", "512mb");
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

test("a sink that does not know that its server is a node of a cluster is told which option says so", async () => {
  const told = [];
  for (const url of cluster.urls) {
    const options = definition.parse({ url, prefix: "unaware:" });
    const sink = await factory.create({ name: "cache", daemon: "shop", folder: "/", options }, quietLog);
    const { message = "", hint } = (await sink.open(1, timeout()).then(() => null, findMillraceError)) ?? {};
    if (message.includes("another node of the Redis cluster")) told.push(hint);
    await sink.close();
  }
  // The checkpoint's key lies on the third one.
  expect(told).toEqual(Array.from({ length: 2 }, () => expect.stringContaining("`cluster: true`")));
  await client.del("unaware:_millrace:shop.cache");
});
