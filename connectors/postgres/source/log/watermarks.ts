/** Marks in the log, and which transactions a read between two of them has seen. */
import type { SourceContext } from "../wire/context.ts";
import { parseLsn } from "../wire/lsn.ts";
import { connectReplication, replicationCommand } from "../wire/replication-connection.ts";
import { quoteIdentifier } from "../../../../src/postgres/quote.ts";
import { temporaryName } from "./slot.ts";
import {
  EVERYTHING_VISIBLE,
  snapshotSees,
  type Visibility,
  type Blocker,
  type Watermarks,
} from "../../../../src/core/contracts/watermarks.ts";
import { setTimeout as delay } from "node:timers/promises";
import { endsIt, type OpenTransaction, saysWho, TRANSACTION_COLUMNS } from "../../blocking-transactions.ts";

const POLL_MS = 100;
const TELL_MS = 5_000;

export function watermarks(context: SourceContext): Watermarks {
  const prefix = markPrefix(context);
  return {
    markPrefix: prefix,
    mark: async (content, signal) => {
      const { writer, marks } = context;
      if (await writer.canWrite(signal)) await writeMark(context, prefix, content, signal);
      else marks.add({ at: await writer.replayedUntil(signal), prefix, content });
    },
    renew: async (signal) => {
      const { writer, marks } = context;
      if (await writer.canWrite(signal)) return await writeMark(context, renewPrefix(context), "", signal);
      marks.renew();
      // What was decoded before was replayed by now.
      return await writer.replayedUntil(signal);
    },
    settle: (onWait, signal) => waitForTransactions(context, onWait, signal),
    visibility: (signal) => readVisibility(context, signal),
  };
}

/** For this source alone: other daemons on the same database see each other's messages. */
export function markPrefix(context: SourceContext): string {
  return `millrace/${context.slot}`;
}

/** For the mark after which the shapes of tables are looked up again. */
export function renewPrefix(context: SourceContext): string {
  return `${markPrefix(context)}/renew`;
}

/**
 * Writes a mark as its own transaction and returns its position. Every transaction that committed before the call commits
 * below it. The stream passes it, because the commit (synchronous_commit=local) flushes the log up to it. Before Postgres
 * 17 a message outside of a transaction would not be flushed.
 */
export async function writeMark(
  context: SourceContext,
  prefix: string,
  content: string,
  signal: AbortSignal,
): Promise<bigint> {
  const [row] = await context.writer.rows<{ lsn: string }>(
    "writing a mark",
    "select pg_logical_emit_message(true, $1, $2::text)::text as lsn",
    [prefix, content],
    signal,
  );
  return parseLsn(row?.lsn ?? "");
}

/**
 * A transaction that waits for a synchronous standby is committed in the log, but still running for other sessions. So a
 * running transaction is ignored only if it is certainly not at its commit: its session is known to wait for its client
 * (other roles' sessions are visible only with pg_monitor), or it is a prepared transaction and no standby is waited for.
 * These transactions are found by their locks, because the snapshot does not list those after the last one that ended.
 */
const VISIBILITY_SQL = `
select pg_is_in_recovery() as standby, pg_current_snapshot()::text as snapshot, coalesce(array_agg(l.transactionid::text) filter (where
    a.state is distinct from 'idle in transaction' and a.state is distinct from 'idle in transaction (aborted)'
    and (p.transaction is null or current_setting('synchronous_standby_names') <> '')), '{}') as committing
from pg_locks l left join pg_stat_activity a on a.pid = l.pid left join pg_prepared_xacts p on p.transaction = l.transactionid
where l.locktype = 'transactionid' and l.granted and l.mode = 'ExclusiveLock' and l.transactionid is not null
  and coalesce(a.datname, p.database, current_database()) = current_database()`;

interface VisibilityRow {
  readonly standby: boolean;
  readonly snapshot: string;
  readonly committing: readonly string[];
}

/** A standby streams what it has replayed, and that is visible there. */
async function readVisibility({ database }: SourceContext, signal: AbortSignal): Promise<Visibility> {
  const doing = "reading the running transactions";
  const [row] = await database.rows<VisibilityRow>(doing, VISIBILITY_SQL, [], signal);
  if (row?.standby === true) return EVERYTHING_VISIBLE;
  const snapshot = row?.snapshot ?? "0:0:";
  return {
    sees: snapshotSees(snapshot),
    snapshot,
    committing: (row?.committing ?? []).map(Number),
  };
}

/**
 * Waits until every transaction that runs at the call has ended: what they write into a table that was just added is
 * published only in part. Transactions of other databases can't have written to it.
 */
export async function waitForTransactions(
  context: SourceContext,
  onWait: (blocker: Blocker) => void,
  signal: AbortSignal,
): Promise<void> {
  const doing = "waiting for older transactions";
  if (!(await context.writer.canWrite(signal))) {
    onWait({
      what: "the standby does not name them",
      fix: "Nothing: this may take a minute, if no transaction is older.",
    });
    await waitBySlot(context, signal);
    return;
  }
  const database = await context.writer.database(signal);
  // A number of our own is above all that run; a snapshot's end is above those that have ended.
  const [start] = await database.rows<{ xid: string }>(doing, "select pg_current_xact_id()::text as xid", [], signal);
  let toldAtMs = -Infinity;
  for (;;) {
    const [first] = await database.rows<OpenTransaction>(doing, RUNNING_SQL, [start?.xid], signal);
    if (first === undefined) return;
    const now = performance.now();
    if (now - toldAtMs >= TELL_MS) {
      toldAtMs = now;
      onWait({ what: saysWho(first), fix: endsIt(first) });
    }
    await delay(POLL_MS, undefined, { signal });
  }
}

/** A standby finishes a slot when every transaction has ended that the primary had open when it was begun. */
async function waitBySlot(context: SourceContext, signal: AbortSignal): Promise<void> {
  using connection = await connectReplication(context.address, signal);
  const name = quoteIdentifier(temporaryName(context));
  const make = `CREATE_REPLICATION_SLOT ${name} TEMPORARY LOGICAL pgoutput (SNAPSHOT 'nothing')`;
  await replicationCommand(connection, "waiting for older transactions", make, signal, Infinity);
}

/** pg_locks shows every transaction's pid to every role; pg_stat_activity hides most of the rest. */
const RUNNING_SQL = `
select l.pid, ${TRANSACTION_COLUMNS}
from pg_snapshot_xip(pg_current_snapshot()) as x (xid)
left join pg_locks l on l.locktype = 'transactionid' and l.transactionid = x.xid::xid and l.granted and l.mode = 'ExclusiveLock'
left join pg_stat_activity a on a.pid = l.pid
left join pg_prepared_xacts p on p.transaction = x.xid::xid
where x.xid < $1::xid8 and coalesce(a.datname, p.database, current_database()) = current_database()
order by x.xid`;
