import { abortOf, scopeOf, timestamp, pause } from "../../core/clock.ts";
import { type ErrorKind, findMillraceError, type MillraceError, withLogin } from "../../core/errors.ts";
import { failpoint } from "../../core/failpoint.ts";
import { comparePositions, earliest, EPOCH_MAX, type Position, serializePosition } from "../../core/model/position.ts";
import { type SinkRecord, type SinkReset, type StoredError, storedErrorOf } from "../../core/contracts/state-store.ts";
import type { SinkState } from "../../core/contracts/telemetry.ts";
import { type CatchUpParts, rejoin } from "../stream/catch-up.ts";
import { sinkAhead, unclassified } from "../errors.ts";
import { kindOf, PROBE_MS_MAX, PROVEN_MS, ReconnectBackoff } from "../retry.ts";
import { type Opened, type SinkLifeParts, SinkOpening } from "./sink-opening.ts";
import type { SinkWorker } from "./sink-worker.ts";
import type { SinkTableAnswers } from "./sink-tables.ts";
import { epochHeld, isBeyondLog, knownPosition, type SinkPositions } from "./sink-position.ts";

/** After this many reopenings in a row without progress, an operator has to act. */
const REOPENED_MAX = 3;
/** How often an attempt that fails like the one before is logged. */
const REPEATED_MS = 30_000;

/**
 * The life of one sink: open it, find where it continues, bring it to the main fan-out, work off its queue. After a failure it
 * waits and begins again, or stops until an operator resumes it. Nothing here makes another sink wait.
 */
export class SinkLife {
  readonly worker: SinkWorker;
  readonly tables: SinkTableAnswers;
  readonly #parts: SinkLifeParts;
  readonly #opening: SinkOpening;
  #state: SinkState = "starting";
  #error: StoredError | null = null;
  /** When the first of the failures came that no success lies between; the process before this one may have had it. */
  #failingSince: string | null = null;
  /** What the error means. */
  #errorKind: ErrorKind | null = null;
  #loggedMs = -Infinity;
  /** Tables that the sink has reported as lost: its checkpoint does not count for them, and does not know yet. */
  #lost: readonly string[] = [];
  /** Whether the present attempt could open the sink. */
  #wasOpened = false;
  /** How often in a row the sink was opened again because something was missing, and made no progress. */
  #reopened = 0;
  /** Waits between attempts at work that fails. */
  readonly #backoff: ReconnectBackoff;
  #record: (Omit<SinkRecord, "reset"> & { readonly reset?: SinkReset | null }) | null = null;
  #paused = false;
  #detached = false;
  #isFilling = false;
  /** The sink is to go on there without what it lacks before; null: it keeps its position. */
  #givesUpTo: Position | null = null;
  /** The state has another position for the sink than the sink itself, or is about to: the sink has not begun there yet. */
  #isMoved = false;
  #takesFirstCopy = true;
  /** Where the sink continues, if it was opened and has not begun yet. */
  #opened: Opened["continuation"] | null = null;
  #begun: Promise<Opened["continuation"] | null> | null = null;
  /** The present attempt, or wait. */
  #work = scopeOf();
  /** What the sink had done when it last began. */
  #began: { readonly covered: Position; readonly writeCount: number; readonly atMs: number } | null = null;
  /** Why the last attempt failed, if it could open the sink: that it is open again proves nothing then. */
  #inVain: StoredError | null = null;
  #onJoined: () => void = () => undefined;
  /** Resolves when the first attempt to join the fan-out has ended, with or without success. */
  readonly joined = new Promise<void>((resolve) => {
    this.#onJoined = resolve;
  });

  constructor(parts: SinkLifeParts) {
    this.#parts = parts;
    this.#backoff = new ReconnectBackoff(parts.clock);
    this.#opening = new SinkOpening(parts);
    this.worker = parts.worker;
    this.tables = parts.tables;
  }

  get name(): string {
    return this.worker.name;
  }

  get place(): string | undefined {
    return this.#parts.place;
  }

  get state(): SinkState {
    return this.#state;
  }

  get error(): StoredError | null {
    return this.#error ?? (this.isUnproven ? this.#inVain : null) ?? this.worker.writer.failing;
  }

  /** It streams, and can't write what it was given. */
  get isFailing(): boolean {
    return this.isUnproven || (this.#state === "streaming" && this.worker.writer.failing !== null);
  }

  /** The sink could be opened again, and has not yet written what it failed to write before. */
  get isUnproven(): boolean {
    const mayStream = this.#state === "streaming" || this.#state === "retrying";
    if (!mayStream || this.#inVain === null || this.worker.idle) return false;
    return !this.#hasWritten && !this.#lasts;
  }

  get #hasWritten(): boolean {
    return this.#began !== null && this.worker.writer.writeCount > this.#began.writeCount;
  }

  get #lasts(): boolean {
    return this.#began !== null && this.#parts.clock.elapsed() - this.#began.atMs > PROVEN_MS;
  }

