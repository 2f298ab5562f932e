/** What a run is made of: what outlives the processes, and the daemon that is supervised. */
import { findMillraceError, isAborted } from "../../src/core/errors.ts";
import type { Sink } from "../../src/core/contracts/sink.ts";
import type { Source } from "../../src/core/contracts/source.ts";
import type { StateStore } from "../../src/core/contracts/state-store.ts";
import { type Logger, SILENT } from "../../src/core/contracts/telemetry.ts";
import type { Rules } from "../../src/rules/definition.ts";
import type { RuleMemory } from "../../src/rules/former-rules.ts";
import { type RuledSource, withRules } from "../../src/rules/with-rules.ts";
import { Random } from "../support/run/random.ts";
import { Acts } from "./acts.ts";
import { Checks, Violation } from "./checks.ts";
import { Daemon } from "./daemon.ts";
import { Database, type Row, type Table } from "./database.ts";
import type { MemoryState } from "./memory-state.ts";
import { fairWeather } from "./network.ts";
import type { Plan } from "./happenings.ts";
import { LASTS_MS } from "./plan.ts";
import type { Server } from "./server.ts";
import { ProofChecks } from "./proofs.ts";
import { postgresLikeSource } from "./postgres-source.ts";
import { inClear, type KeptColumn, keptIn, type Policy, type RuleKind, rulesUnder, seenUnder } from "./ruling.ts";
import { Scheduler, SimulatedProcess } from "./scheduler.ts";
import { settle } from "./settling.ts";
import { SimulatedSink } from "./sinks.ts";
import { Target } from "./targets.ts";
import { binlogLikeSource } from "./binlog-source.ts";
import { briefly, tracing, wholly } from "./tracing.ts";

/** The longest that a call takes; what is read beside the stream takes several of the source. */
export const SOURCE_MS = 12;
export const SINK_MS = 3;
export const COLUMNS = ["id", "n", "body", "note"];
/** A supervisor starts a daemon again after so long. */
const RESTART_MS = 100;

export interface Result {
  /** What did not hold; null: everything did. */
  readonly failure: string | null;
  readonly trace: readonly string[];
  readonly virtualMs: number;
  readonly events: number;
}

export class World {
  readonly plan: Plan;
  readonly scheduler: Scheduler;
  readonly state: MemoryState;
  readonly server: Server;
  readonly targets: readonly Target[];
  readonly checks: Checks;
  readonly proofs = new ProofChecks(this);
  /** Names of sinks that are not in the configuration now. */
  readonly without = new Set<string>();
  /** What the configuration has. */
  rules: RuleKind;
  policy: Policy;
  /** Added to the time of day of every process. */
  skewMs = 0;
  /** True while faults go on. */
  isStormy = true;
  /** Whether something has happened after which rows of a sink may differ. */
  mayDiffer = false;
  /** Nobody starts a daemon while one of these is at work. */
  holds = 0;
  /** Why the daemon ended by itself last: what an operator has to deal with. */
  lastError: string | null = null;
  readonly #trace: string[] | null;
  #daemon: Daemon | null = null;
  #processCount = 0;
  #beside: StateStore | null = null;
  #besides: SimulatedProcess | null = null;
  readonly #dead = new Set<string>();

