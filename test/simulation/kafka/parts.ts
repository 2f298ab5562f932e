/** The product's own connectors over the simulated brokers. */
import { MillraceFormat } from "../../../connectors/kafka/formats/millrace.ts";
import { groupId } from "../../../connectors/kafka/names.ts";
import { LogSink } from "../../../connectors/kafka/log/log-sink.ts";
import { ShareGroup } from "../../../connectors/kafka/source/share-group.ts";
import { TopicSink } from "../../../connectors/kafka/sink/topic-sink.ts";
import { kafkaSource } from "../../../connectors/kafka/source/source.ts";
import type { WriterSettings } from "../../../connectors/kafka/writer/checkpointed-writer.ts";
import type { Sink } from "../../../src/core/contracts/sink.ts";
import type { Source } from "../../../src/core/contracts/source.ts";
import type { Group } from "../../../src/core/sharing/group.ts";
import { type Division, isInShare, shareName } from "../../../src/core/sharing/share.ts";
import type { SimulatedProcess } from "../scheduler.ts";
import type { Broker } from "./broker.ts";
import { accessTo } from "./cluster.ts";
import type { KafkaPlan } from "./happenings.ts";
import { NAMING, SINGLE } from "./log-checks.ts";

/** The `name` of the processes that share the tables. */
const OWNER = "apply";

/** The sinks of the daemon that captures. */
export function captureSinks(
  process: SimulatedProcess,
  broker: Broker,
  { partitions, areCompacted, isSingle }: Pick<KafkaPlan, "partitions" | "areCompacted" | "isSingle">,
): readonly Sink[] {
  const common = {
    cluster: accessTo(process, broker),
    naming: NAMING,
    rules: { create: true, partitions, replication: -1, settings: {} },
    compression: "none",
  } as const satisfies Partial<WriterSettings>;
  const log = new LogSink({ ...common, kind: "log", name: "log", form: "log", takesConditions: false }, process.clock);
  if (partitions === 0) return [log];
  const origin = { sourceKind: "simulated", database: "simulated", producer: "millrace/simulated" };
  const format = new MillraceFormat({ ...origin, name: NAMING.daemon, formatPosition: String }, isSingle);
  const settings: Readonly<Record<string, string>> = areCompacted === true ? { "cleanup.policy": "compact" } : {};
  const rules = { ...common.rules, settings };
  const naming = { ...NAMING, single: isSingle === true ? SINGLE : undefined };
  const own = { tombstones: true, transactions: partitions % 2 === 1, format, registry: null } as const;
  const topics = { ...common, ...own, kind: "topics", rules, naming, name: "topics", form: "millrace" } as const;
  return [log, new TopicSink(topics, process.clock)];
}

export function shareSource(process: SimulatedProcess, broker: Broker, number: number, of: Division): Source {
  const share = { number, of };
  return kafkaSource({
    clock: process.clock,
    daemon: shareName(OWNER, number),
    owner: OWNER,
    cluster: accessTo(process, broker),
    naming: NAMING,
    captures: (table) => isInShare(table, share),
    isLiteral: () => false,
    isShared: () => true,
    share,
    isDivided: true,
    idle: () => [],
    chosenKey: () => null,
  });
}

export function groupOf(process: SimulatedProcess, broker: Broker, division: Division): Group {
  const id = groupId(NAMING, OWNER);
  return new ShareGroup({ clock: process.clock, cluster: accessTo(process, broker), id, division });
}
