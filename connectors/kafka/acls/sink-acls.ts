import { answersId, callTopics, ownTopic, sinkId } from "../names.ts";
import type { KafkaSinkSettings } from "../settings.ts";
import { givenTo } from "./script.ts";

/** What the user needs who writes the topics. */
export function sinkAcls(settings: KafkaSinkSettings): readonly string[] {
  const { naming, name, rules, cluster, isLog } = settings;
  const data = naming.single === undefined ? `${naming.prefix}${naming.daemon}.` : `${naming.prefix}${naming.single}`;
  // Debezium's name of the topic of transactions begins as those of tables do.
  const others = naming.isDebezium ? `${naming.prefix}${naming.daemon}.` : ownTopic("", naming);
  const create = rules.create ? " --operation Create" : "";
  const to = givenTo(cluster.settings());
  return [
    `${to} --operation Write --operation Describe --operation DescribeConfigs${create} --resource-pattern-type prefixed --topic '${data}'`,
    ...(naming.single === undefined
      ? []
      : [
          `${to} --operation Write --operation Describe --operation DescribeConfigs${create} --resource-pattern-type prefixed --topic '${others}'`,
        ]),
    `${to} --operation Read --topic '${ownTopic(`checkpoint.${name}`, naming)}'`,
    `${to} --operation Write --operation Describe --transactional-id '${sinkId(settings)}'`,
    ...(isLog
      ? [
          `${to} --operation Read --topic '${callTopics(naming).requests}'`,
          `${to} --operation Write --operation Describe --transactional-id '${answersId(settings)}'`,
        ]
      : []),
  ];
}
