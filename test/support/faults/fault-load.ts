/** A source under load, and a daemon on it that is to be harmed: what must hold at the end is said by `verdict`. */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Redis } from "ioredis";
import { DatabaseError } from "pg";
import { auditEffects, COUNTED_TABLE, CountedWatch, Counting, readEffects } from "../model/counted.ts";
import { type Daemon, Installation } from "../daemon/daemon-process.ts";
import type { Random } from "../run/random.ts";
import { type FreshDatabase, freshDatabase, redisUrl } from "../run/services.ts";
import { isLongForm } from "../run/service-suffixes.ts";
import { type SinkKind, SinkSet } from "../daemon/sink-set.ts";
import { patient } from "../run/waiting.ts";
import { Workload, WORKLOAD_TABLES } from "../load/workload.ts";

const ACCOUNT_ID_MAX = 800;
/** A daemon that was killed a hundred times has hardly moved on, and the load has. */
const WAIT_SECONDS = isLongForm() ? 600 : 90;
const MUTANT = fileURLToPath(new URL("../../fault/harness/mutant-daemon.ts", import.meta.url));

/** A database whose rows keep changing. */
export class Load implements AsyncDisposable {
  readonly source: FreshDatabase;
  readonly workload: Workload;
  readonly #counting: Counting;
  /** In the order of their making; more may be added while the load runs. */
  readonly tables: string[] = [...WORKLOAD_TABLES, COUNTED_TABLE];
  /** Which a new table joins at once, where the daemon can't add it; null: the daemon does. */
  publication: string | null = null;

  private constructor(source: FreshDatabase, seed: number, reconnects: boolean) {
    this.source = source;
    this.workload = new Workload(source.url, seed, reconnects);
    this.#counting = new Counting(source, seed, reconnects);
  }

  /** On a database of the shared server; on one that is given, the writers outlive their server. */
  static async create(seed: number, rowCount: number, source?: FreshDatabase): Promise<Load> {
    const load = new Load(source ?? (await freshDatabase()), seed, source !== undefined);
    await load.workload.createTables(rowCount);
    await load.#counting.createTable();
    return load;
  }

  start(pauseMs: number): void {
    this.workload.start(pauseMs);
    this.#counting.start(pauseMs * 2);
  }

  /** After it rows that a sink may have lost have been changed once more, without their long values. */
  async stop(): Promise<void> {
    await this.workload.stop();
    await this.#counting.stop();
    await this.burst();
  }

  /** One transaction that changes every row with long values, and leaves those alone. */
  async burst(): Promise<void> {
    await using client = await this.source.connect();
    for (;;) {
      try {
        await client.query("update account set touched = touched + 1; update line set status = 'burst'");
        return;
      } catch (error) {
        // The writers take the same rows in other orders.
        if (!(error instanceof DatabaseError) || error.code !== "40P01") throw error;
      }
    }
  }

  /** One transaction that changes so many rows of a table of its own. */
  async flood(rowCount: number): Promise<void> {
    if (!this.tables.includes("flooded")) {
      await this.source.query(`create table flooded (id int primary key, n int not null); ${this.#publish("flooded")}`);
      this.tables.push("flooded");
    }
    await this.source.query(`insert into flooded select g, 0 from generate_series(1, ${rowCount}) g
      on conflict (id) do update set n = flooded.n + 1`);
  }

  /** One more table, with rows. */
  async addTable(name: string): Promise<void> {
    await using session = await this.source.connect();
    await session.query(`create table ${name} (id int primary key, body text); ${this.#publish(name)}
      insert into ${name} select g, repeat('b', g) from generate_series(1, 50) g`);
    this.tables.push(name);
  }

