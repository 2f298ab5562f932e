import type { Clock } from "../../core/clock.ts";
import { findMillraceError, type MillraceError } from "../../core/errors.ts";
import { failpoint } from "../../core/failpoint.ts";
import { comparePositions, earliest, type Position } from "../../core/model/position.ts";
import type { News } from "../../core/waiting.ts";
import type { ChangeStream } from "../../core/contracts/change-log.ts";
import type { LogIdentity } from "../../core/contracts/positions.ts";
import type { SinkCheckpoint, StateStore } from "../../core/contracts/state-store.ts";
import type { SinkPositions } from "../sink/sink-position.ts";

/** The state is written at most this often, */
const INTERVAL_MS = 1_000;
/** and the positions are checked at least this often. */
const LOOK_MS = 10_000;

interface AcknowledgerParts {
  readonly clock: Clock;
  readonly state: StateStore;
  /** Notified when a sink or the stream has made progress. */
  readonly news: News;
  /** The stored value. */
  readonly acknowledged: Position | null;
  readonly sinks: () => readonly SinkPositions[];
  /** The stream's own position: a sink beyond it holds nothing back. */
  readonly reached: () => Position;
  /** Up to here the log was read. A sink may be beyond it if the state is an older copy. */
  readonly read: () => Position;
  /**
   * What the source's stored identity has to record about the log when the sinks are at these positions; null: nothing new.
   */
  readonly remember: (positions: readonly bigint[]) => LogIdentity | null;
}

/**
 * Tells the source what it may forget: everything before the lowest checkpoint of all configured sinks, and
 * never more than the state store has recorded. The store comes first: after a crash between the two, the source keeps more
 * than needed, never less. A sink's covered position does not count here: only the state knows it, and an older copy of the
 * state does not.
 */
export class Acknowledger {
  readonly #parts: AcknowledgerParts;
  readonly #stored = new Map<string, SinkPositions>();
  #acknowledged: Position | null;
  #givenUp: Position | null;

  constructor(parts: AcknowledgerParts) {
    this.#parts = parts;
    this.#acknowledged = this.#givenUp = parts.acknowledged;
  }

  get acknowledged(): Position | null {
    return this.#acknowledged;
  }

  /** The source may have deleted its log before this position, or is about to: no sink can begin there any more. */
  get givenUp(): Position | null {
    return this.#givenUp;
  }

  /** Runs until aborted. A store that is busy or full for a while only delays acknowledgements: `onRetry`. */
  async run(
    stream: () => ChangeStream | null,
    onRetry: (error: MillraceError) => void,
    signal: AbortSignal,
  ): Promise<never> {
    const { clock, news } = this.#parts;
    for (;;) {
      const [begunMs, told] = [clock.elapsed(), news.count];
      try {
        await this.once(stream());
      } catch (error) {
        const known = findMillraceError(error);
        if (known?.kind !== "retryable") throw error;
        onRetry(known);
      }
      await news.after(told, clock, LOOK_MS, signal);
      await clock.sleep(Math.max(0, begunMs + INTERVAL_MS - clock.elapsed()), signal);
    }
  }

  async once(stream: ChangeStream | null): Promise<void> {
    const { state, remember, reached, read } = this.#parts;
    // Invariant: nothing is stored that says that more of the log was read than was.
    const sinks = this.#parts.sinks().map((sink) => upTo(read(), sink));
    const covered = new Map<string, Position>();
    for (const { name, covered: position } of sinks) if (position !== null) covered.set(name, position);
    const stored = sinks.flatMap(({ checkpoint, covered: done }) => (done === null ? [] : [checkpoint ?? done]));
    const lowest = earliest([...stored, reached()]);
    if (lowest === undefined || covered.size === 0) return;
    const changed = sinks.filter((sink) => this.#isNews(sink));
    const advances = this.#acknowledged === null || comparePositions(lowest, this.#acknowledged) > 0;
    if (advances || changed.length > 0) {
      // Invariant: before the first await, because a sink that is opened meanwhile may hold less than it did.
      if (advances) this.#givenUp = lowest;
      failpoint("ack.computed");
      const positions = sinks.flatMap(({ covered: done, checkpoint }) =>
        [done, checkpoint].filter((position) => position !== null),
      );
      const identity = remember(positions.map(({ commit }) => commit));
      if (identity !== null) await state.source.identify(identity);
      // Invariant: a position is stored before it is acknowledged, together with what every sink holds and covers.
      await state.source.acknowledge(
        lowest,
        covered,
        changed.flatMap((sink) => this.#checkpointOf(sink)),
      );
      failpoint("ack.stored");
      if (advances) this.#acknowledged = this.#givenUp = lowest;
      for (const sink of changed) this.#stored.set(sink.name, sink);
    }
    if (this.#acknowledged !== null) stream?.acknowledge(this.#acknowledged.commit);
  }

  /** Whether the store's copy of what the sink holds must be updated. The sink may never fall behind that copy. */
  #isNews({ name, checkpoint, tables }: SinkPositions): boolean {
    const stored = this.#stored.get(name);
    return checkpoint !== null && (stored?.checkpoint !== checkpoint || stored.tables !== tables);
  }

  #checkpointOf({ name, checkpoint: position, tables }: SinkPositions): readonly SinkCheckpoint[] {
    if (position === null) return [];
    const isStored = this.#stored.get(name)?.tables === tables;
    return [isStored ? { name, position } : { name, position, tables }];
  }
}

function upTo(end: Position, sink: SinkPositions): SinkPositions {
  const { checkpoint, covered } = sink;
  if (covered === null || comparePositions(covered, end) <= 0) return sink;
  return { ...sink, covered: end, checkpoint: checkpoint === null ? null : earliest([checkpoint, end])! };
}
