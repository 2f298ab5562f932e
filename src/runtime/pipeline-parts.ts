import type { Clock } from "../core/clock.ts";
import type { SchemaPolicy } from "../core/model/schema-policy.ts";
import type { OnLost } from "../core/contracts/sink.ts";
import type { Source, TableShape } from "../core/contracts/source.ts";
import type { StateStore } from "../core/contracts/state-store.ts";
import type { Logger, Metrics } from "../core/contracts/telemetry.ts";
import type { BatchLimits } from "./apply/sink-queue.ts";
import type { TableTaker } from "./schema/sink-tables.ts";

export interface SinkSetup extends TableTaker {
  readonly limits: BatchLimits;
  readonly onPoison: "pause" | "deadLetter";
  /** Default: the sink's own. A history can't be read again. */
  readonly onLost?: OnLost;
}

export interface PipelineParts {
  readonly clock: Clock;
  readonly name: string;
  readonly producer: string;
  readonly source: Source;
  readonly state: StateStore;
  readonly lease: number;
  readonly sinks: readonly SinkSetup[];
  readonly snapshot: "initial" | "none";
  readonly heartbeatMs: number;
  /** What becomes of changes of a table's shape. By default all are followed. */
  readonly policyOf?: (table: TableShape) => SchemaPolicy;
  /** How often a second stream is asked for, for a sink that lies behind, before the first one goes back for it. */
  readonly secondStreamTriesMax?: number;
  /** How long a source or a sink that answers may fail in its work, in a row and in vain, before somebody has to look. */
  readonly inVainMsMax?: number;
  readonly logger: Logger;
  readonly metrics: Metrics;
}
