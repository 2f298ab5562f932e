import type { TableVersion } from "../model/schema.ts";
import type { Source } from "./source.ts";

/**
 * For a sink of form `log`: answers what the processes ask that follow its log. Their source is this one at one remove: the
 * log brings the changes, and marks, rows and the catalogue are asked for here.
 */
export interface SourceRelay {
  /** Serves until aborted. Rejects if it can't go on; the caller begins again. */
  serve(relayed: RelayedSource, signal: AbortSignal): Promise<void>;
}

export interface RelayedSource {
  readonly source: Pick<Source, "log" | "admin" | "catalog" | "rows" | "watermarks">;
  /** The table as it flows now; undefined: it does not. */
  readonly table: (tableId: string) => TableVersion | undefined;
  /** See `TableGenerations`; undefined: the table can't be read yet. */
  readonly generation: (tableId: string) => string | undefined;
}
