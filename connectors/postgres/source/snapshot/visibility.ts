import { snapshotSees, type Visibility } from "../../../../src/core/contracts/watermarks.ts";
import type { SourceContext } from "../context.ts";

/**
 * A transaction that waits for a synchronous standby is committed in the log, but still running for other sessions. So a
 * running transaction is ignored only if it is certainly not at its commit: its session is known to wait for its client
 * (other roles' sessions are visible only with pg_monitor), or it is a prepared transaction and no standby is waited for.
 * These transactions are found by their locks, because the snapshot does not list those after the last one that ended.
 */
const VISIBILITY_SQL = `
select pg_current_snapshot()::text as snapshot, coalesce(array_agg(l.transactionid::text) filter (where
    a.state is distinct from 'idle in transaction' and a.state is distinct from 'idle in transaction (aborted)'
    and (p.transaction is null or current_setting('synchronous_standby_names') <> '')), '{}') as committing
from pg_locks l left join pg_stat_activity a on a.pid = l.pid left join pg_prepared_xacts p on p.transaction = l.transactionid
where l.locktype = 'transactionid' and l.granted and l.mode = 'ExclusiveLock' and l.transactionid is not null
  and coalesce(a.datname, p.database, current_database()) = current_database()`;

export async function readVisibility({ database }: SourceContext, signal: AbortSignal): Promise<Visibility> {
  const doing = "reading the running transactions";
  const [row] = await database.rows<{ snapshot: string; committing: string[] }>(doing, VISIBILITY_SQL, [], signal);
  const snapshot = row?.snapshot ?? "0:0:";
  return {
    sees: snapshotSees(snapshot),
    snapshot,
    committing: (row?.committing ?? []).map(Number),
  };
}
