/**
 * Whether the server's log is the one in which a position was reached. After promotions this is true only up to a point, and
 * while names move, connections may end at different servers.
 */
import type { Position } from "../../../../src/core/model/position.ts";
import type { HeldPositions } from "../../../../src/core/contracts/log-admin.ts";
import type { LogIdentity } from "../../../../src/core/contracts/positions.ts";
import { BEGIN_ANEW, sourceError } from "../errors.ts";
import { formatLsn, parseLsn } from "../wire/lsn.ts";
import {
  connectReplication,
  identifySystem,
  type ReplicationConnection,
  replicationCommand,
  type SystemIdentity,
} from "../wire/replication-connection.ts";
import type { Slot } from "./slot.ts";
import { promoted } from "../wire/writer.ts";
import type { MillraceError } from "../../../../src/core/errors.ts";
import type { SourceContext } from "../wire/context.ts";

/** One timeline of a log's history, and where the next one left it; null: the log is on it now. */
interface Stretch {
  readonly timeline: number;
  readonly end: bigint | null;
}

/** The server's log, with the timelines before its present one, spelled `1@0/3000060,2@0/5000110`. */
export interface ServerLog extends SystemIdentity {
  readonly history: string;
}

/** `system` was asked over the same connection. A standby may not have the file with the history. */
export async function withHistory(
  connection: ReplicationConnection,
  system: SystemIdentity,
  signal: AbortSignal,
): Promise<ServerLog> {
  return { ...system, history: await readHistory(connection, system.timeline, signal) };
}

async function readHistory(connection: ReplicationConnection, timeline: number, signal: AbortSignal): Promise<string> {
  // The first timeline has no history, and no history file.
  if (timeline === 1) return "";
  const [row] = await replicationCommand<{ content: string | Buffer }>(
    connection,
    "reading the timeline's history",
    `TIMELINE_HISTORY ${timeline}`,
    signal,
  );
  const stretches: string[] = [];
  for (const line of String(row?.content ?? "").split("\n")) {
    const [parent, end] = line.split("\t");
    if (parent !== undefined && end !== undefined && /^\s*\d+$/.test(parent)) {
      stretches.push(`${Number(parent)}@${formatLsn(parseLsn(end.trim()))}`);
    }
  }
  return stretches.join(",");
}

/**
 * The position up to which two logs of one cluster are the same; null: as far as both go. Two standbys that were both promoted
 * have timelines with the same number that begin at different positions.
 */
export function commonUntil(
  stored: LogIdentity,
  { timeline, history }: Pick<ServerLog, "timeline" | "history">,
): bigint | null {
  const ours = stretchesOf(Number(stored["timeline"]), stored["history"] ?? "");
  const theirs = stretchesOf(timeline, history);
  let until = 0n;
  for (const [i, { timeline: own, end }] of ours.entries()) {
    const other = theirs[i];
    if (other === undefined || other.timeline !== own) return until;
    if (end !== other.end) return end === null || (other.end !== null && other.end < end) ? other.end : end;
    if (end === null) return null;
    until = end;
  }
  return until;
}

/**
 * Throws if the server's log is not the one of `identity`, or does not hold everything before `reached`. A promoted standby
 * has another timeline. That is fine as long as our position is not beyond its beginning, and no sink may hold what is.
 */
export function checkSystem(
  identity: LogIdentity,
  { reached, mayReach = null }: Pick<HeldPositions, "reached" | "mayReach">,
  log: ServerLog,
): void {
  const common = commonUntil(identity, log);
  if (common !== null && isBeyond(reached, common)) {
    const position = formatLsn(reached.commit);
    const where = common === 0n ? "is not in the server's history" : `was left at ${formatLsn(common)} there`;
    throw sourceError(
      "MR2016",
      "fatal",
      `the timeline ${identity["timeline"]}, on which we stood at ${position}, ${where}`,
      {
        hint: `What was delivered may not exist on this server: restore the right one. If the change was meant: ${BEGIN_ANEW}`,
      },
    );
  }
  const isPresent = mayReach?.epoch === reached.epoch;
  const mayBeLost =
    mayReach !== null && (isPresent ? isBeyond(mayReach, common ?? mayReach.commit) : mayReach.epoch > reached.epoch);
  if (common !== null && mayBeLost) {
    const message = `the server was promoted and left the former log at ${formatLsn(common)}; a sink may hold rows of what came later there`;
    throw sourceError("MR2032", "fatal", message, { reason: "moved" });
  }
  if (isBeyond(reached, log.flushed)) {
    throw sourceError(
      "MR2016",
      "fatal",
      `the stored position ${formatLsn(reached.commit)} lies beyond the end of the server's log, ${formatLsn(log.flushed)}`,
      { hint: `The server is an older copy: restore the right one. If the change was meant: ${BEGIN_ANEW}` },
    );
  }
}

