/**
 * What a change costs where much is there already: the same work on tables of several sizes, for each kind of sink, as
 * processor time of the daemon and of the target's server. Updates and deletes hit rows all over the table. Figures of the
 * whole table (snapshot with its sweep, reconcile) are for each of its rows. `--scene redis` takes one kind of sink.
 */
import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import type { Client } from "pg";
import { clickhouse } from "../scripts/services/servers/clickhouse.ts";
import { kafka } from "../scripts/services/servers/kafka.ts";
import { postgres } from "../scripts/services/servers/postgres/postgres.ts";
import { redis } from "../scripts/services/servers/redis.ts";
import { elasticsearch } from "../scripts/services/servers/search/elasticsearch.ts";
import { connected, createDatabases, withDatabase } from "./clients.ts";
import { MeasuredDaemon } from "./daemon.ts";
import { insertOrders, ORDERS } from "./orders.ts";
import type { BenchOptions, BenchReport, Line, Ratio } from "./report.ts";
import { SETTINGS } from "./slot.ts";

/** `--scale 10` makes them 2 and 20 million, and adds nothing to the changes. */
const SIZES = [200_000, 2_000_000];
const CHANGES = 20_000;
const CHANGES_PER_TRANSACTION = 100;
const SINGLES = 1_000;
const NAME = "bench";
const TABLE = "public.orders";
const ASK_EVERY_MS = 250;
const TICKS_PER_SECOND = 100;
/** By kind of sink: how much dearer a changed row may be in ten times as many rows. */
const WANTED: Readonly<Record<Kind, number>> = {
  postgres: 1.5,
  redis: 1.5,
  clickhouse: 1.5,
  elasticsearch: 1.5,
  kafka: 1.5,
  sqlite: 1.5,
  duckdb: 2,
};
const KINDS = ["postgres", "redis", "clickhouse", "elasticsearch", "kafka", "sqlite", "duckdb"] as const;
const CHANGED = ["update", "delete", "insert", "single"] as const;

type Kind = (typeof KINDS)[number];

interface Target extends AsyncDisposable {
  /** A place of its own for each name. */
  readonly sink: (name: string) => Promise<object>;
  readonly pid?: number | undefined;
}

export async function run({ scale, log, takes }: BenchOptions): Promise<BenchReport> {
  await using source = await postgres.start({ own: true, settings: SETTINGS });
  const lines: Line[] = [];
  const ratios: Ratio[] = [];
  for (const kind of KINDS.filter((one) => takes(one))) {
    await using target = await started(kind);
    const own: Line[] = [];
    const sizes = SIZES.map((rows) => Math.round(rows * scale));
    const changes = Math.min(CHANGES, Math.round(sizes[0]! / 10));
    for (const size of sizes) {
      own.push({ work: `${size} rows`, who: kind, figures: await costs(source.url, target, { size, changes }) });
      log(`size: ${kind}, ${size} rows: ${JSON.stringify(own.at(-1)!.figures)}`);
    }
    lines.push(...own);
    for (const work of CHANGED) {
      const sum = ({ figures }: Line): number => figures[`${work} µs`]! + figures[`${work}, server µs`]!;
      const value = sum(own.at(-1)!) / sum(own[0]!);
      ratios.push({
        what: `${kind}, ${work}: ${own[1]!.work} / ${own[0]!.work}`,
        value,
        target: WANTED[kind],
        atLeast: false,
      });
    }
  }
  return { name: "size", lines, ratios };
}

