/** Transactions of a server for which Millrace waits: whose they are, how old, and what ends them, so that a person can act. */
import type { Client } from "pg";
import { type LockHolders, shownStatement } from "../kit/lock-holders.ts";
import { quoteLiteral } from "../../src/postgres/quote.ts";
import { connect } from "../../src/postgres/connect.ts";
import type { PostgresAddress } from "../../src/postgres/url.ts";

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
  return `In database ${database}: COMMIT PREPARED ${name}; or ROLLBACK PREPARED ${name};`;
}

function ageOf(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  return whole < 120 ? `${whole} s` : `${Math.floor(whole / 60)} min`;
}

const ASKING_MS_MAX = 3_000;
/** More do not help to act. */
const SHOWN_COUNT_MAX = 3;

interface Holder extends OpenTransaction {
  /** It waits for another one itself. */
  readonly waits: boolean;
}

/** Those that a waiting session waits for. */
export function inFrontOf(pid: number | string): string {
  return `select unnest(pg_blocking_pids(${pid}))`;
}

const ANY_READ = ["AccessExclusiveLock"];
const PUBLISHING = [...ANY_READ, "ExclusiveLock", "ShareRowExclusiveLock", "ShareLock", "ShareUpdateExclusiveLock"];

/** Those that keep a table, or a part of it, from being read, or published; among them who waits for it in front of us. */
export function holdersOf(quotedTable: string, what: "read" | "published"): string {
  const table = `to_regclass(${quoteLiteral(quotedTable)})`;
  const modes = (what === "read" ? ANY_READ : PUBLISHING).map(quoteLiteral).join(", ");
  return `select coalesce(l.pid, 0) from pg_locks l where l.locktype = 'relation' and l.mode in (${modes})
    and l.database = (select oid from pg_database where datname = current_database())
    and l.relation in (select ${table} union select relid from pg_partition_tree(${table}))`;
}

function sqlOf(first: string): string {
  return `with recursive chain (pid) as (${first} union select unnest(pg_blocking_pids(chain.pid)) from chain where chain.pid <> 0)
    select coalesce(json_agg(found order by found.waits, found.seconds desc nulls last), '[]')::text from (
      select nullif(chain.pid, 0) as pid, chain.pid <> 0 and cardinality(pg_blocking_pids(chain.pid)) > 0 as waits, ${TRANSACTION_COLUMNS}
      from chain left join pg_stat_activity a on a.pid = chain.pid
        left join (select * from pg_prepared_xacts where database = current_database() order by prepared limit 1) p on chain.pid = 0
      where chain.pid <> pg_backend_pid()) found`;
}

/** Asks over a connection of its own: the session that waits, and those behind it, can't be used. Null: not known. */
export async function lockHolders(
  address: PostgresAddress,
  first: string,
  signal: AbortSignal,
): Promise<LockHolders | null> {
  const until = AbortSignal.any([signal, AbortSignal.timeout(ASKING_MS_MAX)]);
  let client: Client | undefined;
  const stop = (): void => void client?.connection.stream.destroy();
  until.addEventListener("abort", stop, { once: true });
  try {
    client = (await connect(address, { signal: until })).client;
    const { rows } = await client.query<[string]>({ text: sqlOf(first), rowMode: "array" });
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the shape that the statement above makes
    return holdersIn(JSON.parse(rows[0]?.[0] ?? "[]") as readonly Holder[]);
  } catch {
    // The error that is to be explained says enough.
    return null;
  } finally {
    until.removeEventListener("abort", stop);
    stop();
  }
}

function holdersIn(holders: readonly Holder[]): LockHolders | null {
  const shown = holders.slice(0, SHOWN_COUNT_MAX);
  const [first] = shown;
  if (first === undefined) return null;
  const what = shown.map((holder) => `${saysWho(holder)} ${holder.waits ? "waits for it too" : "holds it"}`).join("; ");
  return { what, fix: `${endsIt(first)} Millrace tries again by itself.` };
}
