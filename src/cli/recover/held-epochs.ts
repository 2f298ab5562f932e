import type { SinkConfig } from "../../config/config.ts";
import { findMillraceError, type MillraceError } from "../../core/errors.ts";
import type { Position } from "../../core/model/position.ts";
import type { StateStore } from "../../core/contracts/state-store.ts";
import { EPOCH_MAX } from "../../core/model/version.ts";
import { epochHeld, epochHeldAtAll } from "../../runtime/epochs.ts";
import { sinkAhead, unclassified } from "../../runtime/errors.ts";
import { isBeyondLog } from "../../runtime/apply/standing.ts";
import { cliError } from "../errors.ts";
import { withOpenSink } from "../opened-sink.ts";
import type { Session } from "../session.ts";

/** To look at all rows of a sink. */
const ROWS_MS_MAX = 15 * 60_000;

export interface HeldEpoch {
  readonly name: string;
  /** 0: nothing is held. */
  readonly epoch: number;
  /** Of its checkpoint. */
  readonly position: Position | null;
  /** Why it could not be asked. */
  readonly failure: MillraceError | null;
}

/**
 * What the sinks themselves show: a state that was restored, or made again, knows of no later epoch. `byRows`: rows are looked
 * at also where there is a checkpoint.
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

/** A sink that stands, or has rows, where this log does not come to can go on only in an epoch that is above both. */
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

/** Invariant: a new epoch is above all that sinks show; one that can't be asked may show a higher one. */
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
