import type { Catalog } from "./catalog.ts";
import type { ChangeLog } from "./change-log.ts";
import type { LogAdmin } from "./log-admin.ts";
import type { Positions } from "./positions.ts";
import type { RowReads } from "./row-reads.ts";
import type { Watermarks } from "./watermarks.ts";

/**
 * A database whose log is followed, as one capability for each thing that a caller may need of it: take the one that you
 * need. Each is a plain object, and none of its functions needs a `this`: what stands before a source replaces the members
 * that it changes, and spreads the others.
 */
export interface Source {
  /** As in the configuration, and in envelopes. */
  readonly kind: string;
  readonly database: string;
  readonly positions: Positions;
  readonly log: ChangeLog;
  readonly admin: LogAdmin;
  readonly catalog: Catalog;
  readonly rows: RowReads;
  readonly watermarks: Watermarks;
  /** Ends every connection. Streams and copies are closed by who opened them. */
  readonly close: () => Promise<void>;
}
