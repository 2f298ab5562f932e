import { Cluster } from "ioredis";
import { afterAll, beforeAll } from "vitest";
import { definition, factory } from "../../connectors/redis/config.ts";
import { quietLog } from "../support/run/quiet-log.ts";
import { type RedisCluster, ownRedisCluster } from "../support/caches/redis-cluster.ts";
import { fieldLanding, freshClusterPrefix, readHashRows } from "../support/caches/redis-rows.ts";
import { sinkConformance } from "./sink.ts";

let cluster: RedisCluster;
let client: Cluster;

beforeAll(async () => {
  cluster = await ownRedisCluster();
  client = new Cluster([cluster.url]);
});

afterAll(async () => {
  client.disconnect();
  await cluster[Symbol.asyncDispose]();
});

sinkConformance({
  name: "redis cluster",
  async target() {
    const keys = freshClusterPrefix(client);
    const options = definition.parse({ url: cluster.url, prefix: keys.prefix, cluster: true });
    return {
      makeSink: () => factory.create({ name: "cache", daemon: "shop", folder: "/", options }, quietLog),
      readRows: (table) => readHashRows(client, client.nodes("master"), keys.prefix, table),
      wipe: () => keys.wipe(),
      [Symbol.asyncDispose]: () => keys.wipe(),
    };
  },
  landed: fieldLanding,
  transactional: false,
});
