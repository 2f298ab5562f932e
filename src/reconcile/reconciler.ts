import type { ComparePort } from "../core/contracts/comparing.ts";
import { scopeOf } from "../core/clock.ts";
import { eachOf } from "../core/each-of.ts";
import { findMillraceError } from "../core/errors.ts";
import type {
  DriftKind,
  ReconcileDocument,
  ReconcileRequest,
  ReconcileStatus,
  TableReconciliation,
} from "../core/contracts/reconciliation.ts";
import type { ComparisonStore, ProofStore } from "../core/contracts/state-store.ts";
import type { Logger } from "../core/contracts/telemetry.ts";
import type { TableVersion } from "../core/model/schema.ts";
import { News, Turn } from "../core/waiting.ts";
import { compareDeep, type DeepSides } from "./deep.ts";
import { alreadyRunning, brokenOff, nothingToResume, notStreaming } from "./errors.ts";
import { Inspections } from "./inspections.ts";
import {
  documentOf,
  type DocumentParts,
  type DoneTable,
  keptText,
  newRun,
  progressOf,
  type Run,
  takeUp,
} from "./run.ts";
import { knowPlaces } from "./proof/proof-turn.ts";
import { openId } from "./rows/findings.ts";
import { TableRun } from "./table-run.ts";

export interface ReconcilerParts extends DocumentParts {
  /** Told when sinks or the pipeline may have made progress. */
  readonly news: News;
  /** Null while the daemon does not stream yet. */
  readonly port: () => ComparePort | null;
  /** How far a sink is behind, as text. */
  readonly lag: (sink: string) => Promise<string>;
  /** Stores a comparison until it ends. */
  readonly kept: ComparisonStore;
  readonly proofs: ProofStore;
  /** Null: there are no documents. */
  readonly deep: ((signal: AbortSignal) => Promise<DeepSides>) | null;
  /** Receives the whole result before the requester does. */
  readonly report: (found: ReconcileDocument) => Promise<void>;
  readonly logger: Logger;
}

/** Why a sink is not compared that holds no rows which could be read back. */
const PASSES_ON = "it only passes changes on";
const KINDS: readonly DriftKind[] = ["missing", "extra", "different"];
/** By then it also looks at what nobody tells of. */
const LOOK_MS = 10_000;
/** A requester asks for the result several times a second. */
const UNWATCHED_MS_MAX = 30_000;
const SAVE_EVERY_MS = 2_000;
/** Other tables are read while the sinks of one table reach a position: that wait takes most of the time. */
const TABLES_AT_ONCE = 16;

/** Compares sinks with their source while both are live, one comparison at a time. */
interface Begun {
  readonly id: string;
  readonly ended: Promise<ReconcileDocument>;
}

export class Reconciler {
  readonly #parts: ReconcilerParts;
  #running: Run | null = null;
  readonly #ended = new News();
  #last: ReconcileDocument | null = null;
  #failure: ReconcileStatus["failure"] = null;
  /** By table and sink. */
  readonly #latest = new Map<string, TableReconciliation>();

  constructor(parts: ReconcilerParts) {
    this.#parts = parts;
  }