async function started(kind: Kind): Promise<Target> {
  if (kind === "sqlite" || kind === "duckdb") {
    return { sink: async () => ({ kind, path: `./target.${kind}` }), [Symbol.asyncDispose]: async () => {} };
  }
  const services = {
    postgres: () => postgres.start({ own: true, settings: SETTINGS }),
    redis: () => redis.start({ own: true }),
    clickhouse: () => clickhouse.start({ own: true }),
    elasticsearch: () => elasticsearch.start({ own: true, optimized: true }),
    kafka: () => kafka.start({ own: true }),
  };
  const server = await services[kind]();
  const sink = async (name: string): Promise<object> => {
    if (kind === "kafka") return { kind, brokers: [new URL(server.url).host], topic: name };
    if (kind === "redis") return { kind, url: server.url, prefix: `${name}:` };
    if (kind === "elasticsearch") return { kind, url: server.url, prefix: `${name}-` };
    if (kind === "clickhouse") return { kind, url: server.url, schema: name };
    await createDatabases(server.url, name);
    return { kind, url: withDatabase(server.url, name) };
  };
  return { sink, pid: server.pid, [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() };
}

interface Amount {
  readonly size: number;
  readonly changes: number;
}

async function costs(
  server: string,
  { sink, pid }: Target,
  { size, changes }: Amount,
): Promise<Record<string, number>> {
  const name = `size_${size}_${Math.random().toString(36).slice(2, 8)}`;
  await createDatabases(server, name);
  const url = withDatabase(server, name);
  const from = await connected(url);
  await from.query(ORDERS);
  await insertOrders(from, 1, size, size);
  await from.query("vacuum analyze orders");
  const figures: Record<string, number> = {};
  const target = await sink(name);
  await using daemon = new MeasuredDaemon({ name: NAME, source: { kind: "postgres", url }, sinks: { target } });
  const measured = async (what: string, per: number, work: () => Promise<unknown>): Promise<void> => {
    const before = [daemon.usage().cpuSeconds, treeSeconds(pid)] as const;
    await work();
    await daemon.caughtUp(NAME);
    figures[`${what} µs`] = ((daemon.usage().cpuSeconds - before[0]) * 1e6) / per;
    figures[`${what}, server µs`] = ((treeSeconds(pid) - before[1]) * 1e6) / per;
  };
  await daemon.catchUp();
  daemon.start();
  await daemon.caughtUp(NAME);
  await scatter(from);
  const changed = async (what: (typeof CHANGED)[number], count: number, per: number, sql: string): Promise<void> =>
    await measured(what, count, () => from.query(`call bench_scattered($1, $2, $3, $4)`, [sql, size, count, per]));
  await changed("update", changes, CHANGES_PER_TRANSACTION, "update orders set total = total + 1 where id = $1");
  await changed("delete", changes, CHANGES_PER_TRANSACTION, "delete from orders where id = $1");
  await measured("insert", changes, () => insertOrders(from, size + 1, changes, CHANGES_PER_TRANSACTION));
  await changed("single", Math.min(SINGLES, changes), 1, "update orders set total = total + 1 where id = $1 + 1");
  await measured("snapshot", size, async () => {
    await daemon.commandSeconds("snapshot", "start", "--tables", TABLE);
    while ((await daemon.status(NAME))?.unfinishedSnapshots !== 0) await sleep(ASK_EVERY_MS);
  });
  await measured("reconcile", size, () => daemon.commandSeconds("reconcile", "--tables", TABLE));
  figures["check s"] = await daemon.commandSeconds("check");
  await daemon.stop();
  daemon.start();
  await daemon.caughtUp(NAME);
  figures["restart, CPU s"] = daemon.usage().cpuSeconds;
  await daemon.stop();
  await from.query("select pg_drop_replication_slot(slot_name) from pg_replication_slots");
  await from.end();
  return figures;
}

/** Runs a statement for keys that are spread over the whole table, each once. */
async function scatter(from: Client): Promise<void> {
  await from.query(`create procedure bench_scattered(statement text, size bigint, changes bigint, per bigint) language plpgsql as $$
    begin
      for i in 0..changes - 1 loop
        execute statement using 1 + (i * (2 * (size / changes / 2) + 1)) % size;
        if (i + 1) % per = 0 then commit; end if;
      end loop;
    end $$`);
}

/** Seconds of processor time of a server and of all its processes, those that ended as well. */
function treeSeconds(pid: number | undefined): number {
  if (pid === undefined) return 0;
  let ticks = 0;
  for (const entry of readdirSync("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      const fields = readFileSync(`/proc/${entry}/stat`, "utf8")
        .replace(/^.*\) /, "")
        .split(" ")
        .map(Number);
      const [own, parent] = [Number(entry) === pid, fields[1] === pid];
      if (own || parent) ticks += fields[11]! + fields[12]!;
      if (own) ticks += fields[13]! + fields[14]!;
    } catch {
      // The process has ended meanwhile.
    }
  }
  return ticks / TICKS_PER_SECOND;
}
