import type { Completeness } from "../../core/checkpoint/completeness.ts";
import type { Clock } from "../../core/clock.ts";
import { findMillraceError } from "../../core/errors.ts";
import { failpoint } from "../../core/failpoint.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import type { News } from "../../core/news.ts";
import type { FirstCopy } from "../../core/contracts/log-admin.ts";
import type { Logger } from "../../core/contracts/telemetry.ts";
import { kindOf } from "../retry.ts";
import type { SinkWorker } from "../sink/sink-worker.ts";
import { Receipts, type TableEnd, type Work } from "../stream/work.ts";
import { bytesFor, OWN_BATCHES } from "../stream/fan-out.ts";
import { copyRaw } from "./raw-copy.ts";

interface FirstCopyParts {
  readonly clock: Clock;
  /** Notified when a sink's queue has room. */
  readonly news: News;
  readonly copy: FirstCopy;
  /** The copy's tables under their versions. */
  readonly tables: readonly TableVersion[];
  readonly workers: readonly SinkWorker[];
  /** Gives work to a sink, or drops it if the sink is no longer attached. */
  readonly push: (worker: SinkWorker, work: Work) => void;
  /** The sink gets no more of the snapshot; what waits for it is dropped. */
  readonly leave: (worker: SinkWorker) => void;
  readonly wants: (worker: SinkWorker, table: TableVersion) => boolean;
  readonly completeness: (table: TableVersion) => Completeness;
  /** Whether the sink, or a reader of it, may have rows of an earlier life. */
  readonly sweeps: (worker: SinkWorker) => boolean;
  /** The version of the copied rows: those of an earlier life have lower ones. */
  readonly version: bigint;
  readonly logger: Logger;
}

/** Progress of the initial snapshot, for `status`. */
export interface CopyProgress {
  readonly tableIds: readonly string[];
  tablesDone: number;
  rowsRead: number;
}

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
    const ends = (worker: SinkWorker) => endsOf(parts, worker, table);
    const raw = await copyRaw({ ...parts, table, workers, progress, ends }, signal);
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

/** What follows the last row of a table in a sink. */
function endsOf(
  { sweeps, version, completeness }: FirstCopyParts,
  worker: SinkWorker,
  table: TableVersion,
): readonly TableEnd[] {
  const complete: TableEnd = { kind: "complete", table, completeness: completeness(table) };
  return sweeps(worker) ? [{ kind: "sweep", table, below: version }, complete] : [complete];
}

/** Others have waited for the sink this long, and for half of the time: it takes twice as long as they do. */
const WAITED_MS_MIN = 3_000;
/** The same at the end, where the others could stream: what is left to write is less than what would be read again. */
const ENDING_MS_MAX = 10_000;
/** Half of what was measured counts as past after this time: a sink may become slow late. */
const MEASURED_MS = 20_000;

/** `reading`: a read waits until each sink has room. `ending`: all is read, and each sink has to write what waits for it. */
type CopyStage = "reading" | "ending";

/**
 * Who goes along in an initial snapshot. All sinks get each block at about the same time, so the slowest one sets the pace;
 * one that the others wait for leaves, and is filled beside the stream.
 */
class CopyPace {
  readonly #clock: Clock;
  readonly #onLeft: (worker: SinkWorker) => void;
  readonly #left = new Set<SinkWorker>();
  /** By sink: how long others have waited for it. */
  readonly #waitedMs = new Map<SinkWorker, number>();
  /** Those for which others waited at the last look. */
  #waitedFor: readonly SinkWorker[] = [];
  #measuredMs = 0;
  #lookedMs: number;
  #endingMs: number | null = null;

  constructor(clock: Clock, onLeft: (worker: SinkWorker) => void) {
    this.#clock = clock;
    this.#onLeft = onLeft;
    this.#lookedMs = clock.elapsed();
  }

  /** Whether the sink has left. */
  hasLeft(worker: SinkWorker): boolean {
    return this.#left.has(worker);
  }

  /** Called while these sinks, which take the same table, wait for one of them. */
  look(stage: CopyStage, workers: readonly SinkWorker[]): void {
    const nowMs = this.#clock.elapsed();
    const passedMs = nowMs - this.#lookedMs;
    this.#lookedMs = nowMs;
    this.#measuredMs += passedMs;
    if (stage === "ending") this.#endingMs ??= nowMs;
    for (const worker of this.#waitedFor) {
      const waitedMs = (this.#waitedMs.get(worker) ?? 0) + passedMs;
      this.#waitedMs.set(worker, waitedMs);
      const isSlow =
        this.#endingMs === null
          ? waitedMs >= WAITED_MS_MIN && waitedMs > this.#measuredMs / 2
          : nowMs - this.#endingMs >= ENDING_MS_MAX;
      if (!isSlow || !this.#isWaitedFor(worker, stage, workers)) continue;
      this.#left.add(worker);
      this.#onLeft(worker);
    }
    this.#waitedFor = workers.filter((worker) => this.#isWaitedFor(worker, stage, workers));
    if (this.#measuredMs < MEASURED_MS) return;
    this.#measuredMs /= 2;
    for (const [worker, waitedMs] of this.#waitedMs) this.#waitedMs.set(worker, waitedMs / 2);
  }

  #isWaitedFor(worker: SinkWorker, stage: CopyStage, workers: readonly SinkWorker[]): boolean {
    if (this.#left.has(worker) || (stage === "reading" ? hasRoom(worker) : worker.idle)) return false;
    const heldBytes = worker.queue.heldBytes;
    return workers.some(
      (other) => other !== worker && !this.#left.has(other) && (other.idle || other.queue.heldBytes < heldBytes / 4),
    );
  }
}

function hasRoom({ queue, limits }: SinkWorker): boolean {
  return queue.heldBytes <= bytesFor(OWN_BATCHES, [limits]);
}
