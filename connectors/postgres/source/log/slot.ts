/** The replication slot: finds it, creates it, adopts it, waits for it. */
import { setTimeout as delay } from "node:timers/promises";
import { type ErrorKind, findMillraceError, reasonOf } from "../../../../src/core/errors.ts";
import { BEGIN_ANEW, sourceError } from "../errors.ts";
import type { ServerFacts } from "./server.ts";
import { quoteIdentifier, quoteLiteral } from "../../../../src/postgres/quote.ts";
import type { SourceContext } from "../wire/context.ts";
import { parseLsn, formatLsn } from "../wire/lsn.ts";
import { type ReplicationConnection, replicationCommand } from "../wire/replication-connection.ts";
import { endsIt, OLDEST_TRANSACTION_SQL, type OpenTransaction, saysWho } from "../../blocking-transactions.ts";

const POLL_MS = 250;
/** How long a start waits silently for the slot to become free, and how long in all before an operator has to act. */
const BUSY_WAIT_MS = 5_000;
const BUSY_WAIT_MS_MAX = 90_000;
const TELL_MS = 5_000;
const ASK_MS = 500;

export interface Slot {
  readonly kind: string;
  readonly plugin: string | null;
  readonly database: string | null;
  readonly activePid: number | null;
  /** Null until creation is finished. */
  readonly confirmed: bigint | null;
  /** Where its log begins; null: it has none any more. The server stores each move at once: no crash takes back an older one. */
  readonly restart: bigint | null;
  /** Why the server invalidated it (16 and older: known only as wal_status lost). */
  readonly invalidation: string | null;
  /** Whether prepared transactions are sent before they are committed. */
  readonly twoPhase: boolean;
}

interface SlotRow {
  readonly slot_type: string;
  readonly plugin: string | null;
  readonly database: string | null;
  readonly active_pid: number | null;
  readonly confirmed_flush_lsn: string | null;
  readonly restart_lsn: string | null;
  readonly wal_status: string | null;
  readonly conflicting: string | null;
  readonly invalidation_reason: string | null;
  readonly keep_max: string;
  readonly two_phase: string | null;
}

export async function readSlot(context: SourceContext, signal: AbortSignal): Promise<Slot | undefined> {
  const [row] = await context.database.rows<SlotRow>(
    "reading the slot",
    `select slot_type, plugin, database, active_pid, confirmed_flush_lsn::text, restart_lsn::text, wal_status,
       to_jsonb(s) ->> 'conflicting' as conflicting, to_jsonb(s) ->> 'invalidation_reason' as invalidation_reason,
       to_jsonb(s) ->> 'two_phase' as two_phase, current_setting('max_slot_wal_keep_size') as keep_max
     from pg_replication_slots s where slot_name = $1`,
    [context.slot],
    signal,
  );
  if (row === undefined) return undefined;
  const lost = row.wal_status === "lost" ? "wal_removed" : null;
  const conflict = row.conflicting === "true" ? "conflict" : null;
  const invalidation = row.invalidation_reason ?? lost ?? conflict;
  return {
    kind: row.slot_type,
    plugin: row.plugin,
    database: row.database,
    activePid: row.active_pid,
    confirmed: row.confirmed_flush_lsn === null ? null : parseLsn(row.confirmed_flush_lsn),
    restart: row.restart_lsn === null ? null : parseLsn(row.restart_lsn),
    invalidation: invalidation === null ? null : invalidationText(invalidation, row.keep_max),
    twoPhase: row.two_phase === "true",
  };
}

/** `reason`: as the server names it. */
function invalidationText(reason: string, keepMax: string): string {
  if (reason === "wal_removed") return `it kept more log than max_slot_wal_keep_size allows (now ${keepMax})`;
  if (reason === "idle_timeout") return "it was idle for longer than idle_replication_slot_timeout allows";
  const whatPrimary = CONFLICTS[reason];
  return whatPrimary === undefined ? reason : `it conflicted with what the standby replayed: ${whatPrimary}`;
}

/** Of a slot on a standby, by the server's name for it (16: one name for both). */
const CONFLICTS: Readonly<Record<string, string>> = {
  conflict: "the primary removed rows of the catalogue (hot_standby_feedback is off), or lowered its wal_level",
  rows_removed:
    "the primary removed rows of the catalogue. Set hot_standby_feedback = on and primary_slot_name on the standby",
  wal_level_insufficient: "the primary's wal_level was lowered. Set it to logical",
};

