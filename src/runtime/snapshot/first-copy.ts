import { findMillraceError } from "../../core/errors.ts";
import { failpoint } from "../../core/failpoint.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import { kindOf } from "../retry.ts";
import type { SinkWorker } from "../sink/sink-worker.ts";
import { Receipts } from "../stream/work.ts";
import { type CopyProgress, endsOf, type FirstCopyParts } from "./copy-parts.ts";
import { CopyPace, hasRoom } from "./copy-pace.ts";
import { copyRaw } from "./raw-copy.ts";

/** Tables read at the same time. */
const PARALLEL_TABLES = 2;
/** A notification tells when a queue has room; this is how often it is checked anyway. */
const FULL_LOOK_MS = 1_000;

/**
 * Fills the sinks with all rows as of the position where the stream will begin. A table whose copy failed, or a sink that
 * failed meanwhile, is left to the snapshotter: it reads what a sink does not hold completely.
 */
export async function firstCopy(parts: FirstCopyParts, progress: CopyProgress, signal: AbortSignal): Promise<void> {
  const { clock, news, leave, logger } = parts;
  const waiting = [...parts.tables];
  const ends: Promise<void>[] = [];
  const pace = new CopyPace(clock, (worker) => {
    logger.warn(
      { sink: worker.name },
      "the sink takes much longer than the others: it leaves the initial snapshot, and is filled beside the stream",
    );
    leave(worker);
  });
  const one = async () => {
    for (let table = waiting.shift(); table !== undefined; table = waiting.shift()) {
      const complete = await copyTable(parts, table, { progress, pace }, signal);
      // The next table is read meanwhile: this way small tables reach the sinks together.
      ends.push(Promise.all(complete).then(() => void progress.tablesDone++));
    }
  };
  await Promise.all(Array.from({ length: PARALLEL_TABLES }, one));
  const waitedFor = new Set(ends);
  for (const end of ends) {
    void end.then(() => {
      waitedFor.delete(end);
      news.tell();
    });
  }
  while (waitedFor.size > 0) {
    const told = news.count;
    pace.look("ending", parts.workers);
    await news.after(told, clock, FULL_LOOK_MS, signal);
  }
}

/** Resolves when the table was read, with a promise that ends when the sinks have it. */
async function copyTable(
  parts: FirstCopyParts,
  table: TableVersion,
  { progress, pace }: Pick<Takers, "progress" | "pace">,
  signal: AbortSignal,
): Promise<readonly Promise<void>[]> {
  const workers = parts.workers.filter((worker) => parts.wants(worker, table) && !pace.hasLeft(worker));
  if (workers.length === 0) return [];
  // The copy itself would not notice two rows with the same key.
  if (table.unenforcedKey === true) return [];
  const failed = new Set<SinkWorker>();
  try {
    const raw = await copyRaw(parts, table, workers, progress, signal);
    if (raw !== "decode") return [];
    await readTable(parts, table, { workers, failed, progress, pace }, signal);
  } catch (error) {
    signal.throwIfAborted();
    // If more than this table is affected, the stream fails too. Otherwise it is a defect.
    if (kindOf(error) !== "retryable" && findMillraceError(error) === undefined) throw error;
    parts.logger.warn({ table: table.id, error }, "the copy of the table failed; the table is read beside the stream");
    return [];
  }
  return workers.filter((worker) => !failed.has(worker)).map((worker) => complete(parts, worker, table));
}

interface Takers {
  readonly workers: readonly SinkWorker[];
  readonly failed: Set<SinkWorker>;
  readonly progress: CopyProgress;
  readonly pace: CopyPace;
}

/** Gives every row to every sink that has neither failed nor left meanwhile. */
async function readTable(
  { clock, news, copy, push, logger }: FirstCopyParts,
  table: TableVersion,
  { workers, failed, progress, pace }: Takers,
  signal: AbortSignal,
): Promise<void> {
  let rowCount = 0;
  for await (const block of copy.read(table, signal)) {
    rowCount += block.count;
    progress.rowsRead += block.count;
    for (const worker of workers) {
      if (pace.hasLeft(worker)) failed.add(worker);
      if (failed.has(worker)) continue;
      const receipt = { durable: () => undefined, dropped: () => void failed.add(worker) };
      push(worker, { kind: "rows", block: block.retain(), from: 0, to: block.count, receipt });
    }
    block.release();
    failpoint("copy.block-queued");
    if (failed.size === workers.length) return;
    for (;;) {
      const told = news.count;
      if (workers.every((worker) => failed.has(worker) || pace.hasLeft(worker) || hasRoom(worker))) break;
      pace.look("reading", workers);
      await news.after(told, clock, FULL_LOOK_MS, signal);
    }
  }
  logger.info({ table: table.id, rows: rowCount }, "table read");
}

/**
 * Invariant: works are done in order, and a failure drops all works behind it. So this work is durable only if all of the
 * table's rows are.
 */
async function complete(parts: FirstCopyParts, worker: SinkWorker, table: TableVersion): Promise<void> {
  const ends = endsOf(parts, worker, table);
  const receipts = new Receipts(ends.length);
  for (const end of ends) parts.push(worker, { ...end, receipt: receipts.one() });
  await receipts.all;
  failpoint("copy.table-complete");
}
