/**
 * Commit to visible in Kafka at 200 transactions of one row a second, against Debezium's embedded engine that writes to the
 * same broker from the same Postgres: JSON, acks of all replicas, topics of one partition, and readers of committed records.
 * Both run one after the other, several times, so that neither takes the processor from the other. It needs what
 * debezium.ts says; without that the peer is left out.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Client } from "pg";
import { topicsOf } from "../connectors/kafka/client/cluster.ts";
import { LibraryCluster } from "../connectors/kafka/client/library-cluster.ts";
import { readCommitted } from "../connectors/kafka/client/partition.ts";
import { createTopic } from "../connectors/kafka/writer/topics.ts";
import { type DebeziumProgram, provideDebezium } from "../scripts/services/tools/debezium.ts";
import { kafka } from "../scripts/services/servers/kafka.ts";
import { postgres } from "../scripts/services/servers/postgres/postgres.ts";
import { connected } from "./clients.ts";
import { cpuSecondsOf, MeasuredDaemon } from "./daemon.ts";
import { DEBEZIUM } from "./debezium.ts";
import { type BenchOptions, type BenchReport, type Line, percentile } from "./report.ts";
import { DURABLE, until } from "./slot.ts";

const TRANSACTIONS_PER_SECOND = 200;
const SECONDS = 10;
/** Not counted: both sides compile what runs often, and the peer's takes longer. */
const WARM_UP_SECONDS = 8;
const HEAP_MEGABYTES = 512;
const OWN_TOPIC = "bench.public.tick";
const PEER_TOPIC = "peer.public.tick";
/** Its own default is half a second; a batch is taken as soon as it has a row. */
const POLL = { "poll.interval.ms": "5" };
const SOURCE = join(import.meta.dirname, "debezium", "DebeziumToKafka.java");

interface Side extends AsyncDisposable {
  readonly pid: number;
}

interface Measured {
  readonly times: number[];
  cpuSeconds: number;
  count: number;
}

export async function run({ scale, runs, log }: BenchOptions): Promise<BenchReport> {
  const seconds = Math.max(3, Math.round(SECONDS * scale));
  await using source = await postgres.start({ own: true, settings: DURABLE });
  await using broker = await kafka.start({ own: true });
  await using program = await peerProgram(log);
  const from = await connected(source.url);
  await from.query("create table tick (id int primary key, body text); create publication peer for table tick");
  const { host } = new URL(broker.url);
  await using reader = new Reader(host);
  const sinks = { log: { kind: "kafka", brokers: [host], topics: { partitions: 1 } } };
  await using daemon = new MeasuredDaemon({ name: "bench", source: { kind: "postgres", url: source.url }, sinks });
  await daemon.catchUp();
  await reader.make(PEER_TOPIC);
  const own: Measured = { times: [], cpuSeconds: 0, count: 0 };
  const peer: Measured = { times: [], cpuSeconds: 0, count: 0 };
  let first = 1;
  for (let round = 0; round < runs; round++) {
    const start = async (): Promise<Side> => {
      daemon.start();
      return { pid: daemon.pid, [Symbol.asyncDispose]: () => daemon.stop() };
    };
    first = await measure(from, reader, { topic: OWN_TOPIC, start, first, seconds }, own);
    if (program === undefined) continue;
    const startPeer = () => startDebezium(program, source.url, host, from, `peer_${round}`);
    first = await measure(from, reader, { topic: PEER_TOPIC, start: startPeer, first, seconds }, peer);
  }
  await from.end();
  return report(own, program === undefined ? null : peer);
}

async function peerProgram(log: BenchOptions["log"]): Promise<DebeziumProgram | undefined> {
  try {
    return await provideDebezium(SOURCE);
  } catch (error) {
    log(`${DEBEZIUM} is left out: ${error instanceof Error ? error.message : String(error)}`);
    return undefined;
  }
}

interface Stretch {
  readonly topic: string;
  readonly start: () => Promise<Side>;
  readonly first: number;
  readonly seconds: number;
}

/** Returns the number after the last row. */
async function measure(
  from: Client,
  reader: Reader,
  { topic, start, first, seconds }: Stretch,
  measured: Measured,
): Promise<number> {
  await using side = await start();
  // Rows until one is seen: before that the side has not begun.
  let id = first;
  using seen = await reader.follow(topic);
  while (!seen.ids.has(id - 1)) {
    await from.query("insert into tick values ($1, 'a row')", [id++]);
    await sleep(100);
  }
  const committed = new Map<number, number>();
  const begun = id;
  const warmUp = WARM_UP_SECONDS * TRANSACTIONS_PER_SECOND;
  const end = begun + warmUp + seconds * TRANSACTIONS_PER_SECOND;
  const startedMs = performance.now();
  let cpuBefore = 0;
  for (; id < end; id++) {
    if (id === begun + warmUp) cpuBefore = cpuSecondsOf(side.pid);
    const dueMs = startedMs + ((id - begun) * 1000) / TRANSACTIONS_PER_SECOND;
    if (dueMs > performance.now()) await sleep(dueMs - performance.now());
    await from.query("insert into tick values ($1, 'a row')", [id]);
    committed.set(id, performance.now());
  }
  await until(async () => await Promise.resolve(seen.ids.has(end - 1)));
  measured.cpuSeconds += cpuSecondsOf(side.pid) - cpuBefore;
  for (const [row, committedMs] of committed) {
    if (row < begun + warmUp) continue;
    const seenMs = seen.ids.get(row);
    if (seenMs === undefined) throw new Error(`row ${row} was never seen in ${topic}`);
    measured.count++;
    measured.times.push(Math.max(0, seenMs - committedMs));
  }
  return end;
}

