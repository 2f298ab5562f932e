/**
 * `reconcile` over equal rows, and over the same rows with ten that differ, Postgres against Postgres. Its peer is COPY of
 * both sides to nothing, one after the other, by the server's own program in the same run. For comparison also the method
 * of data-diff (checksums.ts). The other sinks run once each.
 */
import { join } from "node:path";
import type { Client } from "pg";
import { elasticsearch } from "../scripts/services/servers/search/elasticsearch.ts";
import { postgres } from "../scripts/services/servers/postgres/postgres.ts";
import { redis } from "../scripts/services/servers/redis.ts";
import { type ReconcileDocument, type ReconcileStatus, requestOf } from "../src/core/contracts/reconciliation.ts";
import { differingByChecksums } from "./checksums.ts";
import { connected, copyToNothing } from "./clients.ts";
import { MeasuredDaemon } from "./daemon.ts";
import { insertOrders, ORDERS } from "./orders.ts";
import { type BenchOptions, type BenchReport, type Line, median } from "./report.ts";
import { SETTINGS, until } from "./slot.ts";

const ROWS = 10_000_000;
const WANTED = 2;
const WANTED_WITH_DRIFT = 1.2;
const MIB_MAX = 256;
const DIFFERING = 10;
const CHECKSUMS = "checksums in both servers";
const ROWS_PER_TRANSACTION = 10_000;

interface Compared {
  readonly seconds: number;
  readonly daemonSeconds: number;
  readonly memoryMiB: number;
}

/** The target of a daemon's rows. */
interface Target extends AsyncDisposable {
  readonly sink: (folder: string) => object;
}

export async function run({ scale, runs, log }: BenchOptions): Promise<BenchReport> {
  const rowCount = Math.round(ROWS * scale);
  await using source = await postgres.start({ own: true, settings: SETTINGS });
  const from = await connected(source.url);
  log(`reconcile: writing ${rowCount} rows`);
  await from.query(ORDERS);
  await insertOrders(from, 1, rowCount, ROWS_PER_TRANSACTION);
  await from.query("vacuum (freeze, analyze)");
  const lines: Line[] = [];
  const ratios: BenchReport["ratios"][number][] = [];
  {
    await using target = await postgres.start({ own: true, settings: SETTINGS });
    const sink = { kind: "postgres", url: target.url };
    await using daemon = await filled(source.url, () => sink);
    const there = await connected(target.url);
    await there.query("vacuum (freeze, analyze)");
    const [copies, equal, differing]: [number[], Compared[], Compared[]] = [[], [], []];
    const [sums, sumsDiffering]: [number[], number[]] = [[], []];
    for (let round = 0; round < runs; round++) {
      copies.push((await copyToNothing(source.url, "orders")) + (await copyToNothing(target.url, "orders")));
      equal.push(await compared(daemon, rowCount, 0));
      sums.push(await byChecksums(from, there, 0));
      await differ(there, rowCount, 1);
      differing.push(await compared(daemon, rowCount, DIFFERING));
      sumsDiffering.push(await byChecksums(from, there, DIFFERING));
      await differ(there, rowCount, -1);
      log(`reconcile: COPY ${copies.at(-1)!.toFixed(1)} s, equal ${equal.at(-1)!.seconds} s`);
    }
    await there.end();
    lines.push(
      { work: "Postgres, equal", who: "millrace", figures: figuresOf(equal, rowCount) },
      { work: `Postgres, ${DIFFERING} differ`, who: "millrace", figures: figuresOf(differing, rowCount) },
      { work: "both sides", who: "COPY to nothing", figures: { seconds: median(copies) } },
      { work: "Postgres, equal", who: CHECKSUMS, figures: peerFigures(sums, equal) },
      { work: `Postgres, ${DIFFERING} differ`, who: CHECKSUMS, figures: peerFigures(sumsDiffering, differing) },
    );
    ratios.push(
      {
        what: "equal rows, Postgres against Postgres / COPY of both sides to nothing",
        value: median(equal.map(({ seconds }, i) => seconds / copies[i]!)),
        target: WANTED,
        atLeast: false,
      },
      {
        what: `${DIFFERING} rows that differ / none`,
        value: median(differing.map(({ seconds }, i) => seconds / equal[i]!.seconds)),
        target: WANTED_WITH_DRIFT,
        atLeast: false,
      },
      {
        what: "peak memory, MiB",
        value: Math.max(...[...equal, ...differing].map(({ memoryMiB }) => memoryMiB)),
        target: MIB_MAX,
        atLeast: false,
      },
    );
    await ended(daemon, from);
  }
  for (const kind of ["duckdb", "redis", "elasticsearch"] as const) {
    await using target = await started(kind);
    await using daemon = await filled(source.url, target.sink);
    const once = await compared(daemon, rowCount, 0);
    lines.push({ work: `${kind}, equal`, who: "millrace", figures: figuresOf([once], rowCount) });
    log(`reconcile: ${kind} ${once.seconds} s`);
    await ended(daemon, from);
  }
  await from.end();
  return { name: "reconcile", lines, ratios };
}

