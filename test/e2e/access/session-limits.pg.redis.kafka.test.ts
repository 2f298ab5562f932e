/**
 * Servers that close connections nobody has used for a while: that is no error, and the next rows arrive.
 * @module-tag heavy
 */
import { Redis } from "ioredis";
import { expect, test } from "vitest";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { type TcpProxy, tcpProxy } from "../../support/network/proxy.ts";
import { ownKafka, ownRedis } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

const PREPARE = "create table item (id int primary key, n int); insert into item values (1, 0)";
/** Nothing uses the sinks' connections meanwhile. */
const HEARTBEAT = "10m";

/** Three times: the server closes what was idle, and then a row comes. `arrived`: the sink has this value. */
async function outlastsIdleness(pipeline: RunningPipeline, proxy: TcpProxy, arrived: (n: number) => Promise<void>) {
  await eventually(() => arrived(0));
  for (let n = 1; n <= 3; n++) {
    await eventually(() => expect(proxy.counters.open).toBe(0));
    await pipeline.run(`update item set n = ${n}`);
    await eventually(() => arrived(n));
  }
  expect(pipeline.daemon.said).not.toMatch(/"level":"(?:error|fatal)"/);
}

test("a Redis with a `timeout`", async () => {
  await using server = await ownRedis({ settings: { timeout: "1" } });
  await using proxy = await tcpProxy(server.url);
  await using pipeline = await RunningPipeline.start(PREPARE, {
    kinds: [],
    configure: ({ source, ...config }) => ({
      ...config,
      source: { ...source, heartbeat: HEARTBEAT },
      sinks: { cache: { kind: "redis", url: proxy.url(server.url) } },
    }),
  });
  await outlastsIdleness(pipeline, proxy, async (n) => {
    const redis = new Redis(server.url);
    try {
      expect(await redis.hget("public:item:1", "n")).toBe(String(n));
    } finally {
      redis.disconnect();
    }
  });
});

test("a Kafka with `connections.max.idle.ms`", async () => {
  // The broker's own address leads through it, too.
  await using proxy = await tcpProxy({ host: "127.0.0.1", port: 1 });
  await using broker = await ownKafka({
    settings: () => ({
      "advertised.listeners": `PLAINTEXT://${proxy.host}:${proxy.port}`,
      "connections.max.idle.ms": "2000",
    }),
  });
  proxy.redirect({ host: broker.host, port: broker.port });
  await using pipeline = await RunningPipeline.start(PREPARE, {
    kinds: ["kafka"],
    broker: `${proxy.host}:${proxy.port}`,
    configure: ({ source, ...config }) => ({ ...config, source: { ...source, heartbeat: HEARTBEAT } }),
  });
  const { topics } = pipeline.sinks;
  await outlastsIdleness(pipeline, proxy, async (n) => {
    const records = await topics!.read(`${topics!.prefix}${pipeline.source.name}.public.item`);
    expect(JSON.parse(records.at(-1)?.value ?? "{}")).toMatchObject({ after: { n } });
  });
});
