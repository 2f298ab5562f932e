/** What the copies of an initial snapshot have in common: as blocks (first-copy) and undecoded (raw-copy). */
import type { Completeness } from "../../core/checkpoint/completeness.ts";
import type { Clock } from "../../core/clock.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import type { News } from "../../core/news.ts";
import type { FirstCopy } from "../../core/contracts/log-admin.ts";
import type { Logger } from "../../core/contracts/telemetry.ts";
import type { SinkWorker } from "../sink/sink-worker.ts";
import type { TableEnd, Work } from "../stream/work.ts";

export interface FirstCopyParts {
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

/** What follows the last row of a table in a sink. */
export function endsOf(
  { sweeps, version, completeness }: FirstCopyParts,
  worker: SinkWorker,
  table: TableVersion,
): readonly TableEnd[] {
  const complete: TableEnd = { kind: "complete", table, completeness: completeness(table) };
  return sweeps(worker) ? [{ kind: "sweep", table, below: version }, complete] : [complete];
}
