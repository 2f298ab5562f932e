/** The daemon is killed at the failpoints of the nest and of its second pipeline, while rows and tables change: documents are right. */
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import type { Daemon, Installation } from "../../support/daemon/daemon-process.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import type { SinkKind, SinkSet } from "../../support/daemon/sink-set.ts";
import {
  type DocumentReader,
  expectDocuments,
  HOSTILE_TABLES,
  hostileDocuments,
  HostileShop,
  mysqlShop,
  postgresShop,
  readPostgres,
  readRedis,
  readSearch,
  readSqlite,
  type ShopDatabase,
} from "../../support/documents/hostile-shop.ts";
import { readClickhouse, readDuckdb, readFiles, readLake } from "../../support/documents/warehouse-documents.ts";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { Random, testSeed } from "../../support/run/random.ts";
import { clickhouseUrl, deleteIndices, elasticsearchUrl, redisUrl, searchEngines } from "../../support/run/services.ts";
import { eventually, patient } from "../../support/run/waiting.ts";

interface Scene {
  readonly database: ShopDatabase;
  readonly shop: HostileShop;
  readonly installation: Installation;
  readonly sinks: SinkSet;
  /** Of the sink `elasticsearch`. */
  readonly searchUrl: string;
  daemon: Daemon;
  settled(): Promise<void>;
}

type Provoke = ((scene: Scene, round: number) => Promise<unknown>) | null;

const readAgain: Provoke = ({ installation }) =>
  installation.ask("POST", "/api/v1/snapshots", { tables: ["documents.orders"] });
/** A document with all columns makes the daemon begin again: each time it gets twice as long to come to what it is asked for. */
const changeTables: Provoke = async ({ database }, round) => {
  if (!Number.isInteger(Math.log2(round / 12 + 1))) return;
  await database.transact([
    `alter table customers add column extra_${Date.now() % 1_000_000} int default 5`,
    "update customers set name = concat(name, '.')",
  ]);
};
const flood: Provoke = ({ shop }) => shop.flood();
const fallBehind: Provoke = async ({ installation, sinks }) => {
  const sink = sinks.kinds[0];
  await installation.ask("POST", "/api/v1/pause", { sink });
  await sleep(150);
  await installation.ask("POST", "/api/v1/resume", {});
};

interface Point {
  readonly countMax: number;
  readonly provoke: Provoke;
}

/** Of a first start: the second pipeline begins when the nest is filled. */
const START: Readonly<Record<string, Point>> = {
  "nest.settled": { countMax: 3, provoke: null },
  "nest.lists-begun": { countMax: 1, provoke: null },
  // The second pass is of the second pipeline.
  "source.announced": { countMax: 2, provoke: null },
  "source.created": { countMax: 2, provoke: null },
  "copy.block-queued": { countMax: 4, provoke: null },
};
const RUNNING: Readonly<Record<string, Point>> = {
  "nest.settled": { countMax: 2, provoke: changeTables },
  "nest.climbed": { countMax: 2, provoke: changeTables },
  "nest.marked": { countMax: 2, provoke: readAgain },
  "nest.trimmed": { countMax: 3, provoke: null },
  "nest.read": { countMax: 20, provoke: null },
  "sqlite.target-made": { countMax: 2, provoke: changeTables },
  "sqlite.rows-written": { countMax: 20, provoke: flood },
  "sqlite.committed": { countMax: 40, provoke: flood },
  "fan-out.dispatched": { countMax: 60, provoke: null },
  "sink.applied": { countMax: 60, provoke: null },
  "sink.prepared:documents.people": { countMax: 1, provoke: changeTables },
  "schema.registered:documents.people": { countMax: 1, provoke: changeTables },
  "ack.computed": { countMax: 4, provoke: null },
  "ack.stored": { countMax: 4, provoke: null },
  "snapshot.chunk-read:documents.orders": { countMax: 1, provoke: readAgain },
  "snapshot.chunk-durable:documents.orders": { countMax: 1, provoke: readAgain },
  "snapshot.swept:documents.orders": { countMax: 1, provoke: readAgain },
  "catch-up.opened": { countMax: 1, provoke: fallBehind },
  "catch-up.collecting": { countMax: 1, provoke: fallBehind },
  "catch-up.handed-over": { countMax: 1, provoke: fallBehind },
};
const KILLED_WITHIN_MS = 120_000;
const PAUSE_MS = 15;