/** Reads committed records, and notes when it had which row. */
class Reader implements AsyncDisposable {
  readonly #cluster: LibraryCluster;
  readonly #end = new AbortController();

  constructor(broker: string) {
    this.#cluster = new LibraryCluster({ brokers: [broker], clientId: "bench", tls: null, sasl: null });
  }

  async make(name: string): Promise<void> {
    await createTopic(this.#cluster, { name, partitions: 1, replication: 1, settings: {} }, this.#end.signal);
  }

  async follow(name: string): Promise<Disposable & { readonly ids: ReadonlyMap<number, number> }> {
    const ids = new Map<number, number>();
    const ended = new AbortController();
    const topic = (await topicsOf(this.#cluster, [name], ended.signal)).get(name);
    if (topic == null) throw new Error(`there is no topic ${name}`);
    const place = { name, topic, partition: 0 };
    const follow = async (): Promise<void> => {
      for await (const { key } of readCommitted(this.#cluster, place, { from: 0n, until: null }, ended.signal)) {
        const id: unknown = key === null ? null : JSON.parse(key.toString("utf8"));
        if (typeof id === "object" && id !== null && "id" in id) ids.set(Number(id.id), performance.now());
      }
    };
    follow().catch((error: unknown) => {
      if (!ended.signal.aborted) throw error;
    });
    return { ids, [Symbol.dispose]: () => ended.abort() };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#end.abort();
    await this.#cluster[Symbol.asyncDispose]();
  }
}

async function startDebezium(
  { java: { command: java, args }, classpath }: DebeziumProgram,
  url: string,
  broker: string,
  from: Client,
  slot: string,
): Promise<Side> {
  const { hostname, port } = new URL(url);
  const properties = {
    name: "bench",
    "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
    "offset.storage": "org.apache.kafka.connect.storage.MemoryOffsetBackingStore",
    "topic.prefix": "peer",
    "database.hostname": hostname,
    "database.port": port,
    "database.user": "postgres",
    "database.password": "none",
    "database.dbname": "postgres",
    "plugin.name": "pgoutput",
    "slot.name": slot,
    "publication.name": "peer",
    "publication.autocreate.mode": "disabled",
    "snapshot.mode": "no_data",
    "key.converter.schemas.enable": "false",
    "value.converter.schemas.enable": "false",
    "converter.schemas.enable": "false",
    ...POLL,
  };
  const words = Object.entries(properties).map(([name, value]) => `${name}=${value}`);
  const level = "-Dorg.slf4j.simpleLogger.defaultLogLevel=error";
  const all = [...args, `-Xmx${HEAP_MEGABYTES}m`, level, "-cp", classpath, "DebeziumToKafka", broker, ...words];
  const child = spawn(java, all, { stdio: ["ignore", "ignore", "inherit"] });
  return {
    pid: child.pid!,
    [Symbol.asyncDispose]: async () => {
      const gone = once(child, "exit");
      child.kill("SIGKILL");
      await gone;
      const free = "select 1 from pg_replication_slots where slot_name = $1 and not active";
      await until(async () => (await from.query(free, [slot])).rowCount === 1);
      await from.query("select pg_drop_replication_slot($1)", [slot]);
    },
  };
}

function report(own: Measured, peer: Measured | null): BenchReport {
  const line = (who: string, { times, cpuSeconds, count }: Measured): Line => ({
    work: `commit to visible in Kafka, ${TRANSACTIONS_PER_SECOND} tx/s`,
    who,
    figures: {
      "p50 ms": percentile(times, 0.5),
      "p99 ms": percentile(times, 0.99),
      "p99.9 ms": percentile(times, 0.999),
      "CPU ms/tx": (cpuSeconds * 1000) / count,
      seen: count,
    },
  });
  const lines = [line("millrace", own), ...(peer === null ? [] : [line(DEBEZIUM, peer)])];
  if (peer === null) return { name: "latency-kafka", lines, ratios: [] };
  const ratio = (share: number): number => percentile(own.times, share) / percentile(peer.times, share);
  const ratios = [
    { what: "p50, millrace / Debezium", value: ratio(0.5), target: 1, atLeast: false },
    { what: "p99, millrace / Debezium", value: ratio(0.99), target: 1, atLeast: false },
  ];
  return { name: "latency-kafka", lines, ratios };
}