  constructor(plan: Plan, state: MemoryState, isTraced: boolean) {
    this.plan = plan;
    this.rules = plan.rules ?? "none";
    this.policy = plan.policy ?? "evolve";
    this.state = state;
    this.#trace = isTraced ? [] : null;
    this.scheduler = new Scheduler(new Random(plan.seed ^ 0x5eed));
    const database = new Database({ logsWholeRows: plan.source === "binlog", changesOne: plan.rules === "texts" });
    const isHidden = plan.rules === "named" ? inClear() : undefined;
    this.checks = new Checks(plan, (count) => database.commitsOf(count), isHidden);
    this.server = {
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
      chunkRows: plan.chunkRows,
      onAcknowledged: (commit, epoch) => {
        this.say(() => `source: may forget what is before ${commit}`);
        const ids = database.tables.map(({ shape }) => shape.id);
        this.checks.acknowledged(commit, epoch, this.#heard, ids);
      },
    };
    for (let t = 0; t < plan.tables; t++) {
      const table = database.addTable(`t${t}`, COLUMNS);
      for (let key = 0; key < plan.rows; key++) {
        const count = database.nextCount();
        table.rows.set(String(key), [String(key), String(count), `c${count}`, null]);
      }
    }
    this.targets = plan.sinks.map((kind, i) => {
      const isStream = kind === "stream";
      const isTransactional = isStream || kind === "transactional";
      const onLost = kind === "transactional" ? "fail" : "resync";
      const tablesMax = plan.isNarrow === true ? 1 : Infinity;
      const traits = { name: `s${i}`, isTransactional, isStream, onLost, tablesMax } as const;
      return new Target(traits, fairWeather(SINK_MS), this.checks);
    });
  }

  get #eyes(): SimulatedProcess {
    return (this.#besides ??= this.newProcess("x"));
  }

  /** The state for the simulation's own eyes, and for commands beside no daemon. */
  get beside(): StateStore {
    return (this.#beside ??= this.state.direct(this.#eyes.clock));
  }

  /** As every process reads it. */
  get timeOfDayMs(): number {
    return this.#eyes.clock.now();
  }

  get hasClockBeenSet(): boolean {
    return this.plan.happenings.some(({ what }) => what === "clock");
  }

  get toldProofs(): ProofChecks | undefined {
    return this.plan.proves === true ? this.proofs : undefined;
  }

  get daemon(): Daemon | null {
    return this.#daemon;
  }

  get configured(): readonly Target[] {
    return this.targets.filter(({ traits }) => !this.without.has(traits.name));
  }

  /** Without those that are said to be another daemon's: nothing of this log is owed to them. */
  get #heard(): readonly Target[] {
    const pipeline = this.#daemon?.running?.pipeline;
    return this.configured.filter(({ traits }) => pipeline?.life(traits.name)?.error?.code !== "MR1317");
  }

  readonly say = (text: () => string): void => {
    this.#trace?.push(`${this.scheduler.nowMs.toFixed(3)} ${text()}`);
  };

  loggerOf(process: SimulatedProcess): Logger {
    return this.#trace === null ? SILENT : tracing(process.name, (text) => this.say(() => text));
  }

  /** For the one machine's processes: one that is dead is known to be. */
  isGone(holder: string): boolean {
    return this.#dead.has(holder);
  }

  get configuredRules(): Rules {
    return rulesUnder(this.rules, this.policy);
  }

  /** Without rules. */
  bareSourceFor(process: SimulatedProcess): Source {
    return this.plan.source === "binlog"
      ? binlogLikeSource(process, this.server)
      : postgresLikeSource(process, this.server);
  }

  sourceFor(process: SimulatedProcess, memory?: RuleMemory): RuledSource {
    return withRules(this.bareSourceFor(process), this.configuredRules, memory);
  }

  /** What the sinks are to have of a table, by key. */
  readonly expected = (table: Table): ReadonlyMap<string, Row> => {
    const rows = this.server.database.committed(table);
    const kept = this.keptOf(table);
    return seenUnder(this.rules, kept === null ? rows : keptIn(kept, table.shape, rows), table.name);
  };

  /** A stream can't be asked whether the filter let a row through whose old values are not in the log. */
  readonly mayKeep = ({ traits }: Target): boolean => {
    const { rules, happenings } = this.plan;
    const filters = rules === "texts" || happenings.some((one) => one.what === "rules" && one.kind === "texts");
    return traits.isStream && filters;
  };

  /** Null: sinks follow the table. */
  readonly keptOf = (table: Table): readonly KeptColumn[] | null => {
    if (this.policy !== "ignore") return null;
    return this.#daemon?.running?.pipeline.gate.newest(table.shape.id)?.columns ?? null;
  };

  sinksFor(process: SimulatedProcess): readonly Sink[] {
    return this.configured.map((target) => new SimulatedSink(process, target));
  }

  readonly sleep = (ms: number): Promise<void> => new Promise((resolve) => this.scheduler.after(ms, resolve));

  newProcess(letter: string): SimulatedProcess {
    const process = new SimulatedProcess(`${letter}${++this.#processCount}`, this.scheduler, () => this.skewMs);
    process.onDeath(() => {
      this.#dead.add(process.name);
      this.say(() => `${process.name} is dead`);
    });
    return process;
  }

  async run(): Promise<Result> {
    this.state.clear();
    const { scheduler, checks } = this;
    const acts = new Acts(this);
    let failure: string | null = null;
    try {
      this.start();
      for (const happening of this.plan.happenings) scheduler.after(happening.atMs, () => acts.happen(happening));
      await scheduler.run(() => checks.violation !== null, (this.plan.lastsMs ?? LASTS_MS) + 100);
      checks.throwViolation();
      await settle(this, acts);
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      failure = error.message;
    }
    this.#daemon?.process.kill();
    this.say(() => failure ?? "everything holds");
    return { failure, trace: this.#trace ?? [], virtualMs: scheduler.nowMs, events: scheduler.eventCount };
  }

  /** As a supervisor does. */
  start(): void {
    if (this.#daemon !== null || this.holds > 0) return;
    const process = this.newProcess("p");
    this.say(() => `${process.name} starts`);
    const daemon = new Daemon(process, this);
    this.#daemon = daemon;
    process.onDeath(() => {
      if (this.#daemon === daemon) this.#daemon = null;
    });
    void daemon.ended.then(() => this.#ended(daemon));
  }

  #ended(daemon: Daemon): void {
    if (!daemon.process.isAlive) return;
    const { error } = daemon;
    daemon.process.kill();
    // Who is told to stop says what it waited for.
    if (error === null || isAborted(error) || (daemon.isStopping && findMillraceError(error)?.kind === "retryable"))
      return;
    const known = findMillraceError(error);
    this.say(() => `${daemon.process.name} ended: ${known?.code ?? ""} ${briefly(error)}`);
    if (known === undefined) this.checks.fail(`the daemon ended: ${wholly(error)}`);
    else {
      this.lastError = known.code;
      this.checks.ended(known, this.plan);
    }
    this.scheduler.after(RESTART_MS, () => this.start());
  }

  /** Stops the daemon, does the work, and has it started again. */
  async whileStopped(downMs: number, work: () => Promise<void>): Promise<void> {
    this.holds++;
    const daemon = this.#daemon;
    if (daemon !== null) {
      daemon.stop();
      // One that stands still does not end by itself.
      await Promise.race([daemon.ended, this.sleep(8_000)]);
      daemon.process.kill();
    }
    await this.sleep(downMs);
    await work();
    this.holds--;
    this.start();
  }

  /** Kills the daemon, does the work, and has it started again. */
  afterCrash(downMs: number, work: () => void): void {
    this.#daemon?.process.kill();
    work();
    this.scheduler.after(downMs, () => this.start());
  }
}
