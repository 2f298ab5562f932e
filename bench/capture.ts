/**
 * Capture to nothing: reads a slot from before a load to its end, as fast as possible. The peer is pg_recvlogical, the
 * server's own client, with the same options at the same slot position; over TCP and Unix socket, text and binary. For text
 * over TCP, Debezium's engine is a second peer, if it is available. CPU seconds are per million rows: of the client's
 * process and of the server's walsender. Reads, also per million rows, are those of Millrace's process: the number of rows
 * per read decides the rate more than anything else.
 */
import { readFile } from "node:fs/promises";
import { Client } from "pg";
import { postgres, type RunningPostgres } from "../scripts/services/servers/postgres/postgres.ts";
import { Database } from "../connectors/postgres/source/wire/database.ts";
import { KnownLeaves } from "../connectors/postgres/source/wire/context.ts";
import { PlacedMarks } from "../connectors/postgres/source/wire/placed-marks.ts";
import { SaidSchemas } from "../connectors/postgres/source/wire/said-schemas.ts";
import { Writer } from "../connectors/postgres/source/wire/writer.ts";
import { parseLsn } from "../connectors/postgres/source/wire/lsn.ts";
import { PostgresStream } from "../connectors/postgres/source/stream/change-stream.ts";
import { TableSelection } from "../src/core/table-selection.ts";
import { parsePostgresUrl } from "../src/postgres/url.ts";
import type { SchemaResolver } from "../src/core/contracts/change-log.ts";
import { SILENT } from "../src/core/contracts/telemetry.ts";
import {
  byDebezium,
  byRecvlogical,
  cpuSecondsOf,
  type Figures,
  figuresOf,
  type Form,
  hasRecvlogical,
  type Place,
  PUBLICATION,
  SLOT,
  type Transport,
  walsenderPid,
} from "./capture-peers.ts";
import { Debezium, DEBEZIUM } from "./debezium.ts";
import { insertOrders, ORDERS } from "./orders.ts";
import { median, type BenchOptions, type BenchReport, type Line } from "./report.ts";
import { DURABLE } from "./slot.ts";
import { ShownLeaves } from "../connectors/postgres/source/catalog/unlogged-changes.ts";

const ROWS = 1_000_000;
const ROWS_PER_TRANSACTION = 100;
const DEBEZIUM_TARGET = 3;
/** Its connector has only this transport and form. */
const DEBEZIUM_WORK = "tcp, text";

export async function run({ scale, runs, log }: BenchOptions): Promise<BenchReport> {
  await using server = await postgres.start({
    own: true,
    settings: {
      ...DURABLE,
      max_wal_size: "8GB",
      shared_buffers: "512MB",
      synchronous_commit: "off",
      checkpoint_timeout: "30min",
      autovacuum: "off",
    },
  });
  const { socketDir } = server;
  if (socketDir === undefined) throw new Error("capture needs a native server");
  const admin = new Client({ connectionString: server.url });
  await admin.connect();
  try {
    const place = await load(server, socketDir, admin, Math.round(ROWS * scale), log);
    return await measure(place, runs, log);
  } finally {
    await admin.end();
  }
}

async function load(
  server: RunningPostgres,
  socketDir: string,
  admin: Client,
  rows: number,
  log: BenchOptions["log"],
): Promise<Place> {
  await admin.query(ORDERS);
  await admin.query(`create publication ${PUBLICATION} for table orders`);
  await admin.query("select pg_create_logical_replication_slot($1, 'pgoutput')", [SLOT]);
  const { rows: slots } = await admin.query<{ lsn: string }>(
    "select confirmed_flush_lsn::text as lsn from pg_replication_slots",
  );
  log(`capture: writing ${rows} rows`);
  await insertOrders(admin, 1, rows, ROWS_PER_TRANSACTION);
  await admin.query("set synchronous_commit = on");
  const { rows: ends } = await admin.query<{ lsn: string }>(
    "select pg_logical_emit_message(true, 'end', '')::text as lsn",
  );
  await admin.query("checkpoint");
  return { server, socketDir, admin, rows, from: parseLsn(slots[0]!.lsn), to: parseLsn(ends[0]!.lsn) };
}

