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
  /** Makes the source publish what it captures, and resolves when the tables that exist at the call are known. */
  readonly look: (signal: AbortSignal) => Promise<void>;
  /** The table as it flows now; undefined: it does not. */
  readonly table: (tableId: string) => TableVersion | undefined;
  /** Whether changes of the table are left out of the log. */
  readonly isSuspended: (tableId: string) => boolean;
}
