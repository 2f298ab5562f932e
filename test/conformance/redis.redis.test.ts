import { Redis } from "ioredis";
import { definition, factory } from "../../connectors/redis/config.ts";
import { tcpProxy } from "../support/network/proxy.ts";
import { quietLog } from "../support/run/quiet-log.ts";
import { documentLanding, fieldLanding, readHashRows, readJsonRows } from "../support/caches/redis-rows.ts";
import { caches, freshKeyPrefix } from "../support/run/services.ts";
import { type SinkTarget, sinkConformance } from "./sink.ts";

/** The first call that changes something; what is asked before passes. */
const HELD_FROM = { write: "EVALSHA", expel: "'DEL', KEYS[i]", forget: "return redis.call('DEL', KEYS[1])" } as const;

type Format = "hash" | "json";

for (const format of ["hash", "json"] as const) {
  sinkConformance({
    name: `redis, ${format}`,
    target: () => redisTarget(format),
    landed: format === "hash" ? fieldLanding : documentLanding,
    transactional: false,
    keepsAnyBytes: format === "hash",
    isHeld: format === "hash",
  });
}

async function redisTarget(format: Format): Promise<SinkTarget> {
  const [server] = caches();
  const url = server!.url();
  const keys = freshKeyPrefix(url);
  const { prefix } = keys;
  const client = new Redis(url);
  const proxy = await tcpProxy(url);
  const options = definition.parse({ url: proxy.url(url), prefix, format });
  return {
    makeSink: (_, daemon = "shop") => factory.create({ name: "cache", daemon, folder: "/", options }, quietLog),
    check: async (tables, daemon, signal) =>
      await factory.check({ name: "cache", daemon, folder: "/", options }, signal, tables),
    readRows: (table) =>
      format === "hash" ? readHashRows(client, [client], prefix, table) : readJsonRows(client, prefix, table),
    readKeys: async () => (await client.keys("*777777*")).join(),
    wipe: async () => keys[Symbol.asyncDispose](),
    cut: async () => proxy.cut(),
    hold: (work) => proxy.hold(HELD_FROM[work]),
    async [Symbol.asyncDispose]() {
      client.disconnect();
      await proxy[Symbol.asyncDispose]();
      await keys[Symbol.asyncDispose]();
    },
  };
}
