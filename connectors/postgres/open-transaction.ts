/** A transaction of a server for which Millrace waits: whose it is, how old, and what ends it. */
import { shownStatement } from "../kit/lock-holders.ts";
import { quoteLiteral } from "../../src/postgres/quote.ts";

export interface OpenTransaction {
  /** Null for a prepared one. */
  readonly pid: number | null;
  readonly gid: string | null;
  readonly role: string | null;
  readonly database: string | null;
  readonly application: string | null;
  readonly state: string | null;
  readonly seconds: number | null;
  readonly statement: string | null;
}

/** Of pg_stat_activity as `a` and pg_prepared_xacts as `p`, one of which has it. */
export const TRANSACTION_COLUMNS = `p.gid, coalesce(a.usename, p.owner)::text as role, coalesce(a.datname, p.database)::text as database,
  nullif(a.application_name, '') as application, a.state,
  extract(epoch from clock_timestamp() - coalesce(a.xact_start, p.prepared))::float8 as seconds, left(a.query, 4000) as statement`;

/**
 * Who holds up the log: the oldest transaction that has written, in all databases. A slot's creation waits for each, and the
 * server keeps its log from the oldest one on. The lock shows every transaction to every role, its age only to roles that
 * may see the session.
 */
export const OLDEST_TRANSACTION_SQL = `
select l.pid, ${TRANSACTION_COLUMNS}
from pg_locks l
left join pg_stat_activity a on a.pid = l.pid
left join pg_prepared_xacts p on p.transaction = l.transactionid
where l.locktype = 'transactionid' and l.granted and l.mode = 'ExclusiveLock' and (l.pid is not null or p.gid is not null)
order by age(l.transactionid) desc limit 1`;

export function saysWho(transaction: OpenTransaction): string {
  const { pid, gid, role, database, application, state, seconds, statement } = transaction;
  const parts = [
    ...(role === null ? [] : [`role ${role}`]),
    ...(database === null ? [] : [`database ${database}`]),
    ...(application === null ? [] : [`application ${application}`]),
    ...(seconds === null ? [] : [`${gid === null ? "its transaction is " : ""}${ageOf(seconds)} old`]),
    ...(state?.startsWith("idle in transaction") === true ? [state] : []),
    ...saysWhat(state, statement),
  ];
  if (pid === null && gid === null) return "a transaction that its role hides";
  const what = gid === null ? `pid ${pid}` : `the prepared transaction ${quoteLiteral(gid)}`;
  return `${what} (${parts.join(", ")})`;
}

function saysWhat(state: string | null, statement: string | null): readonly string[] {
  if (statement === null || statement === "") return [];
  if (statement === "<insufficient privilege>")
    return ["its statement is hidden from our role: GRANT pg_read_all_stats shows it"];
  return [`${state === "active" ? "statement" : "last statement"}: ${shownStatement(statement, "names")}`];
}

export function endsIt({ pid, gid, database }: OpenTransaction): string {
  if (pid === null && gid === null)
    return "SELECT * FROM pg_prepared_xacts; SELECT * FROM pg_stat_activity; list them.";
  if (gid === null) return `End it where it was begun, or by SELECT pg_terminate_backend(${pid});`;
  const name = quoteLiteral(gid);
  return `COMMIT PREPARED ${name}; or ROLLBACK PREPARED ${name}; in database ${database}`;
}

function ageOf(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  return whole < 120 ? `${whole} s` : `${Math.floor(whole / 60)} min`;
}