/** The field of the identity that says from where on the slot kept its log. */
export const KEPT = "kept";

/**
 * Throws if the slot keeps its log from further back than before: the server is an older copy of itself, whose log has passed
 * our position since, with other changes. On another timeline the slot is another server's.
 */
export function checkKept(identity: LogIdentity, { restart }: Pick<Slot, "restart">, log: ServerLog): void {
  const kept = identity[KEPT];
  if (kept === undefined || restart === null || restart >= parseLsn(kept) || !isSameTimeline(identity, log)) return;
  throw sourceError(
    "MR2016",
    "fatal",
    `the slot keeps its log from ${formatLsn(restart)} on, and had moved on to ${kept}`,
    { hint: `The server is an older copy: restore the right one. If the change was meant: ${BEGIN_ANEW}` },
  );
}

export function isSameTimeline(
  identity: LogIdentity,
  { timeline, history }: Pick<ServerLog, "timeline" | "history">,
): boolean {
  return identity["timeline"] === String(timeline) && (identity["history"] ?? "") === history;
}

/** After a crash a standby takes connections before it has replayed again what it had replayed. */
export function checkReplayed(reached: Position, { flushed }: ServerLog): void {
  if (!isBeyond(reached, flushed)) return;
  const message = `the standby has replayed its log up to ${formatLsn(flushed)}, and ${formatLsn(reached.commit)} was read from it already`;
  throw sourceError("MR2032", "retryable", message, {
    hint: "Nothing, if it was just started. An older copy of it does not get there: restore the right one.",
  });
}

export function checkSameCluster(identity: LogIdentity, system: SystemIdentity): void {
  const stored = identity["systemIdentifier"];
  if (stored === system.systemIdentifier) return;
  throw sourceError(
    "MR2013",
    "fatal",
    `this is another server: its system identifier is ${system.systemIdentifier}, not ${stored}`,
    { hint: `Correct source.url. If the change was meant: ${BEGIN_ANEW}` },
  );
}

/** Inside a transaction `commit` is the beginning of its commit record: the log must hold that record too. */
function isBeyond({ commit, index }: Position, end: bigint): boolean {
  return index > 0 ? commit >= end : commit > end;
}

function stretchesOf(timeline: number, history: string): Stretch[] {
  const before = history === "" ? [] : history.split(",");
  const stretches = before.map((text): Stretch => {
    const [number, end] = text.split("@");
    return { timeline: Number(number), end: parseLsn(end ?? "") };
  });
  return [...stretches, { timeline, end: null }];
}

/**
 * The log that this daemon followed may be about to continue here. The daemon waits for that, and says what will be
 * missing. A first start does not wait: `checkServer` refuses it.
 */
export async function waitingForPromotion(context: SourceContext, signal: AbortSignal): Promise<MillraceError> {
  return sourceError(
    "MR2031",
    "retryable",
    `the source is a standby that is not promoted: it replays another server's log; ${await slotState(context, signal)}`,
    { hint: "Promote it, or point source.url at the primary. It is tried again." },
  );
}

async function slotState(context: SourceContext, signal: AbortSignal): Promise<string> {
  const [slot] = await context.database.rows<{ temporary: boolean; synced: string | null }>(
    "reading the slot",
    "select temporary, to_jsonb(s) ->> 'synced' as synced from pg_replication_slots s where slot_name = $1",
    [context.slot],
    signal,
  );
  const name = `the slot ${context.slot}`;
  if (slot === undefined)
    return `${name} does not exist there, and without it Millrace can't continue after a promotion`;
  if (slot.synced !== "true") return `${name} there is not one that is kept in step with the primary's`;
  // At a promotion Postgres drops slots that it could not make ready before.
  if (slot.temporary) return `${name} is not ready there yet, and would not survive a promotion now`;
  return `${name} is there and ready`;
}

