/**
 * Postgres to Postgres against native logical replication: both replay the same backlog, one after the other. Processor
 * time is per row: of the walsender, of the writer at the target (apply worker, or the daemon's backend), of the daemon.
 */
import type { Client } from "pg";
import { postgres, type RunningPostgres } from "../scripts/services/servers/postgres/postgres.ts";
import { connected, createDatabases, libpq, withDatabase } from "./clients.ts";
import { cpuSecondsOf, MeasuredDaemon } from "./daemon.ts";
import { insertOrders, mixOrders, ORDERS, updateOrders } from "./orders.ts";
import { type BenchOptions, type BenchReport, type Line, median, type Ratio } from "./report.ts";
import { SETTINGS, Slot, until } from "./slot.ts";

interface Work {
  readonly name: string;
  /** The guarantee: native's rate times this. */
  readonly target: number;
  readonly rowCount: number;
  readonly load: (source: Client, round: number) => Promise<void>;
}

/** The cost of one replay. */
interface Figures {
  readonly seconds: number;
  readonly walsenderSeconds: number;
  readonly targetSeconds: number;
  readonly daemonSeconds: number;
  readonly memoryMiB: number;
}

type Who = "native" | "millrace";

export async function run({ scale, runs, log }: BenchOptions): Promise<BenchReport> {
  await using source = await postgres.start({ own: true, settings: SETTINGS });
  await using target = await postgres.start({ own: true, settings: SETTINGS });
  await using bench = await setUp(source, target);
  const keys = Math.round(1_000_000 * scale);
  const works = worksOf(keys, scale);
  const results = new Map<string, Figures[]>();
  for (let round = 0; round < runs; round++) {
    for (const work of works) {
      await bench.mark(`begin ${round} ${work.name}`);
      await work.load(bench.source, round);
      await bench.mark(`end ${round} ${work.name}`);
      const first = round % 2 === 0 ? (["native", "millrace"] as const) : (["millrace", "native"] as const);
      for (const who of first) {
        const figures = await bench.replay(who, `end ${round} ${work.name}`);
        const key = `${work.name}|${who}`;
        results.set(key, [...(results.get(key) ?? []), figures]);
        log(`${work.name} ${who}: ${Math.round(work.rowCount / figures.seconds).toLocaleString("en")} rows/s`);
      }
    }
  }
  await bench.compare();
  return report(works, (work, who) => results.get(`${work.name}|${who}`) ?? []);
}

function worksOf(keys: number, scale: number): readonly Work[] {
  const some = Math.round(500_000 * scale);
  const single = Math.round(400_000 * scale);
  return [
    {
      name: "inserts",
      target: 1,
      rowCount: keys,
      load: (c, round) => insertOrders(c, 1 + round * keys * 4, keys, 100),
    },
    { name: "updates", target: 1.5, rowCount: some, load: (c) => updateOrders(c, keys, some, 100) },
    {
      name: "mixed",
      target: 1.05,
      rowCount: some,
      load: (c, round) => mixOrders(c, 1 + round * keys * 4 + keys, keys, some),
    },
    { name: "hot keys", target: 3, rowCount: some, load: (c) => updateOrders(c, 1000, some, 100) },
    {
      name: "one-row transactions",
      target: 2,
      rowCount: single,
      load: (c, round) => insertOrders(c, 1 + round * keys * 4 + keys * 3, single, 1),
    },
  ];
}

class Setup implements AsyncDisposable {
  readonly source: Client;
  readonly #native: Client;
  readonly #mirror: Client;
  readonly #daemon: MeasuredDaemon;

  constructor(source: Client, native: Client, mirror: Client, daemon: MeasuredDaemon) {
    this.source = source;
    this.#native = native;
    this.#mirror = mirror;
    this.#daemon = daemon;
  }

  async mark(name: string): Promise<void> {
    await this.source.query("insert into mark values ($1)", [name]);
  }

