import { abortOf, scopeOf, timestamp, pause } from "../../core/clock.ts";
import { type ErrorKind, findMillraceError, type MillraceError } from "../../core/errors.ts";
import { invariant } from "../../core/invariant.ts";
import { comparePositions, type Position } from "../../core/model/position.ts";
import type { SinkRecord, StoredError } from "../../core/contracts/state-store.ts";
import type { SinkState } from "../../core/contracts/telemetry.ts";
import type { SinkStanding } from "../stream/acknowledger.ts";
import { type CatchUpParts, rejoin } from "../stream/catch-up.ts";
import { epochHeld } from "../epochs.ts";
import { sinkAhead, unclassified } from "../errors.ts";
import { kindOf, PROBE_MS_MAX, ReconnectBackoff } from "../retry.ts";
import { type Opened, type OpeningParts, SinkOpening } from "./sink-opening.ts";
import type { SinkWorker } from "./sink-worker.ts";
import { isBeyondLog, type Standing } from "./standing.ts";

/** Opened again more often than this, in a row and in vain, somebody has to look. */
const REOPENED_MAX = 3;
/** How often an attempt that fails as the one before it is logged. */
const REPEATED_MS = 30_000;

/**
 * The life of one sink: open it, find where it stands, bring it to the main lane, work its queue; on failure wait and
 * begin again, or stop until an operator resumes it. Nothing here makes another sink wait.
 */
export class SinkRunner {
  readonly worker: SinkWorker;
  readonly #parts: OpeningParts;
  readonly #opening: SinkOpening;
  #state: SinkState = "starting";
  #error: StoredError | null = null;
  /** What the error means. */
  #errorKind: ErrorKind | null = null;
  #loggedMs = -Infinity;
  /** Tables that the sink was told to have lost: what it says of them does not count. */
  #lost: readonly string[] = [];
  /** Whether the attempt that is going on found the sink and could open it. */
  #wasOpened = false;
  /** How often in a row it was opened again for what was not there, and came no further. */
  #reopened = 0;
  /** Between attempts at work that fails. */
  readonly #backoff: ReconnectBackoff;
  #record: SinkRecord | null = null;
  #paused = false;
  #parked = false;
  #takesFirstCopy = true;
  #standing: Opened["standing"] | null = null;
  #begun: Promise<Standing | null> | null = null;
  /** What it does now. */
  #work = scopeOf();
  /** Where the sink stood when it began last. */
  #began: Position | null = null;
  #onJoined: () => void = () => undefined;
  /** Resolves when the first attempt to join the lane has ended, well or not. */
  readonly joined = new Promise<void>((resolve) => {
    this.#onJoined = resolve;
  });

  constructor(parts: OpeningParts) {
    this.#parts = parts;
    this.#backoff = new ReconnectBackoff(parts.clock);
    this.#opening = new SinkOpening(parts);
    this.worker = parts.worker;
  }

  get name(): string {
    return this.worker.name;
  }

  get state(): SinkState {
    return this.#state;
  }

  get error(): StoredError | null {
    return this.#error;
  }