/** Throws if this source may not read from the slot. */
export function checkSlotKind(context: SourceContext, slot: Slot): void {
  const { database } = context.address;
  const isOurs = slot.kind === "logical" && slot.plugin === "pgoutput" && slot.database === database;
  if (isOurs && !slot.twoPhase) return;
  const what = isOurs
    ? "one that sends prepared transactions before they are committed (two_phase), as a former subscription's"
    : slot.kind === "logical"
      ? `of plugin ${slot.plugin} in database ${slot.database}`
      : slot.kind;
  throw sourceError("MR2018", "fatal", `the slot ${context.slot} is ${what}`, {
    hint: `Name another \`slot\` in the configuration, or drop it: SELECT pg_drop_replication_slot(${quoteLiteral(context.slot)});`,
  });
}

export function checkSlotValid(context: SourceContext, slot: Slot): void {
  if (slot.invalidation === null) return;
  throw sourceError("MR2010", "fatal", `the server gave up the slot ${context.slot}: ${slot.invalidation}`, {
    hint: `Drop the slot: SELECT pg_drop_replication_slot(${quoteLiteral(context.slot)}); ${BEGIN_ANEW} Where a setting is named, raise it, or an outage as long does the same again.`,
  });
}

interface NewSlot {
  readonly consistentPoint: bigint;
  /** Valid until the next command on the connection that made the slot. */
  readonly snapshot: string;
}

/** Creates the slot. The server waits for the transactions that run now; the log names them. */
export async function createSlot(
  context: SourceContext,
  connection: ReplicationConnection,
  { version, inRecovery }: Pick<ServerFacts, "version" | "inRecovery">,
  signal: AbortSignal,
): Promise<NewSlot> {
  const name = quoteIdentifier(context.slot);
  // A failover slot is kept by standbys that synchronise slots. A standby makes none.
  const failover = version >= 170_000 && !inRecovery ? ", FAILOVER" : "";
  const options = version >= 150_000 ? `(SNAPSHOT 'export'${failover})` : "EXPORT_SNAPSHOT";
  const hasPrimary = inRecovery && context.writer.hasPrimary;
  if (hasPrimary) await untilHeld(context, signal);
  const stop = new AbortController();
  const watch = Promise.all([
    tellWaiting(context, stop.signal),
    ...(hasPrimary ? [askPrimary(context, stop.signal)] : []),
  ]);
  try {
    const [row] = await replicationCommand<{ consistent_point: string; snapshot_name: string }>(
      connection,
      "creating the slot",
      `CREATE_REPLICATION_SLOT ${name} LOGICAL pgoutput ${options}`,
      signal,
      Infinity,
    );
    if (row === undefined) throw sourceError("MR2027", "fatal", "the server made a slot and told nothing of it");
    return { consistentPoint: parseLsn(row.consistent_point), snapshot: row.snapshot_name };
  } finally {
    stop.abort();
    await watch;
  }
}

/** While a slot is being created: logs which transaction it waits for. Ends with the signal. */
async function tellWaiting(context: SourceContext, signal: AbortSignal): Promise<void> {
  try {
    for (;;) {
      await delay(TELL_MS, undefined, { signal });
      if (!(await context.writer.canWrite(signal)))
        context.logger.warn(
          {},
          `creating the slot waits until the primary logs which transactions run, at most 15 s after it has written something: SELECT ${RUNNING_FUNCTION}; there (several times) makes it quick`,
        );
      const oldest = await oldestTransaction(context, signal);
      if (oldest === undefined) continue;
      context.logger.warn(
        { pid: oldest.pid, gid: oldest.gid, ageSeconds: oldest.seconds },
        `creating the slot waits for the transactions that are open; the oldest is ${saysWho(oldest)}. ${endsIt(oldest)}`,
      );
    }
  } catch (error) {
    if (!signal.aborted) context.logger.warn({ err: error }, "can't see what the slot's creation waits for");
  }
}

const HELD_WAIT_MS = 30_000;

/**
 * A new slot needs the rows of the catalogue that the primary keeps for the standby. The standby asks for them ten seconds after it
 * connected (wal_receiver_status_interval); a primary that knows nothing yet removes them, and with them the slot.
 */
async function untilHeld({ database, writer, logger }: SourceContext, signal: AbortSignal): Promise<void> {
  const doing = "looking what the primary keeps for the standby";
  const asks =
    "select current_setting('primary_slot_name') as name where current_setting('hot_standby_feedback') = 'on'";
  const [standby] = await database.rows<{ name: string }>(doing, asks, [], signal);
  const sql = "select coalesce(xmin, catalog_xmin) is not null as held from pg_replication_slots where slot_name = $1";
  const deadlineMs = performance.now() + HELD_WAIT_MS;
  for (;;) {
    const primary = await writer.database(signal);
    const [slot] = await primary.rows<{ held: boolean }>(doing, sql, [standby?.name ?? ""], signal);
    // Without feedback or slot, or through another standby, nothing says what is kept: `check` warns.
    if (slot?.held !== false) return;
    if (performance.now() >= deadlineMs) break;
    await delay(POLL_MS, undefined, { signal });
  }
  logger.warn(
    { slot: standby?.name },
    "the primary keeps nothing for the standby, which may lose the slot that is made now",
  );
}

