import { count, verb } from "../core/figures.ts";
import { type Clock, pause, scopeOf, timestamp } from "../core/clock.ts";
import type { ComparePort } from "../core/contracts/comparing.ts";
import type { ProofStore } from "../core/contracts/state-store.ts";
import { findMillraceError } from "../core/errors.ts";
import type { TableVersion } from "../core/model/schema.ts";
import type { News, Turn } from "../core/waiting.ts";
import { brokenOff, NotComparableError, reasonOf, SourceAwayError } from "./errors.ts";
import type { Inspections } from "./inspections.ts";
import { type ProofTurn, storeWhole, turnOf } from "./proof/proof-turn.ts";
import { type KeptTable, openId } from "./rows/findings.ts";
import type { DoneTable, Run } from "./run.ts";
import { isAt, readStretch, type Stretch, TableComparison } from "./rows/table-comparison.ts";

interface TableRunParts {
  readonly clock: Clock;
  /** Told when sinks may have made progress. */
  readonly news: News;
  readonly run: Run;
  readonly port: ComparePort;
  readonly inspections: Inspections;
  readonly proofs: ProofStore;
  /** For tables with more than one chunk: the memory for their keys is large, so they take turns. */
  readonly largeTables: Turn;
  /** How far a sink is behind, as text. */
  readonly lag: (sink: string) => Promise<string>;
  /** Called and awaited at points from which another process could continue. */
  readonly onProgress: () => Promise<void>;
}

/** The pause between two looks at a sink that is not ready is at least this long: each asks the state. */
const REST_MS = 100;
/** By then it also looks at what nobody tells of. */
const LOOK_MS = 1_000;
/** How often to compare a table whose shape changes meanwhile, or whose sink was busy with something else. */
const TRIES_MAX = 3;
/** A sink that gives up its connection, as DuckDB may in the middle of a lake's maintenance, opens another one by then. */
const BUSY_REST_MS = 2_000;

/** Compares one table in all sinks that have it. */
export class TableRun {
  readonly #parts: TableRunParts;
  readonly #id: string;
  readonly #comparing = new Set<TableComparison>();
  /** Of comparisons that will have proven the whole table. */
  readonly #proving = new Map<TableComparison, { readonly turn: ProofTurn; readonly at: string }>();
  /** By sink: its last comparison. */
  readonly #last = new Map<string, TableComparison>();
  #large: Disposable | null = null;
  #isPassedOver = false;

  constructor(parts: TableRunParts, id: string) {
    this.#parts = parts;
    this.#id = id;
  }

