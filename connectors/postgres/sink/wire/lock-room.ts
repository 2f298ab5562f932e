/**
 * What a step locks, and how much room the target has for locks: one table of them for all sessions, with
 * max_locks_per_transaction for each. Asked when it was full, after the step was rolled back.
 */
import { quoteLiteral } from "../../../../src/postgres/quote.ts";
import type { LockRoom, StepLocks } from "../errors.ts";
import type { Session } from "./session.ts";

/** A staging table, its TOAST table and that one's index: each commit empties them. */
const STAGE_LOCKS = 3;
/** A table that the step makes: the same, and the index of its key. */
const NEW_LOCKS = STAGE_LOCKS + 1;
/** The checkpoints and their index, the session's mark, and both names of the transaction. */
const OTHER_LOCKS = 5;

/** `targets`: quoted names of the step's tables. Null: the server has no room for a look either. */
export async function lockRoom(
  session: Session,
  targets: readonly string[],
  signal: AbortSignal,
): Promise<{ readonly room: LockRoom; readonly step: StepLocks } | null> {
  const stageCount = Math.max(session.staged.size, targets.length);
  try {
    const { rows } = await session.query(roomSql(targets), signal);
    const [perSession = 0, sessionsMax = 0, ofTargets = 0] = (rows[0] ?? []).map(Number);
    const lockCount = ofTargets + STAGE_LOCKS * stageCount + OTHER_LOCKS;
    return { room: { perSession, sessionsMax }, step: { tableCount: targets.length, lockCount } };
  } catch {
    return null;
  }
}

/** Of a partitioned table all parts; of each the indexes, and its TOAST table with that one's index. */
function roomSql(targets: readonly string[]): string {
  return `WITH RECURSIVE target (oid) AS (
      SELECT to_regclass(name)::oid FROM unnest(ARRAY[${targets.map(quoteLiteral).join(", ")}]::text[]) AS name
      UNION ALL SELECT i.inhrelid FROM target JOIN pg_class c USING (oid) JOIN pg_inherits i ON i.inhparent = c.oid WHERE c.relkind = 'p')
    SELECT current_setting('max_locks_per_transaction'), current_setting('max_connections')::int + current_setting('max_prepared_transactions')::int,
      coalesce(sum(CASE WHEN c.oid IS NULL THEN ${NEW_LOCKS}
        ELSE 1 + (SELECT count(*) FROM pg_index i WHERE i.indrelid = c.oid) + CASE c.reltoastrelid WHEN 0 THEN 0 ELSE 2 END END), 0)
    FROM target LEFT JOIN pg_class c USING (oid)`;
}
