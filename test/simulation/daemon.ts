/** One simulated daemon: the product's own composition of a running source, without its admin interface, files and signals. */
import type { Config } from "../../src/config/config.ts";
import { scopeOf } from "../../src/core/clock.ts";
import { type Logger, SILENT } from "../../src/core/contracts/telemetry.ts";
import type { Sink } from "../../src/core/contracts/sink.ts";
import type { ProofFacts, StateStore } from "../../src/core/contracts/state-store.ts";
import { replacing } from "../../src/core/replacing.ts";
import { keptElsewhere, memoryOf } from "../../src/daemon/ruled-source.ts";
import { holdsOf } from "../../src/reconcile/proof/proof-status.ts";
import { Proving } from "../../src/reconcile/proof/proving.ts";
import { Reconciler } from "../../src/reconcile/reconciler.ts";
import { repairDifferences } from "../../src/reconcile/recovery.ts";
import { Control } from "../../src/runtime/control/control.ts";
import { Pipeline } from "../../src/runtime/pipeline.ts";
import { policyOf } from "../../src/rules/merged-rule.ts";
import { relay } from "../../src/daemon/log-relay.ts";
import type { Rules } from "../../src/rules/definition.ts";
import type { RuleMemory } from "../../src/rules/former-rules.ts";
import type { RuledSource } from "../../src/rules/with-rules.ts";
import { patient } from "../../src/state/patient.ts";
import {
  awaitLease,
  forgetRemovedSinks,
  keepLease,
  releaseLease,
  takeLease,
  throughMoves,
} from "../../src/daemon/lease.ts";
import { untilHealed } from "../../src/daemon/until-healed.ts";
import { noMetrics } from "../support/model/scripted.ts";
import type { MemoryState } from "./memory-state.ts";
import type { SimulatedProcess } from "./scheduler.ts";

export const HEARTBEAT_MS = 400;
/** Of the continuous comparison: it is to be at work all the time. */
const PROVES = { maxAgeMs: 400, share: 1, repairs: false } as const;
const LIMITS = { rowCountMax: 6, byteCountMax: 1 << 20 };

/** Half of the forms: what stores rows before their checkpoint empties a table in a batch of its own. */
const limitsOf = ({ delivery, form }: Sink) => ({
  ...LIMITS,
  hasTruncates: delivery === "transactional" && form === "mirror",
});

/** Nobody is told what a start waits for. */
// oxlint-disable-next-line typescript/no-unsafe-type-assertion -- what is asked of a configuration
const UNSERVED = { admin: { listen: null } } as Config;

/** Making one costs what throwing it does. */
const STOPPED = new DOMException("stopped", "AbortError");

/** What runs while a daemon streams, or tries to. */
export interface Running {
  readonly pipeline: Pipeline;
  readonly control: Control;
  readonly reconciler: Reconciler;
  /** Aborted when this ends. */
  readonly signal: AbortSignal;
}

/** Where a daemon runs, and with what. */
export interface Site {
  readonly state: Pick<MemoryState, "open">;
  readonly configuredRules: Rules;
  /** It waits while another daemon has the lease; left out: it ends. */
  readonly awaitsLease?: boolean;
  /** Told of what comparisons prove, and of what was proven before; left out: the continuous one does not run. */
  readonly toldProofs?: ToldProofs | undefined;
  loggerOf(process: SimulatedProcess): Logger;
  /** For this process: whether a holder of the lease certainly runs no more. */
  isGone(holder: string, process: SimulatedProcess): boolean;
  sourceFor(process: SimulatedProcess, memory: RuleMemory): RuledSource;
  sinksFor(process: SimulatedProcess): readonly Sink[];
}

export class Daemon {
  readonly process: SimulatedProcess;
  readonly #site: Site;
  readonly #stopping = new AbortController();
  readonly #logger: Logger;
  running: Running | null = null;
  /** Why it ended by itself. */
  error: unknown = null;
  hasEnded = false;
  readonly ended: Promise<void>;

