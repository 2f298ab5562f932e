/**
 * Checks whether the server's log is the one in which a position was reached: after promotions this is true only up to a
 * point.
 */
import type { Position } from "../../../../src/core/model/position.ts";
import { type HeldPositions, LogMoved } from "../../../../src/core/contracts/log-admin.ts";
import type { LogIdentity } from "../../../../src/core/contracts/positions.ts";
import { BEGIN_ANEW, sourceError } from "../errors.ts";
import { formatLsn, parseLsn } from "./lsn.ts";
import { replicationCommand, type SystemIdentity } from "./server.ts";
import type { ReplicationConnection } from "../stream/transport.ts";

/** One timeline of a log's history, and where the next one left it; null: the log is on it now. */
interface Stretch {
  readonly timeline: number;
  readonly end: bigint | null;
}

/** Spelled `1@0/3000060,2@0/5000110`: the timelines before the present one. */
export async function readHistory(
  connection: ReplicationConnection,
  timeline: number,
  signal: AbortSignal,
): Promise<string> {
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
 * The position up to which two logs of one cluster are the same; null: as far as both go. If a log's history was not
 * stored, only its last timeline is known. Two standbys that were both promoted have timelines with the same number that
 * begin at different positions.
 */
export function commonUntil(stored: LogIdentity, timeline: number, history: string): bigint | null {
  const ours = stretchesOf(Number(stored["timeline"]), stored["history"] ?? "");
  const theirs = stretchesOf(timeline, history);
  const first = ours[0]?.timeline ?? 0;
  const from = stored["history"] === undefined ? theirs.findIndex((stretch) => stretch.timeline === first) : 0;
  if (from < 0) return 0n;
  let until = 0n;
  for (const [i, { timeline: own, end }] of ours.entries()) {
    const other = theirs[from + i];
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
  system: SystemIdentity,
  history: string,
): void {
  const common = commonUntil(identity, system.timeline, history);
  if (common !== null && isBeyond(reached, common)) {
    const place = formatLsn(reached.commit);
    const where = common === 0n ? "is not in the server's history" : `was left at ${formatLsn(common)} there`;
    throw sourceError(
      "MR2016",
      "fatal",
      `the timeline ${identity["timeline"]}, on which we stood at ${place}, ${where}`,
      `What was delivered may not exist on this server: restore the right one. If the change was meant: ${BEGIN_ANEW}`,
    );
  }
  const isPresent = mayReach?.epoch === reached.epoch;
  const mayBeLost =
    mayReach !== null && (isPresent ? isBeyond(mayReach, common ?? mayReach.commit) : mayReach.epoch > reached.epoch);
  if (common !== null && mayBeLost) {
    const message = `the server was promoted and left the former log at ${formatLsn(common)}; a sink may hold rows of what came later there`;
    throw new LogMoved(sourceError("MR2032", "fatal", message));
  }
  if (isBeyond(reached, system.flushed)) {
    throw sourceError(
      "MR2016",
      "fatal",
      `the stored position ${formatLsn(reached.commit)} lies beyond the end of the server's log, ${formatLsn(system.flushed)}`,
      `The server is an older copy: restore the right one. If the change was meant: ${BEGIN_ANEW}`,
    );
  }
}

export function checkSameCluster(identity: LogIdentity, system: SystemIdentity): void {
  const stored = identity["systemIdentifier"];
  if (stored === system.systemIdentifier) return;
  throw sourceError(
    "MR2013",
    "fatal",
    `this is another server: its system identifier is ${system.systemIdentifier}, not ${stored}`,
    `Correct source.url. If the change was meant: ${BEGIN_ANEW}`,
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
