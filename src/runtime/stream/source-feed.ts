import { type Clock, scopeOf, timestamp } from "../../core/clock.ts";
import { findMillraceError, isAborted, type Login, reasonOf, withLogin } from "../../core/errors.ts";
import { invariant } from "../../core/invariant.ts";
import { comparePositions } from "../../core/model/position.ts";
import type { ChangeStream } from "../../core/contracts/change-log.ts";
import type { HeldPositions } from "../../core/contracts/log-admin.ts";
import type { Source } from "../../core/contracts/source.ts";
import { type StateStore, type StoredError, storedErrorOf } from "../../core/contracts/state-store.ts";
import type { Logger } from "../../core/contracts/telemetry.ts";
import { streamLost } from "../errors.ts";
import type { AnswersFor, GoBack } from "./catch-up.ts";
import type { FanOut } from "./fan-out.ts";
import { isTriedAgain, kindOf, PROVEN_MS, ReconnectBackoff } from "../retry.ts";

interface SourceFeedParts {
  readonly clock: Clock;
  readonly source: Pick<Source, "admin" | "log">;
  readonly state: StateStore;
  readonly fanOut: FanOut;
  readonly goBack: GoBack;
  readonly answersFor: AnswersFor;
  /** The sinks' positions; the fan-out is at the lowest. */
  readonly held: () => HeldPositions;
  /** How long it may be reopened without success before an operator has to act. */
  readonly inVainMsMax: number;
  /** See `withLogin`. */
  readonly login?: Login | null | undefined;
  readonly logger: Logger;
}

/**
 * Feeds the main fan-out from the source's stream. A stream that breaks is opened again at the fan-out's position, also after the
 * fan-out has moved (`GoBack`). Each opening compares the log's identity; if it can't prove that there is no gap, the feed
 * ends.
 */
export class SourceFeed implements AsyncDisposable {
  readonly #parts: SourceFeedParts;
  #stream: ChangeStream | null = null;
  #error: StoredError | null = null;
  #isBlocked = false;
  #isSilent = false;
  /** When the first of the failures came that nothing lies between: no progress, and no stream that lasted. */
  #failingSince: string | null = null;
  readonly #backoff: ReconnectBackoff;

  constructor(parts: SourceFeedParts) {
    this.#parts = parts;
    this.#backoff = new ReconnectBackoff(parts.clock);
  }

  /** The stream while there is one: acknowledgements go through it. */
  get stream(): ChangeStream | null {
    return this.#stream;
  }

  /** The last failure of the stream while it is not back yet. */
  get error(): StoredError | null {
    return this.#error;
  }

  /** True after the connection had become silent and was cut, until the stream is back. */
  get isSilent(): boolean {
    return this.#error !== null && this.#isSilent;
  }

  /** True if an operator has to act before the stream can continue, as far as is known. */
  get needsPerson(): boolean {
    return this.#error !== null && (this.#isBlocked || this.#backoff.waitedMs > this.#parts.inVainMsMax);
  }

  async run(signal: AbortSignal): Promise<never> {
    const { goBack } = this.#parts;
    for (;;) {
      if (this.#stream === null) goBack.move();
      const { asked } = goBack;
      try {
        this.#stream ??= await this.#open(signal);
        this.#error = null;
        this.#isSilent = false;
        using feeding = scopeOf(signal, asked);
        await this.#feed(this.#stream, feeding.signal);
        await this.#close();
      } catch (error) {
        signal.throwIfAborted();
        if (asked.aborted && isAborted(error)) {
          await this.#close();
          continue;
        }
        await this.#lost(error);
        await this.#parts.clock.sleep(this.#backoff.next(), signal);
      }
    }
  }

  /** Ends when the stream breaks, or has to be opened again at another position. */
  async #feed(stream: ChangeStream, signal: AbortSignal): Promise<void> {
    const { clock, fanOut, goBack } = this.#parts;
    const reached = fanOut.position;
    const openedMs = clock.elapsed();
    try {
      await fanOut.run(stream, signal, () => {
        if (comparePositions(fanOut.position, reached) > 0) this.#backoff.reset();
        return goBack.isDone();
      });
    } finally {
      const isProven = comparePositions(fanOut.position, reached) > 0 || clock.elapsed() - openedMs > PROVEN_MS;
      if (isProven) this.#failingSince = null;
    }
  }

  async #open(signal: AbortSignal): Promise<ChangeStream> {
    const { source, state, fanOut, held, answersFor } = this.#parts;
    const identity = (await state.source.get())?.identity;
    invariant(identity != null, "a running source has an identity");
    await state.source.identify(await source.admin.resume(identity, held(), signal));
    const options = { temporary: false, ...answersFor(fanOut, null), byteCountMax: fanOut.byteBudget };
    return await source.log.stream(fanOut.position, options, signal);
  }

  async #close(): Promise<void> {
    const stream = this.#stream;
    this.#stream = null;
    await stream?.[Symbol.asyncDispose]();
  }

  async #lost(error: unknown): Promise<void> {
    await this.#close();
    if (!isTriedAgain(error)) throw error;
    this.#isBlocked = kindOf(error) === "blocked";
    this.#isSilent ||= reasonOf(error) === "silent";
    const known = withLogin(findMillraceError(error) ?? streamLost(error), this.#parts.login);
    const at = timestamp(this.#parts.clock);
    this.#failingSince ??= at;
    this.#error = storedErrorOf(known, at, this.#failingSince);
    this.#parts.logger.warn({ error }, "the stream from the source broke; it is opened again");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stream?.[Symbol.asyncDispose]();
  }
}
