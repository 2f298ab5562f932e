import type { ChosenKey, TableName } from "../../../src/core/contracts/connector.ts";
import type { Clock } from "../../../src/core/clock.ts";
import type { ClusterSettings } from "../client/cluster.ts";
import type { TopicNaming } from "../names.ts";

/** What all parts of the source share. */
export interface SourceContext {
  readonly clock: Clock;
  /** This daemon's name. */
  readonly daemon: string;
  readonly cluster: () => ClusterSettings;
  /** Of the capturing daemon's topics. */
  readonly naming: Pick<TopicNaming, "prefix" | "daemon">;
  readonly captures: (table: TableName) => boolean;
  readonly chosenKey: (table: TableName) => ChosenKey | null;
}
