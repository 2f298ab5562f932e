/** What a run with Kafka is made of: a source, a daemon that captures, brokers, and processes that share the tables. */
import { findMillraceError, isAborted, type MillraceError } from "../../../src/core/errors.ts";
import type { StateStore } from "../../../src/core/contracts/state-store.ts";
import { type Logger, SILENT } from "../../../src/core/contracts/telemetry.ts";
import { type Division, isInShare } from "../../../src/core/sharing/share.ts";
import { NO_RULES, type Rules } from "../../../src/rules/definition.ts";
import { withRules } from "../../../src/rules/with-rules.ts";
import { Random } from "../../support/run/random.ts";
import { Checks, Violation } from "../checks.ts";
import { Daemon, type Site } from "../daemon.ts";
import { Database, type Table } from "../database.ts";
import type { MemoryState } from "../memory-state.ts";
import { fairWeather } from "../network.ts";
import { postgresLikeSource } from "../postgres-source.ts";
import { inClear, NAMED, OTHER_NAME, type RuleKind, rulesUnder } from "../ruling.ts";
import { Scheduler, SimulatedProcess } from "../scheduler.ts";
import type { Server } from "../server.ts";
import { SimulatedSink } from "../sinks.ts";
import { Target } from "../targets.ts";
import { briefly, tracing, wholly } from "../tracing.ts";
import { COLUMNS, type Result, SINK_MS, SOURCE_MS } from "../world.ts";
import { KafkaActs } from "./acts.ts";
import { Broker } from "./broker.ts";
import type { KafkaPlan } from "./happenings.ts";
import { logTopic } from "../../../connectors/kafka/names.ts";
import { LogChecks, NAMING } from "./log-checks.ts";
import { Machines } from "./machines.ts";
import { captureSinks, shareSource } from "./parts.ts";
import { settle } from "./settling.ts";
import { TopicReader } from "./topic-reader.ts";

/** A supervisor starts the capturing daemon again after so long. */
const RESTART_MS = 100;
/** How often what is stored is looked at. */
const LOOK_MS = 25;
/** In good weather; less than a group waits for a member that is gone. */
const STARTS_WITHIN_MS = 8_000;

/** What a share has, whoever runs it. */
export interface ShareSite extends Site {
  readonly number: number;
  readonly state: MemoryState;
  readonly targets: readonly Target[];
}

export class KafkaWorld {
  readonly plan: KafkaPlan;
  readonly scheduler: Scheduler;
  readonly server: Server;
  readonly broker: Broker;
  readonly checks: Checks;
  readonly logChecks: LogChecks;
  readonly reader: TopicReader;
  readonly division: Division;
  readonly captureState: MemoryState;
  readonly shares: readonly ShareSite[];
  readonly machines: Machines;
  isStormy = true;
  /** Of the daemon that captures. */
  rules: RuleKind = "none";
  /** Nobody starts the capturing daemon while one of these is at work. */
  holds = 0;
  readonly #trace: string[] | null;
  readonly #beside = new Map<MemoryState, StateStore>();
  readonly #dead = new Set<string>();
  /** By process, the one that started it. */
  readonly #parents = new Map<string, string>();
  readonly #capture: Site;
  #captured: Daemon | null = null;
  #processCount = 0;

