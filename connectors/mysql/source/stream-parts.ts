import type { StreamOptions } from "../../../src/core/contracts/change-log.ts";
import type { Position } from "../../../src/core/model/position.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import type { SourceContext } from "./context.ts";
import type { TableMap } from "./rows/table-map.ts";
import type { Uncertain } from "./statements/programs.ts";
import type { StatementTarget } from "./statements/statements.ts";

/** What a stream is opened with. */
export interface StreamParts {
  readonly context: SourceContext;
  readonly from: Position;
  readonly options: StreamOptions;
  readonly serverId: number;
  /** Null: not captured. */
  readonly resolve: (map: TableMap, position: Position) => Promise<TableVersion | null>;
  /** The version in force of a table that a statement names; null: not captured. */
  readonly named: (target: StatementTarget, position: Position) => Promise<TableVersion | null>;
  /** The followed tables that it may have changed. */
  readonly changed: (by: Uncertain) => Promise<readonly StatementTarget[]>;
  /** For looking back: only what is prepared before this position counts. */
  readonly preparedBefore?: bigint;
}
