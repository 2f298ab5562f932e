/** A failing run as a list of what happened, for people. */
import { type AnyPlan, isThroughKafka } from "./plans.ts";
import { runPlan } from "./runner.ts";

export async function storyOf(plan: AnyPlan): Promise<string> {
  const { failure, trace } = await runPlan(plan, true);
  const sinks = plan.sinks.map((kind, i) => `s${i} (${kind})`).join(", ");
  const begin = `${plan.tables} table(s) of ${plan.rows} rows, sinks ${sinks}, ${told(plan)}${plan.happenings.length} events:`;
  const lines = trace.filter((line) => !/ debug: /.test(line));
  return [begin, ...lines.map((line) => `  ${line}`), `  => ${failure ?? "nothing fails any more"}`].join("\n");
}

function told(plan: AnyPlan): string {
  if (!isThroughKafka(plan)) return "";
  const { shares, processes, partitions } = plan;
  return `${shares} share(s) in ${processes} process(es), topics of ${partitions} partition(s), `;
}