  /** From the moment the server streams until the target shows the mark. */
  async replay(who: Who, mark: string): Promise<Figures> {
    const client = who === "native" ? this.#native : this.#mirror;
    await client.query("checkpoint");
    const slot = new Slot(this.source, who === "native" ? "native" : "millrace_bench");
    if (who === "native") await client.query("alter subscription native enable");
    else this.#daemon.start();
    const walsender = await slot.streaming();
    const { cpuSeconds } = this.#daemon.usage();
    const startedMs = performance.now();
    await until(async () => (await client.query("select 1 from mark where name = $1", [mark])).rowCount === 1);
    const seconds = (performance.now() - startedMs) / 1000;
    const usage = this.#daemon.usage();
    const { rows: writers } = await client.query<{ pid: number }>(
      `select pid from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()
       and backend_type in ('client backend', 'logical replication apply worker')`,
    );
    const figures = {
      seconds,
      walsenderSeconds: cpuSecondsOf(walsender),
      targetSeconds: writers.reduce((sum, { pid }) => sum + cpuSecondsOf(pid), 0),
      daemonSeconds: usage.cpuSeconds - cpuSeconds,
      memoryMiB: usage.memoryMiB,
    };
    await slot.settled();
    if (who === "native") await client.query("alter subscription native disable");
    else await this.#daemon.stop();
    await slot.free();
    return figures;
  }

  /** A rate counts only if the rows that arrived are the rows of the source. */
  async compare(): Promise<void> {
    const columns =
      "id, customer_id, status, total, currency, items, weight, paid, note, email, created_at, updated_at";
    const sql = `select count(*)::text as n, sum(hashtextextended((${columns})::text, 0))::text as h from (select ${columns} from orders) o`;
    const [source, ...targets] = await Promise.all(
      [this.source, this.#native, this.#mirror].map(async (client) => JSON.stringify((await client.query(sql)).rows)),
    );
    for (const found of targets) if (found !== source) throw new Error(`contents differ: ${source} and ${found}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#daemon[Symbol.asyncDispose]();
    await this.#native.query("alter subscription native set (slot_name = none)");
    await this.#native.query("drop subscription native");
    await Promise.all([this.source, this.#native, this.#mirror].map((client) => client.end()));
  }
}

async function setUp(source: RunningPostgres, target: RunningPostgres): Promise<Setup> {
  const from = await connected(source.url);
  await from.query(`${ORDERS}; create table mark (name text primary key); create publication native for all tables`);
  await createDatabases(target.url, "native", "mirror");
  const native = await connected(withDatabase(target.url, "native"));
  await native.query(`${ORDERS}; create table mark (name text primary key)`);
  await from.query("select pg_create_logical_replication_slot('native', 'pgoutput')");
  await native.query(
    `create subscription native connection '${libpq(source.url)}' publication native
     with (create_slot = false, slot_name = 'native', copy_data = false, enabled = false, binary = true, streaming = off)`,
  );
  const mirrorUrl = withDatabase(target.url, "mirror");
  const daemon = new MeasuredDaemon({
    name: "bench",
    source: { kind: "postgres", url: source.url },
    sinks: { mirror: { kind: "postgres", url: mirrorUrl } },
  });
  await daemon.catchUp();
  return new Setup(from, native, await connected(mirrorUrl), daemon);
}

function report(works: readonly Work[], of: (work: Work, who: Who) => readonly Figures[]): BenchReport {
  const lines: Line[] = [];
  const ratios: Ratio[] = [];
  const memory: number[] = [];
  for (const work of works) {
    const native = of(work, "native");
    const millrace = of(work, "millrace");
    memory.push(...millrace.map((figures) => figures.memoryMiB));
    lines.push({ work: work.name, who: "native replication, binary", figures: columns(work, native) });
    lines.push({ work: work.name, who: "millrace", figures: columns(work, millrace, true) });
    const value = median(millrace.map(({ seconds }, i) => native[i]!.seconds / seconds));
    ratios.push({ what: `${work.name}, millrace / native`, value, target: work.target, atLeast: true });
  }
  ratios.push({ what: "peak resident memory, MiB", value: Math.max(...memory), target: 256, atLeast: false });
  return { name: "apply-postgres", lines, ratios };
}

function columns({ rowCount }: Work, all: readonly Figures[], daemon = false): Line["figures"] {
  const usPerRow = (name: keyof Figures): number => (median(all.map((figures) => figures[name])) * 1e6) / rowCount;
  return {
    "rows/s": median(all.map(({ seconds }) => rowCount / seconds)),
    "walsender µs/row": usPerRow("walsenderSeconds"),
    "target µs/row": usPerRow("targetSeconds"),
    ...(daemon ? { "daemon µs/row": usPerRow("daemonSeconds") } : {}),
  };
}