  /** `states`: one for the capturing daemon, and one for each share. */
  constructor(plan: KafkaPlan, states: readonly MemoryState[], isTraced: boolean) {
    this.plan = plan;
    this.#trace = isTraced ? [] : null;
    this.scheduler = new Scheduler(new Random(plan.seed ^ 0x5eed));
    const database = new Database();
    const isHidden = plan.isNamed === true ? inClear() : undefined;
    this.checks = new Checks(plan, (count) => database.commitsOf(count), isHidden);
    const fail = (text: string): void => this.checks.fail(text);
    this.logChecks = new LogChecks(fail);
    this.reader = new TopicReader(plan.partitions, fail);
    const { scheduler } = this;
    this.broker = new Broker({
      scheduler,
      batchBytesMax: plan.batchBytesMax,
      fail,
      onCommitted: (records) => {
        this.logChecks.committed(records);
        this.reader.committed(records);
      },
    });
    this.server = serverOf(database, plan.chunkRows, (commit, epoch) => this.logChecks.acknowledged(commit, epoch));
    fill(database, plan);
    this.division = { count: plan.shares, by: "id" };
    this.captureState = states[0]!;
    this.#capture = this.#site(this.captureState, {
      source: (process) => postgresLikeSource(process, this.server),
      sinks: (process) => captureSinks(process, this.broker, plan),
      rules: () => rulesUnder(this.rules, "evolve"),
    });
    this.shares = Array.from({ length: plan.shares }, (_, i) => this.#share(i + 1, states[i + 1]!));
    this.machines = new Machines(this);
  }

  #site(
    state: MemoryState,
    {
      source,
      sinks,
      rules = () => NO_RULES,
    }: {
      readonly source: (process: SimulatedProcess) => ReturnType<typeof postgresLikeSource>;
      readonly sinks: Site["sinksFor"];
      readonly rules?: () => Rules;
    },
  ): Site {
    return {
      state,
      get configuredRules() {
        return rules();
      },
      loggerOf: (process) => this.loggerOf(process),
      isGone: (holder, process) => this.#isGone(holder, process),
      sourceFor: (process, memory) => withRules(source(process), rules(), memory),
      sinksFor: sinks,
    };
  }

  #share(number: number, state: MemoryState): ShareSite {
    const targets = this.plan.sinks.map((kind, i) => {
      const isTransactional = kind === "transactional";
      const traits = {
        name: `s${i}_${number}`,
        isTransactional,
        isStream: false,
        onLost: "resync",
        tablesMax: Infinity,
      } as const;
      return new Target(traits, fairWeather(SINK_MS), this.checks);
    });
    const site = this.#site(state, {
      source: (process) => shareSource(process, this.broker, number, this.division),
      sinks: (process) => targets.map((target) => new SimulatedSink(process, target)),
      rules: () => rulesUnder(this.shareRules, "evolve"),
    });
    return { ...site, awaitsLease: true, number, state, targets };
  }

  get shareRules(): RuleKind {
    return this.plan.isNamed === true ? "named" : "none";
  }

  renameNamed(name: string): void {
    const { database } = this.server;
    const table = database.tables.find((one) => one.name === NAMED || one.name === OTHER_NAME);
    if (table !== undefined && table.name !== name) database.rename(table, name);
  }

  get capture(): Daemon | null {
    return this.#captured;
  }

  get captureSite(): Site {
    return this.#capture;
  }

  tablesOf(share: number): readonly Table[] {
    return this.server.database.tables.filter(({ shape }) => isInShare(shape, { number: share, of: this.division }));
  }

  /** A state for the simulation's own eyes. */
  beside(state: MemoryState): StateStore {
    let store = this.#beside.get(state);
    if (store === undefined) this.#beside.set(state, (store = state.direct(this.newProcess("x").clock)));
    return store;
  }

  readonly say = (text: () => string): void => {
    this.#trace?.push(`${this.scheduler.nowMs.toFixed(3)} ${text()}`);
  };

  loggerOf(process: SimulatedProcess): Logger {
    return this.#trace === null ? SILENT : tracing(process.name, (text) => this.say(() => text));
  }

  /** On a machine of its own nobody is known to be gone but its own processes. */
  #isGone(holder: string, process: SimulatedProcess): boolean {
    if (!this.#dead.has(holder)) return false;
    return !this.plan.areApart || this.#parents.get(holder) === this.#parents.get(process.name);
  }

  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => this.scheduler.after(ms, resolve));
  }

  newProcess(letter: string, parent?: SimulatedProcess): SimulatedProcess {
    const process = new SimulatedProcess(`${letter}${++this.#processCount}`, this.scheduler);
    this.#parents.set(process.name, parent?.name ?? "");
    process.onDeath(() => {
      this.#dead.add(process.name);
      this.say(() => `${process.name} is dead`);
    });
    return process;
  }

  async run(): Promise<Result> {
    for (const { state } of [{ state: this.captureState }, ...this.shares]) state.clear();
    const { scheduler, checks, plan } = this;
    const acts = new KafkaActs(this);
    let failure: string | null = null;
    try {
      this.startCapture();
      const begin = (): void => {
        for (let i = 0; i < plan.processes; i++) this.machines.start();
      };
      if (plan.isCold) begin();
      else await this.#warmUp(begin);
      for (const happening of plan.happenings) scheduler.after(happening.atMs, () => acts.happen(happening));
      this.#look();
      await scheduler.run(() => checks.violation !== null, scheduler.nowMs + plan.lastsMs + 100);
      checks.throwViolation();
      await settle(this);
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      failure = error.message;
    }
    this.#captured?.process.kill();
    for (const { process, children } of Array.from(this.machines.running)) {
      process.kill();
      for (const child of children.values()) child.process.kill();
    }
    this.say(() => failure ?? "everything holds");
    return { failure, trace: this.#trace ?? [], virtualMs: scheduler.nowMs, events: scheduler.eventCount };
  }

  /** Until all shares stream. */
  async #warmUp(begin: () => void): Promise<void> {
    const { scheduler, checks, broker, shares, machines } = this;
    const isDone = (): boolean => checks.violation !== null;
    const isFollowed = (): boolean => broker.topic(logTopic(NAMING)) !== null;
    await scheduler.run(() => isDone() || isFollowed(), scheduler.nowMs + STARTS_WITHIN_MS);
    begin();
    const stream = (): boolean =>
      shares.every(({ number }) => machines.daemonOf(number)?.running?.pipeline.facts.position != null);
    const ended = await scheduler.run(() => isDone() || stream(), scheduler.nowMs + STARTS_WITHIN_MS);
    checks.throwViolation();
    if (ended !== "done") throw new Violation("the shares do not start");
  }

  /** Again and again, while faults go on. */
  #look(): void {
    void this.#expectStored().catch((error: unknown) => this.checks.fail(`a look failed: ${wholly(error)}`));
    if (this.isStormy) this.scheduler.after(LOOK_MS, () => this.#look());
  }

  /** The place in the log that a share has stored is one that all of its sinks have reached. */
  async #expectStored(): Promise<void> {
    for (const { number, state, targets } of this.shares) {
      const record = await this.beside(state).source.get();
      if (record?.identity?.["position"] === undefined) continue;
      const stored = BigInt(record.identity["position"]);
      for (const { traits, checkpoint } of targets) {
        // One of an earlier epoch has not begun in the present one yet.
        if (checkpoint?.position.epoch !== record.epoch || stored <= checkpoint.position.commit) continue;
        this.checks.fail(
          `share ${number} stored ${stored} although ${traits.name} is at ${checkpoint.position.commit}`,
        );
      }
    }
  }

  startCapture(): void {
    if (this.#captured !== null || this.holds > 0) return;
    const process = this.newProcess("p");
    this.say(() => `${process.name} starts`);
    const daemon = new Daemon(process, this.#capture);
    this.#captured = daemon;
    process.onDeath(() => {
      if (this.#captured === daemon) this.#captured = null;
    });
    void daemon.ended.then(() => this.#captureEnded(daemon));
  }

  #captureEnded(daemon: Daemon): void {
    const { process, error, isStopping } = daemon;
    if (!process.isAlive) return;
    process.kill();
    if (error === null || isAborted(error) || (isStopping && findMillraceError(error)?.kind === "retryable")) return;
    const known = findMillraceError(error);
    this.say(() => `${process.name} ended: ${known?.code ?? ""} ${briefly(error)}`);
    if (known === undefined) this.checks.fail(`the capturing daemon ended: ${wholly(error)}`);
    else this.judge(known, 0);
    this.scheduler.after(RESTART_MS, () => this.startCapture());
  }

  /** Another daemon takes the place of one that does not run any more, as far as can be seen. */
  replaceCapture(): void {
    this.#captured = null;
    this.startCapture();
  }

  /** `share`: 0 for the daemon that captures. */
  judge({ code, message }: MillraceError, share: number): void {
    const causes = ENDS[code] ?? [];
    if (!this.plan.happenings.some(({ what }) => causes.includes(what)))
      this.checks.fail(`the daemon of share ${share} ended: ${code} ${message}`);
  }

  /** Stops the capturing daemon, does the work, and has it started again. */
  async whileCaptureStopped(downMs: number, work: () => Promise<void>): Promise<void> {
    this.holds++;
    const daemon = this.#captured;
    if (daemon !== null) {
      daemon.stop();
      await Promise.race([daemon.ended, this.sleep(8_000)]);
      daemon.process.kill();
    }
    await this.sleep(downMs);
    await work();
    this.holds--;
    this.startCapture();
  }
}

const STILL = ["capture stands still", "stands still", "share stands still"];

/** What must have happened for a daemon to end with these errors. */
const ENDS: Readonly<Record<string, readonly string[]>> = {
  MR1210: [...STILL, "capture recovers"],
  MR1213: STILL,
  MR2012: [...STILL, "capture crash"],
};

function serverOf(database: Database, chunkRows: number, onAcknowledged: Server["onAcknowledged"]): Server {
  return {
    database,
    weather: fairWeather(SOURCE_MS),
    timeline: "1",
    slot: null,
    slotCount: 0,
    host: 1,
    failovers: [],
    purgedTo: 0n,
    reader: null,
    refusesSecond: false,
    isRestored: false,
    chunkRows,
    onAcknowledged,
  };
}

function fill(database: Database, { tables, rows }: KafkaPlan): void {
  for (let t = 0; t < tables; t++) {
    const table = database.addTable(`t${t}`, COLUMNS);
    for (let key = 0; key < rows; key++) {
      const count = database.nextCount();
      table.rows.set(String(key), [String(key), String(count), `c${count}`, null]);
    }
  }
}