/**
 * A standby begins a slot, step by step, where its primary logs which transactions run. By itself the primary does so every 15
 * seconds, if something was written.
 */
async function askPrimary(context: SourceContext, signal: AbortSignal): Promise<void> {
  const { writer, logger } = context;
  let sql = `select ${RUNNING_FUNCTION}`;
  while (!signal.aborted) {
    try {
      await (await writer.database(signal)).rows("logging the running transactions", sql, [], signal);
    } catch (error) {
      if (signal.aborted) return;
      const hint = findMillraceError(error)?.reason === "privilege" ? ` ${grantRunning(context)}` : "";
      logger.warn({ err: error }, `creating the slot waits for what the primary logs by itself.${hint}`);
      sql = "select pg_logical_emit_message(true, 'millrace', '')";
    }
    await delay(ASK_MS, undefined, { signal }).catch(() => {});
  }
}

export const RUNNING_FUNCTION = "pg_log_standby_snapshot()";

export function grantRunning({ address }: Pick<SourceContext, "address">): string {
  return `GRANT EXECUTE ON FUNCTION pg_catalog.${RUNNING_FUNCTION} TO ${quoteIdentifier(address.user)};`;
}

/** The oldest one of the server that takes writes: only there transactions have locks. */
export async function oldestTransaction(
  context: SourceContext,
  signal: AbortSignal,
): Promise<OpenTransaction | undefined> {
  const doing = "looking for old transactions";
  const database = await context.writer.database(signal);
  const [oldest] = await database.rows<OpenTransaction>(doing, OLDEST_TRANSACTION_SQL, [], signal);
  return oldest;
}

/**
 * Whether the creation of this slot has not finished: a logical slot has no confirmed_flush_lsn while the creating
 * session waits, or for ever after a crash. (A physical slot never has one.)
 */
export function isUnfinished({ kind, confirmed }: Slot): boolean {
  return kind === "logical" && confirmed === null;
}

/** The error of a slot that `isUnfinished`: who creates it, the oldest open transaction, and how to go on. */
export async function unfinishedSlot(
  context: SourceContext,
  { activePid }: Pick<Slot, "activePid">,
  kind: ErrorKind,
  signal: AbortSignal,
): Promise<Error> {
  const oldest = await oldestTransaction(context, signal);
  const who = activePid === null ? "no process is creating it any more" : `process ${activePid} is creating it`;
  const waits = oldest === undefined ? "" : `; the oldest open transaction is ${saysWho(oldest)}`;
  const ends =
    activePid === null
      ? `drop the slot: SELECT pg_drop_replication_slot(${quoteLiteral(context.slot)});`
      : `end that process: SELECT pg_terminate_backend(${activePid});`;
  return sourceError("MR2012", kind, `the slot ${context.slot} is not finished: ${who}${waits}`, {
    hint: oldest === undefined ? `To go on, ${ends}` : `${endsIt(oldest)} Or ${ends}`,
  });
}

/** As it was found: a request that comes late drops no slot that was made, or used, since. */
export async function dropSlot(context: SourceContext, signal: AbortSignal): Promise<void> {
  const { slot: name } = context;
  await whenFree(context, "restart", signal);
  const slot = await readSlot(context, signal);
  if (slot === undefined) return;
  const { confirmed } = slot;
  const dropped = await context.database.rows(
    "dropping the slot",
    `select pg_drop_replication_slot(slot_name) from pg_replication_slots
     where slot_name = $1 and confirmed_flush_lsn is not distinct from $2::pg_lsn`,
    [name, confirmed === null ? null : formatLsn(confirmed)],
    signal,
  );
  if (dropped.length > 0 || (await readSlot(context, signal)) === undefined) return;
  const hint = "Stop what uses it, and run this again.";
  throw sourceError("MR2012", "fatal", `the slot ${name} is used by somebody since it was looked at`, { hint });
}

/** Since when each slot was found in use, so that the runtime's retries end. */
const busySinceMs = new Map<string, number>();

/** The reader, as far as the role may see it: address and port distinguish processes on two machines. */
async function readerName({ database }: SourceContext, pid: number, signal: AbortSignal): Promise<string> {
  const [row] = await database.rows<{ readonly reader: string | null }>(
    "looking who reads from the slot",
    `select concat_ws(' ', nullif(application_name, ''), 'as ' || usename,
       'from ' || host(client_addr) || ' port ' || client_port,
       'since ' || to_char(backend_start at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')) as reader
     from pg_stat_activity where pid = $1`,
    [pid],
    signal,
  );
  const known = row?.reader ?? "";
  return `process ${pid} of the server${known === "" ? "" : ` (${known})`}`;
}

