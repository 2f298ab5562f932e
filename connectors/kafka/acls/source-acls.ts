import { shareName } from "../../../src/core/sharing/share.ts";
import { callTopics, groupId, logTopic, requestsId } from "../names.ts";
import type { SourceContext } from "../source/context.ts";
import { givenTo } from "./script.ts";

/** What the user needs who follows a log. */
export function sourceAcls({ naming, daemon, owner, isDivided, cluster }: SourceContext): readonly string[] {
  const user = givenTo(cluster.settings());
  const { requests, answers } = callTopics(naming);
  const id = isDivided ? requestsId(naming, shareName(owner, "")) : `${requestsId(naming, daemon)}/`;
  return [
    `${user} --operation Read --operation Describe --topic '${logTopic(naming)}' --topic '${answers}'`,
    `${user} --operation Write --operation Describe --operation DescribeConfigs --topic '${requests}'`,
    `${user} --operation Write --operation Describe --resource-pattern-type prefixed --transactional-id '${id}'`,
    ...(isDivided ? [`${user} --operation Read --group '${groupId(naming, owner)}'`] : []),
  ];
}
