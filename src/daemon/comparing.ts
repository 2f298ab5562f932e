import type { Config, Schedule } from "../config/config.ts";
import { ConfigError } from "../config/errors.ts";
import { type Clock, timestamp } from "../core/clock.ts";
import { findMillraceError } from "../core/errors.ts";
import { LastAnswer } from "../core/waiting.ts";
import {
  type ReconcileDocument,
  type ReconcileRequest,
  type ReportSummary,
  requestOf,
  type TableReconciliation,
} from "../core/contracts/reconciliation.ts";
import type { ComparisonStatus, ContinuousStatus } from "../core/contracts/status.ts";
import type { ProofRecord, StateStore, StoredError } from "../core/contracts/state-store.ts";
import type { Logger } from "../core/contracts/telemetry.ts";
import type { Scraped } from "../ops/gauges.ts";
import { comparisonsIn, lastEqual, pastOf } from "../reconcile/report/past.ts";
import { Reconciler, type ReconcilerParts } from "../reconcile/reconciler.ts";
import { keepReport, ReportFolder, type ReportingParts } from "../reconcile/report/report-folder.ts";
import { proofReport, type ProofReportParts } from "../reconcile/proof/proof-report.ts";
import { proofStatus } from "../reconcile/proof/proof-status.ts";
import { type Holds, Proving } from "../reconcile/proof/proving.ts";
import { followSchedule, nextTime, overdueSince } from "../reconcile/schedule.ts";
import type { DocumentParts } from "../reconcile/run.ts";
import { VERSION } from "../version.ts";
import { driftMaxOf } from "../rules/merged-rule.ts";

export interface ComparingParts extends Pick<ReconcilerParts, "clock" | "news" | "port" | "lag" | "kept" | "deep"> {
  readonly reports: StateStore["reports"];
  readonly folder: ReportFolder | null;
  readonly redact: (json: string) => string;
  readonly proofs: StateStore["proofs"];
  readonly state: ProofReportParts["state"];
  readonly holds: (maxAgeMs: number) => Promise<Holds>;
  readonly logger: Logger;
}

/** The number of reports that are read; tables that only earlier reports have stay unknown. */
const RECALLED_MAX = 30;

/** How often to look whether another day has begun. */
const DAY_LOOK_MS = 30_000;

/** What the newest comparison of a table in a sink counted. */
interface Counted {
  readonly table: string;
  readonly sink: string;
  readonly at: string;
  readonly sourceRows: number;
  readonly sinkRows: number;
}

/** The comparisons of one daemon: runs them, reports their results, and starts the scheduled ones. */
export class Comparing {
  readonly reconciler: Reconciler;
  readonly #reports: StateStore["reports"];
  readonly #listed: LastAnswer<readonly ReportSummary[]>;
  readonly #schedule: Schedule | null;
  readonly #logger: Logger;
  readonly #signal: AbortSignal;
  readonly #clock: Clock;
  readonly #startedAt: Date;
  /** Of the newest one that the schedule or the dashboard began. */
  #failure: StoredError | null = null;
  readonly #counted = new Map<string, Counted>();
  readonly #proving: Proving | null;
  readonly #proven: LastAnswer<readonly ProofRecord[]>;
  readonly #config: Config;
  readonly #stored: StateStore["proofs"];
  readonly #state: ProofReportParts["state"];
  readonly #reporting: ReportingParts;

