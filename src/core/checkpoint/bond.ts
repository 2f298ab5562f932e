/**
 * What ties a sink's checkpoint to the state that it was written under (decision 15). A checkpoint says which tables the
 * sink holds completely; what makes that true, the obligations (listed keys, dead letters, unfinished reads, suspended
 * tables), lies in the state. Either can be restored, replaced or lost alone: their bond shows it.
 */
export interface Bond {
  /** The state: random, made with it. Export and import keep it. */
  readonly state: string;
  /** The opening of the sink: random, stored in the state before the first checkpoint that names it. */
  readonly session: string;
  /** Counts the sink's checkpoints, over all sessions. */
  readonly step: number;
  /** Number of the last obligation for this sink that the state had stored durably. */
  readonly obligation: number;
}

export function serializeBond({ state, session, step, obligation }: Bond): string {
  return `${state}/${session}/${step}/${obligation}`;
}

export function parseBond(text: string): Bond {
  const match = /^([0-9a-f]+)\/([0-9a-f]+)\/(\d+)\/(\d+)$/.exec(text);
  if (match === null) throw new Error(`not a bond: ${JSON.stringify(text)}`);
  return { state: match[1]!, session: match[2]!, step: Number(match[3]), obligation: Number(match[4]) };
}

export function isSameBond(a: Bond | undefined, b: Bond | undefined): boolean {
  return a !== undefined && b !== undefined && serializeBond(a) === serializeBond(b);
}

/** One opening of a sink, as the state knows it. */
export interface SinkSession {
  readonly session: string;
  /** The step that the sink stood at when it began: what a later copy of an earlier session has beyond it is another history. */
  readonly base: number;
  /** Number of the last obligation that was stored in it. */
  readonly obligation: number;
}

/**
 * How a checkpoint goes with the state.
 *
 * - `bound`: the state knows every obligation that the checkpoint accounts for.
 * - `unbound`: neither has ever known of the other's bond: written by a version without bonds.
 * - `estranged`: of this state, which does not know all that the checkpoint accounts for: it is an older copy, or has
 *   forgotten the sink, or the checkpoint is of a history that was given up.
 * - `foreign`: of another state.
 */
export type Accord = "bound" | "unbound" | "estranged" | "foreign";

/** `sessions`: those of this sink in the state called `state` (null: it has no name yet), in the order in which they began. */
export function accordOf(own: Bond | undefined, state: string | null, sessions: readonly SinkSession[]): Accord {
  if (own === undefined) return sessions.length === 0 ? "unbound" : "estranged";
  if (own.state !== state) return "foreign";
  const at = sessions.findIndex(({ session }) => session === own.session);
  if (at < 0 || own.obligation > sessions[at]!.obligation) return "estranged";
  const isGivenUp = sessions.slice(at + 1).some(({ base }) => own.step > base);
  return isGivenUp ? "estranged" : "bound";
}
