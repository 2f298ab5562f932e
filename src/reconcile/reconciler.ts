import { setTimeout as sleep } from "node:timers/promises";
import type { ComparePort } from "../core/comparing.ts";
import { findMillraceError } from "../core/errors.ts";
import type {
  DriftKind,
  ReconcileDocument,
  ReconcileRequest,
  ReconcileStatus,
  TableReconciliation,
} from "../core/reconciliation.ts";
import type { TableVersion } from "../core/schema.ts";
import type { ComparisonStore } from "../core/state-store.ts";
import type { Logger } from "../core/telemetry.ts";
import {
  alreadyRunning,
  brokenOff,
  NotComparableError,
  nothingToResume,
  notStreaming,
  SourceAwayError,
} from "./errors.ts";
import { Inspections } from "./inspections.ts";
import { keptText, takeUp } from "./kept.ts";
import { pauseAfter } from "./pace.ts";
import { type DocumentParts, documentOf, newRun, progressOf, type Run } from "./run.ts";
import { isAt, readStretch, type Stretch } from "./stretch.ts";
import { TableComparison } from "./table-comparison.ts";

export interface ReconcilerParts extends DocumentParts {
  /** Null while the daemon does not stream yet. */
  readonly port: () => ComparePort | null;
  /** How far a sink is behind, for people. */
  readonly lag: (sink: string) => Promise<string>;
  /** Where a comparison is kept until it ends. */
  readonly kept: ComparisonStore;
  /** Told of everything that was found, before whoever asked for it. */
  readonly report: (found: ReconcileDocument) => Promise<void>;
  readonly logger: Logger;
}

const KINDS: readonly DriftKind[] = ["missing", "extra", "different"];
const LOOK_MS = 100;
/** Whoever has asked for one asks for its end several times a second. */
const UNWATCHED_MS_MAX = 30_000;
const SAVE_EVERY_MS = 2_000;
/** A table whose shape changes while it is compared is begun again this often. */
const TRIES_MAX = 3;

/** Compares sinks with their source while both are live, one comparison at a time. */
export class Reconciler {
  readonly #parts: ReconcilerParts;
  #running: Run | null = null;
  #last: ReconcileDocument | null = null;
  #failure: ReconcileStatus["failure"] = null;
  /** By table and sink. */
  readonly #latest = new Map<string, TableReconciliation>();
  #lastEqualMs: number | null = null;

  constructor(parts: ReconcilerParts) {
    this.#parts = parts;
  }