  /** True where nothing but somebody's act, here or at the target, makes the sink go on. */
  get needsPerson(): boolean {
    if (this.#state !== "retrying") return this.#state === "failed";
    if (this.#errorKind === "blocked" || this.#reopened > REOPENED_MAX) return true;
    return this.#error !== null && this.#backoff.waitedMs > this.#parts.inVainMsMax;
  }

  /** True while the sink has a stream of its own because it could not keep up, or had been away. */
  get catchingUp(): boolean {
    return this.#parked;
  }

  get standing(): SinkStanding {
    const { written, covered } = this.worker;
    return {
      name: this.name,
      written: written?.position ?? this.#record?.written ?? null,
      tables: written?.tables ?? this.#record?.tables ?? {},
      covered: covered ?? this.#record?.covered ?? this.#record?.written ?? null,
    };
  }

  /**
   * False: it was not asked what it holds before the epoch was chosen. It may have rows of this very epoch, which nothing of a
   * first copy is above: it is filled beside the stream.
   */
  get takesFirstCopy(): boolean {
    return this.#takesFirstCopy;
  }

  /** The epoch was chosen without a word of this sink. */
  missFirstCopy(): void {
    this.#takesFirstCopy = false;
  }

  /** The epoch of what the sink holds; 0 where it holds nothing, null where it can't be asked now. */
  async epochHeld(signal: AbortSignal): Promise<number | null> {
    try {
      const { sink } = this.worker;
      return await epochHeld(sink, await sink.open(this.#parts.lease, signal), signal);
    } catch (error) {
      signal.throwIfAborted();
      this.#parts.logger.warn({ error }, "the sink could not be asked what it holds");
      return null;
    }
  }

  /** The first attempt to open, before the lane starts: resolves whether or not it succeeds. */
  begin(signal: AbortSignal): Promise<Standing | null> {
    return (this.#begun = this.#begin(signal));
  }

  async #begin(signal: AbortSignal): Promise<Standing | null> {
    this.#record = await this.#parts.state.sinks.get(this.name);
    this.#paused = this.#record?.paused ?? false;
    if (this.#paused) return null;
    try {
      this.#standing = await this.#open(signal);
    } catch (error) {
      signal.throwIfAborted();
      await this.#failed(error);
    }
    return this.#standing;
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
    this.#paused = false;
    if (!streams) this.#work.end();
  }

  /** Takes a sink that can't keep up out of the main lane; it goes on by a stream of its own. */
  park(): void {
    this.#parked = true;
    this.#work.end();
  }

  /** Has the sink filled again from `place` on, whatever it holds. Invariant: stored at once, with what is kept of it. */
  async fillAgain(place: Position): Promise<void> {
    await this.#parts.state.source.reset(new Map([[this.name, { to: place, anew: true }]]));
    await this.resume();
  }

  /** Runs until aborted. */
  async run(main: CatchUpParts, signal: AbortSignal): Promise<void> {
    await this.#begun;
    const probing = new ReconnectBackoff(this.#parts.clock, PROBE_MS_MAX);
    while (!signal.aborted) {
      using work = (this.#work = scopeOf(signal));
      const interrupted = work.signal;
      // At once, so that nobody waits for what this sink holds; a step in flight may still end.
      interrupted.addEventListener("abort", () => this.#leave(main), { once: true });
      let waitMs: number | null = null;
      try {
        if (this.#paused) this.#become("paused");
        else if (this.#state === "failed") waitMs = null;
        else await this.#stream(main, interrupted);
      } catch (error) {
        if (this.#hasMoved) {
          for (const one of [this.#backoff, probing]) one.reset();
          this.#reopened = 0;
        }
        if (!interrupted.aborted && (await this.#failed(error)) === "retrying") {
          const isAway = !this.#wasOpened && this.#errorKind === "retryable";
          waitMs = (isAway ? probing : this.#backoff).next();
        } else if (interrupted.aborted) waitMs = 0;
      }
      this.#leave(main);
      this.#onJoined();
      if (waitMs === null) await abortOf(interrupted);
      else if (waitMs > 0) await pause(this.#parts.clock, waitMs, interrupted);
    }
    this.#become("stopped");
  }

  /** Whether anything was done since the sink began: if not, the next attempt waits longer than the last. */
  get #hasMoved(): boolean {
    const { covered } = this.worker;
    return this.#began !== null && covered !== null && comparePositions(covered, this.#began) > 0;
  }

  async #stream(main: CatchUpParts, signal: AbortSignal): Promise<void> {
    this.#began = null;
    this.#wasOpened = false;
    const standing = this.#standing ?? (await this.#open(signal));
    this.#wasOpened = true;
    this.#standing = null;
    const { worker } = this;
    const lane = main.main;
    if (standing.kind === "new") {
      this.#lost = [];
      if (standing.isEmpty) await this.#opening.expectEarlierRows(main, signal);
      await this.#parts.rejoin(null, new Set());
      const progress = { position: lane.position, tables: {} };
      // Invariant: what it says that it holds completely counts no more, also after a crash before its first step.
      if (!standing.isEmpty) await worker.note(progress, signal);
      worker.begin(progress, lane.position, true);
      // Invariant: from here on the log is kept for this sink, before anything is acknowledged past this place.
      await this.#parts.state.sinks.covered(this.name, lane.position);
    } else {
      const lost = this.#lost;
      this.#lost = [];
      worker.begin(await this.#opening.withoutMissing(standing, lost, signal), standing.covered, false);
    }
    this.#began = worker.covered;
    const { signal: workSignal, end } = scopeOf(signal);
    const run = worker.run(workSignal);
    const join = this.#join(main, workSignal);
    try {
      await Promise.race([run, join]);
      await run;
    } finally {
      end();
      // Invariant: nothing of this attempt is left that could attach the sink, or detach it, in the next one.
      await Promise.allSettled([run, join]);
    }
  }

  /** To the main lane, directly where the sink stands at or beyond it, else by a stream of its own. */
  async #join(main: CatchUpParts, signal: AbortSignal): Promise<void> {
    const { worker } = this;
    const lane = main.main;
    await this.#setError(null);
    signal.throwIfAborted();
    const { covered } = worker;
    invariant(covered !== null, "a sink joins after it began");
    const isAhead = comparePositions(covered, lane.position) > 0;
    if (isAhead && isBeyondLog(covered, lane.position.epoch, await main.source.log.tip(signal)))
      throw sinkAhead(this.name);
    this.#become("streaming");
    if (comparePositions(covered, lane.position) < 0) {
      this.#parked = true;
      await rejoin(worker, main, (refusal) => this.#waits(refusal), signal);
      signal.throwIfAborted();
      this.#become("streaming");
      await this.#setError(null);
    } else {
      main.rewind.attach(worker);
    }
    this.#parked = false;
    this.#parts.news.tell();
    this.#parts.logger.info({}, "the sink streams");
    this.#onJoined();
    this.#parts.onChange();
  }

  /** For a stream of its own. */
  async #waits(refusal: MillraceError): Promise<void> {
    this.#become("retrying");
    this.#parts.logger.warn({ code: refusal.code, error: refusal }, refusal.message);
    await this.#setError(refusal);
  }

  async #open(signal: AbortSignal): Promise<Opened["standing"]> {
    const { standing, record } = await this.#opening.open(signal);
    this.#record = record;
    return standing;
  }

  #become(state: SinkState): void {
    this.#state = state;
    this.#parts.news.tell();
  }

  #leave(main: CatchUpParts): void {
    main.main.detach(this.worker);
    this.#standing = null;
  }

  async #failed(error: unknown): Promise<SinkState> {
    const known = findMillraceError(error) ?? unclassified(this.name, error);
    const kind = kindOf(error);
    this.#become(kind === "retryable" || kind === "blocked" || kind === "reopen" ? "retrying" : "failed");
    this.#errorKind = kind;
    if (kind === "reopen") this.#reopened++;
    this.#lost = [...new Set([...this.#lost, ...known.lostTables])];
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
    if (error === null && this.#error === null) return;
    this.#error =
      error === null
        ? null
        : { code: error.code, message: error.message, hint: error.hint ?? null, at: timestamp(this.#parts.clock) };
    if (error === null && this.#state === "failed") this.#become("starting");
    // When it was last tried is told by this process alone.
    if (!isRepeated) await this.#parts.state.sinks.setError(this.name, this.#error);
  }
}
