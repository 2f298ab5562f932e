/** Plans in which sinks keep the shapes that they have, whatever becomes of their tables at the source. */
import { Random } from "../support/run/random.ts";
import type { Operation } from "./database.ts";
import type { Happening, Plan } from "./happenings.ts";

/** Of 1: so many plans are made into one of these. */
const SHARE = 0.1;
const ALTERATIONS = ["add", "drop", "drop", "rename"] as const;
const POLICIES = ["ignore", "evolve", "pause"] as const;
const KEYS = 6;
const OPS = ["insert", "update", "update", "move", "replace"] as const;

/** Decided by chance of its own: other plans are made as if there were none of these. */
export function withIgnoredChanges(plan: Plan): Plan {
  const random = new Random(plan.seed ^ 0x16202e);
  // A log that keeps no number for a column tells nothing of what became of it.
  if (plan.source === "binlog" || !random.chance(SHARE)) return plan;
  const lastMs = Math.max(...plan.happenings.map(({ atMs }) => atMs));
  const moment = (): number => random.below(lastMs + 1);
  const added: Happening[] = [];
  const count = 1 + random.below(3);
  for (let i = 0; i < count; i++) {
    const atMs = moment();
    const table = random.below(plan.tables);
    const writes: Happening = {
      atMs: atMs + random.below(60),
      what: "transaction",
      operations: Array.from({ length: 1 + random.below(3) }, () => operation(random, table)),
      commitsAfterMs: random.below(30),
      shownAfterMs: 0,
      isRolledBack: false,
    };
    added.push({ atMs, what: "alter", table, how: random.pick(ALTERATIONS) }, writes);
  }
  if (random.chance(0.4)) {
    added.push({ atMs: moment(), what: "policy", to: random.pick(POLICIES), downMs: random.below(100) });
    if (random.chance(0.5)) added.push({ atMs: moment(), what: "policy", to: "ignore", downMs: random.below(100) });
  }
  const happenings = [...plan.happenings, ...added].toSorted((a, b) => a.atMs - b.atMs);
  return { ...plan, policy: random.chance(0.8) ? "ignore" : "evolve", happenings };
}

function operation(random: Random, table: number): Operation {
  return { op: random.pick(OPS), table, key: random.below(KEYS), target: random.below(KEYS) };
}
