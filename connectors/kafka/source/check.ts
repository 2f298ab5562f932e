import type { Finding } from "../../../src/core/contracts/connector.ts";
import { connect } from "../connect.ts";
import { classify } from "../errors.ts";
import { shareName } from "../../../src/core/sharing/share.ts";
import { callTopics, groupId, logTopic } from "../names.ts";
import type { SourceContext } from "./context.ts";
import { findLog } from "./log-topic.ts";
import { kafkaSource } from "./source.ts";
import { failed, ok } from "../../kit/findings.ts";

/** Preflight: connects, changes nothing, and asks the capturing daemon for its tables. */
export async function check(context: SourceContext, signal: AbortSignal): Promise<readonly Finding[]> {
  const findings: Finding[] = [];
  // What lacks may be one of them.
  const acls = ok("kafka.acls", aclsOf(context));
  try {
    await using cluster = await connect(context.cluster, signal);
    const { name } = await findLog(cluster, context, signal);
    findings.push(ok("kafka.log", `the log is there: topic ${name}`));
  } catch (error) {
    return [failed("kafka.log", classify(error, signal)), acls];
  }
  const source = kafkaSource(context);
  try {
    const { tables } = await source.catalog.tables(signal);
    findings.push(ok("kafka.capture", `daemon ${context.naming.daemon} answers: ${tables.length} tables`));
  } catch (error) {
    findings.push(failed("kafka.capture", classify(error, signal)));
  } finally {
    await source.close();
  }
  return [...findings, acls];
}

function aclsOf({ naming, daemon, owner, share, cluster }: SourceContext): string {
  const user = `--add --allow-principal 'User:${cluster().sasl?.username ?? "USER"}'`;
  const { requests, answers } = callTopics(naming);
  const asking = share === null ? `${daemon}-` : shareName(owner, "");
  const id = `millrace-${naming.prefix}${naming.daemon}-requests-${asking}`;
  const lines = [
    `${user} --operation Read --operation Describe --topic '${logTopic(naming)}' --topic '${answers}'`,
    `${user} --operation Write --operation Describe --topic '${requests}'`,
    `${user} --operation Write --operation Describe --resource-pattern-type prefixed --transactional-id '${id}'`,
    ...(share === null ? [] : [`${user} --operation Read --group '${groupId(naming, owner)}'`]),
  ];
  return `with an authorizer the source needs, by kafka-acls.sh: ${lines.join("; ")}`;
}