  /** Compares the table; restarts if its shape changes meanwhile, or its sink is busy. Null: it is gone, or was passed over in a sink. */
  async compare(sinks: readonly string[], signal: AbortSignal): Promise<DoneTable | null> {
    const { run } = this.#parts;
    let table = this.#table;
    let left = this.#without(sinks);
    for (let tries = 1; left.length > 0; tries++) {
      table = this.#table;
      // The table was dropped or suspended meanwhile.
      if (table === null) return this.#gone();
      left = await this.#once(table, left, tries < TRIES_MAX, signal);
      if (left.length > 0 && this.#table === table) await pause(this.#parts.clock, tries * BUSY_REST_MS, signal);
    }
    for (const key of run.open.keys()) if (run.open.get(key)!.table === this.#id) run.open.delete(key);
    if (this.#isPassedOver || table === null) return null;
    const marks = [...this.#last].flatMap(([sink, { mark }]) => (mark === undefined ? [] : [[sink, mark] as const]));
    return { fingerprint: table.fingerprint, marks: Object.fromEntries(marks) };
  }

  get #table(): TableVersion | null {
    return this.#parts.port.tables.find(({ id }) => id === this.#id) ?? null;
  }

  /** Skips a sink that did not arrive in time, instead of waiting again at each table. */
  #without(sinks: readonly string[]): readonly string[] {
    const { run, port } = this.#parts;
    const table = this.#table;
    const passedOver = [...run.givenUp].filter(([sink]) => table !== null && port.takes(sink, table));
    for (const [sink, count] of passedOver) run.givenUp.set(sink, count + 1);
    if (passedOver.length > 0) this.#isPassedOver = true;
    return sinks.filter((sink) => !run.givenUp.has(sink));
  }

  /** Returns the sinks for which the comparison must restart. */
  async #once(
    table: TableVersion,
    sinks: readonly string[],
    mayRepeat: boolean,
    signal: AbortSignal,
  ): Promise<readonly string[]> {
    const { run, port, inspections } = this.#parts;
    const again: string[] = [];
    const refuse = (sink: string, error: unknown, comparison?: TableComparison) => {
      if (comparison !== undefined) this.#leave(comparison);
      if (error instanceof SourceAwayError) run.stopping.abort(brokenOff(run.id, error.message));
      signal.throwIfAborted();
      if ((!port.tables.includes(table) || isBusy(error)) && mayRepeat) {
        // From the start: a part that was compared before proves nothing of the whole.
        run.open.delete(openId(table.id, sink));
        again.push(sink);
      } else {
        // Reports what was compared until then.
        if (comparison !== undefined && comparison.findings.counts.compared > 0) this.#done(comparison);
        this.#refuse(sink, error);
      }
    };
    for (const sink of sinks.filter((one) => port.takes(one, table))) {
      try {
        const comparison = await this.#begun(table, sink, signal);
        this.#comparing.add(comparison);
        run.comparing.add(comparison);
      } catch (error) {
        refuse(sink, error);
      }
    }
    const each = async (work: (comparison: TableComparison) => Promise<void>) => {
      // All sinks at once: each mostly waits until its own sink reaches a position.
      const working = [...this.#comparing].map(async (comparison) => {
        try {
          await work(comparison);
        } catch (error) {
          refuse(comparison.sink, error, comparison);
        }
      });
      await Promise.all(working);
    };
    try {
      await this.#walk(table, refuse, signal);
      await each(async (comparison) => {
        using _turn = await inspections.toList(comparison.sink, signal);
        await comparison.findExtra(signal);
      });
      await this.#walk(table, refuse, signal);
      await each(async (comparison) => {
        await comparison.settle(signal);
        await this.#prove(comparison);
        this.#done(comparison);
      });
    } finally {
      for (const comparison of this.#comparing) this.#leave(comparison);
      this.#large?.[Symbol.dispose]();
      this.#large = null;
    }
    return again;
  }

  async #begun(table: TableVersion, sink: string, signal: AbortSignal): Promise<TableComparison> {
    const { clock, run, port, inspections, proofs, lag } = this.#parts;
    await this.#ready(sink, table, signal);
    const inspection = await inspections.of(sink, signal);
    const part = run.part?.number ?? null;
    const began = (await proofs.ofTable(table.id)).find((one) => one.sink === sink);
    const turn = began === undefined ? null : turnOf(began, port);
    const resumed = await this.#resumed(table, sink);
    const at = timestamp(clock);
    const parts = { ...run.request, clock, port, inspection, table, sink, part, resumed, began, lag };
    const comparison = new TableComparison(parts);
    this.#last.set(sink, comparison);
    // What another process compared, it compared before.
    if (turn !== null && part === null && resumed === null) this.#proving.set(comparison, { turn, at });
    return comparison;
  }

