/** The files of the server's log, and where it ends. */
import type { LogFileSize, SourceContext } from "../context.ts";
import { errorNumber, sourceError } from "../errors.ts";
import { FILE_START, packPlace, unpackPlace } from "./position.ts";

const SYNTAX_ERROR = 1064;

export interface LogStatus {
  readonly tip: bigint;
  /** The lists of binlog-do-db and binlog-ignore-db, with commas. */
  readonly only: string;
  readonly ignored: string;
}

export async function readLogStatus({ database, names }: SourceContext, signal: AbortSignal): Promise<LogStatus> {
  const doing = "asking where the log ends";
  const [row] = await either(database, doing, "SHOW BINARY LOG STATUS", "SHOW MASTER STATUS", signal);
  const [file, offset, only, ignored] = row ?? [];
  if (file == null) throw sourceError("MR2114", "fatal", "the server writes no binary log (log_bin is OFF)");
  return { tip: packPlace(names.learn(file), Number(offset ?? FILE_START)), only: only ?? "", ignored: ignored ?? "" };
}

/** Everything that was committed before the call is before it. */
export async function readTip(context: SourceContext, signal: AbortSignal): Promise<bigint> {
  return (await readLogStatus(context, signal)).tip;
}

/** Oldest first. */
export async function readFiles(context: SourceContext, signal: AbortSignal): Promise<readonly LogFileSize[]> {
  const rows = await context.database.rows("asking for the log's files", "SHOW BINARY LOGS", signal);
  context.files = rows.map(([name, size]) => ({ file: context.names.learn(name ?? ""), size: Number(size ?? 0) }));
  return context.files;
}

/** Bytes between two positions; files in between count with their sizes. */
export function bytesBetween(files: readonly LogFileSize[], from: bigint, to: bigint): number {
  const [first, last] = [unpackPlace(from), unpackPlace(to)];
  if (first.file === last.file) return Math.max(0, last.offset - first.offset);
  let sum = 0;
  for (const { file, size } of files) {
    const start = packPlace(file, FILE_START);
    const end = packPlace(file, Math.max(size, FILE_START));
    const low = from > start ? from : start;
    const high = to < end ? to : end;
    if (high > low) sum += Number(high - low);
  }
  return sum;
}

/** MySQL has renamed the statement; MariaDB has not. */
export async function either(
  database: SourceContext["database"],
  doing: string,
  sql: string,
  old: string,
  signal: AbortSignal,
): Promise<(string | null)[][]> {
  try {
    return await database.rows(doing, sql, signal);
  } catch (error) {
    const cause = error instanceof Error ? error.cause : undefined;
    if (errorNumber(cause) !== SYNTAX_ERROR) throw error;
    return await database.rows(doing, old, signal);
  }
}
