import type { ChosenKey, TableName } from "../../../src/core/contracts/connector.ts";
import type { Share } from "../../../src/core/sharing/share.ts";
import type { Clock } from "../../../src/core/clock.ts";
import type { ClusterAccess } from "../client/cluster.ts";
import type { TopicNaming } from "../names.ts";

/** What all parts of the source share. */
export interface SourceContext {
  readonly clock: Clock;
  readonly daemon: string;
  /** The `name` in the file, which the daemons of all shares have in common. */
  readonly owner: string;
  readonly cluster: ClusterAccess;
  /** Of the capturing daemon's topics. */
  readonly naming: Pick<TopicNaming, "prefix" | "daemon">;
  readonly captures: (table: TableName) => boolean;
  readonly isLiteral: (table: TableName) => boolean;
  /** The same as `captures` for all shares together. */
  readonly isShared: (table: TableName) => boolean;
  /** The patterns of the selection that fit none of these tables. */
  readonly idle: (tables: readonly TableName[]) => readonly string[];
  /** The part of the tables that this daemon has; null: all of them. */
  readonly share: Share | null;
  /** Whether the tables have shares. */
  readonly isDivided: boolean;
  readonly chosenKey: (table: TableName) => ChosenKey | null;
}
