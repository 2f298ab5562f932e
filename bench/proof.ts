/**
 * What the continuous proof costs the stream: commit to visible in a Postgres sink at 200 transactions a second, by two
 * daemons of one source in turn, of which one compares with the sink all the time, with the default share. Scene `large`: one
 * table of 2,000,000 rows beside the written one; `written`: each transaction also changes a row of that table; `keys`: a table
 * of 400,000 rows, of which the listing of the sink's keys takes most of the time; `many`: 1,000 tables of ten rows. All times
 * the scale.
 */
import type pg from "pg";
import { postgres } from "../scripts/services/servers/postgres/postgres.ts";
import {
  connected,
  createDatabases,
  heardBy,
  latencies,
  listen,
  TICKS_PER_SECOND,
  withDatabase,
  writeTicks,
} from "./clients.ts";
import { MeasuredDaemon } from "./daemon.ts";
import { type BenchOptions, type BenchReport, type Line, percentile, type Ratio } from "./report.ts";
import { DURABLE } from "./slot.ts";

const ROWS = 2_000_000;
/** At a quarter of it two chunks. */
const ROWS_OF_KEYS = 400_000;
/** So that changed rows are anywhere in the table. */
const STRIDE = 7_919;
const TABLES = 1_000;
const ROWS_IN_EACH = 10;
/** So many tables are created in one transaction. */
const TABLES_AT_ONCE = 500;
const WARM_UP_MS = 2_000;
const STRETCH_SECONDS = 20;
const SIDES = ["plain", "proven"] as const;
type Side = (typeof SIDES)[number];
/** Each side as often first as last, so that a drift of the machine affects both equally. */
const STRETCHES: readonly Side[] = ["plain", "proven", "proven", "plain", "plain", "proven", "proven", "plain"];

interface Measured {
  readonly daemon: MeasuredDaemon;
  readonly seen: Map<number, number>;
  readonly times: number[];
  cpuSeconds: number;
  seconds: number;
  memoryMiB: number;
}

interface Scene {
  readonly name: string;
  readonly beside: string;
  readonly fill: (from: pg.Client) => Promise<void>;
  /** What the transaction of a tick does besides. */
  readonly also?: (tick: number) => string;
}

function fillLarge(rowCount: number): Scene["fill"] {
  return async (from) => {
    await from.query(`create table large (id int primary key, body text);
      insert into large select g, md5(g::text) from generate_series(1, ${rowCount}) g`);
  };
}

function scenesOf(scale: number): readonly Scene[] {
  const rowCount = Math.round(ROWS * scale);
  const keyCount = Math.round(ROWS_OF_KEYS * scale);
  const tableCount = Math.round(TABLES * scale);
  return [
    {
      name: "large",
      beside: `${rowCount.toLocaleString("en")} rows`,
      fill: fillLarge(rowCount),
    },
    {
      name: "written",
      beside: `${rowCount.toLocaleString("en")} rows that change`,
      fill: fillLarge(rowCount),
      also: (tick) => `update large set body = md5(body) where id = ${((tick * STRIDE) % rowCount) + 1}`,
    },
    {
      name: "keys",
      beside: `keys of ${keyCount.toLocaleString("en")} rows`,
      fill: fillLarge(keyCount),
    },
    {
      name: "many",
      beside: `${tableCount.toLocaleString("en")} tables`,
      fill: async (from) => {
        for (let at = 0; at < tableCount; at += TABLES_AT_ONCE) {
          const names = Array.from({ length: Math.min(TABLES_AT_ONCE, tableCount - at) }, (_, i) => `t${at + i}`);
          const each = (name: string): string =>
            `create table ${name} (id int primary key, body text); insert into ${name} select g, md5(g::text) from generate_series(1, ${ROWS_IN_EACH}) g;`;
          await from.query(names.map(each).join("\n"));
        }
      },
    },
  ];
}