  /** True if the sink can only continue after somebody acts, here or at the target. */
  get needsPerson(): boolean {
    if (this.worker.writer.watch.isStuck) return true;
    if (this.#state === "paused") return false;
    if (this.#state !== "retrying" && !this.isUnproven) return this.#state === "failed";
    if (this.#errorKind === "blocked" || this.#reopened > REOPENED_MAX) return true;
    return this.error !== null && this.#backoff.waitedMs > this.#parts.inVainMsMax;
  }

  /** True while the sink has its own stream because it could not keep up, or was away, and before it streams at all. */
  get catchingUp(): boolean {
    return this.#detached || this.#isFilling;
  }

  /** True while the sink gets the initial snapshot, until it streams. */
  get isFilling(): boolean {
    return this.#isFilling;
  }

  /** True while the sink's position was moved, by an operator or by `giveUp`, and the sink has not begun there yet. */
  get isMoved(): boolean {
    return this.#isMoved;
  }

  get positions(): SinkPositions {
    const { position } = this.worker;
    const stored = this.#isMoved ? null : position.stored;
    const covered = this.#isMoved ? null : position.covered;
    return {
      name: this.name,
      checkpoint: stored?.position ?? this.#record?.checkpoint ?? null,
      tables: stored?.tables ?? this.#record?.tables ?? {},
      covered: covered ?? knownPosition(this.#record),
    };
  }

  /**
   * The epoch was chosen without asking this sink. The sink may have rows of this same epoch, and the rows of an initial
   * snapshot would not be newer than those. It is filled beside the stream instead.
   */
  missFirstCopy(): void {
    this.#takesFirstCopy = false;
  }

  /** The epoch of the sink's checkpoint or rows; 0 if it holds nothing, null if it does not answer now. */
  async epochHeld(signal: AbortSignal): Promise<number | null> {
    try {
      const { sink } = this.worker;
      const own = await sink.open(this.#parts.lease, signal);
      const epoch = await epochHeld(sink, own, signal);
      // Rows that no epoch exceeds concern this sink alone, which is told of them when it begins.
      return own === null && epoch === EPOCH_MAX ? 0 : epoch;
    } catch (error) {
      signal.throwIfAborted();
      this.#parts.logger.warn({ error }, "the sink did not tell what it holds");
      return null;
    }
  }

  /** The first attempt to open, before the fan-out starts. Resolves whether or not it succeeds. */
  begin(signal: AbortSignal): Promise<Opened["continuation"] | null> {
    return (this.#begun = this.#begin(signal));
  }

  async #begin(signal: AbortSignal): Promise<Opened["continuation"] | null> {
    this.#record = await this.#parts.state.sinks.get(this.name);
    this.#isMoved = this.#record?.reset != null;
    this.#paused = this.#record?.paused ?? false;
    this.#failingSince = this.#record?.error?.since ?? null;
    if (this.#paused) return null;
    try {
      this.#opened = await this.#open(signal);
    } catch (error) {
      await this.#noteLost(error);
      signal.throwIfAborted();
      await this.#failed(error);
    }
    return this.#opened;
  }

  async pause(): Promise<void> {
    await this.#parts.state.sinks.setPaused(this.name, true);
    this.#paused = true;
    this.#work.end();
  }

  async resume(): Promise<void> {
    await this.#parts.state.sinks.setPaused(this.name, false);
    const streams = !this.#paused && this.#state === "streaming";
    await this.#setError(null);
    this.#inVain = null;
    this.#failingSince = null;
    // The operator's word: a history is back, or its readers know.
    if (this.worker.sink.form === "history") this.#lost = [];
    this.#paused = false;
    if (streams) return;
    // It is opened first, which takes as long as its target does not answer.
    this.#become("starting");
    this.#work.end();
  }

  /** Detaches a sink that can't keep up from the main fan-out; it continues with its own stream. */
  detach(): void {
    this.#detached = true;
    this.#work.end();
  }

  /** Fills the sink again from `position` on, whatever it holds. */
  async fillAgain(position: Position): Promise<void> {
    await this.#move(position, true);
    await this.resume();
  }

  /**
   * Gives up what the sink lacks before `position`, so that the source need not keep it: the sink goes on from there, and its
   * tables are read again, once it takes rows.
   */
  giveUp(position: Position): void {
    this.#givesUpTo = position;
    this.#work.end();
  }

  /**
   * Invariant: the source keeps its log from the former position on until this is stored, and from `to` on before and after. A
   * move that is still to be done, and is to fill the sink whatever it holds, stays one.
   */
  async #move(to: Position, anew: boolean): Promise<void> {
    const { state } = this.#parts;
    const { name, checkpoint, tables } = this.positions;
    const kept = checkpoint === null ? to : earliest([checkpoint, to])!;
    const reset = { to, anew: anew || this.#record?.reset?.anew === true };
    const record = this.#record ?? { name, paused: false, error: null };
    this.#record = { ...record, checkpoint: kept, covered: kept, tables, reset };
    this.#isMoved = true;
    await state.source.reset(new Map([[name, reset]]));
    this.#opened = null;
    this.#record = await state.sinks.get(name);
  }

  async #giveUp(to: Position): Promise<void> {
    await this.#move(to, false);
    this.#givesUpTo = null;
    this.#parts.logger.warn(
      { to: serializePosition(to) },
      "the sink's position in the log is given up: its tables are read again later",
    );
    failpoint("sink.given-up");
  }

  async run(main: CatchUpParts, signal: AbortSignal): Promise<void> {
    await this.#begun;
    const probing = new ReconnectBackoff(this.#parts.clock, PROBE_MS_MAX);
    while (!signal.aborted) {
      using work = (this.#work = scopeOf(signal));
      const interrupted = work.signal;
      // At once, so that no other sink waits for the bytes in this sink's queue. A batch in flight may still end.
      interrupted.addEventListener("abort", () => this.#leave(main), { once: true });
      let waitMs: number | null = null;
      try {
        if (this.#givesUpTo !== null) await this.#giveUp(this.#givesUpTo);
        if (this.#paused) this.#become("paused");
        else if (this.#state === "failed") waitMs = null;
        else await this.#stream(main, interrupted);
      } catch (error) {
        if (this.#hasMoved || this.#lasts) this.#failingSince = null;
        if (this.#hasMoved) {
          for (const one of [this.#backoff, probing]) one.reset();
          this.#reopened = 0;
        }
        await this.#noteLost(error);
        if (!interrupted.aborted && (await this.#failed(error)) === "retrying") {
          const isAway = !this.#wasOpened && this.#errorKind === "retryable";
          waitMs = (isAway ? probing : this.#backoff).next();
          this.#inVain = this.#wasOpened && this.#errorKind !== "reopen" ? this.#error : null;
        } else if (interrupted.aborted) waitMs = 0;
      }
      this.#leave(main);
      this.#onJoined();
      if (waitMs === null) await abortOf(interrupted);
      else if (waitMs > 0) await pause(this.#parts.clock, waitMs, interrupted);
    }
    this.#become("stopped");
  }

  /**
   * Whether the sink made progress since it began; if not, the next attempt waits longer than the last. A sink that can
   * write nothing is also covered by log that has nothing for it.
   */
  get #hasMoved(): boolean {
    const { covered } = this.worker.position;
    if (this.#began === null || covered === null || comparePositions(covered, this.#began.covered) <= 0) return false;
    return this.#hasWritten || this.#lasts;
  }

  async #stream(main: CatchUpParts, signal: AbortSignal): Promise<void> {
    this.#began = null;
    this.#wasOpened = false;
    const from = this.#opened ?? (await this.#open(signal));
    this.#wasOpened = true;
    this.#opened = null;
    const { worker } = this;
    const fanOut = main.main;
    if (from.kind === "new") {
      if (from.isEmpty) await this.#opening.expectEarlierRows(main, this.#takesFirstCopy, signal);
      await this.tables.rejoin(null, new Set());
      const checkpoint = worker.position.first(fanOut.position);
      // Invariant: the completeness that the sink has stored does not count any more, not even after a crash before its
      // first batch.
      if (!from.isEmpty) await worker.writer.note(checkpoint, signal);
      worker.begin(checkpoint, fanOut.position, false);
      // Invariant: from here on the log is kept for this sink. This comes before anything is acknowledged past its
      // position.
      await this.#parts.state.sinks.covered(this.name, fanOut.position);
    } else {
      worker.begin(await this.#opening.withoutInvalid(from, this.#lost, signal), from.covered);
    }
    // Only now: an attempt that ended earlier is followed by one that has to know them too.
    this.#lost = [];
    signal.throwIfAborted();
    this.#isMoved = false;
    const { writeCount } = worker.writer;
    this.#began = { covered: worker.position.reached, writeCount, atMs: this.#parts.clock.elapsed() };
    const { signal: workSignal, end } = scopeOf(signal);
    const run = worker.run(workSignal);
    const join = this.#join(main, workSignal);
    try {
      await Promise.race([run, join]);
      await run;
    } finally {
      end();
      // Invariant: no part of this attempt remains that could attach or detach the sink during the next one.
      await Promise.allSettled([run, join]);
    }
  }

  /**
   * Joins the main fan-out: directly if the sink is at or beyond the fan-out's position, otherwise through its own stream. One
   * that takes the initial snapshot is filled first, and others may stream meanwhile.
   */
  async #join(main: CatchUpParts, signal: AbortSignal): Promise<void> {
    const { worker } = this;
    const fanOut = main.main;
    await this.#setError(null);
    signal.throwIfAborted();
    const covered = worker.position.reached;
    const isAhead = comparePositions(covered, fanOut.position) > 0;
    if (isAhead && isBeyondLog(covered, fanOut.position.epoch, await main.source.log.tip(signal)))
      throw sinkAhead(this.name);
    this.#become("streaming");
    if (main.snapshot !== null && this.#takesFirstCopy && comparePositions(covered, fanOut.position) === 0) {
      this.#isFilling = true;
      this.#onJoined();
      await main.snapshot.fill(worker, signal);
    }
    if (comparePositions(worker.position.reached, fanOut.position) < 0) {
      this.#detached = true;
      await rejoin(worker, main, (refusal) => this.#waits(refusal), signal);
      signal.throwIfAborted();
      this.#become("streaming");
      await this.#setError(null);
    } else {
      main.goBack.attach(worker);
    }
    this.#detached = this.#isFilling = false;
    if (worker.hasToRelease) fanOut.push(worker, { kind: "heartbeat" });
    this.#parts.news.tell();
    this.#parts.logger.info({}, "the sink streams");
    this.#onJoined();
    this.tables.changed();
  }

  /** The sink waits for its own stream. */
  async #waits(refusal: MillraceError): Promise<void> {
    this.#become("retrying");
    this.#parts.logger.warn({ code: refusal.code, error: refusal }, refusal.message);
    await this.#setError(refusal);
  }

  async #open(signal: AbortSignal): Promise<Opened["continuation"]> {
    const { continuation, record } = await this.#opening.open(signal);
    this.#record = record;
    return continuation;
  }

  #become(state: SinkState): void {
    this.#state = state;
    this.#parts.news.tell();
  }

  #leave(main: CatchUpParts): void {
    main.main.detach(this.worker);
    this.#isFilling = false;
    this.#opened = null;
  }

  /** Also of an attempt that was interrupted: a sink may tell once. */
  async #noteLost(error: unknown): Promise<void> {
    const lost = findMillraceError(error)?.lostTables ?? [];
    if (lost.length === 0) return;
    this.#lost = [...new Set([...this.#lost, ...lost])];
    await this.#opening.listLost(lost);
  }

  async #failed(error: unknown): Promise<SinkState> {
    const known = withLogin(findMillraceError(error) ?? unclassified(this.name, error), this.#parts.login);
    const kind = kindOf(error);
    if (known.reason === "tables") this.worker.queue.takeFewerTables();
    this.#become(kind === "retryable" || kind === "blocked" || kind === "reopen" ? "retrying" : "failed");
    this.#errorKind = kind;
    if (known.reason === "size") this.worker.queue.takeSmaller();
    if (kind === "reopen") this.#reopened++;
    const nowMs = this.#parts.clock.elapsed();
    const isRepeated = this.#error?.message === known.message && nowMs - this.#loggedMs < REPEATED_MS;
    if (!isRepeated) {
      this.#loggedMs = nowMs;
      this.#parts.logger.error({ code: known.code, state: this.#state, error }, known.message);
    }
    await this.#setError(known, isRepeated);
    return this.#state;
  }

  async #setError(error: MillraceError | null, isRepeated = false): Promise<void> {
    // The process before this one may have stored its own.
    if (error === null && this.#error === null && this.#record?.error == null) return;
    const at = timestamp(this.#parts.clock);
    const isOfSource = error?.connector?.side === "source" ? ({ isOfSource: true } as const) : {};
    this.#error = error === null ? null : { ...storedErrorOf(error, at, (this.#failingSince ??= at)), ...isOfSource };
    // Only this process knows when the last attempt was.
    if (!isRepeated) await this.#parts.state.sinks.setError(this.name, this.#error);
  }
}

export function lifeOf(lives: readonly SinkLife[], name: string): SinkLife | undefined {
  return lives.find((life) => life.name === name);
}