/**
 * During a failover, one address may lead to different servers from one moment to the next. Throws if this connection does
 * not end at the server that was compared with the stored identity; the comparison is then repeated.
 */
export async function checkStillThere(
  connection: ReplicationConnection,
  compared: LogIdentity | undefined,
  signal: AbortSignal,
): Promise<void> {
  if (compared === undefined) return;
  const system = await identifySystem(connection, signal);
  const same =
    compared["systemIdentifier"] === system.systemIdentifier && compared["timeline"] === String(system.timeline);
  const { standby } = await whichServer(connection, signal);
  if (!same || standby !== isOfStandby(compared)) throw moved();
}

/** The part of the identity of a log that is read at a standby. */
export const STANDBY: LogIdentity = { standby: "yes" };

export function isOfStandby(identity: LogIdentity): boolean {
  return identity["standby"] === STANDBY["standby"];
}

/**
 * The log of a standby may go on in another timeline at any moment, when it is promoted or follows a server that was; the
 * stream goes on too, and says nothing. Invariant: what is handed on from a stream is on the timeline of the identity that its
 * positions are stored with, so that at a later start every position is comparable with the server's history (invariant 8). A
 * server that is asked after bytes were received, and is on the timeline still, was so when it sent them.
 */
export class SameTimeline implements Disposable {
  readonly #connection: ReplicationConnection;
  readonly #started: string | undefined;
  readonly #timeline: number;

  private constructor(connection: ReplicationConnection, started: string | undefined, timeline: number) {
    this.#connection = connection;
    this.#started = started;
    this.#timeline = timeline;
  }

  /** Null: the server is no standby, so it stays on its timeline as long as it runs. */
  static async at(
    { context, identity }: { readonly context: SourceContext; readonly identity?: LogIdentity | undefined },
    signal: AbortSignal,
  ): Promise<SameTimeline | null> {
    const doing = "looking whether the source is a standby";
    const [row] = await context.database.rows<{ standby: boolean }>(doing, WHICH_SQL, [], signal);
    if (row?.standby !== true) return null;
    const connection = await connectReplication(context.address, signal);
    try {
      const { started, standby } = await whichServer(connection, signal);
      const { timeline } = await identifySystem(connection, signal);
      if (!standby || (identity !== undefined && identity["timeline"] !== String(timeline))) throw moved();
      return new SameTimeline(connection, started, timeline);
    } catch (error) {
      connection.close();
      throw error;
    }
  }

  /** The stream must come from the server that is asked. */
  async expectServer(stream: ReplicationConnection, signal: AbortSignal): Promise<void> {
    if ((await whichServer(stream, signal)).started !== this.#started) throw moved();
  }

  async expect(signal: AbortSignal): Promise<void> {
    if ((await identifySystem(this.#connection, signal)).timeline !== this.#timeline) throw promoted();
  }

  [Symbol.dispose](): void {
    this.#connection.close();
  }
}

/** Throws if the ordinary connection ends at another server than this one. */
export async function checkOneServer(
  context: SourceContext,
  connection: ReplicationConnection,
  signal: AbortSignal,
): Promise<void> {
  const { started } = await whichServer(connection, signal);
  const doing = "comparing connections";
  const [other] = await context.database.rows<{ started: string }>(doing, WHICH_SQL, [], signal);
  if (other?.started !== started) throw moved();
}

const WHICH_SQL = "select pg_postmaster_start_time()::text as started, pg_is_in_recovery() as standby";

async function whichServer(
  connection: ReplicationConnection,
  signal: AbortSignal,
): Promise<{ readonly started: string | undefined; readonly standby: boolean }> {
  const doing = "comparing connections";
  const [row] = await replicationCommand<{ started: string; standby: boolean }>(connection, doing, WHICH_SQL, signal);
  return { started: row?.started, standby: row?.standby === true };
}

function moved(): MillraceError {
  return sourceError(
    "MR2032",
    "retryable",
    "connections that were opened one after the other ended at different servers, or at one that was promoted in between",
    { hint: "It is tried again. If it repeats, source.url leads to several servers: name the primary alone." },
  );
}
