/** What an operator should see of the log. */
import type { LogHealth } from "../../../../src/core/contracts/log-admin.ts";
import type { SourceContext } from "../context.ts";
import { parseLsn } from "./lsn.ts";

const OLD_TRANSACTION_SECONDS = 300;
const SAFE_BYTES_LOW = 1024 ** 3;

interface HealthRow {
  readonly tip: string;
  readonly restart: string | null;
  readonly retained: string | null;
  readonly unconfirmed: string | null;
  readonly spilled_count: string | null;
  readonly spilled_bytes: string | null;
  readonly safe: string | null;
  readonly wal_status: string | null;
  readonly confirmed: string | null;
  readonly invalidation: string | null;
  readonly idle_timeout: string | null;
  readonly old_pid: number | null;
  readonly old_seconds: number | null;
  readonly old_role: string | null;
  readonly old_application: string | null;
}

const HEALTH_SQL = `
with place as (
  select case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end as tip
), slot as (
  select * from pg_replication_slots where slot_name = $1
), oldest as (
  select a.pid, extract(epoch from now() - a.xact_start)::float8 as seconds, a.usename, a.application_name from pg_locks l
  join pg_stat_activity a on a.pid = l.pid
  where l.locktype = 'transactionid' and l.granted and l.mode = 'ExclusiveLock' and a.datname = current_database()
    and a.xact_start is not null
  order by a.xact_start limit 1
)
select place.tip::text as tip, slot.restart_lsn::text as restart,
  (place.tip - slot.confirmed_flush_lsn)::int8::text as unconfirmed,
  spilled.spill_txns::text as spilled_count, spilled.spill_bytes::text as spilled_bytes, (place.tip - slot.restart_lsn)::int8::text as retained, slot.safe_wal_size::text as safe,
  slot.wal_status, slot.confirmed_flush_lsn::text as confirmed, to_jsonb(slot) ->> 'invalidation_reason' as invalidation,
  nullif(current_setting('idle_replication_slot_timeout', true), '0') as idle_timeout,
  oldest.pid as old_pid, oldest.seconds as old_seconds, oldest.usename as old_role,
  nullif(oldest.application_name, '') as old_application
from place left join slot on true left join oldest on true
  left join pg_stat_replication_slots spilled on spilled.slot_name = slot.slot_name`;

export async function readHealth(context: SourceContext, signal: AbortSignal): Promise<LogHealth> {
  const [row] = await context.database.rows<HealthRow>("reading the slot's state", HEALTH_SQL, [context.slot], signal);
  if (row === undefined) return { tip: 0n, retainedBytes: 0, safeBytes: null, warnings: [] };
  return {
    tip: parseLsn(row.tip),
    retainedBytes: Math.max(0, Number(row.retained ?? 0)),
    safeBytes: row.safe === null ? null : Number(row.safe),
    warnings: warningsOf(context, row),
    hints: hintsOf(context, row),
    counts: {
      unconfirmedBytes: row.unconfirmed === null ? null : Math.max(0, Number(row.unconfirmed)),
      oldestTransactionSeconds: Math.max(0, row.old_seconds ?? 0),
      spilledTransactions: numberOrNull(row.spilled_count),
      spilledBytes: numberOrNull(row.spilled_bytes),
    },
    ...(row.wal_status === null
      ? {}
      : { kept: { from: lsnOrNull(row.restart), confirmed: lsnOrNull(row.confirmed), state: row.wal_status } }),
  };
}

const numberOrNull = (text: string | null): number | null => (text === null ? null : Number(text));

const lsnOrNull = (text: string | null): bigint | null => (text === null ? null : parseLsn(text));

function warningsOf(context: SourceContext, row: HealthRow): string[] {
  const warnings: string[] = [];
  if (row.wal_status === null) warnings.push(`the slot ${context.slot} does not exist`);
  if (row.invalidation !== null)
    warnings.push(`the slot ${context.slot} was given up by the server: ${row.invalidation}`);
  if (row.wal_status === "lost" || row.wal_status === "unreserved") {
    warnings.push(
      `the slot ${context.slot} is ${row.wal_status}: the server ${row.wal_status === "lost" ? "has removed" : "will soon remove"} log that it needs (max_slot_wal_keep_size)`,
    );
  }
  if (row.safe !== null && Number(row.safe) < SAFE_BYTES_LOW) {
    warnings.push(
      `only ${Math.max(0, Math.floor(Number(row.safe) / 1024 ** 2))} MB of log are left before the server gives up the slot: raise max_slot_wal_keep_size, or bring the sinks that are behind up to date`,
    );
  }
  return warnings;
}

function hintsOf(context: SourceContext, row: HealthRow): string[] {
  const hints: string[] = [];
  if (row.idle_timeout !== null && row.idle_timeout !== "0") {
    hints.push(`the server gives up slots that are unused for ${row.idle_timeout} (idle_replication_slot_timeout)`);
  }
  if (row.wal_status !== null && row.confirmed === null && row.old_pid !== null) {
    hints.push(
      `the slot ${context.slot} is not finished before the transactions have ended that were open when it was begun; the oldest is that of process ${row.old_pid} (${ownerOf(row)}), ${Math.floor(row.old_seconds ?? 0)} s old`,
    );
  }
  if (row.old_pid !== null && (row.old_seconds ?? 0) > OLD_TRANSACTION_SECONDS) {
    hints.push(
      `process ${row.old_pid} (${ownerOf(row)}) has had a transaction open for ${Math.floor((row.old_seconds ?? 0) / 60)} min: the server keeps the log from its start on; end it there, or by SELECT pg_terminate_backend(${row.old_pid})`,
    );
  }
  return hints;
}

/**
 * Identifies a transaction for the operator; a role without pg_read_all_stats does not see the transactions of other roles.
 */
function ownerOf({ old_role: role, old_application: application }: HealthRow): string {
  return [`role ${role ?? "unknown"}`, ...(application === null ? [] : [`application ${application}`])].join(", ");
}
