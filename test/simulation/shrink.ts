/** Leaves out of a failing plan what the failure does not need. */
import type { Happening, Plan } from "./happenings.ts";
import { runPlan } from "./runner.ts";

const RUNS_MAX = 600;

/** The kind of a failure: without the numbers that differ from run to run. */
export function kindOfFailure(failure: string): string {
  return failure.replaceAll(/\d+/g, "#").slice(0, 60);
}

/** A smaller plan that fails in the same way. */
export async function shrink(plan: Plan, failure: string): Promise<Plan> {
  const kind = kindOfFailure(failure);
  let runs = 0;
  let best = plan;
  const tries = async (candidate: Plan): Promise<boolean> => {
    if (runs++ >= RUNS_MAX) return false;
    const result = await runPlan(candidate);
    if (result.failure === null || kindOfFailure(result.failure) !== kind) return false;
    best = candidate;
    return true;
  };
  // In halves, quarters, … and one by one, again and again while something can go.
  let before: Plan;
  do {
    before = best;
    for (let size = Math.ceil(best.happenings.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
      for (let at = 0; at < best.happenings.length;) {
        const happenings = best.happenings.filter((_, i) => i < at || i >= at + size);
        if (!(await tries({ ...best, happenings }))) at += size;
      }
    }
    for (const simpler of simplerPlans(best)) await tries(simpler);
  } while (best !== before);
  return best;
}

function simplerPlans(plan: Plan): Plan[] {
  const plans: Plan[] = [];
  if (plan.sinks.length > 1)
    for (const [i] of plan.sinks.entries()) plans.push({ ...plan, sinks: plan.sinks.filter((_, s) => s !== i) });
  if (plan.tables > 1) plans.push({ ...plan, tables: plan.tables - 1 });
  if (plan.rows > 0) plans.push({ ...plan, rows: plan.rows - 1 });
  plan.happenings.forEach((happening, i) => {
    if (happening.what !== "transaction" || happening.operations.length === 1) return;
    happening.operations.forEach((_, o) => {
      const operations = happening.operations.filter((__, other) => other !== o);
      const smaller: Happening = { ...happening, operations };
      plans.push({ ...plan, happenings: plan.happenings.with(i, smaller) });
    });
  });
  return plans;
}
