/** A failing run as a list of what happened, for people. */
import type { Plan } from "./happenings.ts";
import { runPlan } from "./runner.ts";

export async function storyOf(plan: Plan): Promise<string> {
  const { failure, trace } = await runPlan(plan, true);
  const sinks = plan.sinks.map((kind, i) => `s${i} (${kind})`).join(", ");
  const begin = `${plan.tables} table(s) of ${plan.rows} rows, sinks ${sinks}, ${plan.happenings.length} events:`;
  const lines = trace.filter((line) => !/ debug: /.test(line));
  return [begin, ...lines.map((line) => `  ${line}`), `  => ${failure ?? "nothing fails any more"}`].join("\n");
}
