/** One simulated daemon: the product's own composition of a running source, without its admin interface, files and signals. */
import { scopeOf } from "../../src/core/clock.ts";
import { type Logger, SILENT } from "../../src/core/contracts/telemetry.ts";
import type { StateStore } from "../../src/core/contracts/state-store.ts";
import { pinsOf } from "../../src/open-source.ts";
import { Reconciler } from "../../src/reconcile/reconciler.ts";
import { repairDifferences } from "../../src/reconcile/recovery.ts";
import { Control } from "../../src/runtime/control/control.ts";
import { Pipeline } from "../../src/runtime/pipeline.ts";
import { policyOf } from "../../src/rules/definition.ts";
import { patient } from "../../src/state/patient.ts";
import { forgetRemovedSinks, keepLease, releaseLease, takeLease, throughMoves } from "../../src/tenure.ts";
import { noMetrics } from "../support/scripted.ts";
import type { SimulatedProcess } from "./scheduler.ts";
import type { World } from "./world.ts";

export const HEARTBEAT_MS = 400;
const LIMITS = { rowCountMax: 6, byteCountMax: 1 << 20 };

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

export class Daemon {
  readonly process: SimulatedProcess;
  readonly #world: World;
  readonly #stopping = new AbortController();
  readonly #logger: Logger;
  running: Running | null = null;
  /** Why it ended by itself. */
  error: unknown = null;
  hasEnded = false;
  readonly ended: Promise<void>;

  constructor(process: SimulatedProcess, world: World) {
    this.process = process;
    this.#world = world;
    this.#logger = world.loggerOf(process);
    this.ended = this.#run(this.#stopping.signal).then(
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

  async #run(signal: AbortSignal): Promise<void> {
    const { process } = this;
    const { clock } = process;
    const logger = this.#logger;
    const { store: state } = patient({ store: this.#world.state.open(process), clock, logger }, signal);
    const isGone = (holder: string): boolean => this.#world.isGone(holder);
    const lease = await takeLease({ state, clock, holder: process.name, isGone });
    try {
      await throughMoves({ clock, logger }, () => this.#withLease(state, lease, signal), signal);
    } finally {
      await releaseLease(state, lease, logger);
    }
  }

  async #withLease(state: StateStore, lease: number, signal: AbortSignal): Promise<void> {
    const { clock } = this.process;
    const logger = this.#logger;
    const rules = this.#world.configuredRules;
    const source = this.#world.sourceFor(this.process, await pinsOf({ rules }, state));
    const sinks = this.#world.sinksFor(this.process);
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
      sinks: sinks.map((sink) => ({ sink, limits: LIMITS, onPoison: "deadLetter", takes: () => true })),
      snapshot: "initial",
      policyOf: (table) => policyOf(rules, table),
      revised: source.revised,
      heartbeatMs: HEARTBEAT_MS,
      secondStreamTriesMax: 2,
      logger,
      metrics: noMetrics,
    });
    const control = new Control("simulated", pipeline, logger);
    const reconciler = new Reconciler({
      clock,
      news: pipeline.news,
      name: "simulated",
      driftMax: () => 0,
      port: () => pipeline.comparisons,
      lag: (sink) => control.lagOf(sink),
      kept: state.comparisons,
      report: async () => undefined,
      logger,
    });
    const { signal: until, end } = scopeOf(signal);
    this.running = { pipeline, control, reconciler, signal: until };
    const run = pipeline.run(until);
    try {
      await Promise.race([
        run,
        control.run(until),
        keepLease({ state, clock }, lease, until),
        repairDifferences({ clock, reconciler, refills: state.refills, logger }, until),
      ]);
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      this.running = null;
      end();
      await Promise.allSettled([run]);
      await source.close();
    }
  }
}

export { SILENT };
