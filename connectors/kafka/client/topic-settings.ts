/** Creates topics, and reads the settings of those that exist. */
import type { Cluster } from "./cluster.ts";
import { failureOf } from "./failures.ts";

export interface NewTopic {
  readonly name: string;
  /** -1: the broker's default. */
  readonly partitions: number;
  readonly replication: number;
  readonly settings: Readonly<Record<string, string>>;
}

const CREATE_MS_MAX = 15_000;
/** Kinds of resources in DescribeConfigs. */
const TOPIC = 2;

interface CreatedAnswer {
  readonly topics: readonly { readonly name: string; readonly errorCode: number }[];
}

interface SettingsAnswer {
  readonly results: readonly {
    readonly errorCode: number;
    readonly resourceName: string;
    readonly configs: readonly { readonly name: string; readonly value: string | null }[];
  }[];
}

/** `isTrial`: the brokers only say whether they would. */
export async function createTopic(
  cluster: Cluster,
  topic: NewTopic,
  signal: AbortSignal,
  isTrial = false,
): Promise<void> {
  const { name, partitions, replication, settings } = topic;
  const configs = Object.entries(settings).map(([key, value]) => ({ name: key, value }));
  const wanted = [{ name, numPartitions: partitions, replicationFactor: replication, assignments: [], configs }];
  const controller = await cluster.controller(signal);
  const { topics } = await cluster.request<CreatedAnswer>(
    "CreateTopics",
    controller,
    signal,
    wanted,
    CREATE_MS_MAX,
    isTrial,
  );
  for (const { errorCode } of topics) if (errorCode !== 0) throw failureOf(errorCode, name);
}

/** By topic, some of its settings. */
export async function settingsOfTopics(
  cluster: Cluster,
  names: readonly string[],
  keys: readonly string[],
  signal: AbortSignal,
): Promise<ReadonlyMap<string, ReadonlyMap<string, string>>> {
  if (names.length === 0) return new Map();
  const asked = names.map((resourceName) => ({ resourceType: TOPIC, resourceName, configurationKeys: [...keys] }));
  const { results } = await cluster.request<SettingsAnswer>("DescribeConfigs", null, signal, asked, false, false);
  return new Map(
    results.map(({ resourceName, errorCode, configs }) => {
      if (errorCode !== 0) throw failureOf(errorCode, resourceName);
      return [resourceName, new Map(configs.flatMap(({ name, value }) => (value === null ? [] : [[name, value]])))];
    }),
  );
}
