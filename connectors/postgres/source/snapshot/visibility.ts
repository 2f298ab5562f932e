import type { Visibility } from "../../../../src/core/contracts/watermarks.ts";
import type { SourceContext } from "../context.ts";

/**
 * Whether a snapshot (`xmin:xmax:xip,…` of pg_current_snapshot, 64-bit) saw a transaction that the stream names by its
 * 32-bit id. The full id is the one nearest to the snapshot's end.
 */
export function snapshotSees(text: string): (xid: number) => boolean {
  const [xminText, xmaxText, list] = text.split(":");
  const xmin = BigInt(xminText ?? "");
  const xmax = BigInt(xmaxText ?? "");
  const running = new Set(
    (list ?? "")
      .split(",")
      .filter((xid) => xid !== "")
      .map(BigInt),
  );
  return (xid) => {
    const full = fullXid(xid, xmax);
    return full < xmin || (full < xmax && !running.has(full));
  };
}

function fullXid(xid: number, near: bigint): bigint {
  const candidate = (near & ~0xffff_ffffn) | BigInt(xid >>> 0);
  if (candidate > near + 0x8000_0000n) return candidate - 0x1_0000_0000n;
  if (candidate < near - 0x8000_0000n) return candidate + 0x1_0000_0000n;
  return candidate;
}

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
  return {
    sees: snapshotSees(row?.snapshot ?? "0:0:"),
    committing: (row?.committing ?? []).map(Number),
  };
}
