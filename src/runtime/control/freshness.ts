import { deadline } from "../../core/clock.ts";
import { tableConditions } from "../../core/conditions/conditions.ts";
import { blocks, type Condition, sentenceOf } from "../../core/conditions/condition.ts";
import { encodeMark } from "../stream/fan-out.ts";
import type { FreshAnswer, FreshRequest } from "../../core/contracts/orders.ts";
import type { Pipeline } from "../pipeline.ts";
import type { SinkLife } from "../sink/sink-life.ts";
import { tokenUnknown } from "../errors.ts";
import { LOOK_MS, SharedLook, type Waiting } from "./waits.ts";
import { tablesStatus } from "./status.ts";

/*
 * Freshness
 *
 * An application commits, takes a token of its commit (`select pg_current_wal_insert_lsn()`, the GTID of its session), and asks
 * for the moment from which a sink has it:
 *
 *     token ──▶ position ──▶ the sink has covered the position ──▶ it lacks nothing of the tables in question ──▶ answer
 *               (locate)      (looked at after each news)           (suspended, paused, being read again)
 *
 * A search index shows what it has stored only some time later: there the answer waits for a refresh that begins after that.
 * While one refresh runs, all who come wait for the next.
 *
 * One look serves all who wait. A look for each of them at each batch would cost more than the batch.
 */

interface Waiter extends FreshRequest {
  readonly at: string;
  readonly lives: readonly SinkLife[];
  readonly sinceMs: number;
  /** Of the log that the token was taken from; 0: the pipeline has not begun to follow one. */
  epoch: number;
  /** Where the token is; null while the stream has not come to it. */
  commit: bigint | null;
  /** Sinks whose readers see it already. */
  readonly shown: Set<SinkLife>;
}

const SHOW_MS_MAX = 30_000;
/** The end of the log that is known then is not from before the token, and nothing before it waits to be flushed. */
const BEYOND_AFTER_MS = 2_000;
/** After a time without progress a mark brings the stream of an idle source past the token; one serves all. */
const MARK_AFTER_MS = 100;
const MARK_EVERY_MS = 1_000;

export class Freshness {
  readonly #pipeline: Pipeline;
  readonly #look: SharedLook<Waiter, FreshAnswer>;
  readonly #showing = new Set<SinkLife>();
  /** What is shown of those who wait. */
  readonly #toShow = new Map<SinkLife, Set<Waiter["shown"]>>();
  #markedMs = -Infinity;

  constructor(pipeline: Pipeline) {
    this.#pipeline = pipeline;
    this.#look = new SharedLook(pipeline, (waiters) => this.#lookFor(waiters));
  }