async function started(kind: "duckdb" | "redis" | "elasticsearch"): Promise<Target> {
  if (kind === "duckdb") {
    const sink = (folder: string) => ({ kind, path: join(folder, "w.duckdb") });
    return { sink, [Symbol.asyncDispose]: async () => {} };
  }
  const service = kind === "redis" ? redis : elasticsearch;
  const server = await service.start({ own: true });
  return {
    sink: () => ({ kind, url: server.url, ...(kind === "redis" ? {} : { replicas: 0 }) }),
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

/** A daemon that has copied all rows, and streams. */
async function filled(url: string, sink: (folder: string) => object): Promise<MeasuredDaemon> {
  const daemon = new MeasuredDaemon((folder) => ({
    name: "bench",
    source: { kind: "postgres", url },
    sinks: { mirror: sink(folder) },
  }));
  await daemon.catchUp();
  daemon.start();
  await until(async () => (await daemon.status("bench"))?.sinks[0]?.state === "streaming");
  return daemon;
}

async function ended(daemon: MeasuredDaemon, from: Client): Promise<void> {
  await daemon.stop();
  await until(async () => (await from.query("select 1 from pg_replication_slots where active")).rowCount === 0);
  await from.query("select pg_drop_replication_slot(slot_name) from pg_replication_slots");
  await from.query("drop publication millrace_bench");
}

async function compared(daemon: MeasuredDaemon, rowCount: number, differing: number): Promise<Compared> {
  const before = daemon.usage().cpuSeconds;
  const started = await daemon.ask<{ id: string }>("bench", "POST", "/api/v1/reconcile", requestOf({}));
  const ended: ReconcileDocument[] = [];
  await until(async () => {
    const status = await daemon.ask<ReconcileStatus>("bench", "GET", "/api/v1/reconcile");
    if (status?.failure != null) throw new Error(status.failure.message);
    if (status?.last != null && status.last.id === started?.id) ended.push(status.last);
    return ended.length > 0;
  });
  const { startedAt, finishedAt, tables } = ended[0]!;
  const [found] = tables;
  if (found?.compared !== rowCount || found.different !== differing)
    throw new Error(`compared ${found?.compared} rows, of which ${found?.different} differ`);
  const { cpuSeconds, memoryMiB } = daemon.usage();
  return {
    seconds: (Date.parse(finishedAt) - Date.parse(startedAt)) / 1000,
    daemonSeconds: cpuSeconds - before,
    memoryMiB,
  };
}

async function differ(target: Client, rowCount: number, by: 1 | -1): Promise<void> {
  const step = Math.floor(rowCount / DIFFERING);
  const { rowCount: changed } = await target.query(
    `update orders set items = items + (${by}) where id % ${step} = 0 and id <= ${step * DIFFERING}`,
  );
  if (changed !== DIFFERING) throw new Error(`${changed} rows were changed`);
}

async function byChecksums(source: Client, target: Client, differing: number): Promise<number> {
  const startedMs = performance.now();
  const found = await differingByChecksums(source, target);
  if (found !== differing) throw new Error(`by checksums ${found} rows differ`);
  return (performance.now() - startedMs) / 1000;
}

/** The peer's figures, and Millrace's time in relation to them, round by round. */
function peerFigures(peer: readonly number[], millrace: readonly Compared[]): Line["figures"] {
  return { seconds: median(peer), "millrace / it": median(millrace.map(({ seconds }, i) => seconds / peer[i]!)) };
}

function figuresOf(all: readonly Compared[], rowCount: number): Line["figures"] {
  const seconds = median(all.map((one) => one.seconds));
  return {
    seconds,
    "rows/s": rowCount / seconds,
    "daemon µs/row": (median(all.map(({ daemonSeconds }) => daemonSeconds)) * 1e6) / rowCount,
    "peak memory MiB": Math.max(...all.map(({ memoryMiB }) => memoryMiB)),
  };
}