  #publish(name: string): string {
    return this.publication === null ? "" : `alter publication ${this.publication} add table ${name};`;
  }

  /** Another shape for one of the tables; the columns that the writers use stay as they are. */
  async changeShape(random: Random): Promise<void> {
    const table = random.pick(["account", "line"]);
    const { rows } = await this.source.query<{ name: string }>(
      `select attname as name from pg_attribute where attrelid = '${table}'::regclass and attname like 'extra%' and not attisdropped`,
    );
    const there = rows.map(({ name }) => name);
    const fresh = `extra_${random.below(1_000_000)}`;
    const actions = ["add column $new int default 7", "add column $new int", "add column $new float8 default random()"];
    if (there.length > 0) {
      actions.push("rename column $old to $new", "alter column $old type text", "drop column $old");
      if (there.length > 3) actions.splice(0, 3);
    }
    const action = random.pick(actions).replace("$new", fresh);
    try {
      await this.source.query(
        `alter table ${table} ${action.replace("$old", there.length > 0 ? random.pick(there) : "")}`,
      );
    } catch (error) {
      // The writers take the same tables in other orders.
      if (!(error instanceof DatabaseError) || error.code !== "40P01") throw error;
    }
  }

  /** A column for `changeType`. */
  async addTurning(): Promise<void> {
    await this.source.query("alter table line add column turning int default 7");
  }

  /** A number becomes a text, or a text a number. */
  async changeType(): Promise<void> {
    const { rows } = await this.source.query<{ isText: boolean }>(
      `select atttypid = 'text'::regtype as "isText" from pg_attribute where attrelid = 'line'::regclass and attname = 'turning'`,
    );
    const type = rows[0]?.isText === true ? "int using length(turning)" : "text";
    await this.source.query(`alter table line alter column turning type ${type}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.workload.stop();
    await this.#counting.stop();
    await this.source[Symbol.asyncDispose]();
  }
}

export interface Verdict {
  /** One line for each thing that should not be: nothing lost, no effect twice, newer never overwritten by older. */
  readonly faults: readonly string[];
  /** Effects that the Postgres target wrote down; none would mean that nothing was looked at. */
  readonly effectCount: number;
  readonly lookCounts: Readonly<Record<string, number>>;
}

/** A daemon's installation on a load, with sinks of its own. */
export class Victim implements AsyncDisposable {
  readonly installation: Installation;
  readonly sinks: SinkSet;
  readonly #load: Load;
  readonly #watches = new Map<string, CountedWatch>();

  private constructor(load: Load, sinks: SinkSet, installation: Installation) {
    this.#load = load;
    this.sinks = sinks;
    this.installation = installation;
    if (sinks.keyPrefix !== "") this.#watches.set("redis", CountedWatch.redis(sinks.keyPrefix));
    if (sinks.indexPrefix !== "") this.#watches.set("elasticsearch", CountedWatch.elasticsearch(sinks.indexPrefix));
    if (sinks.kinds.includes("duckdb")) {
      this.#watches.set("duckdb", CountedWatch.duckdb(join(installation.folder, "warehouse.duckdb")));
    }
  }

  /** `label` tells the installations on one load apart. */
  static async create(load: Load, label: string, kinds: readonly SinkKind[], isProxied = false): Promise<Victim> {
    const sinks = await SinkSet.create(kinds, isProxied);
    if (sinks.target !== null) await auditEffects(sinks.target);
    const installation = new Installation({
      name: `${load.source.name}_${label}`,
      source: { kind: "postgres", url: load.source.url, heartbeat: "500ms" },
      sinks: sinks.config,
    });
    return new Victim(load, sinks, installation);
  }

  run(environment: Readonly<Record<string, string>> = {}): Daemon {
    return this.installation.run(environment);
  }

  /** The same daemon with a defect planted in it: see mutant-daemon.ts. */
  runMutant(mutation: string): Daemon {
    return this.installation.runProgram(MUTANT, {}, mutation);
  }

  /** Kills the daemon, and looks at what lies in its DuckDB file as it was left. */
  async kill(daemon: Daemon): Promise<void> {
    await daemon.kill();
    await this.lookAtFile();
  }

  async lookAtFile(): Promise<void> {
    await this.#watches.get("duckdb")?.look();
  }

  /** Takes rows away from the cache behind the daemon's back, as an eviction would. */
  async evict(random: Random, count: number): Promise<void> {
    if (this.sinks.keyPrefix === "") return;
    const client = new Redis(redisUrl());
    const keys = Array.from({ length: count }, () => 1 + random.below(ACCOUNT_ID_MAX));
    await client.unlink(...keys.map((id) => `${this.sinks.keyPrefix}public:account:${id}`));
    client.disconnect();
  }

  /** Lets the daemon come to the end of the log, which must have stopped growing, stops it and looks at everything. */
  async verdict(daemon: Daemon, waitSeconds = patient(WAIT_SECONDS)): Promise<Verdict> {
    const faults: string[] = [];
    const waited = await this.installation.command("wait", "--timeout", `${waitSeconds}s`);
    if (waited.exitCode !== 0) {
      // By the command, which gives up on a daemon that hangs.
      const status = await this.installation.command("status", "--json");
      faults.push(`wait ended with ${waited.exitCode}: ${waited.stdout}${waited.stderr} ${status.stdout}`);
    }
    const { exitCode, stderr } = await daemon.stop();
    if (exitCode !== 0) faults.push(`the daemon ended with ${exitCode}: ${stderr.slice(-2_000)}`);
    await this.lookAtFile();
    for (const watch of this.#watches.values()) await watch.stop();
    const { source, tables } = this.#load;
    faults.push(...(await this.sinks.differences(source.url, this.installation.folder, tables)));
    const { target } = this.sinks;
    const effects = target === null ? { count: 0, faults: [] } : await readEffects(target);
    faults.push(...effects.faults);
    for (const watch of this.#watches.values()) faults.push(...watch.faults.slice(0, 20));
    if (faults.length > 0) faults.push(...complaints(stderr));
    const lookCounts = Object.fromEntries([...this.#watches].map(([name, { lookCount }]) => [name, lookCount]));
    return { faults, effectCount: effects.count, lookCounts };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.installation[Symbol.asyncDispose]();
    for (const watch of this.#watches.values()) await watch.stop();
    await this.sinks[Symbol.asyncDispose]();
  }
}

const COMPLAINTS_MAX = 8;

/** What the last daemon logged above `info`, for whoever has to find out why. */
function complaints(log: string): string[] {
  return log
    .split("\n")
    .filter((line) => !/"level":"(info|debug)"/.test(line) && line !== "")
    .slice(-COMPLAINTS_MAX)
    .map((line) => `log: ${line.slice(0, 600)}`);
}
