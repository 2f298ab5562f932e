import type { ClusterAccess } from "./client/cluster.ts";
import type { Compression } from "./client/record-batch.ts";
import type { Format } from "./formats/format.ts";
import type { TopicNaming } from "./names.ts";
import type { RegistrySettings } from "./registry/client.ts";
import type { TopicRules } from "./topics.ts";

/** What a sink is told of its cluster, its topics and its records. */
export interface KafkaSinkSettings {
  readonly name: string;
  readonly cluster: ClusterAccess;
  readonly naming: TopicNaming;
  readonly rules: TopicRules;
  readonly compression: Compression;
  /** Whether a record without a value follows a delete. */
  readonly tombstones: boolean;
  /** Whether a topic of its own tells the ends of transactions. */
  readonly transactions: boolean;
  /** How records look, in the words of the configuration. Records of two forms do not go into one topic. */
  readonly form: string;
  /** Null: nothing is going to be written, or the log itself is. */
  readonly format: Format | null;
  /** Null: records do not need one. */
  readonly registry: RegistrySettings | null;
  /** Whether it writes the log itself, for other Millrace processes. */
  readonly isLog: boolean;
  /** Whether those processes may read with conditions in SQL. */
  readonly takesConditions: boolean;
}