  /** For the requester: the comparison runs as long as somebody looks. */
  look(): ReconcileStatus {
    const run = this.#running;
    if (run !== null) run.lookedMs = this.#parts.clock.elapsed();
    return { running: run === null ? null : progressOf(run), last: this.#last, failure: this.#failure };
  }

  /** The last result of each table in each sink. */
  get drift(): readonly {
    readonly table: string;
    readonly sink: string;
    readonly kind: DriftKind;
    readonly rows: number;
  }[] {
    return [...this.#latest.values()].flatMap((found) =>
      KINDS.map((kind) => ({ table: found.table, sink: found.sink, kind, rows: found[kind] })),
    );
  }

  /** Loads results of other processes, newest first. Called before this process compares. */
  recall(past: readonly TableReconciliation[]): void {
    for (const one of past) {
      const id = openId(one.table, one.sink);
      if (!this.#latest.has(id)) this.#latest.set(id, one);
    }
  }

  /** Begins a comparison, which goes on whether somebody waits for its end or not. A second one at a time is refused. */
  begin(request: ReconcileRequest, signal: AbortSignal): Begun {
    return this.#start(this.#begin(request), signal);
  }

  /**
   * Starts a comparison and returns its id; `look` shows the result when it has ended. A second one at a time is
   * refused.
   */
  start(request: ReconcileRequest, signal: AbortSignal): string {
    const run = this.#begin(request);
    const watching = scopeOf();
    const { ended } = this.#start(run, signal);
    const { signal: stopped } = run.stopping;
    this.#watch(run, watching.signal).catch(() => undefined);
    const over = (): void => watching.end();
    ended.then(over, over);
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

  #start(run: Run, signal: AbortSignal, isReported = true): Begun {
    const work = scopeOf(signal, run.stopping.signal);
    const ended = this.#end(run, work.signal, isReported).finally(() => work[Symbol.dispose]());
    return { id: run.id, ended };
  }

  async #watch(run: Run, signal: AbortSignal): Promise<void> {
    const { clock } = this.#parts;
    for (let leftMs = UNWATCHED_MS_MAX; leftMs > 0; leftMs = run.lookedMs + UNWATCHED_MS_MAX - clock.elapsed())
      await clock.sleep(leftMs, signal);
    run.stopping.abort(brokenOff(run.id, "nobody waits for it any more"));
  }

  /** Stops a comparison; false if it does not run. */
  stop(id: string): boolean {
    const run = this.#running;
    if (run?.id !== id) return false;
    run.stopping.abort(brokenOff(id, "it was stopped"));
    return true;
  }

  /** Runs a comparison to its end. One that is not reported is a step of other work. */
  async run(request: ReconcileRequest, signal: AbortSignal, isReported = true): Promise<ReconcileDocument> {
    return await this.#start(this.#begin(request, isReported), signal, isReported).ended;
  }

  get isRunning(): boolean {
    return this.#running !== null;
  }

  /** Resolves when no comparison runs. */
  async idle(signal: AbortSignal): Promise<void> {
    const { clock } = this.#parts;
    for (let told = this.#ended.count; this.#running !== null; told = this.#ended.count)
      await this.#ended.after(told, clock, LOOK_MS, signal);
  }

  #begin(request: ReconcileRequest, isReported = true): Run {
    if (this.#running !== null) throw alreadyRunning(this.#running.id);
    this.#running = newRun(request, this.#parts.clock);
    if (isReported) this.#failure = null;
    return this.#running;
  }

  async #end(run: Run, signal: AbortSignal, isReported: boolean): Promise<ReconcileDocument> {
    const { logger } = this.#parts;
    try {
      await this.#compare(run, signal, isReported);
      const found = documentOf(this.#parts, run);
      if (isReported) {
        await this.#parts.report(found);
        // Somebody may look for it later than another one ends that nobody asked for.
        this.#last = found;
        this.#failure = null;
      }
      this.#note(found);
      const { id, drift, notComparable } = found;
      const outcome = { id, drift, tables: found.tables.length, notComparable: notComparable.length };
      if (isReported) logger.info(outcome, "sinks were compared");
      else logger.debug(outcome, "sinks were compared");
      return found;
    } catch (error) {
      // A daemon that is about to end may have closed its state. The comparison then resumes from the last save.
      if (isReported && run.done.size + run.open.size > 0)
        await this.#parts.kept.save(run.id, keptText(run)).catch(() => undefined);
      throw error;
    } finally {
      this.#running = null;
      this.#ended.tell();
    }
  }

  #note({ whole, tables }: ReconcileDocument): void {
    // Tables and sinks that left the configuration must disappear from the scrape.
    if (whole) this.#latest.clear();
    for (const one of tables) this.#latest.set(openId(one.table, one.sink), one);
  }

  /** Saves the progress. A resumed run repeats the comparisons of the last moments. */
  async #save(run: Run): Promise<void> {
    if (this.#parts.clock.elapsed() - run.savedMs < SAVE_EVERY_MS) return;
    run.savedMs = this.#parts.clock.elapsed();
    await this.#parts.kept.save(run.id, keptText(run));
  }

  async #compare(run: Run, signal: AbortSignal, isReported: boolean): Promise<void> {
    const { resume } = run.request;
    const kept = resume === null ? null : await this.#parts.kept.get(resume);
    if (resume !== null && kept === null) throw nothingToResume(resume);
    const port = await this.#port(run, signal);
    const { clock, news, lag, proofs } = this.#parts;
    if (isReported) await knowPlaces(proofs, port);
    const { request } = run;
    const isAsked = (id: string) => request.tables.length === 0 || request.tables.includes(id);
    const { suspended } = port;
    for (const [table, { code, message }] of suspended)
      if (isAsked(table)) run.suspended.push({ table, code, message });
    const tables = port.tables.filter(({ id }) => isAsked(id) && !suspended.has(id));
    for (const [table, what] of port.besides)
      if (tables.some(({ id }) => id === table)) run.besides.push({ table, what });
    const sinks = port.sinks.filter((sink) => request.sinks.length === 0 || request.sinks.includes(sink));
    run.tableCount = tables.length;
    const able = sinks.filter((sink) => port.isComparable(sink));
    if (kept !== null) {
      const present = new Map(tables.map((table) => [table.id, table]));
      await takeUp(run, kept, async (id, found) => await this.#isSame(present.get(id), found, able, port));
    }
    notCaptured(run, port, sinks);
    await using inspections = new Inspections(port);
    for (const sink of sinks.filter((sink) => !able.includes(sink))) {
      const expected = request.sinks.includes(sink) ? {} : { isExpected: true as const };
      run.notComparable.push({ sink, table: null, reason: PASSES_ON, ...expected });
    }
    run.tablesDone = tables.filter(({ id }) => run.done.has(id)).length;
    // Nobody resumes a step of other work, and what somebody may resume stays.
    const onProgress = async (): Promise<void> => (isReported ? await this.#save(run) : undefined);
    const largeTables = new Turn();
    const todo = tables.filter(({ id }) => !run.done.has(id));
    using over = scopeOf(signal);
    await eachOf(todo, TABLES_AT_ONCE, async ({ id }) => {
      run.table = id;
      const parts = { clock, news, run, port, inspections, proofs, largeTables, lag, onProgress };
      try {
        const compared = await new TableRun(parts, id).compare(able, over.signal);
        run.tablesDone++;
        if (compared !== null) run.done.set(id, compared);
        await onProgress();
      } catch (error) {
        over.end();
        signal.throwIfAborted();
        throw error;
      }
    });
    signal.throwIfAborted();
    if (request.deep)
      await compareDeep(run, (await this.#parts.deep?.(signal)) ?? null, { clock, port, isAsked }, signal);
    run.table = null;
    for (const [sink, count] of run.givenUp) {
      const reason = `${count} more tables were not compared, for the same reason`;
      if (count > 0) run.notComparable.push({ sink, table: null, reason });
    }
    // Nothing that differs is no proof where nothing was compared.
    if (run.tables.length + run.notComparable.length > 0) return;
    const none = run.suspended.length > 0 ? "all of these tables are suspended" : "there was no table to compare";
    const reason = tables.length === 0 ? none : "it takes none of these tables";
    for (const sink of sinks) run.notComparable.push({ sink, table: null, reason });
  }

  /** Whether the table has the shape and the rules that it had, no further sink, and each sink still holds what was compared. */
  async #isSame(
    table: TableVersion | undefined,
    { fingerprint, marks }: DoneTable,
    sinks: readonly string[],
    port: ComparePort,
  ): Promise<boolean> {
    if (table?.fingerprint !== fingerprint) return false;
    for (const sink of sinks.filter((one) => port.takes(one, table))) {
      const mark = marks[sink];
      if (mark === undefined || !(await this.#parts.proofs.stands({ table: table.id, sink }, mark))) return false;
    }
    return true;
  }

  async #port({ request }: Run, signal: AbortSignal): Promise<ComparePort> {
    const { clock, news } = this.#parts;
    const untilMs = clock.elapsed() + request.patienceMs;
    for (;;) {
      const told = news.count;
      const port = this.#parts.port();
      if (port !== null) return port;
      const leftMs = untilMs - clock.elapsed();
      if (leftMs <= 0) throw notStreaming();
      await news.after(told, clock, Math.min(leftMs, LOOK_MS), signal);
    }
  }
}

/** Names what somebody asked for by its name, and a sink does not have. Of tables that are done it was kept. */
function notCaptured({ request, notComparable, done }: Run, port: ComparePort, sinks: readonly string[]): void {
  const isLeft = (id: string): boolean => !request.mayLack.includes(id) && !port.suspended.has(id) && !done.has(id);
  for (const id of request.tables.filter(isLeft)) {
    const table = port.tables.find((one) => one.id === id);
    for (const sink of sinks) {
      if (table === undefined) notComparable.push({ sink, table: id, reason: "it is not captured now" });
      else if (request.sinks.length > 0 && !port.takes(sink, table))
        notComparable.push({ sink, table: id, reason: "the sink does not take it" });
    }
  }
}