function armed(random: Random, [name, { countMax }]: readonly [string, Point]): Record<string, string> {
  return { MILLRACE_FAILPOINTS: `${name}=kill@${1 + random.below(countMax)}` };
}

async function killed(scene: Scene, [name, { provoke }]: readonly [string, Point]): Promise<void> {
  const { daemon } = scene;
  const deadline = performance.now() + patient(KILLED_WITHIN_MS);
  for (let round = 0; !daemon.exited && performance.now() < deadline; round++) {
    await provoke?.(scene, round).catch(() => undefined);
    await Promise.race([daemon.ended, sleep(400)]);
  }
  expect({ name, exited: daemon.exited }, daemon.said.slice(-3_000)).toEqual({ name, exited: true });
  expect({ name, signal: (await daemon.ended).signal }, daemon.said.slice(-3_000)).toEqual({ name, signal: "SIGKILL" });
}

/** After each kill another daemon brings all documents to what the source has. */
async function rightAfterKills(
  scene: Scene,
  points: readonly (readonly [string, Point])[],
  first: readonly [string, Point] | null,
  random: Random,
): Promise<void> {
  const readers = readersOf(scene);
  const expectRight = async (after: string): Promise<void> => {
    await scene.shop.stop();
    // A daemon that begins again because columns came ends what was asked of it.
    await eventually(() => scene.settled(), { withinMs: 120_000 });
    await expectDocuments(scene.database, readers, `after ${after}; ${JSON.stringify(scene.shop.did.slice(-12))}`);
  };
  /** Rows go on to change. A daemon whose tables get other columns all the time would begin again all the time. */
  const startCalmly = async (): Promise<void> => {
    await scene.shop.stop();
    scene.shop.start(PAUSE_MS, false);
    scene.daemon = scene.installation.run();
    await scene.daemon.streaming();
  };
  scene.shop.start(PAUSE_MS);
  if (first !== null) {
    await killed(scene, first);
    await startCalmly();
    await expectRight(`${first[0]} of the first start`);
  }
  for (const point of points) {
    // Tables that change all the time would keep the daemon from what its own changes are to provoke.
    scene.shop.start(PAUSE_MS, point[1].provoke !== changeTables);
    await scene.daemon.kill();
    scene.daemon = scene.installation.run(armed(random, point));
    await killed(scene, point);
    // One that was killed in between has left a sink paused.
    if (point[1].provoke === fallBehind)
      expect(await scene.installation.command("resume")).toMatchObject({ exitCode: 0 });
    await startCalmly();
    await expectRight(point[0]);
  }
  await scene.daemon.stop();
  if (scene.sinks.kinds.includes("duckdb")) {
    const path = join(scene.installation.folder, "warehouse.duckdb");
    await expectDocuments(scene.database, { duckdb: readDuckdb(path) }, "at the end");
  }
}

function readersOf({ sinks, searchUrl, installation }: Scene): Readonly<Record<string, DocumentReader>> {
  const readers: Record<string, DocumentReader> = {};
  if (sinks.kinds.includes("sqlite")) readers["sqlite"] = readSqlite(join(installation.folder, "replica.sqlite"));
  if (sinks.kinds.includes("redis")) readers["redis"] = readRedis(redisUrl(), sinks.keyPrefix);
  if (sinks.target !== null) readers["postgres"] = readPostgres((sql) => sinks.target!.query(sql));
  if (sinks.kinds.includes("elasticsearch")) readers["elasticsearch"] = readSearch(searchUrl, sinks.indexPrefix);
  if (sinks.kinds.includes("clickhouse")) readers["clickhouse"] = readClickhouse(clickhouseUrl(), sinks.databases[0]!);
  if (sinks.kinds.includes("ducklake")) readers["ducklake"] = readLake(join(installation.folder, "ducklake.db"));
  if (sinks.kinds.includes("files")) readers["files"] = readFiles(join(installation.folder, "changes"));
  return readers;
}

const sinksOf = (config: Readonly<Record<string, object>>): Record<string, object> =>
  Object.fromEntries(
    Object.entries(config).map(([name, sink]) => [
      name,
      { ...sink, documents: ["orders", "people"], ...(name === "redis" ? { format: "json" } : {}) },
    ]),
  );