  /** Resolves when these sinks have everything before the token, or after the timeout with what is missing. */
  async reached(
    request: FreshRequest & { readonly at: string },
    lives: readonly SinkLife[],
    timeoutMs: number,
    signal: AbortSignal,
  ): Promise<FreshAnswer> {
    signal.throwIfAborted();
    const { clock, epoch } = this.#pipeline;
    const waiter: Waiter = {
      ...request,
      lives,
      sinceMs: clock.elapsed(),
      epoch,
      commit: this.#locate(request.at),
      shown: new Set(),
    };
    if (this.#isReached(waiter) && this.#isShown(waiter))
      return { reached: true, position: this.#heldBy(waiter), missing: [] };
    const { waiters } = this.#look;
    const takeBack = clock.after(timeoutMs, () =>
      waiters.get(waiter)?.resolve({ reached: false, position: this.#heldBy(waiter), missing: this.#missing(waiter) }),
    );
    try {
      return await this.#look.until(waiter, signal);
    } finally {
      takeBack();
    }
  }

  /** The log ended at `tip`, read after `sinceMs` of the elapsed time. */
  sawTip(tip: bigint, sinceMs: number): void {
    for (const [{ at, commit, sinceMs: askedMs }, { reject }] of this.#look.waiters) {
      if (commit !== null && commit > tip && sinceMs > askedMs + BEYOND_AFTER_MS)
        reject(tokenUnknown(at, "it lies beyond the end"));
    }
  }

  #lookFor(waiters: ReadonlyMap<Waiter, Waiting<FreshAnswer>>): void {
    let known: readonly Condition[] | undefined;
    const lacking = (): readonly Condition[] => (known ??= this.#lacking());
    for (const [waiter, { resolve, reject }] of waiters) {
      try {
        if (this.#isReached(waiter, lacking) && this.#isShown(waiter))
          resolve({ reached: true, position: this.#heldBy(waiter), missing: [] });
      } catch (error) {
        reject(error);
      }
    }
    this.#mark(waiters);
  }

  /** `lacking`: what is said of tables now, which all who wait share in one look. */
  #isReached(waiter: Waiter, lacking = () => this.#lacking()): boolean {
    waiter.epoch ||= this.#pipeline.epoch;
    if (this.#pipeline.epoch !== waiter.epoch)
      throw tokenUnknown(waiter.at, "the source has another log since it was taken");
    waiter.commit ??= this.#locate(waiter.at);
    if (waiter.commit === null || this.#pipeline.facts.phase !== "streaming") return false;
    for (const life of waiter.lives) if (!this.#holds(life, waiter.commit)) return false;
    return this.#missing(waiter, lacking).length === 0;
  }

  /** False: it is going to be shown, and a look follows. */
  #isShown({ lives, shown }: Waiter): boolean {
    const hidden = lives.filter((life) => life.worker.sink.readers !== undefined && !shown.has(life));
    for (const life of hidden) {
      const waiting = this.#toShow.get(life) ?? new Set();
      this.#toShow.set(life, waiting.add(shown));
      if (!this.#showing.has(life)) void this.#show(life);
    }
    return hidden.length === 0;
  }

  /** Makes visible what the sink has by now, for those who wait by now. */
  async #show(life: SinkLife): Promise<void> {
    const { clock, gate, news } = this.#pipeline;
    const waiting = this.#toShow.get(life) ?? new Set();
    this.#toShow.delete(life);
    this.#showing.add(life);
    using limit = deadline(clock, SHOW_MS_MAX);
    try {
      await life.worker.sink.readers?.show(
        gate.tables.filter((table) => life.tables.takes(table)),
        limit.signal,
      );
      for (const shown of waiting) shown.add(life);
    } catch {
      // The sink's own writes tell what is wrong with it. A waiter asks again at the next look.
      await clock.sleep(LOOK_MS);
    } finally {
      this.#showing.delete(life);
      news.tell();
    }
  }

  #holds({ state, positions: { covered } }: SinkLife, commit: bigint): boolean {
    if (state !== "streaming" && state !== "paused") return false;
    return covered !== null && covered.epoch === this.#pipeline.epoch && covered.commit >= commit;
  }

  #locate(token: string): bigint | null {
    const { positions } = this.#pipeline.source;
    try {
      return positions.locate === undefined ? positions.parse(token) : (positions.locate(token) ?? null);
    } catch (error) {
      if (error instanceof RangeError || error instanceof SyntaxError)
        throw tokenUnknown(token, "it is no token of it");
      throw error;
    }
  }

  /** Up to where all of the sinks have everything. */
  #heldBy({ lives }: Waiter): string | null {
    const all = lives.map(({ positions }) => positions.covered?.commit ?? null);
    const lowest = all.reduce(
      (low, one) => (low === null || one === null ? null : one < low ? one : low),
      all[0] ?? null,
    );
    return lowest === null ? null : this.#pipeline.source.positions.format(lowest);
  }

  /** What keeps tables from being whole. */
  #lacking(): readonly Condition[] {
    return [...tableConditions(tablesStatus(this.#pipeline))].filter((one) => blocks(one, "wait"));
  }

  #missing({ commit, lives, tables }: Waiter, lacking = () => this.#lacking()): readonly string[] {
    const { facts } = this.#pipeline;
    if (facts.phase !== "streaming") return ["the source is not streamed yet"];
    if (commit === null) return ["the stream has not come to the token"];
    const names = new Set(lives.map(({ name }) => name));
    const behind = lives.filter((life) => !this.#holds(life, commit)).map(({ name, state }) => lagging(name, state));
    const owed = [...names].filter((name) => this.#pipeline.owesReads(name, tables));
    const conditions = lacking().filter(
      (one) =>
        (one.sink === null || names.has(one.sink)) &&
        (tables.length === 0 || one.table === null || tables.includes(one.table)),
    );
    return [
      ...behind,
      ...owed.map((name) => `sink ${name} gets rows that are read beside the stream`),
      ...conditions.map(sentenceOf),
    ];
  }

  /** The stream of an idle source tells no position beyond its last transaction, and a token may be beyond it. */
  #mark(waiters: ReadonlyMap<Waiter, unknown>): void {
    const { clock, source } = this.#pipeline;
    const nowMs = clock.elapsed();
    const oldestMs = Math.min(...Array.from(waiters.keys(), ({ sinceMs }) => sinceMs));
    if (nowMs - oldestMs < MARK_AFTER_MS || nowMs - this.#markedMs < MARK_EVERY_MS) return;
    this.#markedMs = nowMs;
    const marked = source.watermarks.mark(encodeMark({ edge: null }), new AbortController().signal);
    // The next one follows while somebody waits.
    marked.catch(() => undefined);
  }
}

function lagging(name: string, state: SinkLife["state"]): string {
  return state === "streaming" ? `sink ${name} has not applied it all` : `sink ${name} is ${state}`;
}
