/**
 * Resident memory of the daemon's process (its peak as the kernel counts it) during one large transaction: into two
 * Postgres targets, one of which is away meanwhile; into Redis; and into DuckDB, where DuckDB's own count is subtracted
 * moment by moment. Then into DuckDB and Postgres together, as a whole, for operators who have both.
 */
import { join } from "node:path";
import type { Client } from "pg";
import { parseLsn } from "../connectors/postgres/source/wire/lsn.ts";
import { postgres, type RunningPostgres } from "../scripts/services/servers/postgres/postgres.ts";
import { redis } from "../scripts/services/servers/redis.ts";
import { connected } from "./clients.ts";
import { MeasuredDaemon } from "./daemon.ts";
import { MemorySamples } from "./memory-samples.ts";
import { insertOrders, ORDERS } from "./orders.ts";
import type { BenchOptions, BenchReport, Line, Ratio } from "./report.ts";
import { SETTINGS, until } from "./slot.ts";

const ROWS = 5_000_000;
/**
 * The limits in docs/operate.md: for the process, for DuckDB, which has a configured limit, and for the process beside that
 * limit.
 */
const OWN_MIB = 256;
const DUCKDB_LIMIT_MB = 128;
const BESIDE_LIMIT_MIB = 128;
const ROWS_BOTH = 2_000_000;
const BOTH_MIB_MAX = 350;
const SCENES = ["outage", "redis", "duckdb", "both"] as const;

interface Scene {
  readonly work: string;
  /** Millrace's sinks, in millrace.yaml. */
  readonly sinks: (folder: string) => object;
  /** Called when the transaction has begun to arrive; returns when every sink can be reached again. */
  readonly disturb?: (seen: () => Promise<boolean>) => Promise<void>;
  /** The DuckDB sink, whose memory is measured separately. */
  readonly duckdb?: string;
}

export async function run({ scale, log, takes }: BenchOptions): Promise<BenchReport> {
  const rowCount = Math.round(ROWS * scale);
  await using source = await postgres.start({ own: true, settings: SETTINGS });
  const from = await connected(source.url);
  await from.query(ORDERS);
  const lines: Line[] = [];
  const scenes = SCENES.filter(takes);
  for (const scene of scenes) {
    await from.query("truncate orders");
    const count = scene === "both" ? Math.round(ROWS_BOTH * scale) : rowCount;
    lines.push(await measure(scene, source, from, count, log));
  }
  await from.end();
  return {
    name: "memory",
    lines,
    ratios: lines.flatMap((line, i) => [...ratiosOf(scenes[i]!, line)]),
  };
}

function* ratiosOf(scene: (typeof SCENES)[number], { work, figures }: Line): Generator<Ratio> {
  const whole = { what: `${work} as a whole, MiB`, value: figures["peak MiB"]!, atLeast: false } as const;
  if (scene !== "both") {
    yield { what: `${work}, MiB`, value: figures["own peak MiB"]!, target: OWN_MIB, atLeast: false };
  }
  if (scene === "duckdb") yield { ...whole, target: OWN_MIB + DUCKDB_LIMIT_MB + BESIDE_LIMIT_MIB };
  if (scene === "both") yield { ...whole, target: BOTH_MIB_MAX };
}

async function measure(
  scene: (typeof SCENES)[number],
  source: RunningPostgres,
  from: Client,
  rowCount: number,
  log: BenchOptions["log"],
): Promise<Line> {
  switch (scene) {
    case "outage": {
      await using near = await postgres.start({ own: true, settings: SETTINGS });
      await using away = await postgres.start({ own: true, settings: SETTINGS });
      const sinks = { near: { kind: "postgres", url: near.url }, away: { kind: "postgres", url: away.url } };
      const disturb = async (seen: () => Promise<boolean>): Promise<void> => {
        await away.kill();
        await until(seen);
        await away.start();
      };
      return await through(
        { work: "two Postgres sinks, one away", sinks: () => sinks, disturb },
        source,
        from,
        rowCount,
        log,
      );
    }
    case "redis": {
      await using server = await redis.start({ own: true });
      const sinks = { cache: { kind: "redis", url: server.url } };
      return await through({ work: "Redis", sinks: () => sinks }, source, from, rowCount, log);
    }
    case "duckdb": {
      const sinks = (folder: string) => ({
        warehouse: { kind: "duckdb", path: join(folder, "w.duckdb"), memoryLimit: `${DUCKDB_LIMIT_MB}MB` },
      });
      return await through({ work: "DuckDB", sinks, duckdb: "warehouse" }, source, from, rowCount, log);
    }
    case "both": {
      await using near = await postgres.start({ own: true, settings: SETTINGS });
      const sinks = (folder: string) => ({
        replica: { kind: "postgres", url: near.url },
        warehouse: { kind: "duckdb", path: join(folder, "w.duckdb"), memoryLimit: `${DUCKDB_LIMIT_MB}MB` },
      });
      return await through({ work: "DuckDB and Postgres", sinks, duckdb: "warehouse" }, source, from, rowCount, log);
    }
    default:
      return scene satisfies never;
  }
}

async function through(
  { work, sinks, disturb, duckdb }: Scene,
  source: RunningPostgres,
  from: Client,
  rowCount: number,
  log: BenchOptions["log"],
): Promise<Line> {
  await using daemon = new MeasuredDaemon((folder) => ({
    name: "bench",
    source: { kind: "postgres", url: source.url, heartbeat: "1s" },
    sinks: sinks(folder),
  }));
  await daemon.catchUp();
  daemon.start();
  await until(async () => (await positions(daemon)).length > 0);
  const before = await logEnd(from);
  const idleMiB = daemon.usage().memoryMiB;
  const samples = duckdb === undefined ? undefined : new MemorySamples(daemon, duckdb);
  const startedMs = performance.now();
  // All rows in one transaction.
  await insertOrders(from, 1, rowCount, rowCount);
  const end = await logEnd(from);
  if (disturb !== undefined) {
    await until(async () => (await positions(daemon)).some((position) => position > before));
    await disturb(async () => (await positions(daemon)).some((position) => position >= end));
  }
  await until(async () => (await positions(daemon)).every((position) => position >= end));
  const seconds = (performance.now() - startedMs) / 1000;
  await samples?.stop();
  const { memoryMiB } = daemon.usage();
  await daemon.stop();
  await from.query("select pg_drop_replication_slot(slot_name) from pg_replication_slots");
  await from.query("drop publication millrace_bench");
  const figures = {
    "own peak MiB": samples?.withoutDuckdbMiB ?? memoryMiB,
    "peak MiB": memoryMiB,
    "peak before MiB": idleMiB,
    rows: rowCount,
    seconds,
    ...(samples === undefined
      ? {}
      : { "DuckDB's count MiB": samples.duckdbMiB, "script MiB": samples.scriptMiB, samples: samples.count }),
  };
  log(`memory ${work}: ${memoryMiB.toFixed(0)} MiB`);
  return { work, who: "millrace", figures };
}

async function positions(daemon: MeasuredDaemon): Promise<readonly bigint[]> {
  const status = await daemon.status("bench");
  return (status?.sinks ?? []).map(({ position }) => (position === null ? 0n : parseLsn(position)));
}

async function logEnd(from: Client): Promise<bigint> {
  const { rows } = await from.query<{ lsn: string }>("select pg_current_wal_insert_lsn()::text as lsn");
  return parseLsn(rows[0]!.lsn);
}