/** `count`: at so many failpoints, besides one of the first start. */
async function onPostgres(
  kinds: readonly SinkKind[],
  random: Random,
  count: number,
  searchUrl = elasticsearchUrl(),
): Promise<void> {
  const first = random.pick(Object.entries(START));
  const points = Object.entries(RUNNING);
  while (points.length > count) points.splice(random.below(points.length), 1);
  let shop: HostileShop | undefined;
  let database: ShopDatabase | undefined;
  await using pipeline = await RunningPipeline.start(
    async (source) => {
      database = postgresShop(source);
      shop = new HostileShop(database, random);
      await source.query(HOSTILE_TABLES.join("; "));
      await shop.fill();
    },
    {
      kinds,
      configure: (config) => ({
        ...config,
        documents: hostileDocuments("public"),
        sinks: sinksOf(
          Object.fromEntries(
            Object.entries(config.sinks).map(([name, sink]) => [
              name,
              name === "elasticsearch" ? { ...sink, url: searchUrl } : sink,
            ]),
          ),
        ),
      }),
      untilStreaming: false,
      environment: armed(random, first),
    },
  );
  const scene: Scene = {
    database: database!,
    shop: shop!,
    installation: pipeline.installation,
    sinks: pipeline.sinks,
    searchUrl,
    daemon: pipeline.daemon,
    settled: () => pipeline.settled(),
  };
  await using _ = scene.shop;
  try {
    await rightAfterKills(scene, points, first, random);
  } finally {
    // The set deletes what is on its own server.
    if (searchUrl !== elasticsearchUrl()) await deleteIndices(searchUrl, pipeline.sinks.indexPrefix);
  }
}

test("from Postgres", async () => {
  await onPostgres(["redis", "sqlite", "elasticsearch"], new Random(testSeed()), 1);
});

test("from Postgres, at several failpoints", { tags: "heavy" }, async () => {
  await onPostgres(["redis", "postgres", "sqlite"], new Random(testSeed()), 5);
});

describe.each(searchEngines())("from Postgres, into $name too", ({ url }) => {
  test("at every failpoint", { tags: "heavy" }, async () => {
    await onPostgres(["redis", "postgres", "duckdb", "elasticsearch"], new Random(testSeed()), Infinity, url());
  });
});

/** Rows come into a filter and leave it, also of those below a limit; and a value is hidden. */
const RULES = {
  order_items: { where: "quantity <> 4 and quantity <> 8 and quantity < 60" },
  tags: { where: "id <> 3" },
  customers: { columns: { email: { mask: "null" } } },
};

/** What rules leave of a database. */
function underRules(database: ShopDatabase): ShopDatabase {
  const ruled = (sql: string): string =>
    sql
      .replaceAll(
        /(from order_items (\w) where )/g,
        `$1$2.quantity <> 4 and $2.quantity <> 8 and $2.quantity < 60 and `,
      )
      .replaceAll("t.id = ot.tag_id", "t.id = ot.tag_id and t.id <> 3")
      .replaceAll("c.email", "null");
  return { ...database, texts: (sql) => database.texts(ruled(sql)) };
}

const WAREHOUSES = ["redis", "clickhouse", "ducklake", "files"] as const;

test("from Postgres into warehouses, at every failpoint", { tags: "heavy" }, async () => {
  await onPostgres(WAREHOUSES, new Random(testSeed()), Infinity);
});

describe.each(["mysql", "mariadb"] as const)("from %s", (flavour) => {
  test.each([
    ["search, cache and databases", ["redis", "postgres", "duckdb", "elasticsearch"], {}],
    ["warehouses, under rules", WAREHOUSES, RULES],
  ] as const)("into %s, at every failpoint", { tags: "heavy" }, async (_into, kinds, rules) => {
    const random = new Random(testSeed());
    await using pipeline = await MysqlPipeline.start(flavour, HOSTILE_TABLES, {
      kinds,
      documents: hostileDocuments,
      sinks: sinksOf,
      rules,
    });
    const database = mysqlShop(pipeline.source);
    const shop = new HostileShop(database, random);
    await shop.fill();
    const scene: Scene = {
      database: rules === RULES ? underRules(database) : database,
      shop,
      installation: pipeline.installation,
      sinks: pipeline.sinks,
      searchUrl: elasticsearchUrl(),
      daemon: pipeline.daemon,
      settled: () => pipeline.settled(),
    };
    await using _ = shop;
    await rightAfterKills(scene, random.some(Object.entries(RUNNING)), null, random);
  });
});
