import type { Catalog } from "./catalog.ts";
import type { ChangeLog } from "./change-log.ts";
import type { LogAdmin } from "./log-admin.ts";
import type { Positions } from "./positions.ts";
import type { RowReads } from "./row-reads.ts";
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
  readonly positions: Positions;
  readonly log: ChangeLog;
  readonly admin: LogAdmin;
  readonly catalog: Catalog;
  readonly rows: RowReads;
  readonly watermarks: Watermarks;
  /** Ends every connection. The callers who opened streams and copies close them. */
  readonly close: () => Promise<void>;
}