  constructor(process: SimulatedProcess, site: Site) {
    this.process = process;
    this.#site = site;
    this.#logger = site.loggerOf(process);
    this.ended = this.#untilHealed(this.#stopping.signal).then(
      () => void (this.hasEnded = true),
      (error: unknown) => {
        this.hasEnded = true;
        this.error = error;
      },
    );
  }

  get isStopping(): boolean {
    return this.#stopping.signal.aborted;
  }

  stop(): void {
    this.#stopping.abort(STOPPED);
  }

  async #untilHealed(signal: AbortSignal): Promise<void> {
    const { clock } = this.process;
    const parts = { config: UNSERVED, clock, logger: this.#logger, redact: (json: string) => json };
    await untilHealed(parts, () => this.#run(signal), signal);
  }

  async #run(signal: AbortSignal): Promise<void> {
    const { process } = this;
    const { clock } = process;
    const logger = this.#logger;
    const state = patient({ store: this.#site.state.open(process), clock, logger }, signal);
    const isGone = (holder: string): boolean => this.#site.isGone(holder, process);
    const parts = { state, clock, holder: process.name, isGone };
    const taken = this.#site.awaitsLease === true ? awaitLease(parts, logger, signal) : takeLease(parts);
    const { number: lease } = (await taken).lease;
    try {
      await throughMoves({ clock, logger }, () => this.#withLease(state, lease, signal), signal);
    } finally {
      await releaseLease(state, lease, logger);
    }
  }

  async #withLease(state: StateStore, lease: number, signal: AbortSignal): Promise<void> {
    const { clock } = this.process;
    const logger = this.#logger;
    const rules = this.#site.configuredRules;
    const memory = { ...(await memoryOf({ rules }, state)), ...keptElsewhere(state) };
    const source = this.#site.sourceFor(this.process, memory);
    const sinks = this.#site.sinksFor(this.process);
    await forgetRemovedSinks(
      state,
      sinks.map(({ name }) => name),
    );
    const pipeline = new Pipeline({
      clock,
      name: "simulated",
      producer: "millrace/simulated",
      source,
      state,
      lease,
      sinks: sinks.map((sink) => ({ sink, limits: limitsOf(sink), onPoison: "deadLetter", takes: () => true })),
      snapshot: "initial",
      policyOf: (table) => policyOf(rules, table),
      revised: source.revised,
      onSkipped: source.onSkipped,
      heartbeatMs: HEARTBEAT_MS,
      secondStreamTriesMax: 2,
      logger,
      metrics: noMetrics,
    });
    const control = new Control("simulated", pipeline, logger);
    const { toldProofs: checks } = this.#site;
    const proofs = checks === undefined ? state.proofs : told(state.proofs, checks);
    const reconciler = new Reconciler({
      clock,
      news: pipeline.news,
      name: "simulated",
      version: "0.1.0",
      config: "",
      driftMax: () => 0,
      port: () => pipeline.comparisons,
      lag: (sink) => control.lagOf(sink),
      kept: state.comparisons,
      proofs,
      deep: null,
      report: async () => undefined,
      logger,
    });
    const proving =
      checks === undefined
        ? null
        : new Proving({
            ...PROVES,
            clock,
            port: () => pipeline.comparisons,
            proofs,
            reconciler,
            holds: async (maxAgeMs) => holdsOf(await control.status(), maxAgeMs),
            lag: (sink) => control.lagOf(sink),
            logger,
          });
    const { signal: until, end } = scopeOf(signal);
    this.running = { pipeline, control, reconciler, signal: until };
    const run = pipeline.run(until);
    const relaying = relay({ clock, sinks, pipeline, logger }, until);
    try {
      await Promise.race([
        run,
        control.run(until),
        keepLease({ state, clock }, lease, until),
        repairDifferences(
          { clock, port: () => pipeline.comparisons, reconciler, snapshots: state.snapshots, logger },
          until,
        ),
        ...(proving === null ? [] : [proving.run(until)]),
      ]);
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      this.running = null;
      end();
      await Promise.allSettled([run, relaying]);
      await Promise.allSettled([source.close(), ...sinks.map((sink) => sink.close())]);
    }
  }
}

interface ToldProofs {
  voided(facts: readonly ProofFacts[]): void;
  stored(facts: ProofFacts, step: number): void;
}

function told(proofs: StateStore["proofs"], checks: ToldProofs): StateStore["proofs"] {
  return replacing(proofs, {
    save: async (ledger, facts, step, content) => {
      checks.voided(await proofs.list());
      const isStored = await proofs.save(ledger, facts, step, content);
      if (isStored) checks.stored(facts, step);
      return isStored;
    },
  });
}

export { SILENT };
