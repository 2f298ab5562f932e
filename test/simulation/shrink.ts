/** Leaves out of a failing plan what the failure does not need. */
import type { AnyPlan } from "./plans.ts";
import { runPlan } from "./runner.ts";

const RUNS_MAX = 600;

/** The kind of a failure: without the numbers that differ from run to run. */
export function kindOfFailure(failure: string): string {
  return failure.replaceAll(/\d+/g, "#").slice(0, 60);
}

/** A smaller plan that fails in the same way. */
export async function shrink(plan: AnyPlan, failure: string): Promise<AnyPlan> {
  const kind = kindOfFailure(failure);
  let runs = 0;
  let best = plan;
  const tries = async (candidate: AnyPlan): Promise<boolean> => {
    if (runs++ >= RUNS_MAX) return false;
    const result = await runPlan(candidate);
    if (result.failure === null || kindOfFailure(result.failure) !== kind) return false;
    best = candidate;
    return true;
  };
  // In halves, quarters, … and one by one, again and again while something can go.
  let before: AnyPlan;
  do {
    before = best;
    for (let size = Math.ceil(best.happenings.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
      for (let at = 0; at < best.happenings.length;) {
        const happenings = (best.happenings as Happenings).filter((_, i) => i < at || i >= at + size);
        if (!(await tries(withHappenings(best, happenings)))) at += size;
      }
    }
    for (const simpler of simplerPlans(best)) await tries(simpler);
  } while (best !== before);
  return best;
}

function withSinks(plan: AnyPlan, left: number): AnyPlan {
  const sinks = plan.sinks.filter((_, s) => s !== left);
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- some of the plan's own
  return { ...plan, sinks } as AnyPlan;
}

type Happenings = readonly AnyPlan["happenings"][number][];

/** The happenings are some of the plan's own. */
function withHappenings(plan: AnyPlan, happenings: Happenings): AnyPlan {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- of the same kind
  return { ...plan, happenings } as AnyPlan;
}

function simplerPlans(plan: AnyPlan): AnyPlan[] {
  const plans: AnyPlan[] = [];
  if (plan.sinks.length > 1) for (const [i] of plan.sinks.entries()) plans.push(withSinks(plan, i));
  if (plan.tables > 1) plans.push({ ...plan, tables: plan.tables - 1 });
  if (plan.rows > 0) plans.push({ ...plan, rows: plan.rows - 1 });
  plan.happenings.forEach((happening, i) => {
    if (happening.what !== "transaction" || happening.operations.length === 1) return;
    happening.operations.forEach((_, o) => {
      const operations = happening.operations.filter((__, other) => other !== o);
      const happenings: Happenings = plan.happenings;
      plans.push(withHappenings(plan, happenings.with(i, { ...happening, operations })));
    });
  });
  return plans;
}
