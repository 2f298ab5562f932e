/**
 * From a log in Kafka to Postgres and to Redis, with 1, 2 and 4 shares: as many daemons, on one machine, with as many tables
 * each. The sinks are paused while the log is written; the time runs from their resumption until every share has all.
 */
import type { Client } from "pg";
import { kafka } from "../scripts/services/servers/kafka.ts";
import { postgres } from "../scripts/services/servers/postgres/postgres.ts";
import { redis } from "../scripts/services/servers/redis.ts";
import { shareName, shareOf } from "../src/core/sharing/share.ts";
import { connected, createDatabases, withDatabase } from "./clients.ts";
import { cpuSecondsOf, MeasuredDaemon } from "./daemon.ts";
import { ORDERS } from "./orders.ts";
import { type BenchOptions, type BenchReport, type Line, median } from "./report.ts";
import { SETTINGS, until } from "./slot.ts";

const ROWS = 240_000;
const SHARES = [1, 2, 4] as const;
const TABLES_PER_SHARE = 2;
const ROWS_PER_TRANSACTION = 1_000;
const CAPTURE = "bench";

interface Scene {
  readonly kind: string;
  readonly source: Client;
  readonly capture: MeasuredDaemon;
  readonly broker: string;
  /** Of a new target. */
  readonly sink: (run: string) => Promise<object>;
}

interface Applied {
  readonly seconds: number;
  readonly cpuSeconds: number;
}

export async function run({ scale, runs, takes, log }: BenchOptions): Promise<BenchReport> {
  await using server = await postgres.start({ own: true, settings: SETTINGS });
  await using broker = await kafka.start({ own: true });
  await using target = await postgres.start({ own: true, settings: SETTINGS });
  await using cache = await redis.start({ own: true });
  const source = await connected(server.url);
  const tables = evenTables();
  for (const table of tables) await source.query(ORDERS.replace("table orders", `table ${table}`));
  const { host } = new URL(broker.url);
  const sinks = { log: { kind: "kafka", brokers: [host], format: "log" } };
  await using capture = new MeasuredDaemon({ name: CAPTURE, source: { kind: "postgres", url: server.url }, sinks });
  capture.start();
  await capture.caughtUp(CAPTURE);
  const common = { source, capture, broker: host };
  const ofTarget = async (database: string): Promise<object> => {
    await createDatabases(target.url, database);
    return { kind: "postgres", url: withDatabase(target.url, database) };
  };
  const scenes: readonly Scene[] = [
    { ...common, kind: "postgres", sink: ofTarget },
    { ...common, kind: "redis", sink: async (name) => ({ kind: "redis", url: cache.url, prefix: `${name}:` }) },
  ];
  const lines: Line[] = [];
  const rowCount = Math.round((ROWS * scale) / tables.length) * tables.length;
  for (const scene of scenes.filter(({ kind }) => takes(kind))) {
    const found = new Map<number, Applied[]>(SHARES.map((shares) => [shares, []]));
    for (let round = 0; round < runs; round++) {
      for (const shares of SHARES) {
        const one = await apply(scene, { tables, rowCount, shares, name: `${scene.kind}_${shares}_${round}` });
        found.get(shares)!.push(one);
        log(`${scene.kind}, ${shares} shares: ${Math.round(rowCount / one.seconds).toLocaleString("en")} rows/s`);
      }
    }
    for (const [shares, all] of found) lines.push(lineOf(scene.kind, shares, rowCount, all));
  }
  await source.end();
  return { name: "apply-kafka", lines, ratios: [] };
}

/** Of four shares each has as many, and so of two. */
function evenTables(): readonly string[] {
  const counts = new Map<number, number>();
  const taken: string[] = [];
  for (let i = 1; taken.length < 4 * TABLES_PER_SHARE; i++) {
    const table = `orders_${i}`;
    const share = shareOf({ schema: "public", table }, { count: 4, by: "id" });
    const count = counts.get(share) ?? 0;
    if (count === TABLES_PER_SHARE) continue;
    counts.set(share, count + 1);
    taken.push(table);
  }
  return taken;
}

interface Asked {
  readonly tables: readonly string[];
  readonly rowCount: number;
  readonly shares: number;
  readonly name: string;
}

async function apply(scene: Scene, { tables, rowCount, shares, name }: Asked): Promise<Applied> {
  const { source, capture, broker, sink } = scene;
  await source.query(tables.map((table) => `truncate ${table}`).join(";"));
  await using daemon = new MeasuredDaemon({
    name,
    source: { kind: "kafka", brokers: [broker], from: CAPTURE, shares },
    sinks: { target: await sink(name) },
  });
  const names = Array.from({ length: shares }, (_, i) => shareName(name, i + 1));
  daemon.start();
  const phases = async () => await Promise.all(names.map(async (one) => (await daemon.status(one))?.phase));
  await until(async () => (await phases()).every((phase) => phase === "streaming"));
  await Promise.all(names.map(async (one) => await daemon.caughtUp(one)));
  for (const one of names) await daemon.ask(one, "POST", "/api/v1/pause", {});
  await write(source, tables, rowCount / tables.length);
  await capture.caughtUp(CAPTURE);
  const pids = await Promise.all(names.map(async (one) => (await daemon.status(one))!.daemon!.pid));
  const cpuSeconds = () => pids.reduce((sum, pid) => sum + cpuSecondsOf(pid), 0);
  const [startedMs, cpuBefore] = [performance.now(), cpuSeconds()];
  await Promise.all(names.map(async (one) => await daemon.ask(one, "POST", "/api/v1/resume", {})));
  await Promise.all(names.map(async (one) => await daemon.caughtUp(one)));
  return { seconds: (performance.now() - startedMs) / 1000, cpuSeconds: cpuSeconds() - cpuBefore };
}

/** The tables in turn, a transaction each. */
async function write(source: Client, tables: readonly string[], rowCount: number): Promise<void> {
  for (let at = 0; at < rowCount; at += ROWS_PER_TRANSACTION) {
    const last = Math.min(at + ROWS_PER_TRANSACTION, rowCount);
    for (const table of tables) {
      await source.query(`insert into ${table} select g, g % 100000, 'new', g::numeric / 100, 'EUR', g % 9 + 1, g / 7.0, g % 2 = 0,
        'a note that belongs to order ' || g, 'customer' || g || '@example.com', now(), now()
        from generate_series(${at + 1}, ${last}) g`);
    }
  }
}

function lineOf(kind: string, shares: number, rowCount: number, all: readonly Applied[]): Line {
  const figures = {
    "rows/s": rowCount / median(all.map(({ seconds }) => seconds)),
    "CPU s per 1M": (median(all.map(({ cpuSeconds }) => cpuSeconds)) / rowCount) * 1e6,
  };
  return { work: `log to ${kind}`, who: shares === 1 ? "1 share" : `${shares} shares`, figures };
}
