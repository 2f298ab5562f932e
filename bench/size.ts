/**
 * What a change costs where much is there already: the same work on tables of several sizes in turn, for each kind of sink,
 * as processor time of the daemon and of the target's server, with what the server does afterwards. Changes hit rows all over
 * the table, each once, in no order. A snapshot beside the stream with its sweep and a comparison count for each row of the
 * table, a check and a restart as a whole.
 * `--scene redis` takes one kind of sink.
 */
import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import type { Client } from "pg";
import { duckdbExtensions } from "../scripts/services/packages/duckdb-extensions.ts";
import { clickhouse } from "../scripts/services/servers/clickhouse.ts";
import { kafka } from "../scripts/services/servers/kafka.ts";
import { postgres } from "../scripts/services/servers/postgres/postgres.ts";
import { redis } from "../scripts/services/servers/redis.ts";
import { elasticsearch } from "../scripts/services/servers/search/elasticsearch.ts";
import { connected, createDatabases, withDatabase } from "./clients.ts";
import { MeasuredDaemon } from "./daemon.ts";
import { insertOrders, ORDERS } from "./orders.ts";
import { type BenchOptions, type BenchReport, type Line, median, type Ratio } from "./report.ts";
import { SETTINGS } from "./slot.ts";

/** `--scale 10` makes them 2 and 20 million, and adds nothing to the changes. */
const SIZES = [200_000, 2_000_000];
const CHANGES = 20_000;
const CHANGES_PER_TRANSACTION = 100;
const SINGLES = 1_000;
const TABLE = "public.orders";
const ASK_EVERY_MS = 250;
const TICKS_PER_SECOND = 100;
/** Work that the server does afterwards has ended when this much of a look's time was idle. */
const IDLE_SHARE = 0.9;
const SETTLED_MS_MAX = 5_000;
export const KINDS = [
  "postgres",
  "redis",
  "redis-json",
  "clickhouse",
  "elasticsearch",
  "kafka",
  "files",
  "sqlite",
  "duckdb",
  "ducklake",
] as const;
/** By kind of sink: how much dearer a changed row may be in ten times as many rows. */
const WANTED: Readonly<Record<Kind, number>> = {
  postgres: 1.5,
  redis: 1.5,
  "redis-json": 1.5,
  clickhouse: 1.5,
  elasticsearch: 1.5,
  kafka: 1.5,
  files: 1.5,
  sqlite: 1.5,
  duckdb: 2,
  ducklake: 3,
};
const CHANGED = ["update", "delete", "insert", "single"] as const;
/** A row's share of the first two, and the whole of the others. */
const WHOLE = ["snapshot", "reconcile", "check", "restart"] as const;

export type Kind = (typeof KINDS)[number];
type Figures = Record<string, number>;

export interface Target extends AsyncDisposable {
  /** A place of its own for each name. */
  readonly sink: (name: string) => Promise<object>;
  readonly pid?: number | undefined;
}

export async function run({ scale, runs, log, takes }: BenchOptions): Promise<BenchReport> {
  await using source = await postgres.start({ own: true, settings: SETTINGS });
  const lines: Line[] = [];
  const ratios: Ratio[] = [];
  const sizes = SIZES.map((rows) => Math.round(rows * scale));
  // Each round takes as many updates, deletes and singles that no other has.
  const changes = Math.min(CHANGES, Math.floor(sizes[0]! / (3 * runs)));
  const filled = new Set<number>();
  for (const kind of KINDS.filter((one) => takes(one))) {
    await using target = await started(kind);
    await using tables = new AsyncDisposableStack();
    const sized: SizedTable[] = [];
    for (const size of sizes) {
      if (!filled.has(size)) await fill(source.url, size);
      filled.add(size);
      const table = tables.use(await SizedTable.open(source.url, target, { kind, size, changes }));
      sized.push(table);
      log(`size: ${kind}, ${size} rows copied`);
    }
    for (let round = 0; round < runs; round++) {
      for (const work of CHANGED) for (const table of sized) await table.change(work);
      log(`size: ${kind}, round ${round + 1} of ${runs}`);
    }
    for (const table of sized) {
      await table.whole();
      lines.push({ work: `${table.size} rows`, who: kind, figures: table.figures });
      log(`size: ${kind}, ${table.size} rows: ${JSON.stringify(table.figures)}`);
    }
    const [few, many] = [sized[0]!, sized.at(-1)!];
    for (const work of [...CHANGED, ...WHOLE]) {
      const sum = ({ figures }: SizedTable): number | undefined => {
        const own = figures[`${work} µs`] ?? figures[`${work} s`];
        return own === undefined ? undefined : own + (figures[`${work}, server µs`] ?? 0);
      };
      const [first, last] = [sum(few), sum(many)];
      if (first === undefined || last === undefined) continue;
      const what = `${kind}, ${work}: ${many.size} rows / ${few.size} rows`;
      ratios.push({ what, value: last / first, target: WANTED[kind], atLeast: false });
    }
  }
  return { name: "size", lines, ratios };
}