/**
 * Waits until no session has the slot.
 *
 *     when      who has it                         what happens after BUSY_WAIT_MS
 *     start     another daemon                     fatal
 *     restart   a start of ours that was cut off   retried: its session still creates the slot, and a new one would
 *                                                  wait for the same transactions
 *               another reader                     fatal
 *     stream    a stream of ours that was cut off  retried: the server ends its session after wal_sender_timeout
 *
 * What was retried for BUSY_WAIT_MS_MAX is `blocked`.
 */
export async function whenFree(
  context: SourceContext,
  when: "start" | "restart" | "stream",
  signal: AbortSignal,
): Promise<void> {
  const key = `${context.address.host}:${context.address.port}/${context.slot}`;
  const begunMs = performance.now();
  for (;;) {
    const slot = await readSlot(context, signal);
    const pid = slot?.activePid ?? null;
    if (pid === null) {
      busySinceMs.delete(key);
      return;
    }
    const now = performance.now();
    const since = busySinceMs.get(key) ?? now;
    busySinceMs.set(key, since);
    if (now - begunMs >= BUSY_WAIT_MS) {
      const unfinished = slot !== undefined && isUnfinished(slot);
      const mayPass = when === "stream" || (when === "restart" && unfinished);
      const lasting = now - since >= BUSY_WAIT_MS_MAX ? "blocked" : "retryable";
      const kind = mayPass ? lasting : "fatal";
      if (unfinished) throw await unfinishedSlot(context, slot, kind, signal);
      throw sourceError(
        "MR2012",
        kind,
        `the slot ${context.slot} is in use by ${await readerName(context, pid, signal)}`,
        {
          hint: `Stop the other daemon, or give this one another \`name\`. To end an unused reader: SELECT pg_terminate_backend(${pid});`,
        },
      );
    }
    await delay(POLL_MS, undefined, { signal });
  }
}

export function slotMissing(slot: string): Error {
  return sourceError("MR2010", "fatal", `the slot ${slot} does not exist`, { hint: BEGIN_ANEW });
}

/**
 * Throws unless a stream of the slot brings everything after `from`. If a start is before the slot's confirmed position, the
 * server silently moves it forward to that position.
 */
export async function expectNoGap(context: SourceContext, from: bigint, signal: AbortSignal): Promise<Slot> {
  const name = context.slot;
  const slot = await readSlot(context, signal);
  if (slot === undefined) throw slotMissing(name);
  checkSlotKind(context, slot);
  checkSlotValid(context, slot);
  if (slot.confirmed === null) {
    // A position was stored, so the former slot was finished: this is another one, which is still being created.
    throw sourceError("MR2010", "fatal", `the slot ${name} was dropped and is being made again`, { hint: BEGIN_ANEW });
  }
  if (slot.confirmed <= from) return slot;
  throw sourceError(
    "MR2010",
    "fatal",
    `the slot ${name} is confirmed up to ${formatLsn(slot.confirmed)}, beyond the stored position ${formatLsn(from)}: changes between the two can't be had any more`,
    { hint: BEGIN_ANEW },
  );
}

/**
 * Throws if the file in which the slot's log begins is gone: removed by hand, or by pg_resetwal, after which the server still
 * calls the slot good. One record is read; nothing is moved. A slot in use has its log.
 */
export async function expectLogFile(context: SourceContext, slot: Slot, signal: AbortSignal): Promise<void> {
  if (slot.activePid !== null || slot.restart === null) return;
  const sql = `select from pg_logical_slot_peek_binary_changes($1, $2::pg_lsn, 1, 'proto_version', '1', 'publication_names', $3)`;
  const values = [context.slot, formatLsn(slot.restart), quoteIdentifier(context.publication)];
  try {
    await context.database.rows("looking for the slot's log", sql, values, signal);
  } catch (error) {
    signal.throwIfAborted();
    if (reasonOf(error) === "no-file") throw error;
    // The stream says what else is wrong with it.
  }
}

/** Of a slot that ends with its connection. */
export function temporaryName({ slot }: SourceContext): string {
  return `${slot.slice(0, 48)}_${process.pid}_${Math.floor(Math.random() * 1e6)}`;
}

/** A second slot at the first one's confirmed position. Only the connection that created it may read from it. */
export async function copySlot(
  context: SourceContext,
  connection: ReplicationConnection,
  signal: AbortSignal,
): Promise<string> {
  const name = temporaryName(context);
  await replicationCommand(
    connection,
    "copying the slot",
    `SELECT pg_copy_logical_replication_slot(${quoteLiteral(context.slot)}, ${quoteLiteral(name)}, true)`,
    signal,
  );
  return name;
}
