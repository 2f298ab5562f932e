import type { CompleteTables } from "../../core/checkpoint/completeness.ts";
import type { Clock } from "../../core/clock.ts";
import { findMillraceError, type MillraceError } from "../../core/errors.ts";
import { failpoint } from "../../core/failpoint.ts";
import { comparePositions, earliest, type Position } from "../../core/model/position.ts";
import type { News } from "../../core/news.ts";
import type { ChangeStream } from "../../core/contracts/change-log.ts";
import type { LogIdentity } from "../../core/contracts/positions.ts";
import type { StateStore, WrittenCheckpoint } from "../../core/contracts/state-store.ts";

/** The position of one configured sink, attached or not. */
export interface SinkPositions {
  readonly name: string;
  /** What the sink itself holds. */
  readonly written: Position | null;
  readonly tables: CompleteTables;
  /** Everything before it is done for the sink; null for a sink that never took part. */
  readonly covered: Position | null;
}

/** The state is written at most this often, */
const INTERVAL_MS = 1_000;
/** and the positions are checked at least this often. */
const LOOK_MS = 10_000;

export interface AcknowledgerParts {
  readonly clock: Clock;
  readonly state: StateStore;
  /** Notified when a sink or the stream has made progress. */
  readonly news: News;
  /** The stored value. */
  readonly acknowledged: Position | null;
  readonly standings: () => readonly SinkPositions[];
  /** The stream's own position: a sink beyond it holds nothing back. */
  readonly reached: () => Position;
  /**
   * What the source's stored identity has to record about the log when the sinks are at these positions; null: nothing new.
   */
  readonly remember: (places: readonly bigint[]) => LogIdentity | null;
}

/**
 * Tells the source what it may forget: everything before the lowest position that all configured sinks themselves hold, and
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
    const { state, remember, reached } = this.#parts;
    const standings = this.#parts.standings();
    const covered = new Map<string, Position>();
    for (const { name, covered: position } of standings) if (position !== null) covered.set(name, position);
    const held = standings.flatMap(({ written, covered: done }) => (done === null ? [] : [written ?? done]));
    const lowest = earliest([...held, reached()]);
    if (lowest === undefined || covered.size === 0) return;
    const changed = standings.filter((standing) => this.#isNews(standing));
    const advances = this.#acknowledged === null || comparePositions(lowest, this.#acknowledged) > 0;
    if (advances || changed.length > 0) {
      // Invariant: before the first await, because a sink that is opened meanwhile may hold less than it did.
      if (advances) this.#givenUp = lowest;
      failpoint("ack.computed");
      const places = standings.flatMap(({ covered: done, written }) =>
        [done, written].filter((place) => place !== null),
      );
      const identity = remember(places.map(({ commit }) => commit));
      if (identity !== null) await state.source.identify(identity);
      // Invariant: a position is stored before it is acknowledged, together with what every sink holds and covers.
      await state.source.acknowledge(
        lowest,
        covered,
        changed.flatMap((standing) => this.#writtenOf(standing)),
      );
      failpoint("ack.stored");
      if (advances) this.#acknowledged = this.#givenUp = lowest;
      for (const standing of changed) this.#stored.set(standing.name, standing);
    }
    if (this.#acknowledged !== null) stream?.acknowledge(this.#acknowledged.commit);
  }

  /** Whether the store's copy of what the sink holds must be updated. The sink may never fall behind that copy. */
  #isNews({ name, written, tables }: SinkPositions): boolean {
    const stored = this.#stored.get(name);
    return written !== null && (stored?.written !== written || stored.tables !== tables);
  }

  #writtenOf({ name, written, tables }: SinkPositions): readonly WrittenCheckpoint[] {
    if (written === null) return [];
    const isStored = this.#stored.get(name)?.tables === tables;
    return [isStored ? { name, position: written } : { name, position: written, tables }];
  }
}
