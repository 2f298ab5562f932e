import type { Finding } from "../../../src/core/contracts/connector.ts";
import { classify } from "../errors.ts";
import { aclFinding } from "../acls/script.ts";
import { sourceAcls } from "../acls/source-acls.ts";
import type { SourceContext } from "./context.ts";
import { findLog } from "./log-topic.ts";
import { kafkaSource } from "./source.ts";
import { failed, ok } from "../../kit/findings.ts";

/** Preflight: connects, changes nothing, and asks the capturing daemon for its tables. */
export async function check(context: SourceContext, signal: AbortSignal): Promise<readonly Finding[]> {
  const findings: Finding[] = [];
  // What lacks may be one of them.
  const acls = aclFinding("source", sourceAcls(context));
  try {
    await using cluster = await context.cluster.connect(signal);
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
