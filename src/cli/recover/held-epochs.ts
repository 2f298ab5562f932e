import type { SinkConfig } from "../../config/config.ts";
import { findMillraceError, type MillraceError } from "../../core/errors.ts";
import { EPOCH_MAX, type Position } from "../../core/model/position.ts";
import type { StateStore } from "../../core/contracts/state-store.ts";
import { epochHeld, epochHeldAtAll, isBeyondLog } from "../../runtime/sink/sink-position.ts";
import { sinkAhead, unclassified } from "../../runtime/errors.ts";
import { cliError } from "../errors.ts";
import { withOpenSink } from "../opened.ts";
import type { Session } from "../session.ts";

/** Time for a sink to look at all its rows. */
const ROWS_MS_MAX = 15 * 60_000;

interface HeldEpoch {
  readonly name: string;
  /** 0: the sink holds nothing. */
  readonly epoch: number;
  /** The position in its checkpoint. */
  readonly position: Position | null;
  /** Why the sink did not answer. */
  readonly failure: MillraceError | null;
}

/**
 * Asks the sinks themselves: a state that was restored or created again does not know later epochs. `byRows`: looks at
 * rows even if there is a checkpoint.
 */
export async function heldBySinks(
  { log }: Pick<Session, "log">,
  sinks: readonly SinkConfig[],
  state: StateStore,
  byRows: boolean,
): Promise<readonly HeldEpoch[]> {
  const signal = AbortSignal.timeout(ROWS_MS_MAX);
  const ask = byRows ? epochHeldAtAll : epochHeld;
  const held: HeldEpoch[] = [];
  for (const config of sinks) {
    const { name } = config;
    try {
      held.push(
        await withOpenSink(log, config, state, async (sink, own) => {
          return { name, epoch: await ask(sink, own, signal), position: own?.position ?? null, failure: null };
        }),
      );
    } catch (error) {
      const failure = findMillraceError(error) ?? unclassified(name, error);
      held.push({ name, epoch: 0, position: null, failure });
    }
  }
  return held;
}

/** A sink whose checkpoint or rows are beyond the end of this log can continue only in an epoch above both. */
export function aheadOf(
  held: readonly HeldEpoch[],
  epoch: number,
  tip: bigint,
): Pick<MillraceError, "code" | "message"> | null {
  const ahead = held.find(
    (sink) => sink.epoch > epoch || (sink.position !== null && isBeyondLog(sink.position, epoch, tip)),
  );
  if (ahead === undefined) return null;
  const { code, message } = sinkAhead(ahead.name);
  return { code, message };
}

/** Invariant: a new epoch is above all that sinks show. A sink that does not answer may hold a higher one. */
export function newEpoch(held: readonly HeldEpoch[], epoch: number): number {
  const silent = held.find(({ failure }) => failure !== null);
  if (silent !== undefined) {
    throw cliError("MR1130", `sink ${silent.name} can't be asked which epoch it holds: ${silent.failure!.message}`, {
      cause: silent.failure,
    });
  }
  const next = 1 + Math.max(epoch, ...held.map((sink) => sink.epoch));
  if (next > EPOCH_MAX)
    throw cliError("MR1131", `epoch ${next} is more than the ${EPOCH_MAX} that row versions can tell apart`);
  return next;
}
