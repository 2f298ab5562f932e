/**
 * What a daemon sent to a target arrives late: the daemon was killed, or lost the connection, and has written since.
 * @module-tag long
 */
import { Client } from "pg";
import { expect, test } from "vitest";
import { duckdbExtensions } from "../../../scripts/services/packages/duckdb-extensions.ts";
import { ownRedisCluster } from "../../support/caches/redis-cluster.ts";
import { driftOf, reconcile } from "../../support/daemon/reconciled.ts";
import { type PipelineConfig, RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import type { SinkKind } from "../../support/daemon/sink-set.ts";
import { FORGETFUL } from "../../support/faults/forgetful-cluster.ts";
import { type TcpProxy, tcpProxy } from "../../support/network/proxy.ts";
import { lacksPgBouncer, startPgBouncer } from "../../support/postgres/pgbouncer.ts";
import { Random, testSeed } from "../../support/run/random.ts";
import { patient } from "../../support/run/waiting.ts";
import { freshBucket, freshDatabase, ownKafka, searchEngines } from "../../support/run/services.ts";

interface Scene extends AsyncDisposable {
  readonly kinds: readonly SinkKind[];
  readonly proxies: readonly TcpProxy[];
  readonly configure: (config: PipelineConfig) => PipelineConfig;
  readonly broker?: string;
}

const seed = testSeed();
const ROUNDS = 8;
const STEPS_MAX = 100;
const WAIT_MS = 8_000;

/** Sinks on one server, which the daemon reaches through a proxy; what compares them does not. */
async function through(...kinds: readonly SinkKind[]): Promise<Scene> {
  const proxy = await tcpProxy({ host: "127.0.0.1", port: 1 });
  return {
    kinds,
    proxies: [proxy],
    configure: (config) => {
      const text = JSON.stringify(config.sinks);
      const server = /"(?:url|endpoint)":"\w+:\/\/(?:[^"@/]*@)?([^"/]+)/.exec(text)![1]!;
      proxy.redirect(`http://${server}`);
      const sinks: PipelineConfig["sinks"] = JSON.parse(text.replaceAll(server, `${proxy.host}:${proxy.port}`));
      return { ...config, sinks };
    },
    [Symbol.asyncDispose]: () => proxy[Symbol.asyncDispose](),
  };
}

const SCENES: Record<string, () => Promise<Scene>> = {
  postgres: () => through("postgres", "postgres-soft"),
  "postgres-history": () => through("postgres", "postgres-history"),
  redis: () => through("redis"),
  elasticsearch: () => through("elasticsearch"),
  clickhouse: () => through("clickhouse", "clickhouse-soft"),
  "clickhouse-history": () => through("clickhouse-history"),
  "files-s3": () => through("files-s3"),
  "ducklake-s3": () => through("ducklake-s3"),
  "ducklake-postgres-s3": async () => {
    const stack = new AsyncDisposableStack();
    const bucket = stack.use(await freshBucket());
    const database = stack.use(await freshDatabase());
    const catalog = stack.use(await tcpProxy(database.url));
    const data = stack.use(await tcpProxy(bucket.options.endpoint));
    const s3 = { ...bucket.options, endpoint: data.url(bucket.options.endpoint) };
    const maintenance = { every: "10s", keepSnapshots: "20s" };
    const extensions = await duckdbExtensions();
    const lake = { kind: "ducklake", catalog: catalog.url(database.url), data: `s3://${bucket.bucket}/lake`, s3 };
    return {
      kinds: [],
      proxies: [catalog, data],
      configure: (config) => ({ ...config, sinks: { lake: { ...lake, maintenance, extensions } } }),
      [Symbol.asyncDispose]: () => stack.disposeAsync(),
    };
  },
  "redis-cluster": async () => {
    const cluster = await ownRedisCluster();
    return {
      kinds: [],
      proxies: cluster.proxies,
      configure: (config) => ({
        ...config,
        sinks: { cache: { kind: "redis", url: cluster.url, prefix: `late${Date.now()}:`, cluster: true } },
      }),
      [Symbol.asyncDispose]: () => cluster[Symbol.asyncDispose](),
    };
  },
  kafka: async () => {
    const stack = new AsyncDisposableStack();
    const proxy = stack.use(await tcpProxy({ host: "127.0.0.1", port: 1 }));
    const listed = { "advertised.listeners": `PLAINTEXT://127.0.0.1:${proxy.port}` };
    const broker = stack.use(await ownKafka({ settings: () => ({ ...FORGETFUL, ...listed }) }));
    proxy.redirect({ host: "127.0.0.1", port: broker.port });
    return {
      kinds: ["kafka"],
      proxies: [proxy],
      broker: `127.0.0.1:${proxy.port}`,
      configure: (config) => config,
      [Symbol.asyncDispose]: () => stack.disposeAsync(),
    };
  },
  ...Object.fromEntries(
    (["before", "behind"] as const).flatMap((where) =>
      ["session"].map((mode) => [
        `pgbouncer-${mode}-${where}`,
        async (): Promise<Scene> => {
          const stack = new AsyncDisposableStack();
          const database = stack.use(await freshDatabase());
          const server = stack.use(await tcpProxy(database.url));
          const settings = `pool_mode = ${mode}\nignore_startup_parameters = options`;
          const pooler = stack.use(await startPgBouncer(server.url(database.url), settings));
          const front = stack.use(await tcpProxy(pooler.url));
          const url = `${front.url(pooler.url)}/${database.name}?sslmode=disable`;
          return {
            kinds: [],
            proxies: [where === "before" ? front : server],
            configure: (config) => ({
              ...config,
              sinks: {
                replica: { kind: "postgres", url },
                soft: { kind: "postgres", url, schema: "soft", deletes: "soft" },
              },
            }),
            [Symbol.asyncDispose]: () => stack.disposeAsync(),
          };
        },
      ]),
    ),
  ),
};
for (const engine of searchEngines().slice(1))
  SCENES[engine.name] = async () => {
    const proxy = await tcpProxy(engine.url());
    const prefix = `late-${Date.now()}-`;
    return {
      kinds: [],
      proxies: [proxy],
      configure: (config) => ({
        ...config,
        sinks: { search: { kind: "elasticsearch", url: proxy.url(engine.url()), prefix, replicas: 0 } },
      }),
      [Symbol.asyncDispose]: () => proxy[Symbol.asyncDispose](),
    };
  };

const TABLES = ["a", "b", "c"];

async function changeOne(client: Client, random: Random, isHistory: boolean): Promise<void> {
  const t = random.pick(TABLES);
  const from = random.below(300);
  const count = random.pick([1, 3, 40, 150]);
  const to = from + count;
  const range = `id between ${from} and ${to}`;
  const stamp = random.below(1_000_000);
  const fill = `insert into ${t} (id, v, big) select g, '${stamp}', repeat(md5(g::text), 200) from generate_series(${from}, ${to}) g on conflict (id) do update set v = excluded.v`;
  const { rows } = await client.query<{ name: string; type: string }>(
    `select attname as name, atttypid::regtype::text as type from pg_attribute where attrelid = '${t}'::regclass and attnum > 0 and attname ~ '^[nx]' and not attisdropped`,
  );
  const isNumber = rows.find(({ name }) => name === "n")?.type === "integer";
  const extra = rows.find(({ name }) => name !== "n")?.name;
  const sql = random.pick([
    fill,
    fill,
    `update ${t} set v = '${stamp}' where ${range}`,
    `update ${t} set v = '${stamp}', n = n where ${range}`,
    `delete from ${t} where ${range}`,
    `delete from ${t} where ${range}`,
    `begin; truncate ${t}; ${fill}; commit`,
    `begin; truncate ${t}; ${fill}; update ${t} set v = v || 'u'; commit`,
    `begin; delete from ${t}; ${fill}; commit`,
    `begin; delete from ${t} where ${range}; ${fill}; delete from ${t} where id = ${from}; commit`,
    `begin; ${Array.from({ length: 5 }, (_, i) => `update ${t} set v = '${stamp}-${i}' where ${range}`).join("; ")}; commit`,
    `begin; update ${t} set id = id + 1000 where ${range} and id < 1000; update ${t} set id = id - 1000 where id >= 1000; commit`,
    `alter table ${t} alter column n type ${isNumber ? "text" : "int using length(n)"}`,
    extra === undefined
      ? `alter table ${t} add column x${stamp} int default ${stamp % 9}`
      : random.pick([
          ...(isHistory ? [] : [`alter table ${t} drop column ${extra}`]),
          `alter table ${t} rename column ${extra} to x${stamp}`,
        ]),
  ]);
  await client.query(sql);
}

for (const [name, make] of Object.entries(SCENES)) {
  test(name, async ({ skip }) => {
    if (name.startsWith("pgbouncer")) {
      const reason = await lacksPgBouncer();
      skip(reason !== null, reason ?? "");
    }
    const random = new Random(seed);
    const isHistory = name.endsWith("history");
    await using scene = await make();
    const create = TABLES.map((t) => `create table ${t} (id int8 primary key, v text, n int default 7, big text)`).join(
      "; ",
    );
    await using pipeline = await RunningPipeline.start(create, {
      kinds: scene.kinds,
      configure: (config) => {
        const changed = scene.configure(config);
        const sinks = Object.entries(changed.sinks).map(([n, sink]) => [
          n,
          { ...sink, batch: { rows: random.pick([30, 300]) } },
        ]);
        return { ...changed, sinks: Object.fromEntries(sinks) };
      },
      ...(scene.broker === undefined ? {} : { broker: scene.broker }),
    });
    await using client = Object.assign(new Client(pipeline.source.url), {
      async [Symbol.asyncDispose]() {
        await client.end();
      },
    });
    await client.connect();
    const waits = async (withinMs: number): Promise<void> => {
      const timeoutMs = Math.max(1, withinMs);
      await pipeline.installation
        .ask("POST", "/api/v1/wait", { timeoutMs }, patient(timeoutMs + 60_000))
        .catch(() => {});
    };
    const change = async (count: number): Promise<void> => {
      for (let i = 0; i < count; i++) await changeOne(client, random, isHistory);
    };
    for (let round = 0; round < ROUNDS; round++) {
      const held = random.pick(scene.proxies).holdAt(1 + random.below(60));
      const seen = { isHeld: false };
      void held.reached.then(() => (seen.isHeld = true));
      for (let i = 0; !seen.isHeld && i < STEPS_MAX; i++) {
        await change(1 + random.below(3));
        // What is held may be all that is on its way.
        await waits(random.below(100));
      }
      const way = random.pick(["kill", "kill", "cut", "leave"] as const);
      if (way === "kill") {
        await pipeline.kill();
        if (random.chance(0.3)) await change(3);
        await pipeline.start(false);
      } else if (way === "cut") for (const proxy of scene.proxies) proxy.halfClose("client");
      await change(random.below(8));
      if (random.chance(0.7)) await waits(WAIT_MS);
      if (random.chance(0.5)) await change(random.below(4));
      // A connection that was cut may be gone on both sides.
      void held.release().catch(() => {});
      await change(random.below(3));
      await pipeline.settled();
      const differences = await pipeline.sinks.differences(pipeline.source.url, pipeline.installation.folder, TABLES);
      const { exitCode, found } = await reconcile(pipeline.installation);
      const { sinks } = await pipeline.installation.status();
      const states = new Set(sinks.map(({ state, error }) => error?.code ?? state));
      const ended = { round, way, differences, exitCode, drift: driftOf(found), states };
      expect(ended).toEqual({ round, way, differences: [], exitCode: 0, drift: {}, states: new Set(["streaming"]) });
    }
  });
}
