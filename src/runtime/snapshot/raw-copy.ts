/** Copies large tables of an initial snapshot undecoded, where source and sink have a form in common. */
import type { Clock } from "../../core/clock.ts";
import { failpoint } from "../../core/failpoint.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import type {
  RawColumn,
  RawReader,
  RawTable,
  RawWork,
  RawWriter,
  TargetRawRows,
} from "../../core/contracts/raw-copy.ts";
import type { Logger } from "../../core/contracts/telemetry.ts";
import type { SinkWorker } from "../sink/sink-worker.ts";
import { type CopyRun, Receipts, type TableEnd, type Work } from "../stream/sink-queue.ts";
import { retryInPlace } from "../retry.ts";
import type { FirstCopy } from "../../core/contracts/log-admin.ts";

/** `left`: the sink did not get to it, or failed. `decode`: the rows must be copied as blocks. */
export type RawEnd = "copied" | "left" | "decode";

interface RawCopyParts {
  readonly clock: Clock;
  readonly copy: FirstCopy;
  readonly table: TableVersion;
  readonly worker: SinkWorker;
  readonly progress: { rowsRead: number; rowsDurable: number };
  readonly version: bigint;
  readonly push: (work: Work) => void;
  /** What follows the last row. */
  readonly ends: readonly TableEnd[];
  readonly logger: Logger;
}

/**
 * Copies the table if it is large and the sink takes it in the source's form. Invariant: the sink marks it
 * complete after all parts are durable. If a part fails, the blocks that follow meet its rows under the same version.
 */
export async function copyRaw(parts: RawCopyParts, signal: AbortSignal): Promise<RawEnd> {
  const { copy, clock, table, worker, progress, ends, logger, version } = parts;
  if (copy.raw === undefined || worker.sink.raw?.form !== copy.raw.form) return "decode";
  const { sessionCountMax } = copy.raw;
  const rows = await copy.raw.table(table, signal);
  if (rows === null) return "decode";
  const receipts = new Receipts(1);
  let isDecoded = false;
  const run: CopyRun = async (target, onRows, stepSignal) => {
    const columns = target.columns(table);
    if (columns === null) {
      logger.debug({ table: table.id }, "the table's types need decoding");
      isDecoded = true;
      return "unsuitable";
    }
    const until = AbortSignal.any([signal, stepSignal]);
    let rowCount = 0;
    const onPart = (count: number): void => {
      rowCount += count;
      progress.rowsRead += count;
      progress.rowsDurable += count;
      onRows(count);
    };
    const waiting = Array.from({ length: rows.partCount }, (_, i) => i);
    const open = async (): Promise<Sessions> => await openBoth(target, rows, columns, until);
    const stamp = { table, version, commitTimeUs: BigInt(clock.now()) * 1000n };
    try {
      const parts = { clock, open, stamp, waiting, onPart, logger };
      if (!(await target.begin(table, until))) {
        isDecoded = true;
        return "unsuitable";
      }
      await copyAllParts(parts, Math.min(sessionCountMax, rows.partCount), until);
      const onRetry = (error: unknown): void => {
        logger.warn({ table: table.id, error }, "the end of the copy failed and is retried");
      };
      await retryInPlace(clock, () => target.finish(table, until), onRetry, until);
      logger.info({ table: table.id, rows: rowCount, parts: rows.partCount }, "table copied undecoded");
      return "copied";
    } catch (error) {
      until.throwIfAborted();
      isDecoded = true;
      logger.warn({ table: table.id, error }, "the table could not be copied undecoded; its rows are decoded");
      return "failed";
    }
  };
  parts.push({ kind: "copy", table, run, ends, receipt: receipts.one() });
  if (!(await receipts.all)) return isDecoded ? "decode" : "left";
  failpoint("copy.table-complete");
  return "copied";
}

/** A session at the source and one at the sink. */
interface Sessions {
  readonly reader: RawReader;
  readonly writer: RawWriter;
}

async function openBoth(
  target: TargetRawRows,
  rows: RawTable,
  columns: readonly RawColumn[],
  signal: AbortSignal,
): Promise<Sessions> {
  const reader = await rows.reader(columns, signal);
  try {
    return { reader, writer: await target.writer(signal) };
  } catch (error) {
    reader.close();
    throw error;
  }
}

function close({ reader, writer }: Sessions): void {
  reader.close();
  writer.close();
}

interface PartsToCopy {
  readonly clock: Clock;
  readonly open: () => Promise<Sessions>;
  readonly stamp: Omit<RawWork, "read">;
  /** Parts that no session has taken. */
  readonly waiting: number[];
  readonly onPart: (rowCount: number) => void;
  readonly logger: Logger;
}

/** Rejects with the first failure, when every session has ended. */
async function copyAllParts(parts: PartsToCopy, count: number, signal: AbortSignal): Promise<void> {
  const stop = new AbortController();
  const until = AbortSignal.any([signal, stop.signal]);
  const failures: unknown[] = [];
  const one = async (): Promise<void> => {
    try {
      await copyPartsInTurn(parts, until);
    } catch (error) {
      failures.push(error);
      stop.abort();
    }
  };
  await Promise.all(Array.from({ length: count }, one));
  if (failures.length > 0) throw failures[0];
}

/** Sessions that take one part after the other; after a failure they are opened again. */
async function copyPartsInTurn(parts: PartsToCopy, signal: AbortSignal): Promise<void> {
  const { clock, open, stamp, waiting, onPart, logger } = parts;
  const held: { sessions: Sessions | null } = { sessions: null };
  const onRetry = (error: unknown): void => {
    logger.warn({ table: stamp.table.id, error }, "a part of the copy failed and is retried");
  };
  try {
    for (let part = waiting.shift(); part !== undefined; part = waiting.shift()) {
      const own = part;
      let rowCount = 0;
      // Until its commit a part has left nothing, so it can be tried again.
      const write = async (): Promise<void> => {
        const sessions = (held.sessions ??= await open());
        try {
          const read: RawWork["read"] = (taker, until) => sessions.reader.read(own, taker, until);
          rowCount = await sessions.writer.write({ ...stamp, read }, signal);
        } catch (error) {
          close(sessions);
          held.sessions = null;
          throw error;
        }
      };
      await retryInPlace(clock, write, onRetry, signal);
      await held.sessions?.writer.commit(signal);
      onPart(rowCount);
    }
  } finally {
    if (held.sessions !== null) close(held.sessions);
  }
}
