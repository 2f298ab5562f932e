/** Who holds a lock that a session of ours waits for: named in errors, so that a person can act. */
import type { Client } from "pg";
import { endsIt, type OpenTransaction, saysWho, TRANSACTION_COLUMNS } from "./open-transaction.ts";
import type { LockHolders } from "../kit/lock-holders.ts";
import { quoteLiteral } from "../../src/postgres/quote.ts";
import { connect } from "../../src/postgres/connect.ts";
import type { PostgresAddress } from "../../src/postgres/url.ts";

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
    return told(JSON.parse(rows[0]?.[0] ?? "[]") as readonly Holder[]);
  } catch {
    // The error that is to be explained says enough.
    return null;
  } finally {
    until.removeEventListener("abort", stop);
    stop();
  }
}

function told(holders: readonly Holder[]): LockHolders | null {
  const shown = holders.slice(0, SHOWN_COUNT_MAX);
  const [first] = shown;
  if (first === undefined) return null;
  const what = shown.map((holder) => `${saysWho(holder)} ${holder.waits ? "waits for it too" : "holds it"}`).join("; ");
  return { what, fix: `${endsIt(first)} Millrace tries again by itself.` };
}
