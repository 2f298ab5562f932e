/** The settings of the capture benchmark, its figures, and its peers: pg_recvlogical and Debezium. */
import { spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import type { Client } from "pg";
import { formatLsn } from "../connectors/postgres/source/wire/lsn.ts";
import type { RunningPostgres } from "../scripts/services/servers/postgres/postgres.ts";
import type { Debezium } from "./debezium.ts";
import { until } from "./slot.ts";

export const SLOT = "bench_base";
export const PUBLICATION = "bench_capture";
const CLOCK_TICKS_PER_SECOND = 100;
const WATCH_MS = 50;

export type Transport = "tcp" | "unix";
export type Form = "binary" | "text";

export interface Place {
  readonly server: RunningPostgres;
  readonly socketDir: string;
  readonly admin: Client;
  readonly rows: number;
  readonly from: bigint;
  readonly to: bigint;
}

export interface Figures {
  readonly rowsPerSecond: number;
  readonly clientCpuSeconds: number;
  readonly walsenderCpuSeconds: number;
  /** Unknown for the peer, which receives with another system call. */
  readonly readCount: number | undefined;
}

export async function byRecvlogical(place: Place, transport: Transport, form: Form): Promise<Figures> {
  const slot = "bench_peer";
  await place.admin.query("select pg_copy_logical_replication_slot($1, $2)", [SLOT, slot]);
  const host = transport === "tcp" ? place.server.host : place.socketDir;
  const options = [
    "proto_version=1",
    `publication_names=${PUBLICATION}`,
    ...(form === "binary" ? ["binary=true"] : []),
  ];
  const startedMs = performance.now();
  const where = ["-h", host, "-p", String(place.server.port), "-U", "postgres", "-d", "postgres", "-S", slot];
  const rhythm = ["-F", "0", "-s", "1", "-n", "--endpos", formatLsn(place.to)];
  const child = spawn(
    "pg_recvlogical",
    [...where, "--start", "-f", "/dev/null", ...rhythm, ...options.flatMap((option) => ["-o", option])],
    { stdio: ["ignore", "ignore", "pipe"] },
  );
  let complaint = "";
  child.stderr.on("data", (chunk: Buffer) => (complaint += chunk.toString()));
  const exited = new Promise<number | null>((resolve) => child.once("exit", resolve));
  const watch = new Watch(place.admin, child.pid);
  const code = await exited;
  watch.stop();
  const seconds = (performance.now() - startedMs) / 1000;
  if (code !== 0) throw new Error(`pg_recvlogical failed: ${complaint}`);
  await place.admin.query("select pg_drop_replication_slot($1)", [slot]);
  return figuresOf(place, seconds, watch.clientCpuSeconds, watch.walsenderCpuSeconds, undefined);
}

/** Debezium's connector only has TCP and text. It counts from its first row, so its start is not in its time. */
export async function byDebezium(place: Place, debezium: Debezium): Promise<Figures> {
  const slot = "bench_peer";
  await place.admin.query("select pg_copy_logical_replication_slot($1, $2)", [SLOT, slot]);
  const watch = new Watch(place.admin, undefined);
  const { seconds, cpuSeconds } = await debezium.count(place.rows, {
    name: "bench",
    "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
    "offset.storage": "org.apache.kafka.connect.storage.MemoryOffsetBackingStore",
    "topic.prefix": "bench",
    "database.hostname": place.server.host,
    "database.port": String(place.server.port),
    "database.user": "postgres",
    "database.password": "none",
    "database.dbname": "postgres",
    "plugin.name": "pgoutput",
    "slot.name": slot,
    "publication.name": PUBLICATION,
    "publication.autocreate.mode": "disabled",
    "snapshot.mode": "no_data",
    // The mark after the load.
    "message.prefix.exclude.list": "end",
  });
  watch.stop();
  const gone = "select 1 from pg_replication_slots where slot_name = $1 and active";
  await until(async () => (await place.admin.query(gone, [slot])).rowCount === 0);
  await place.admin.query("select pg_drop_replication_slot($1)", [slot]);
  return figuresOf(place, seconds, cpuSeconds, watch.walsenderCpuSeconds, undefined);
}

/** Processor time of a client and of its walsender. It is read while they run, because at the end both are gone. */
class Watch {
  clientCpuSeconds = 0;
  walsenderCpuSeconds = 0;
  readonly #timer: NodeJS.Timeout;

  constructor(admin: Client, clientPid: number | undefined) {
    let walsender: number | undefined;
    this.#timer = setInterval(() => {
      void (async () => {
        walsender ??= await walsenderPid(admin);
        this.clientCpuSeconds = Math.max(this.clientCpuSeconds, await cpuSecondsOf(clientPid));
        this.walsenderCpuSeconds = Math.max(this.walsenderCpuSeconds, await cpuSecondsOf(walsender));
      })();
    }, WATCH_MS);
  }

  stop(): void {
    clearInterval(this.#timer);
  }
}

export function figuresOf(
  place: Place,
  seconds: number,
  clientCpu: number,
  walsenderCpu: number,
  reads: number | undefined,
): Figures {
  const perMillion = 1_000_000 / place.rows;
  return {
    rowsPerSecond: place.rows / seconds,
    clientCpuSeconds: clientCpu * perMillion,
    walsenderCpuSeconds: walsenderCpu * perMillion,
    readCount: reads === undefined ? undefined : reads * perMillion,
  };
}

export async function walsenderPid(admin: Client): Promise<number | undefined> {
  const { rows } = await admin.query<{ pid: number }>("select pid from pg_stat_replication limit 1");
  return rows[0]?.pid;
}

/** utime and stime of /proc/PID/stat; 0 where there is none. */
export async function cpuSecondsOf(pid: number | undefined): Promise<number> {
  if (pid === undefined) return 0;
  const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11] ?? 0) + Number(fields[12] ?? 0)) / CLOCK_TICKS_PER_SECOND;
}

export async function hasRecvlogical(): Promise<boolean> {
  const child = spawn("pg_recvlogical", ["--version"], { stdio: "ignore" });
  return new Promise((resolve) => {
    child.once("error", () => resolve(false));
    child.once("exit", (code) => resolve(code === 0));
  });
}
