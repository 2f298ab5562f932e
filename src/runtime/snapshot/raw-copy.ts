/** Copies large tables of an initial snapshot undecoded, where source and sink have a form in common. */
import type { Clock } from "../../core/clock.ts";
import { failpoint } from "../../core/failpoint.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import type { RawPart, RawWork, RawWriter, TargetRawRows } from "../../core/contracts/raw/raw-copy.ts";
import type { Logger } from "../../core/contracts/telemetry.ts";
import type { SinkWorker } from "../apply/sink-worker.ts";
import { type CopyRun, Receipts } from "../apply/work.ts";
import { retryStep } from "../retry.ts";
import { type CopyProgress, endsOf, type FirstCopyParts } from "./copy-parts.ts";

/** `left`: the sink did not get to it, or failed. `decode`: the rows must be copied as blocks. */
export type RawEnd = "copied" | "left" | "decode";

/**
 * Copies the table if it is large and exactly one sink takes it, in the source's form. Invariant: the sink marks it
 * complete after all parts are durable. If a part fails, the blocks that follow meet its rows under the same version.
 */
export async function copyRaw(
  parts: FirstCopyParts,
  table: TableVersion,
  workers: readonly SinkWorker[],
  progress: CopyProgress,
  signal: AbortSignal,
): Promise<RawEnd> {
  const { copy, clock, logger, version } = parts;
  const [worker] = workers;
  if (copy.raw === undefined || worker === undefined || workers.length > 1) return "decode";
  if (worker.sink.raw?.form !== copy.raw.form) return "decode";
  const { sessionCountMax } = copy.raw;
  const found = await copy.raw.parts(table, signal);
  if (found === null) return "decode";
  const receipts = new Receipts(1);
  let isDecoded = false;
  const run: CopyRun = async (target, onRows, stepSignal) => {
    if (target.columns(table) === null) {
      logger.debug({ table: table.id }, "the table's types need decoding");
      isDecoded = true;
      return "unsuitable";
    }
    const until = AbortSignal.any([signal, stepSignal]);
    let rowCount = 0;
    const onPart = (count: number): void => {
      rowCount += count;
      progress.rowsRead += count;
      onRows(count);
    };
    const lanes = { clock, target, waiting: [...found], onPart, logger };
    const work = { table, version, commitTimeUs: BigInt(clock.now()) * 1000n };
    try {
      await allLanes(lanes, work, Math.min(sessionCountMax, found.length), until);
      logger.info({ table: table.id, rows: rowCount, parts: found.length }, "table copied undecoded");
      return "copied";
    } catch (error) {
      until.throwIfAborted();
      isDecoded = true;
      logger.warn({ table: table.id, error }, "the table could not be copied undecoded; its rows are decoded");
      return "failed";
    }
  };
  parts.push(worker, { kind: "copy", table, run, ends: endsOf(parts, table), receipt: receipts.one() });
  if (!(await receipts.all)) return isDecoded ? "decode" : "left";
  failpoint("copy.table-complete");
  return "copied";
}

interface Lanes {
  readonly clock: Clock;
  readonly target: TargetRawRows;
  /** Parts that no lane has taken. */
  readonly waiting: RawPart[];
  readonly onPart: (rowCount: number) => void;
  readonly logger: Logger;
}

type TableWork = Omit<RawWork, "part">;

/** Rejects with the first failure, when every lane has ended. */
async function allLanes(lanes: Lanes, work: TableWork, count: number, signal: AbortSignal): Promise<void> {
  const stop = new AbortController();
  const until = AbortSignal.any([signal, stop.signal]);
  const failures: unknown[] = [];
  const one = async (): Promise<void> => {
    try {
      await oneLane(lanes, work, until);
    } catch (error) {
      failures.push(error);
      stop.abort();
    }
  };
  await Promise.all(Array.from({ length: count }, one));
  if (failures.length > 0) throw failures[0];
}

/** One session of the sink, which is opened again after a failure. */
async function oneLane(lanes: Lanes, work: TableWork, signal: AbortSignal): Promise<void> {
  const { clock, target, waiting, onPart, logger } = lanes;
  const open: { writer: RawWriter | null } = { writer: null };
  const onRetry = (error: unknown): void => {
    logger.warn({ table: work.table.id, error }, "a part of the copy failed and is retried");
  };
  try {
    for (let part = waiting.shift(); part !== undefined; part = waiting.shift()) {
      const own = { ...work, part };
      let rowCount = 0;
      // Until its commit a part has left nothing, so it can be tried again.
      const write = async (): Promise<void> => {
        open.writer ??= await target.writer(signal);
        try {
          rowCount = await open.writer.write(own, signal);
        } catch (error) {
          open.writer.close();
          open.writer = null;
          throw error;
        }
      };
      await retryStep(clock, write, onRetry, signal);
      await open.writer?.commit(signal);
      onPart(rowCount);
    }
  } finally {
    open.writer?.close();
  }
}
