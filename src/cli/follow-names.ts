import type { ChangeLog } from "../core/contracts/change-log.ts";
import type { StoredRenames } from "../core/contracts/state-store.ts";
import { findMillraceError } from "../core/errors.ts";
import { comparePositions, latest, type Position } from "../core/model/position.ts";
import type { MemoryNow } from "../daemon/ruled-source.ts";
import { knowsByName } from "../rules/former-rules.ts";
import { renamesIn, type RuledSource } from "../rules/with-rules.ts";
import { unregistered } from "./offsets/chosen-offset.ts";

/**
 * For a command that shows rows which the daemon has not read: those that the source has now, or that its log has from `to` on.
 * Tables that are known by their names may have got others in between, which no memory has. Returns the memory that has them, as
 * far as `to`, or the end of the log.
 */
export async function followNames(
  { log, onSkipped }: Pick<RuledSource, "log" | "onSkipped">,
  memory: MemoryNow,
  signal: AbortSignal,
  to?: Position,
): Promise<MemoryNow> {
  if (!knowsByName(memory) || memory.former.isEmpty) return memory;
  const end = to ?? { epoch: memory.epoch, commit: await log.tip(signal), index: 0 };
  const { read } = memory;
  if (read !== null && comparePositions(end, read) <= 0) return memory;
  const isFollowed = read !== null && (await hasFollowed(log, read, end, memory, signal));
  if (!isFollowed) await onSkipped({ from: read, to: end, isThere: false }, signal);
  return { ...memory, read: end };
}

/** Reads the log as the daemon will, if names change there. False: it does not say what becomes of them. */
async function hasFollowed(
  log: ChangeLog,
  read: Position,
  end: Position,
  { former, versions }: MemoryNow,
  signal: AbortSignal,
): Promise<boolean> {
  if (log.renames === undefined) return false;
  try {
    // The daemon may have read further than its sinks got.
    const part = { from: read, read: former.shownUntil, to: end };
    const { told } = await renamesIn(log.renames, part, signal);
    if (told === null) return false;
    const last = latest(...told.filter(({ renames }) => renames.some(givesName)).map(({ position }) => position));
    if (last === null) return true;
    const resolve = unregistered([...versions.values()].flat());
    const passBy = async (): Promise<void> => {};
    const options = { temporary: true, resolve, onUnreadableRows: passBy };
    await using stream = await log.stream(read, options, signal);
    for (let until = read; comparePositions(until, last) <= 0;) {
      const block = await stream.next(signal);
      until = block.until;
      block.release();
    }
    return true;
  } catch (error) {
    if (findMillraceError(error)?.kind !== "fatal") throw error;
    return false;
  }
}

/** What a table that is made has is known by its columns. */
function givesName({ from, to, columns, how }: Exclude<StoredRenames["renames"][number], string>): boolean {
  return (from !== to || columns.length > 0) && how !== "made" && how !== "perhaps made";
}