  /** For who has started one: it goes on as long as somebody looks. */
  look(): ReconcileStatus {
    const run = this.#running;
    if (run !== null) run.lookedMs = performance.now();
    return { running: run === null ? null : progressOf(run), last: this.#last, failure: this.#failure };
  }

  /** For the metrics: what was found of each table in each sink when it was compared last. */
  get levels(): {
    readonly drift: readonly { table: string; sink: string; kind: DriftKind; rows: number }[];
    readonly lastEqualSeconds: number | null;
  } {
    const drift = [...this.#latest.values()].flatMap((found) =>
      KINDS.map((kind) => ({ table: found.table, sink: found.sink, kind, rows: found[kind] })),
    );
    return { drift, lastEqualSeconds: this.#lastEqualMs === null ? null : this.#lastEqualMs / 1000 };
  }

  /** Begins one, and returns its id; what it finds is told by `look` when it has ended. A second one is refused. */
  start(request: ReconcileRequest, signal: AbortSignal): string {
    const run = this.#begin(request);
    const watch = setInterval(() => {
      if (performance.now() - run.lookedMs > UNWATCHED_MS_MAX)
        run.stopping.abort(brokenOff(run.id, "nobody waits for it any more"));
    }, UNWATCHED_MS_MAX / 30);
    const ended = this.#end(run, AbortSignal.any([signal, run.stopping.signal])).finally(() => clearInterval(watch));
    const { signal: stopped } = run.stopping;
    ended.catch((thrown: unknown) => {
      const error: unknown = stopped.aborted ? stopped.reason : thrown;
      const known = findMillraceError(error);
      const message = known?.message ?? (error instanceof Error ? error.message : String(error));
      this.#failure = { id: run.id, code: known?.code ?? "MR1402", message, hint: known?.hint ?? null };
      if (stopped.aborted) this.#parts.logger.info({ id: run.id, why: message }, "the comparison was broken off");
      else if (!signal.aborted) this.#parts.logger.error({ error, id: run.id }, "the comparison failed");
    });
    return run.id;
  }

  /** Breaks it off; false: it does not run. */
  stop(id: string): boolean {
    const run = this.#running;
    if (run?.id !== id) return false;
    run.stopping.abort(brokenOff(id, "it was stopped"));
    return true;
  }

  /** The same to its end; one that is not reported is a step of other work. */
  async run(request: ReconcileRequest, signal: AbortSignal, isReported = true): Promise<ReconcileDocument> {
    const run = this.#begin(request);
    return await this.#end(run, AbortSignal.any([signal, run.stopping.signal]), isReported);
  }

  /** Resolves when none runs. */
  async idle(signal: AbortSignal): Promise<void> {
    while (this.#running !== null) await sleep(LOOK_MS, undefined, { signal });
  }

  #begin(request: ReconcileRequest): Run {
    if (this.#running !== null) throw alreadyRunning(this.#running.id);
    this.#running = newRun(request);
    this.#failure = null;
    return this.#running;
  }

  async #end(run: Run, signal: AbortSignal, isReported = true): Promise<ReconcileDocument> {
    const { logger } = this.#parts;
    try {
      await this.#compare(run, signal);
      const found = documentOf(this.#parts, run);
      if (isReported) await this.#parts.report(found);
      this.#last = found;
      this.#failure = null;
      this.#note(run.request, found);
      await this.#parts.kept.forget(run.id);
      const { id, drift, notComparable } = found;
      logger.info(
        { id, drift, tables: found.tables.length, notComparable: notComparable.length },
        "sinks were compared",
      );
      return found;
    } catch (error) {
      if (run.done.size + run.open.size > 0) {
        // A daemon that is about to end may have closed its state: then it is resumed from where it was saved last.
        await this.#parts.kept.save(run.id, keptText(run)).catch(() => undefined);
      }
      throw error;
    } finally {
      this.#running = null;
    }
  }

  #note({ tables, sinks }: ReconcileRequest, found: ReconcileDocument): void {
    // What left the configuration must not stay in the scrape.
    if (tables.length === 0 && sinks.length === 0) this.#latest.clear();
    for (const one of found.tables) this.#latest.set(JSON.stringify([one.table, one.sink]), one);
    if (!found.drift && found.notComparable.length === 0) this.#lastEqualMs = Date.now();
  }

  /** How far it has come; of what was compared in the last moments some is compared again. */
  async #save(run: Run): Promise<void> {
    if (performance.now() - run.savedMs < SAVE_EVERY_MS) return;
    await this.#parts.kept.save(run.id, keptText(run));
    run.savedMs = performance.now();
  }

  async #compare(run: Run, signal: AbortSignal): Promise<void> {
    if (run.request.resume !== null) {
      const kept = await this.#parts.kept.get(run.request.resume);
      if (kept === null) throw nothingToResume(run.request.resume);
      takeUp(run, kept);
    }
    const port = await this.#port(run, signal);
    const { request } = run;
    const isAsked = (id: string) => request.tables.length === 0 || request.tables.includes(id);
    const { aside } = port;
    for (const [table, { code, message }] of aside) if (isAsked(table)) run.aside.push({ table, code, message });
    const tables = port.tables.filter(({ id }) => isAsked(id) && !aside.has(id));
    const sinks = port.sinks.filter((sink) => request.sinks.length === 0 || request.sinks.includes(sink));
    run.tableCount = tables.length;
    await using inspections = new Inspections(port);
    const able = sinks.filter((sink) => port.isComparable(sink));
    for (const sink of sinks.filter((sink) => !able.includes(sink))) {
      run.notComparable.push({ sink, table: null, reason: "sinks of this kind can't be compared yet" });
    }
    run.tablesDone = tables.filter(({ id }) => run.done.has(id)).length;
    for (const table of tables) {
      if (run.done.has(table.id)) continue;
      run.table = table.id;
      for (const [sink, count] of run.givenUp) if (port.takes(sink, table)) run.givenUp.set(sink, count + 1);
      const left = able.filter((sink) => !run.givenUp.has(sink));
      await this.#table(run, port, table.id, left, inspections, signal);
      run.tablesDone++;
      run.done.add(table.id);
      run.open.clear();
      await this.#save(run);
    }
    run.table = null;
    for (const [sink, count] of run.givenUp) {
      const reason = `${count} more tables were not compared, as the sink did not come in time`;
      if (count > 0) run.notComparable.push({ sink, table: null, reason });
    }
  }