export async function run({ scale, log, takes }: BenchOptions): Promise<BenchReport> {
  const lines: Line[] = [];
  const ratios: Ratio[] = [];
  for (const scene of scenesOf(scale).filter(({ name }) => takes(name))) {
    const found = await measure(scene, scale, log);
    lines.push(...found.lines);
    ratios.push(found.ratio);
  }
  return { name: "proof", lines, ratios };
}

async function measure(
  { beside: rest, fill, also }: Scene,
  scale: number,
  log: BenchOptions["log"],
): Promise<{ readonly lines: readonly Line[]; readonly ratio: Ratio }> {
  const ticks = Math.max(4, Math.round(STRETCH_SECONDS * Math.min(1, scale * 2))) * TICKS_PER_SECOND;
  await using source = await postgres.start({ own: true, settings: DURABLE });
  await using target = await postgres.start({ own: true, settings: DURABLE });
  const from = await connected(source.url);
  await from.query("create table tick (id int primary key, body text)");
  await fill(from);
  await createDatabases(target.url, ...SIDES);
  await using daemons = new AsyncDisposableStack();
  const listeners = new AsyncDisposableStack();
  const measured = new Map<Side, Measured>();
  for (const side of SIDES) {
    const url = withDatabase(target.url, side);
    const daemon = daemons.use(
      new MeasuredDaemon({
        name: side,
        source: { kind: "postgres", url: source.url },
        sinks: { mirror: { kind: "postgres", url } },
        ...(side === "proven" ? { reconcile: { continuous: { maxAge: "1s" } } } : {}),
      }),
    );
    await daemon.catchUp();
    const mirror = await connected(url);
    listeners.defer(() => mirror.end());
    const seen = new Map<number, number>();
    await listen(mirror, seen);
    measured.set(side, { daemon, seen, times: [], cpuSeconds: 0, seconds: 0, memoryMiB: 0 });
  }
  let next = 1;
  for (const side of STRETCHES) {
    const figures = measured.get(side)!;
    const { daemon, seen, times } = figures;
    daemon.start();
    await daemon.caughtUp(side);
    await from.query("insert into tick values ($1, 'a row')", [next]);
    await heardBy([seen], next);
    const [cpuBefore, startedMs] = [daemon.usage().cpuSeconds, performance.now()];
    const committed = await writeTicks(from, next + 1, next + ticks, also);
    await heardBy([seen], next + ticks - 1);
    figures.cpuSeconds += daemon.usage().cpuSeconds - cpuBefore;
    figures.seconds += (performance.now() - startedMs) / 1000;
    times.push(...latencies(committed, seen, WARM_UP_MS));
    figures.memoryMiB = Math.max(figures.memoryMiB, daemon.usage().memoryMiB);
    next += ticks;
    if (side === "proven") log(`oldest proof: ${await oldestProof(daemon)}`);
    await daemon.stop();
  }
  await listeners.disposeAsync();
  await from.end();
  const lines = SIDES.map((side): Line => {
    const { times, cpuSeconds, seconds, memoryMiB } = measured.get(side)!;
    return {
      work: `commit to visible, ${TICKS_PER_SECOND} tx/s, beside ${rest}`,
      who: side === "proven" ? "with proof" : "without",
      figures: {
        "p50 ms": percentile(times, 0.5),
        "p99 ms": percentile(times, 0.99),
        "processor %": (cpuSeconds / seconds) * 100,
        "peak MiB": memoryMiB,
        seen: times.length,
      },
    };
  });
  const [without, beside] = SIDES.map((side) => percentile(measured.get(side)!.times, 0.99));
  return {
    lines,
    ratio: {
      what: `p99, with / without proof, beside ${rest}`,
      value: beside! / without!,
      target: 1.2,
      atLeast: false,
    },
  };
}

async function oldestProof(daemon: MeasuredDaemon): Promise<string> {
  const { oldest = null } = (await daemon.status("proven"))?.reconcile.continuous ?? {};
  if (oldest === null) return "none";
  const { provenAt, ranges } = oldest;
  const age = provenAt === null ? "not all ranges yet" : `${((Date.now() - Date.parse(provenAt)) / 1000).toFixed(1)} s`;
  return `${age}, ${ranges} ranges`;
}
