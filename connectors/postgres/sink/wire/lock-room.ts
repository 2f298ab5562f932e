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

/** `targets`: quoted names of the step's tables; step: null if there are none. Null: the server does not answer. */
export async function lockRoom(
  session: Session,
  targets: readonly string[],
  signal: AbortSignal,
): Promise<{ readonly room: LockRoom; readonly step: StepLocks | null } | null> {
  const stageCount = Math.max(session.staged.size, targets.length);
  try {
    const [perSession = 0, sessionsMax = 0] = await numbers(session, ROOM_SQL, signal);
    const room = { perSession, sessionsMax };
    if (targets.length === 0) return { room, step: null };
    // Without room for a look at the catalogue either, each counts as one that the step makes.
    const [ofTargets = 0] = await numbers(session, locksSql(targets), signal).catch(() => [NEW_LOCKS * targets.length]);
    const lockCount = ofTargets + STAGE_LOCKS * stageCount + OTHER_LOCKS;
    return { room, step: { tableCount: targets.length, lockCount } };
  } catch {
    return null;
  }
}

async function numbers(session: Session, sql: string, signal: AbortSignal): Promise<readonly number[]> {
  const { rows } = await session.query(sql, signal);
  return (rows[0] ?? []).map(Number);
}

const ROOM_SQL =
  "SELECT current_setting('max_locks_per_transaction'), current_setting('max_connections')::int + current_setting('max_prepared_transactions')::int";

/** Of a partitioned table all parts; of each the indexes, and its TOAST table with that one's index. */
function locksSql(targets: readonly string[]): string {
  return `WITH RECURSIVE target (oid) AS (
      SELECT to_regclass(name)::oid FROM unnest(ARRAY[${targets.map(quoteLiteral).join(", ")}]::text[]) AS name
      UNION ALL SELECT i.inhrelid FROM target JOIN pg_class c USING (oid) JOIN pg_inherits i ON i.inhparent = c.oid WHERE c.relkind = 'p')
    SELECT coalesce(sum(CASE WHEN c.oid IS NULL THEN ${NEW_LOCKS}
        ELSE 1 + (SELECT count(*) FROM pg_index i WHERE i.indrelid = c.oid) + CASE c.reltoastrelid WHEN 0 THEN 0 ELSE 2 END END), 0)
    FROM target LEFT JOIN pg_class c USING (oid)`;
}
