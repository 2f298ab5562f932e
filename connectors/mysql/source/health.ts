/** What an operator should see of the log. */
import type { LogHealth } from "../../../src/core/contracts/log-admin.ts";
import type { SourceContext } from "./context.ts";
import { bytesBetween, readFiles, readTip } from "./log/log-state.ts";
import { unpackPlace } from "./log/position.ts";
import { expirySeconds, readServer, unfitSettings } from "./server.ts";
import { fileCreatedAt } from "./start.ts";
import { openHints, readOpen } from "./transactions/open.ts";

const OLD_TRANSACTION_SECONDS = 300;
/** Warns when no more than this share of the time is left after which files are deleted. */
const EXPIRY_NEAR = 0.5;

export async function readHealth(context: SourceContext, signal: AbortSignal): Promise<LogHealth> {
  const tip = await readTip(context, signal);
  const from = context.acknowledged;
  const open = await readOpen(context, signal);
  const counts = { zeroDates: context.metZeroDates.count, oldestTransactionSeconds: open.oldest?.seconds ?? null };
  const hints = openHints(open, OLD_TRANSACTION_SECONDS);
  if (from === 0n) return { tip, retainedBytes: 0, safeBytes: null, warnings: [], hints, counts };
  const files = await readFiles(context, signal);
  const { file } = unpackPlace(from);
  const oldest = files.at(0)?.file ?? 0;
  const health = { tip, retainedBytes: bytesBetween(files, from, tip), safeBytes: null, hints, counts };
  const facts = await readServer(context, signal);
  // They may have been changed since the stream was opened; sessions that begin now follow them.
  const warnings = unfitSettings(facts).map(({ what, fix }) => `MR2114 ${what}: changes may be missing. ${fix}`);
  if (file < oldest) {
    const warning = `the server has purged its log behind us: it begins with ${context.names.file(oldest)}`;
    return { ...health, safeSeconds: 0, warnings: [...warnings, warning] };
  }
  const expiry = expirySeconds(facts);
  // The file that is being written is never deleted.
  if (expiry === 0 || file === unpackPlace(tip).file) return { ...health, warnings };
  const safeSeconds = Math.max(0, expiry - (await secondsSinceClosed(context, file, signal)));
  const isNear = safeSeconds < expiry * EXPIRY_NEAR;
  const warning = `${context.names.file(file)}, which a sink still needs, may be deleted in ${Math.floor(safeSeconds / 60)} min: the server keeps files for ${Math.floor(expiry / 60)} min (binlog_expire_logs_seconds)`;
  return { ...health, safeSeconds, warnings: isNear ? [...warnings, warning] : warnings };
}

/** By the server's clock. It counts from the file's last write, which is when the next file was begun. */
async function secondsSinceClosed(context: SourceContext, file: number, signal: AbortSignal): Promise<number> {
  if (context.closed?.file !== file) context.closed = { file, at: await fileCreatedAt(context, file + 1, signal) };
  const [row] = await context.database.rows("asking for the time", "SELECT UNIX_TIMESTAMP()", signal);
  return Math.max(0, Number(row?.[0] ?? 0) - context.closed.at);
}
