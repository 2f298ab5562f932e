/**
 * Links a sink's checkpoint to the state under which it was written (decision 15). The checkpoint says which tables the
 * sink holds completely. That is only true together with the obligations in the state: listed keys, dead letters,
 * unfinished reads, suspended tables. Checkpoint and state can be restored, replaced or lost separately; the bond
 * reveals that.
 */
export interface Bond {
  /** Identifies the state: a random value, created with it. Export and import keep it. */
  readonly state: string;
  /**
   * Identifies the opening of the sink: a random value, stored in the state before the first checkpoint that names it.
   */
  readonly session: string;
  /** Number of the batch that stored it, counted over all sessions. */
  readonly batch: number;
  /** Number of the last obligation for this sink that the state had stored durably. */
  readonly obligation: number;
}

export function serializeBond({ state, session, batch, obligation }: Bond): string {
  return `${state}/${session}/${batch}/${obligation}`;
}

/** Whether two checkpoints are of one batch: several may stand at one position. */
export function isSameBond(a: Bond, b: Bond): boolean {
  return a.state === b.state && a.session === b.session && a.batch === b.batch && a.obligation === b.obligation;
}

export function parseBond(text: string): Bond {
  const match = /^([0-9a-f]+)\/([0-9a-f]+)\/(\d+)\/(\d+)$/.exec(text);
  if (match === null) throw new Error(`not a bond: ${JSON.stringify(text)}`);
  return { state: match[1]!, session: match[2]!, batch: Number(match[3]), obligation: Number(match[4]) };
}

/** One opening of a sink, as the state knows it. */
export interface SinkSession {
  readonly session: string;
  /**
   * The sink's last batch when the session began. If an older copy of the sink has later batches of an earlier session, its
   * history differs from ours.
   */
  readonly base: number;
  /** Number of the last obligation that was stored during the session. */
  readonly obligation: number;
}

/**
 * How a checkpoint matches the state.
 *
 * - `bound`: the state knows every obligation that the checkpoint relies on.
 * - `estranged`: the checkpoint belongs to this state, but the state does not know all that the checkpoint relies on:
 *   the state is an older copy or has forgotten the sink, or the checkpoint belongs to an abandoned history.
 * - `foreign`: the checkpoint belongs to another state.
 */
export type Accord = "bound" | "estranged" | "foreign";

/**
 * `own`: undefined if the sink has no checkpoint, which relies on nothing. `sessions`: those of this sink in the state named
 * `state` (null: it has no name yet), oldest first.
 */
export function accordOf(own: Bond | undefined, state: string | null, sessions: readonly SinkSession[]): Accord {
  if (own === undefined) return "bound";
  if (own.state !== state) return "foreign";
  const at = sessions.findIndex(({ session }) => session === own.session);
  if (at < 0 || own.obligation > sessions[at]!.obligation) return "estranged";
  const isGivenUp = sessions.slice(at + 1).some(({ base }) => own.batch > base);
  return isGivenUp ? "estranged" : "bound";
}