async function measure(place: Place, runs: number, log: BenchOptions["log"]): Promise<BenchReport> {
  const hasPeer = await hasRecvlogical();
  if (!hasPeer) log("capture: pg_recvlogical is left out: it is not on this machine");
  await using debezium = await Debezium.provide(log);
  const results = new Map<string, Figures[]>();
  const measured = (work: string, who: string, figures: Figures): void => {
    const key = `${work}|${who}`;
    results.set(key, [...(results.get(key) ?? []), figures]);
    log(`capture: ${work}, ${who} ${Math.round(figures.rowsPerSecond)} rows/s`);
  };
  for (let i = 0; i < runs; i++) {
    for (const transport of ["tcp", "unix"] as const) {
      for (const form of ["binary", "text"] as const) {
        const work = `${transport}, ${form}`;
        measured(work, "millrace", await ours(place, transport, form));
        if (hasPeer) measured(work, "pg_recvlogical", await byRecvlogical(place, transport, form));
        if (debezium !== undefined && work === DEBEZIUM_WORK) {
          measured(work, DEBEZIUM, await byDebezium(place, debezium));
        }
      }
    }
  }
  const lines = [...results].map(([key, figures]): Line => {
    const [work = "", who = ""] = key.split("|");
    const of = (name: keyof Figures): number => median(figures.map((f) => f[name] ?? Number.NaN));
    return {
      work,
      who,
      figures: {
        "rows/s": of("rowsPerSecond"),
        "client CPU s/1M": of("clientCpuSeconds"),
        "walsender CPU s/1M": of("walsenderCpuSeconds"),
        ...(who === "millrace" ? { "reads/1M": of("readCount") } : {}),
      },
    };
  });
  const rate = (work: string, who: string): number =>
    lines.find((line) => line.work === work && line.who === who)?.figures["rows/s"] ?? Number.NaN;
  const ratios = ["tcp, binary", "tcp, text", "unix, binary", "unix, text"].map((work) => ({
    what: `${work}, against pg_recvlogical`,
    value: rate(work, "millrace") / rate(work, "pg_recvlogical"),
    target: work.startsWith("tcp") ? 1.5 : 1,
    atLeast: true,
  }));
  const againstDebezium = {
    what: `${DEBEZIUM_WORK}, against Debezium's engine`,
    value: rate(DEBEZIUM_WORK, "millrace") / rate(DEBEZIUM_WORK, DEBEZIUM),
    target: DEBEZIUM_TARGET,
    atLeast: true,
  };
  return {
    name: "capture",
    lines,
    ratios: [...(hasPeer ? ratios : []), ...(debezium === undefined ? [] : [againstDebezium])],
  };
}

async function ours(place: Place, transport: Transport, form: Form): Promise<Figures> {
  const address = parsePostgresUrl(
    transport === "tcp"
      ? place.server.url
      : `postgres://postgres@/postgres?host=${encodeURIComponent(place.socketDir)}&port=${place.server.port}`,
  );
  const database = new Database(address);
  const context = {
    address,
    database,
    writer: new Writer(database, null),
    marks: new PlacedMarks(),
    schemas: new SaidSchemas(),
    leaves: new KnownLeaves(),
    provenTrees: new Map(),
    slot: SLOT,
    publication: PUBLICATION,
    selection: new TableSelection([]),
    readsRows: true,
    copySessions: 1,
    chosenKey: () => null,
    logger: SILENT,
  };
  const { signal } = new AbortController();
  const resolve: SchemaResolver = async (shape, since) => ({ ...shape, version: 1, since });
  const cpuBefore = process.cpuUsage();
  const readsBefore = await ownReadCount();
  const startedMs = performance.now();
  const stream = await PostgresStream.open(
    {
      context,
      from: { epoch: 1, commit: place.from, index: 0 },
      options: { temporary: true, resolve },
      binary: form === "binary",
      version: 180_000,
      leaves: new ShownLeaves(),
    },
    signal,
  );
  const walsender = await walsenderPid(place.admin);
  let count = 0;
  for (let at = place.from; at < place.to;) {
    const block = await stream.next(signal);
    count += block.count;
    at = block.until.commit;
    block.release();
  }
  const seconds = (performance.now() - startedMs) / 1000;
  const cpu = process.cpuUsage(cpuBefore);
  const walsenderCpuSeconds = await cpuSecondsOf(walsender);
  const readCount = (await ownReadCount()) - readsBefore;
  await stream[Symbol.asyncDispose]();
  await database.close();
  if (count !== place.rows) throw new Error(`${count} of ${place.rows} rows came`);
  return figuresOf(place, seconds, (cpu.user + cpu.system) / 1e6, walsenderCpuSeconds, readCount);
}

/** Read calls of this process so far. */
async function ownReadCount(): Promise<number> {
  const account = await readFile("/proc/self/io", "utf8").catch(() => "");
  return Number(/syscr: (\d+)/.exec(account)?.[1] ?? Number.NaN);
}