  async #port({ request }: Run, signal: AbortSignal): Promise<ComparePort> {
    const sinceMs = performance.now();
    for (;;) {
      const port = this.#parts.port();
      if (port !== null) return port;
      if (performance.now() - sinceMs > request.patienceMs) throw notStreaming();
      await sleep(LOOK_MS, undefined, { signal });
    }
  }

  /** One table in the sinks that take it; begun again where its shape changes meanwhile. */
  async #table(
    run: Run,
    port: ComparePort,
    id: string,
    sinks: readonly string[],
    inspections: Inspections,
    signal: AbortSignal,
  ): Promise<void> {
    let left = sinks;
    for (let tries = 1; left.length > 0; tries++) {
      const table = port.tables.find((known) => known.id === id);
      // Dropped, or set aside, meanwhile.
      if (table === undefined) return this.#gone(run, port, id);
      const takers = left.filter((sink) => port.takes(sink, table));
      const comparisons: TableComparison[] = [];
      const again: string[] = [];
      const refuse = (sink: string, error: unknown, comparison?: TableComparison) => {
        if (error instanceof SourceAwayError) run.stopping.abort(brokenOff(run.id, error.message));
        signal.throwIfAborted();
        const isOutdated = !port.tables.includes(table);
        if (isOutdated && tries < TRIES_MAX) again.push(sink);
        else {
          // What was compared until then is said.
          if (comparison !== undefined && comparison.findings.compared > 0) this.#done(run, comparison);
          this.#refuse(run, sink, id, error);
        }
      };
      for (const sink of takers) {
        try {
          await this.#ready(run, port, sink, table, signal);
          const inspection = await inspections.of(sink, signal);
          const { lag } = this.#parts;
          const part = run.part?.number ?? null;
          const resumed = run.open.get(JSON.stringify([id, sink])) ?? null;
          comparisons.push(new TableComparison({ ...run.request, port, inspection, table, sink, part, resumed, lag }));
        } catch (error) {
          refuse(sink, error);
        }
      }
      run.comparing.clear();
      for (const comparison of comparisons) run.comparing.add(comparison);
      await this.#walk(run, port, table, refuse, signal);
      const each = async (work: (comparison: TableComparison) => Promise<void>) => {
        // At once: each waits most of the time for its own sink to come to a place.
        const working = [...run.comparing].map(async (comparison) => {
          try {
            await work(comparison);
          } catch (error) {
            refuse(comparison.sink, error, comparison);
            run.comparing.delete(comparison);
          }
        });
        await Promise.all(working);
      };
      await each((comparison) => comparison.findExtra(signal));
      await this.#walk(run, port, table, refuse, signal);
      await each(async (comparison) => {
        await comparison.settle(signal);
        this.#done(run, comparison);
      });
      run.comparing.clear();
      left = again;
    }
  }

  #gone({ aside }: Run, port: ComparePort, table: string): void {
    const why = port.aside.get(table);
    if (why !== undefined) aside.push({ table, ...why });
  }

  /** A sink that does not come is not waited for again at each of its tables. */
  #refuse(run: Run, sink: string, table: string, error: unknown): void {
    if (error instanceof NotComparableError && error.isWhole) run.givenUp.set(sink, 0);
    run.notComparable.push({ sink, table, reason: messageOf(error) });
  }

  #done(run: Run, { findings, sink }: TableComparison): void {
    const result = findings.result();
    run.tables.push(result);
    run.rowsCompared += result.compared;
    if (findings.unsettled === 0) return;
    const reason = `${findings.unsettled} rows changed, or were on their way, each time they were looked at`;
    run.notComparable.push({ sink, table: result.table, rows: findings.unsettled, reason });
  }

  /** Waits until the sink can be expected to hold the table. */
  async #ready(run: Run, port: ComparePort, sink: string, table: TableVersion, signal: AbortSignal): Promise<void> {
    const sinceMs = performance.now();
    for (;;) {
      const unready = port.unready(sink, table);
      if (unready === null) return;
      if (!port.tables.includes(table)) throw new NotComparableError("its shape changed");
      if (unready.isFinal === true || performance.now() - sinceMs > run.request.patienceMs) {
        throw new NotComparableError(`${unready.reason}; ${await this.#parts.lag(sink)}`, unready.isWhole);
      }
      await sleep(LOOK_MS, undefined, { signal });
    }
  }

  /**
   * The source's rows in key order, each chunk for all the sinks that stand at the same key. While they compare one the next
   * is read; where one has to be repeated, that is in vain.
   */
  async #walk(
    run: Run,
    port: ComparePort,
    table: TableVersion,
    refuse: (sink: string, error: unknown, comparison: TableComparison) => void,
    signal: AbortSignal,
  ): Promise<void> {
    const over = new AbortController();
    const until = AbortSignal.any([signal, over.signal]);
    let ahead: Stretch | null = null;
    try {
      for (;;) {
        const open = [...run.comparing].filter(({ isWalked }) => !isWalked);
        const [first] = open;
        if (first === undefined) return;
        const together = open.filter(({ cursor }) => isAt(cursor, first.cursor));
        const stretch: Stretch = ahead ?? readStretch(run, port, table, together, first.cursor, until);
        const sent = await stretch.sent;
        const isGoneOn = sent !== null && sent.last !== null && pauseAfter(sent) === 0;
        ahead =
          isGoneOn && together.every(({ mayReadAhead }) => mayReadAhead)
            ? readStretch(run, port, table, [...stretch.looks.keys()], sent.last, until)
            : null;
        const place = await stretch.place;
        signal.throwIfAborted();
        for (const [comparison, look] of stretch.looks) {
          // It was refused, or has to repeat what lay in front.
          if (!run.comparing.has(comparison) || !isAt(comparison.cursor, stretch.after)) continue;
          try {
            if (!port.tables.includes(table)) throw new NotComparableError("its shape changed while it was compared");
            await comparison.walked(look, place, signal);
          } catch (error) {
            refuse(comparison.sink, error, comparison);
            run.comparing.delete(comparison);
          }
        }
        for (const { kept } of run.comparing)
          if (kept !== null) run.open.set(JSON.stringify([kept.table, kept.sink]), kept);
        await this.#save(run);
        const pauseMs = pauseAfter(place);
        if (pauseMs > 0) await sleep(pauseMs, undefined, { signal });
      }
    } finally {
      over.abort();
      await Promise.allSettled([ahead?.place]);
    }
  }
}

function messageOf(error: unknown): string {
  const known = findMillraceError(error);
  if (known !== undefined) return `${known.code} ${known.message}`;
  return error instanceof Error ? error.message : String(error);
}