  constructor(config: Config, { clock, news, port, lag, kept, deep, ...parts }: ComparingParts, signal: AbortSignal) {
    this.#reports = parts.reports;
    this.#listed = new LastAnswer(clock, []);
    this.#schedule = config.reconcile.schedule;
    this.#logger = parts.logger;
    this.#signal = signal;
    this.#clock = clock;
    this.#startedAt = new Date(clock.now());
    this.#config = config;
    this.#stored = parts.proofs;
    this.#proven = new LastAnswer(clock, []);
    const documents = documentParts(config, clock);
    this.#state = parts.state;
    this.#reporting = { ...parts, sign: config.reconcile.sign };
    this.reconciler = new Reconciler({
      ...documents,
      news,
      port,
      lag,
      kept,
      proofs: parts.proofs,
      deep,
      report: async (found) => {
        this.#count(found);
        await keepReport(this.#reporting, found);
      },
      logger: parts.logger,
    });
    const { continuous } = config.reconcile;
    const { proofs, holds, logger } = parts;
    const { reconciler } = this;
    this.#proving =
      continuous === null ? null : new Proving({ ...continuous, clock, port, proofs, reconciler, holds, lag, logger });
  }

  /** Runs one comparison to its end. */
  async once(request: ReconcileRequest): Promise<ReconcileDocument> {
    return await this.reconciler.run(request, this.#signal);
  }

  /** Begins a comparison that reads again what differs, and returns its id; empty lists: all. */
  repair(sinks: readonly string[], tables: readonly string[]): string {
    const { id, ended } = this.reconciler.begin(requestOf({ sinks, tables, repairs: true }), this.#signal);
    ended.then(
      () => (this.#failure = null),
      (error: unknown) => {
        if (this.#signal.aborted) return;
        this.#failure = this.#failureOf(error);
        this.#logger.error({ error, id }, "the comparison failed");
      },
    );
    return id;
  }

  /** The results of earlier processes. They count until each table is compared again. */
  async recall(): Promise<void> {
    const past: TableReconciliation[] = [];
    const found: ReconcileDocument[] = [];
    for (const { id, whole } of comparisonsIn(await this.#reports.list()).slice(0, RECALLED_MAX)) {
      const report = await this.#reports.get(id);
      past.push(...(report?.tables ?? []));
      if (report !== null) found.push(report);
      if (whole) break;
    }
    for (const report of found.toReversed()) this.#count(report);
    this.reconciler.recall(past);
  }

  /** Of each table in each sink. */
  get counted(): readonly Counted[] {
    return [...this.#counted.values()];
  }

  /** What comparisons have proven of each table in each sink. */
  async proofs(): Promise<readonly ProofRecord[]> {
    return await this.#proven.to(() => this.#stored.list());
  }

  /** A comparison that was broken off has not counted all rows. */
  #count({ startedAt, tables, notComparable }: ReconcileDocument): void {
    const broken = new Set(notComparable.map(({ table, sink }) => JSON.stringify([table, sink])));
    for (const { table, sink, sourceRows, sinkRows } of tables) {
      if (broken.has(JSON.stringify([table, sink]))) continue;
      this.#counted.set(JSON.stringify([table, sink]), { table, sink, at: startedAt, sourceRows, sinkRows });
    }
  }

  /** Whether the state has answered yet. */
  get isStoredKnown(): boolean {
    return this.#listed.hasAnswer && (this.#proving === null || this.#proven.hasAnswer);
  }

  async status(): Promise<ComparisonStatus> {
    const next = this.#schedule === null ? null : nextTime(this.#schedule, this.#clock.now());
    const reports = await this.#listed.to(() => this.#reports.list());
    const past = pastOf(reports);
    // Another comparison may have ended since.
    const isOver = this.#failure !== null && past.last !== null && past.last.finishedAt > this.#failure.at;
    return {
      next: next?.toISOString() ?? null,
      ...past,
      failure: isOver ? null : this.#failure,
      overdueSince: this.#overdueSince(reports),
      continuous: await this.#continuous(),
    };
  }

  async #continuous(): Promise<ContinuousStatus | null> {
    const { continuous } = this.#config.reconcile;
    if (continuous === null || this.#proving === null) return null;
    const records = await this.proofs();
    const driftMax = (table: string) => driftMaxOf(this.#config.rules, table);
    const { maxAgeMs } = continuous;
    return proofStatus(records, { maxAgeMs, nowMs: this.#clock.now(), driftMax, waits: this.#proving.why });
  }

  /** Without a whole comparison: since this process began, which could have run them. */
  #overdueSince(reports: readonly ReportSummary[]): string | null {
    if (this.#schedule === null) return null;
    const whole = comparisonsIn(reports).find(({ whole: isWhole }) => isWhole);
    const began = whole === undefined ? this.#startedAt : new Date(whole.startedAt);
    return overdueSince(this.#schedule, began, this.#clock.now())?.toISOString() ?? null;
  }

  /** For the metrics. */
  async levels(): Promise<Pick<Scraped, "drift" | "lastEqualSeconds" | "proofs">> {
    const equal = lastEqual(await this.#listed.to(() => this.#reports.list()));
    const proven = await this.proofs();
    // Nobody promised to prove what only comparisons by hand or by schedule do.
    const isPromised = this.#proving !== null;
    return {
      proofs: proven.map(({ table, sink, provenAt, since }) => ({
        table,
        sink,
        equalAt: provenAt ?? (isPromised ? since : null),
      })),
      drift: this.reconciler.drift,
      lastEqualSeconds: equal === null ? null : equal.getTime() / 1000,
    };
  }

  #failureOf(error: unknown): StoredError {
    const known = findMillraceError(error);
    const message = known?.message ?? (error instanceof Error ? error.message : String(error));
    const at = timestamp(this.#clock);
    const since = this.#failure?.since ?? at;
    return { code: known?.code ?? "MR1402", message, hint: known?.hint ?? null, at, since };
  }

  /** Makes, signs and keeps a report of what is proven now, and returns its id. */
  async reportProofs(): Promise<string> {
    const found = await proofReport(proofParts(this.#config, this.#clock, this.#state));
    await keepReport(this.#reporting, found);
    return found.id;
  }

  /** Runs the scheduled comparisons, and the continuous one with its reports; never ends. */
  async planned(): Promise<never> {
    return await Promise.race([
      this.#scheduled(),
      ...(this.#proving === null ? [] : [this.#proving.run(this.#signal), this.#daily()]),
    ]);
  }

  /** A report of the proofs at the first moment of each day (UTC) in which this process runs, but for the day of its first start. */
  async #daily(): Promise<never> {
    let newest: string | null = null;
    for (;;) {
      try {
        const now = timestamp(this.#clock);
        newest ??= (await this.#reports.list()).find(({ kind }) => kind === "proof")?.finishedAt ?? now;
        if (dayOf(now) > dayOf(newest)) {
          await this.reportProofs();
          newest = now;
        }
      } catch (error) {
        this.#signal.throwIfAborted();
        this.#logger.error({ error }, "the report of the proofs could not be made");
      }
      await this.#clock.sleep(DAY_LOOK_MS, this.#signal);
    }
  }

  async #scheduled(): Promise<never> {
    if (this.#schedule === null) return await new Promise<never>(() => {});
    const { cron, timeZone, repairs, patienceMs, mode } = this.#schedule;
    const request = requestOf({ patienceMs, repairs, mode });
    const run = async (signal: AbortSignal): Promise<void> => {
      try {
        await this.reconciler.idle(signal);
        await this.reconciler.run(request, signal);
        this.#failure = null;
      } catch (error) {
        if (!signal.aborted) this.#failure = this.#failureOf(error);
        throw error;
      }
    };
    return await followSchedule({ cron, timeZone, run, clock: this.#clock, logger: this.#logger }, this.#signal);
  }
}

function dayOf(time: string): string {
  return time.slice(0, 10);
}

function documentParts({ name, rules, digest }: Config, clock: Clock): DocumentParts {
  return { clock, name, version: VERSION, config: digest, driftMax: (table) => driftMaxOf(rules, table) };
}

/** For a report of what is proven. */
export function proofParts(config: Config, clock: Clock, state: ProofReportParts["state"]): ProofReportParts {
  return {
    ...documentParts(config, clock),
    state,
    sinks: config.sinks.map(({ name }) => name),
    maxAgeMs: config.reconcile.continuous?.maxAgeMs ?? null,
  };
}

/** Before anything begins: a folder that can't be written to is an error in the configuration. */
export function openReports({ file, reconcile }: Pick<Config, "file" | "reconcile">): ReportFolder | null {
  if (reconcile.reports === null) return null;
  const { path, line, column } = reconcile.reports;
  try {
    return ReportFolder.open(path);
  } catch (error) {
    const reason = error instanceof Error && "code" in error ? String(error.code) : "unknown error";
    const message = `${path} can't be written to (${reason})`;
    throw new ConfigError(file, [{ code: "MR1005", path: ["reconcile", "reports"], message, line, column }], error);
  }
}