  /** The walk of another process, if what it compared still counts. */
  async #resumed(table: TableVersion, sink: string): Promise<KeptTable | null> {
    const { run, proofs } = this.#parts;
    const open = run.open.get(openId(table.id, sink));
    return open?.fingerprint === table.fingerprint && (await proofs.stands(open, open.mark)) ? open : null;
  }

  async #prove(comparison: TableComparison): Promise<void> {
    const begun = this.#proving.get(comparison);
    if (begun !== undefined) await storeWhole(this.#parts.proofs, begun.turn, begun.at, comparison.findings);
  }

  #leave(comparison: TableComparison): void {
    this.#comparing.delete(comparison);
    this.#proving.delete(comparison);
    this.#parts.run.comparing.delete(comparison);
  }

  #gone(): null {
    const { run, port } = this.#parts;
    const why = port.suspended.get(this.#id);
    if (why !== undefined) run.suspended.push({ table: this.#id, ...why });
    return null;
  }

  #refuse(sink: string, error: unknown): void {
    const { run } = this.#parts;
    const known = run.givenUp.get(sink);
    const isWhole = error instanceof NotComparableError && error.isWhole;
    if (isWhole || known !== undefined) this.#isPassedOver = true;
    // The first table of this sink has reported the reason.
    if (known !== undefined) return void run.givenUp.set(sink, known + 1);
    if (isWhole) run.givenUp.set(sink, 0);
    run.notComparable.push({ sink, table: this.#id, reason: reasonOf(error) });
  }

  #done({ findings, sink }: TableComparison): void {
    const { run } = this.#parts;
    const result = findings.result();
    run.tables.push(result);
    run.rowsCompared += result.compared;
    if (findings.counts.unsettled === 0) return;
    const reason = `${count(findings.counts.unsettled, "row")} changed, or ${verb(findings.counts.unsettled, "were")} on the way, at each look`;
    run.notComparable.push({ sink, table: result.table, rows: findings.counts.unsettled, reason });
  }

  /** Waits until the sink should hold the table. */
  async #ready(sink: string, table: TableVersion, signal: AbortSignal): Promise<void> {
    const { clock, news, run, port, inspections, lag } = this.#parts;
    const sinceMs = clock.elapsed();
    for (;;) {
      const [lookedMs, told] = [clock.elapsed(), news.count];
      const unready = await port.unready(sink, table);
      if (unready === null) return;
      // The sink may wait for that.
      if (unready.isWhole) await inspections.letGo([sink]);
      if (!port.tables.includes(table)) throw new NotComparableError("its shape changed");
      if (unready.isFinal === true || clock.elapsed() - sinceMs > run.request.patienceMs) {
        throw new NotComparableError(`${unready.reason}; ${await lag(sink)}`, unready.isWhole);
      }
      await news.after(told, clock, LOOK_MS, signal);
      await clock.sleep(Math.max(0, lookedMs + REST_MS - clock.elapsed()), signal);
    }
  }

  /**
   * Reads the source's rows in key order, each chunk for all sinks that are at the same key. Reads the next chunk while
   * sinks compare the present one; that read is wasted if the chunk must be repeated.
   */
  async #walk(
    table: TableVersion,
    refuse: (sink: string, error: unknown, comparison: TableComparison) => void,
    signal: AbortSignal,
  ): Promise<void> {
    const { run, port, largeTables, onProgress } = this.#parts;
    const { patienceMs } = run.request;
    const { signal: until, end } = scopeOf(signal);
    let ahead: Stretch | null = null;
    try {
      for (;;) {
        const open = [...this.#comparing].filter(({ isWalked }) => !isWalked);
        const [first] = open;
        if (first === undefined) return;
        const together = open.filter(({ cursor }) => isAt(cursor, first.cursor));
        const stretch: Stretch = ahead ?? readStretch({ patienceMs, port, table }, together, first.cursor, until);
        const sent = await stretch.sent;
        if (sent !== null && sent.last !== null) this.#large ??= await largeTables.take(signal);
        const isGoneOn = sent !== null && sent.last !== null;
        ahead =
          isGoneOn && together.every(({ mayReadAhead }) => mayReadAhead)
            ? readStretch({ patienceMs, port, table }, [...stretch.looks.keys()], sent.last, until)
            : null;
        const place = await stretch.place;
        signal.throwIfAborted();
        for (const [comparison, look] of stretch.looks) {
          // The sink was refused, or must repeat the chunk before this one.
          if (!this.#comparing.has(comparison) || !isAt(comparison.cursor, stretch.after)) continue;
          try {
            if (!port.tables.includes(table)) throw new NotComparableError("its shape changed while it was compared");
            await comparison.walked(look, place, signal);
          } catch (error) {
            refuse(comparison.sink, error, comparison);
          }
        }
        for (const { kept } of this.#comparing) if (kept !== null) run.open.set(openId(kept.table, kept.sink), kept);
        await onProgress();
      }
    } finally {
      end();
      await Promise.allSettled([ahead?.place]);
    }
  }
}

/** For the moment. Of a server that can't be reached, or is lost, the stream learns when it is back. */
function isBusy(error: unknown): boolean {
  const known = findMillraceError(error);
  const isAway = known?.code === "MR2001" || known?.reason === "lost" || known?.reason === "unreachable";
  return known?.kind === "retryable" && !isAway;
}
