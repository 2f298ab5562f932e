import { type Clock, timestamp } from "../../core/clock.ts";
import type { Sink } from "../../core/contracts/sink.ts";
import type { StateStore } from "../../core/contracts/state-store.ts";
import type { Logger } from "../../core/contracts/telemetry.ts";
import { unreadable } from "./sink-position.ts";

export interface LostChangesParts {
  readonly worker: { readonly name: string; readonly sink: Pick<Sink, "form"> };
  readonly state: Pick<StateStore, "sinks">;
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * Tables are read for the sink in place of changes. A mirror lacks nothing then; others do for good, which the state keeps until
 * somebody has told their readers. Invariant: stored before the sink goes on without the changes.
 */
export async function loseChanges({ worker, state, clock, logger }: LostChangesParts, why: string): Promise<void> {
  const lost = unreadable(worker.sink.form);
  if (lost === null) return;
  logger.warn({ why }, lost);
  await state.sinks.setLost(worker.name, { what: `${why}; ${lost}`, since: timestamp(clock) });
}
