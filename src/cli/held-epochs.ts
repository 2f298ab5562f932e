import type { Config } from "../config/config.ts";
import { findMillraceError, type MillraceError } from "../core/errors.ts";
import type { StateStore } from "../core/state-store.ts";
import { EPOCH_MAX } from "../core/version.ts";
import { epochHeld } from "../runtime/epochs.ts";
import { sinkAhead, unclassified } from "../runtime/errors.ts";
import { cliError } from "./errors.ts";
import type { Session } from "./session.ts";

/** For a sink to say what it holds. */
const ANSWER_MS_MAX = 60_000;

export interface HeldEpoch {
  readonly name: string;
  /** 0: nothing is held. */
  readonly epoch: number;
  /** Why it could not be asked. */
  readonly failure: MillraceError | null;
}

/** What the sinks themselves show: a state that was restored, or made again, knows of no later epoch. */
export async function heldBySinks(session: Session, config: Config, state: StateStore): Promise<readonly HeldEpoch[]> {
  const lease = (await state.lease.current())?.number ?? 0;
  const held: HeldEpoch[] = [];
  for (const { name, connector } of config.sinks) {
    const sink = await connector.create(session.log);
    try {
      held.push({ name, epoch: await epochHeld(sink, lease, AbortSignal.timeout(ANSWER_MS_MAX)), failure: null });
    } catch (error) {
      held.push({ name, epoch: 0, failure: findMillraceError(error) ?? unclassified(name, error) });
    } finally {
      await sink.close();
    }
  }
  return held;
}

/** A sink of a later epoch than the state's can go on only in one that is above both. */
export function aheadOf(
  held: readonly HeldEpoch[],
  chosen: readonly string[],
  epoch: number,
): Pick<MillraceError, "code" | "message"> | null {
  const ahead = held.find((sink) => chosen.includes(sink.name) && sink.epoch > epoch);
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