export async function started(kind: Kind): Promise<Target> {
  const none = { [Symbol.asyncDispose]: async () => {} };
  if (kind === "sqlite" || kind === "duckdb")
    return { sink: async () => ({ kind, path: `./target.${kind}` }), ...none };
  if (kind === "files") return { sink: async () => ({ kind, path: "./target", roll: { age: "1s" } }), ...none };
  if (kind === "ducklake") {
    const extensions = await duckdbExtensions();
    return { sink: async () => ({ kind, catalog: "sqlite:./lake.db", data: "./lake", extensions }), ...none };
  }
  const services = {
    postgres: () => postgres.start({ own: true, settings: SETTINGS }),
    redis: () => redis.start({ own: true }),
    "redis-json": () => redis.start({ own: true }),
    clickhouse: () => clickhouse.start({ own: true }),
    elasticsearch: () => elasticsearch.start({ own: true, optimized: true }),
    kafka: () => kafka.start({ own: true }),
  };
  const server = await services[kind]();
  const sink = async (name: string): Promise<object> => {
    if (kind === "kafka") return { kind, brokers: [new URL(server.url).host], topic: name };
    if (kind === "redis" || kind === "redis-json")
      return { kind: "redis", url: server.url, prefix: `${name}:`, format: kind === "redis" ? "hash" : "json" };
    if (kind === "elasticsearch") return { kind, url: server.url, prefix: `${name}-` };
    if (kind === "clickhouse") return { kind, url: server.url, schema: name };
    await createDatabases(server.url, name);
    return { kind, url: withDatabase(server.url, name) };
  };
  return { sink, pid: server.pid, [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() };
}

function filledName(size: number): string {
  return `filled_${size}`;
}

/** A database to copy for each kind of sink. */
async function fill(server: string, size: number): Promise<void> {
  const name = filledName(size);
  await createDatabases(server, name);
  const from = await connected(withDatabase(server, name));
  await from.query(ORDERS);
  await insertOrders(from, 1, size, size);
  await from.query("vacuum analyze orders");
  await scatter(from);
  await from.end();
}

interface Amount {
  readonly kind: Kind;
  readonly size: number;
  readonly changes: number;
}

/** Of a daemon and its slot at the source. */
function nameOf({ size }: Pick<Amount, "size">): string {
  return `size_${size}`;
}

/** A table of one size with the daemon that follows it. */
class SizedTable implements AsyncDisposable {
  readonly size: number;
  readonly figures: Figures = {};
  readonly #name: string;
  readonly #kind: Kind;
  readonly #changes: number;
  readonly #from: Client;
  readonly #daemon: MeasuredDaemon;
  readonly #pid: number | undefined;
  readonly #rounds = new Map<string, number[]>();
  #nextKey: number;
  #nextRow: number;

  private constructor({ kind, size, changes }: Amount, from: Client, daemon: MeasuredDaemon, pid: number | undefined) {
    this.#name = nameOf({ size });
    this.#kind = kind;
    this.size = size;
    this.#changes = changes;
    this.#from = from;
    this.#daemon = daemon;
    this.#pid = pid;
    this.#nextKey = 0;
    this.#nextRow = size + 1;
  }

  static async open(server: string, { sink, pid }: Target, amount: Amount): Promise<SizedTable> {
    const name = `size_${amount.kind.replace("-", "_")}_${amount.size}`;
    const admin = await connected(server);
    await admin.query(`create database ${name} template ${filledName(amount.size)}`);
    await admin.end();
    const url = withDatabase(server, name);
    const daemon = new MeasuredDaemon({
      name: nameOf(amount),
      source: { kind: "postgres", url },
      sinks: { target: await sink(name) },
    });
    await daemon.catchUp();
    daemon.start();
    await daemon.caughtUp(nameOf(amount));
    await settled(daemon.pid, pid);
    return new SizedTable(amount, await connected(url), daemon, pid);
  }

  async change(work: (typeof CHANGED)[number]): Promise<void> {
    const count = work === "single" ? Math.min(SINGLES, this.#changes) : this.#changes;
    const per = work === "single" ? 1 : CHANGES_PER_TRANSACTION;
    await this.#measured(work, count, async () => {
      // The source is slower in a large table, and a daemon beside it would have smaller batches there.
      const halts = work !== "single";
      if (halts) process.kill(this.#daemon.pid, "SIGSTOP");
      try {
        await this.#write(work, count, per);
      } finally {
        if (halts) process.kill(this.#daemon.pid, "SIGCONT");
      }
    });
  }

  async #write(work: (typeof CHANGED)[number], count: number, per: number): Promise<void> {
    if (work === "insert") {
      await insertOrders(this.#from, this.#nextRow, count, per);
      this.#nextRow += count;
      return;
    }
    const sql =
      work === "delete" ? "delete from orders where id = $1" : "update orders set total = total + 1 where id = $1";
    await this.#from.query("call bench_scattered($1, $2, $3, $4, $5)", [sql, this.size, this.#nextKey, count, per]);
    this.#nextKey += count;
  }

  /** What concerns the table as a whole. */
  async whole(): Promise<void> {
    const daemon = this.#daemon;
    await this.#measured("snapshot", this.size, async () => {
      await daemon.commandSeconds("snapshot", "start", "--tables", TABLE);
      while ((await daemon.status(this.#name))?.unfinishedSnapshots !== 0) await sleep(ASK_EVERY_MS);
    });
    // Of topics and files nothing is compared.
    if (this.#kind !== "kafka" && this.#kind !== "files")
      await this.#measured("reconcile", this.size, () => daemon.commandSeconds("reconcile", "--tables", TABLE));
    await this.#alone("check", async () => {
      const before = endedChildrenSeconds();
      await daemon.commandSeconds("check");
      return endedChildrenSeconds() - before;
    });
    await daemon.stop();
    await this.#alone("restart", async () => {
      daemon.start();
      await daemon.caughtUp(this.#name);
      return daemon.usage().cpuSeconds;
    });
  }

  /** What has a process of its own, whose seconds `work` resolves to. */
  async #alone(what: string, work: () => Promise<number>): Promise<void> {
    const before = treeSeconds(this.#pid);
    const own = await work();
    await settled(this.#pid);
    this.#note(`${what} s`, own + treeSeconds(this.#pid) - before);
  }

  /** The median of the rounds. */
  async #measured(what: string, per: number, work: () => Promise<unknown>): Promise<void> {
    const daemon = this.#daemon;
    const before = [daemon.usage().cpuSeconds, treeSeconds(this.#pid)] as const;
    await work();
    await daemon.caughtUp(this.#name);
    await settled(daemon.pid, this.#pid);
    this.#note(`${what} µs`, ((daemon.usage().cpuSeconds - before[0]) * 1e6) / per);
    if (this.#pid !== undefined) this.#note(`${what}, server µs`, ((treeSeconds(this.#pid) - before[1]) * 1e6) / per);
  }

  #note(figure: string, value: number): void {
    const rounds = this.#rounds.get(figure) ?? [];
    this.#rounds.set(figure, rounds);
    rounds.push(value);
    this.figures[figure] = median(rounds);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#daemon[Symbol.asyncDispose]();
    await this.#from.query(
      "select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = current_database()",
    );
    await this.#from.end();
  }
}

/** Runs a statement for keys that are spread over the whole table, each once. `skipped`: how many others have had. */
async function scatter(from: Client): Promise<void> {
  await from.query(`create procedure bench_scattered(statement text, size bigint, skipped bigint, changes bigint, per bigint) language plpgsql as $$
    declare step bigint := floor(size * 0.618);
    begin
      while gcd(step, size) <> 1 loop step := step + 1; end loop;
      for i in skipped..skipped + changes - 1 loop
        execute statement using 1 + (i * step) % size;
        if (i + 1 - skipped) % per = 0 then commit; end if;
      end loop;
    end $$`);
}

/** Seconds of processor time of the commands that have ended. */
function endedChildrenSeconds(): number {
  return processTimes("self").children / TICKS_PER_SECOND;
}

/** Resolves when what was left to do after the work is done: merges, checkpoints. */
export async function settled(...pids: readonly (number | undefined)[]): Promise<void> {
  const untilMs = performance.now() + SETTLED_MS_MAX;
  const spent = (): number => pids.reduce<number>((sum, pid) => sum + treeSeconds(pid), 0);
  for (let before = spent(); performance.now() < untilMs;) {
    const sinceMs = performance.now();
    await sleep(ASK_EVERY_MS);
    const now = spent();
    if ((now - before) * 1_000 <= (performance.now() - sinceMs) * (1 - IDLE_SHARE)) return;
    before = now;
  }
}

/** Seconds of processor time of a server and of all its processes, those that ended as well. */
export function treeSeconds(pid: number | undefined): number {
  if (pid === undefined) return 0;
  let ticks = 0;
  for (const entry of readdirSync("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      const { parent, own, children } = processTimes(entry);
      if (Number(entry) === pid) ticks += own + children;
      else if (parent === pid) ticks += own;
    } catch {
      // The process has ended meanwhile.
    }
  }
  return ticks / TICKS_PER_SECOND;
}

/** Ticks of a process, and of those that it started and that have ended. */
function processTimes(entry: string): { parent: number; own: number; children: number } {
  const fields = readFileSync(`/proc/${entry}/stat`, "utf8")
    .replace(/^.*\) /, "")
    .split(" ")
    .map(Number);
  return { parent: fields[1]!, own: fields[11]! + fields[12]!, children: fields[13]! + fields[14]! };
}
