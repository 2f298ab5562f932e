import type { Catalog, RefusedTable, TableShape } from "./catalog.ts";
import type { ChangeLog } from "./change-log.ts";
import type { LogAdmin } from "./log-admin.ts";
import type { Positions } from "./positions.ts";
import type { RowReads } from "./row-reads.ts";
import type { Position } from "../model/position.ts";
import type { TableVersion } from "../model/schema.ts";
import type { Watermarks } from "./watermarks.ts";

/**
 * A database whose log is followed, with one capability for each purpose: callers take only the ones that they need.
 * Each is a plain object whose functions need no `this`: a wrapper of a source replaces the members that it changes,
 * and spreads the others.
 */
export interface Source {
  /** As in the configuration and in envelopes. */
  readonly kind: string;
  readonly database: string;
  /** Of a source of documents: the source of their rows, which envelopes name. */
  readonly madeFrom?: Pick<Source, "kind" | "database">;
  readonly positions: Positions;
  readonly log: ChangeLog;
  readonly admin: LogAdmin;
  readonly catalog: Catalog;
  readonly rows: RowReads;
  readonly watermarks: Watermarks;
  /** Ends every connection. The callers who opened streams and copies close them. */
  readonly close: () => Promise<void>;
}

/** Tables and rows alone, for who does not follow the log. */
export interface ReadSource {
  readonly catalog: Pick<Catalog, "tables">;
  /** Rows as they are, with no promise of where in the log they belong. */
  readonly rows: RowReads;
  readonly close: () => Promise<void>;
}

/**
 * The shapes that replace versions that an earlier process registered, where the configuration asks for others now. Called
 * when the log was found; `from`: where the stream begins.
 */
export type Revise = (
  tables: readonly TableVersion[],
  from: Position,
  signal: AbortSignal,
) => Promise<readonly TableShape[]>;

/**
 * Called when the log was found, and before sinks move over a part of it, or the state knows that they are behind one that it did
 * not know of: what the log says of names has to be known there.
 */
export type OnSkipped = (skipped: SkippedLog, signal: AbortSignal) => Promise<void>;

export interface SkippedLog {
  /** Up to here it was read; null: it is another log. */
  readonly from: Position | null;
  readonly to: Position;
  /** The log is there: a sink reads on where it was. Or it may be there. */
  readonly isThere: boolean;
}

/**
 * For a sink of form `log`: answers what the processes ask that follow its log. Their source is this one at one remove: the
 * log brings the changes, and marks, rows and the catalogue are asked for here.
 */
export interface SourceRelay {
  /** Serves until aborted. Rejects if it can't go on; the caller begins again. */
  serve(relayed: RelayedSource, signal: AbortSignal): Promise<void>;
}

export interface RelayedSource {
  /** Of the positions that its log has now. */
  readonly epoch: () => number;
  readonly source: Pick<Source, "log" | "admin" | "catalog" | "rows" | "watermarks">;
  /** Makes the source publish what it captures, and resolves when the tables that exist at the call are known. */
  readonly look: (signal: AbortSignal) => Promise<void>;
  /** The table as it flows now; undefined: it does not. */
  readonly table: (tableId: string) => TableVersion | undefined;
  /** The same with the fix for the key that the table had here. */
  readonly withFix: (refused: RefusedTable) => Promise<RefusedTable>;
  /** Whether changes of the table are left out of the log. */
  readonly isSuspended: (tableId: string) => boolean;
}
