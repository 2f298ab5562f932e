/** Who holds up the log: the oldest transaction that has written, of a session or prepared (PREPARE TRANSACTION). */
import { quoteLiteral } from "../../quote.ts";

/**
 * In all databases: a slot's creation waits for each, and the server keeps its log from the oldest one on. The lock shows
 * every transaction to every role, its age only to roles that may see the session.
 */
export const OLDEST_TRANSACTION_SQL = `
select l.pid, p.gid, coalesce(a.usename, p.owner)::text as role, coalesce(a.datname, p.database)::text as database,
  nullif(a.application_name, '') as application, a.state,
  extract(epoch from clock_timestamp() - coalesce(a.xact_start, p.prepared))::float8 as seconds
from pg_locks l
left join pg_stat_activity a on a.pid = l.pid
left join pg_prepared_xacts p on p.transaction = l.transactionid
where l.locktype = 'transactionid' and l.granted and l.mode = 'ExclusiveLock' and (l.pid is not null or p.gid is not null)
order by age(l.transactionid) desc limit 1`;

export interface OpenTransaction {
  /** Null for a prepared one. */
  readonly pid: number | null;
  readonly gid: string | null;
  readonly role: string | null;
  readonly database: string | null;
  readonly application: string | null;
  readonly state: string | null;
  readonly seconds: number | null;
}

/** Which one, whose, and how old. */
export function saysWho({ pid, gid, role, database, application, state, seconds }: OpenTransaction): string {
  const who = [
    `role ${role ?? "unknown"}`,
    ...(database === null ? [] : [`database ${database}`]),
    ...(application === null ? [] : [`application ${application}`]),
    ...(state === null || state === "active" ? [] : [state]),
  ].join(", ");
  const what = gid === null ? `that of process ${pid}` : `the prepared transaction ${quoteLiteral(gid)}`;
  return `${what} (${who})${seconds === null ? "" : `, ${ageOf(seconds)} old`}`;
}

/** What ends it. */
export function endsIt({ pid, gid, database }: OpenTransaction): string {
  if (gid === null) return `end it there, or by SELECT pg_terminate_backend(${pid});`;
  const name = quoteLiteral(gid);
  return `COMMIT PREPARED ${name}; or ROLLBACK PREPARED ${name}; in database ${database}`;
}

function ageOf(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  return whole < 300 ? `${whole} s` : `${Math.floor(whole / 60)} min`;
}
