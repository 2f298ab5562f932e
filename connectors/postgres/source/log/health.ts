/** What an operator should see of the log. */
import type { LogHealth } from "../../../../src/core/contracts/log-admin.ts";
import type { SourceContext } from "../wire/context.ts";
import { parseLsn } from "../wire/lsn.ts";
import { endsIt, OLDEST_TRANSACTION_SQL, type OpenTransaction, saysWho } from "../../blocking-transactions.ts";

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
  readonly oldest: OpenTransaction | null;
  readonly absent: string | null;
}

/** Slots of standbys that a failover slot waits for (17), and that nobody reads from: the server sends nothing meanwhile. */
export const ABSENT_STANDBYS_SQL = `
select string_agg(name, ', ') from (
  select btrim(listed, ' "') as name from unnest(string_to_array(current_setting('synchronized_standby_slots', true), ',')) as listed
) named where name <> '' and not exists (select from pg_replication_slots where slot_name = name and active)`;

export function saysAbsent(slots: string): string {
  return `the server sends only what the standbys of synchronized_standby_slots have, and nobody reads from ${slots}`;
}

export const ABSENT_FIX =
  "Start the standby, or take its slot out of the setting (ALTER SYSTEM SET synchronized_standby_slots = …; SELECT pg_reload_conf();).";

const HEALTH_SQL = `
with log as (
  select case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end as tip
), slot as (
  select * from pg_replication_slots where slot_name = $1
), oldest as (${OLDEST_TRANSACTION_SQL}
)
select log.tip::text as tip, slot.restart_lsn::text as restart,
  (log.tip - slot.confirmed_flush_lsn)::int8::text as unconfirmed,
  spilled.spill_txns::text as spilled_count, spilled.spill_bytes::text as spilled_bytes, (log.tip - slot.restart_lsn)::int8::text as retained, slot.safe_wal_size::text as safe,
  slot.wal_status, slot.confirmed_flush_lsn::text as confirmed, to_jsonb(slot) ->> 'invalidation_reason' as invalidation,
  nullif(current_setting('idle_replication_slot_timeout', true), '0') as idle_timeout,
  to_jsonb(oldest) as oldest,
  case when to_jsonb(slot) ->> 'failover' = 'true' then (${ABSENT_STANDBYS_SQL}) end as absent
from log left join slot on true left join oldest on true
  left join pg_stat_replication_slots spilled on spilled.slot_name = slot.slot_name`;

export async function readHealth(context: SourceContext, signal: AbortSignal): Promise<LogHealth> {
  const [row] = await context.database.rows<HealthRow>("reading the slot's state", HEALTH_SQL, [context.slot], signal);
  if (row === undefined) return { tip: 0n, retainedBytes: 0, safeBytes: null, warnings: [] };
  return {
    tip: parseLsn(row.tip),
    retainedBytes: Math.max(0, Number(row.retained ?? 0)),
    safeBytes: row.safe === null ? null : Number(row.safe),
    warnings: warningsOf(context, row),
    ...(row.oldest === null ? {} : { oldestTransaction: `${saysWho(row.oldest)}. ${endsIt(row.oldest)}` }),
    hints: hintsOf(context, row),
    counts: {
      unconfirmedBytes: row.unconfirmed === null ? null : Math.max(0, Number(row.unconfirmed)),
      oldestTransactionSeconds: Math.max(0, row.oldest?.seconds ?? 0),
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
  const isRemoved = row.wal_status === "lost" && (row.invalidation ?? "wal_removed") === "wal_removed";
  if (isRemoved || row.wal_status === "unreserved") {
    warnings.push(
      `the slot ${context.slot} is ${row.wal_status}: the server ${isRemoved ? "has removed" : "will soon remove"} log that it needs (max_slot_wal_keep_size)`,
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
  const { oldest, absent } = row;
  if (absent !== null) hints.push(`${saysAbsent(absent)}. ${ABSENT_FIX}`);
  if (row.wal_status !== null && row.confirmed === null && oldest !== null) {
    hints.push(
      `the slot ${context.slot} is not finished before the transactions have ended that were open when it was begun; the oldest is ${saysWho(oldest)}. ${endsIt(oldest)}`,
    );
  } else if (oldest !== null && (oldest.seconds ?? 0) > OLD_TRANSACTION_SECONDS) {
    hints.push(
      `the server keeps the log from the start of its oldest transaction on, ${saysWho(oldest)}. ${endsIt(oldest)}`,
    );
  }
  return hints;
}
