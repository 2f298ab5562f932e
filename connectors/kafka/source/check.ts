import { count } from "../../../src/core/figures.ts";
import type { Finding } from "../../../src/core/contracts/connector.ts";
import { classifySource } from "../errors.ts";
import { aclFinding, givenTo } from "../acls.ts";
import type { SourceContext } from "./context.ts";
import { LogTopic } from "./log-topic.ts";
import { kafkaSource } from "./source.ts";
import { failed, ok } from "../../kit/findings.ts";
import { shareName } from "../../../src/core/sharing/share.ts";
import { callTopics, groupId, logTopic, requestsId } from "../names.ts";

/** Preflight: connects, changes nothing, and asks the capturing daemon for its tables. */
export async function check(context: SourceContext, signal: AbortSignal): Promise<readonly Finding[]> {
  const findings: Finding[] = [];
  // What lacks may be one of them.
  const acls = aclFinding("source", sourceAcls(context));
  try {
    await using log = await LogTopic.open(context, signal);
    findings.push(ok("kafka.log", `the log is there: topic ${log.name}`));
  } catch (error) {
    return [failed("kafka.log", classifySource(error, signal)), acls];
  }
  const source = kafkaSource(context);
  try {
    const { tables } = await source.catalog.tables(signal);
    findings.push(ok("kafka.capture", `daemon ${context.naming.daemon} answers: ${count(tables.length, "table")}`));
  } catch (error) {
    findings.push(failed("kafka.capture", classifySource(error, signal)));
  } finally {
    await source.close();
  }
  return [...findings, acls];
}

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
