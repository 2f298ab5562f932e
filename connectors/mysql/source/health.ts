/** What an operator should see of the log. */
import type { LogHealth } from "../../../src/core/contracts/log-admin.ts";
import { bytesBetween, unpackPosition } from "./wire/position.ts";
import { expirySeconds, unfitSettings } from "./wire/server-facts.ts";
import {
  endPrepared,
  namedPrepared,
  NO_THREAD,
  type PreparedTransactions,
  readPrepared,
} from "./wire/prepared-transactions.ts";
import { QUIET_SECONDS } from "./catalog/catalog.ts";
import { errorNumber } from "./errors.ts";
import { findMillraceError } from "../../../src/core/errors.ts";
import type { SourceParts } from "./source-parts.ts";
import type { Server } from "./wire/server.ts";

const OLD_TRANSACTION_SECONDS = 300;
/** Warns when no more than this share of the time is left after which files are deleted. */
const EXPIRY_NEAR = 0.5;

export async function readHealth(parts: SourceParts, signal: AbortSignal): Promise<LogHealth> {
  const { server, state, tables } = parts;
  const { names } = server;
  const tip = await parts.files.tip(signal);
  const from = state.acknowledged;
  const open = await readOpen(server, signal);
  const zeroDates = tables.rules.metZeroDates.count;
  const counts = { zeroDates, oldestTransactionSeconds: open.oldest?.seconds ?? null };
  const hints = [...fillingHints(tables.alterations.filling), ...openHints(open, OLD_TRANSACTION_SECONDS)];
  if (from === 0n) return { tip, retainedBytes: 0, safeBytes: null, warnings: [], hints, counts };
  const files = await parts.files.read(signal);
  const { file } = unpackPosition(from);
  const oldest = files.at(0)?.file ?? 0;
  const health = { tip, retainedBytes: bytesBetween(files, from, tip), safeBytes: null, hints, counts };
  const facts = await server.readFacts(signal);
  // They may have been changed since the stream was opened; sessions that begin now follow them.
  const warnings = unfitSettings(facts).map(({ what, fix }) => `MR2005 ${what}: changes may be missing. ${fix}`);
  if (file < oldest) {
    const warning = `the server has purged its log behind us: it begins with ${names.file(oldest)}`;
    return { ...health, safeSeconds: 0, warnings: [...warnings, warning] };
  }
  const expiry = expirySeconds(facts);
  // The file that is being written is never deleted.
  if (expiry === 0 || file === unpackPosition(tip).file) return { ...health, warnings };
  const safeSeconds = Math.max(0, expiry - (await parts.files.secondsSinceClosed(file, signal)));
  const isNear = safeSeconds < expiry * EXPIRY_NEAR;
  const warning = `${names.file(file)}, which a sink still needs, may be deleted in ${Math.floor(safeSeconds / 60)} min: the server keeps files for ${Math.floor(expiry / 60)} min (binlog_expire_logs_seconds)`;
  return { ...health, safeSeconds, warnings: isNear ? [...warnings, warning] : warnings };
}

/** Who holds the server up: the oldest open transaction, and those that are prepared and wait for their outcome. */
interface OpenTransactions {
  /** Null: the user may not see it (PROCESS), or there is none. */
  readonly oldest: { readonly thread: string; readonly seconds: number } | null;
  readonly prepared: PreparedTransactions;
}

/** What such a session writes is in no log. */
function fillingHints(filling: ReadonlySet<string>): string[] {
  return Array.from(
    filling,
    (id) =>
      `${id} was made again or emptied by a session that writes no log (sql_log_bin = 0): what it writes is read when nobody has written to the table for ${QUIET_SECONDS} s, or by millrace snapshot start --tables ${id}`,
  );
}

const REFUSED = new Set([1044, 1142, 1227, 1401]);
const PREPARED_NAMED_MAX = 5;

export async function readOpen(server: Server, signal: AbortSignal): Promise<OpenTransactions> {
  const [trx] = await rows(
    server,
    "SELECT trx_mysql_thread_id, TIMESTAMPDIFF(SECOND, trx_started, SYSDATE()) FROM information_schema.innodb_trx WHERE trx_mysql_thread_id <> CONNECTION_ID() ORDER BY trx_started LIMIT 1",
    signal,
  );
  return {
    oldest: trx === undefined ? null : { thread: trx[0] ?? NO_THREAD, seconds: Math.max(0, Number(trx[1] ?? 0)) },
    prepared: await readPrepared((sql) => rows(server, sql, signal)),
  };
}

/** What an operator should know of them; `oldSeconds`: from which age on. */
export function openHints({ oldest, prepared }: OpenTransactions, oldSeconds: number): string[] {
  const hints: string[] = [];
  if (oldest !== null && oldest.seconds > oldSeconds && oldest.thread !== NO_THREAD)
    hints.push(
      `session ${oldest.thread} has had a transaction open for ${Math.floor(oldest.seconds / 60)} min: end it there, or by KILL ${oldest.thread}`,
    );
  const { oldestSeconds, xids } = prepared;
  for (const xid of xids.slice(0, PREPARED_NAMED_MAX))
    hints.push(`${namedPrepared(xid, prepared)} waits for its outcome and holds its locks: ${endPrepared(xid)}`);
  if (xids.length > PREPARED_NAMED_MAX)
    hints.push(`${xids.length - PREPARED_NAMED_MAX} further prepared transactions wait: XA RECOVER lists them`);
  if (xids.length === 0 && oldestSeconds !== null && oldestSeconds > oldSeconds)
    hints.push(
      `a prepared transaction whose session is gone has held its locks for ${Math.floor(oldestSeconds / 60)} min: XA RECOVER lists it to an administrator, and with XA_RECOVER_ADMIN Millrace names it`,
    );
  return hints;
}

async function rows(
  server: Server,
  sql: string,
  signal: AbortSignal,
): Promise<readonly (readonly (string | null)[])[]> {
  try {
    return await server.rows("looking for open transactions", sql, signal);
  } catch (error) {
    if (REFUSED.has(errorNumber(findMillraceError(error)?.cause ?? error) ?? 0)) return [];
    throw error;
  }
}
