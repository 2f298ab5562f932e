import type { Clock } from "../../core/clock.ts";
import type { SinkStatus } from "../../core/contracts/status.ts";
import type { Logger } from "../../core/contracts/telemetry.ts";
import type { Room } from "../../core/disk-room.ts";
import { withTimeout } from "../../core/with-timeout.ts";
import type { SinkLife } from "../sink/sink-life.ts";

/** A disk fills in minutes, and a server has other work than telling. */
const LOOK_MS = 30_000;
const ANSWER_MS_MAX = 10_000;

/** How much room each sink's target had at the last look, so that somebody can act before it is full. */
export class TargetRooms {
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #rooms = new Map<string, readonly Room[]>();

  constructor(clock: Clock, logger: Logger) {
    this.#clock = clock;
    this.#logger = logger;
  }

  of(sink: string): Pick<SinkStatus, "rooms"> {
    const rooms = this.#rooms.get(sink);
    return rooms === undefined ? {} : { rooms };
  }

  async run(lives: readonly Pick<SinkLife, "name" | "worker">[], signal: AbortSignal): Promise<never> {
    const telling = lives.filter(({ worker }) => worker.sink.rooms !== undefined);
    if (telling.length === 0) return await new Promise<never>(() => {});
    for (;;) {
      await Promise.all(telling.map((life) => this.#look(life, signal)));
      await this.#clock.sleep(LOOK_MS, signal);
    }
  }

  async #look({ name, worker: { sink } }: Pick<SinkLife, "name" | "worker">, signal: AbortSignal): Promise<void> {
    const limits = { clock: this.#clock, signal, timeoutMs: ANSWER_MS_MAX, late: (): readonly Room[] => [] };
    try {
      const rooms = await withTimeout(sink.rooms?.(signal) ?? Promise.resolve([]), limits);
      if (rooms.length === 0) this.#rooms.delete(name);
      else this.#rooms.set(name, rooms);
    } catch (error) {
      signal.throwIfAborted();
      // A sink that may not ask, or can't be reached, says so itself if it matters.
      this.#rooms.delete(name);
      this.#logger.debug({ sink: name, error }, "the target did not tell its room");
    }
  }
}
