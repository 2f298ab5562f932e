/** What the continuous comparison may say: it is held against rows that differed all the time since. */
import type { ProofFacts } from "../../src/core/contracts/state-store.ts";
import type { Row, Table } from "./database.ts";
import type { StoredVersion, Target } from "./targets.ts";
import type { World } from "./world.ts";

/** The same two states of a row have stood beside each other at least since then. */
interface Differing {
  readonly row: string | null;
  readonly held: StoredVersion | undefined;
  readonly sinceMs: number;
}

export class ProofChecks {
  readonly #world: World;
  /** By target, table and key. */
  #differing = new Map<string, Differing>();
  /** By target: when it lost all that it had. */
  readonly #emptiedMs = new Map<Target, number>();

  constructor(world: World) {
    this.#world = world;
  }

  /** Called before and after everything that is done by hand, and before each check. */
  look(): void {
    const { plan, server, targets, expected } = this.#world;
    if (plan.proves !== true) return;
    const found = new Map<string, Differing>();
    for (const target of targets) {
      if (target.traits.isStream) continue;
      for (const table of server.database.tables) {
        const rows = expected(table);
        const held = target.tables.get(table.shape.id)?.rows;
        for (const key of new Set([...rows.keys(), ...(held?.keys() ?? [])])) {
          const [row, stored] = [rows.get(key), held?.get(key)];
          if (!isDifferent(row, stored)) continue;
          const place = placeOf(target, table, key);
          const text = row?.join() ?? null;
          const known = this.#differing.get(place);
          const isSame = known !== undefined && known.row === text && known.held === stored;
          found.set(place, isSame ? known : { row: text, held: stored, sinceMs: this.#world.timeOfDayMs });
        }
      }
    }
    this.#differing = found;
  }

  emptied(target: Target): void {
    this.#emptiedMs.set(target, this.#world.timeOfDayMs);
  }

  /** Invariant: a row that was never equal since then is not said to be proven. */
  stored({ table, sink, provenAt }: ProofFacts): void {
    // Who sets the clock makes ages wrong.
    if (provenAt === null || this.#world.hasClockBeenSet) return;
    this.look();
    const provenMs = Date.parse(provenAt);
    for (const [place, { sinceMs, row, held }] of this.#differing) {
      if (!place.startsWith(`${sink} ${table}/`) || provenMs <= sinceMs || this.#isRefused(place)) continue;
      const what = `${row ?? "nothing"} at the source, ${held?.row.join() ?? "nothing"} in the sink`;
      this.#world.checks.fail(
        `${place} is said to be proven at ${provenMs % 1e6}, and differs since ${sinceMs % 1e6}: ${what}`,
      );
    }
  }

  /** A letter waits for it, or waited. */
  #isRefused(place: string): boolean {
    return this.#world.plan.happenings.some((one) => one.what === "refuse" && place.endsWith(`/${one.key}`));
  }

  /** Invariant: what was proven of a sink before it lost everything is void once it writes its progress again. */
  voided(facts: readonly ProofFacts[]): void {
    if (this.#world.hasClockBeenSet) return;
    for (const [target, emptiedMs] of this.#emptiedMs) {
      const { name } = target.traits;
      if (target.checkpoint === null) continue;
      const old = facts.find(
        ({ sink, provenAt }) => sink === name && provenAt !== null && Date.parse(provenAt) < emptiedMs,
      );
      if (old !== undefined)
        this.#world.checks.fail(`${old.table} in ${name} counts as proven before ${name} lost everything`);
    }
  }

  /** What the continuous comparison has not yet proven since then, nor found to differ. */
  missing(facts: readonly ProofFacts[], sinceMs: number): readonly string[] {
    this.look();
    return this.#world.targets
      .filter(({ traits }) => !traits.isStream)
      .flatMap((target) => this.#world.server.database.tables.map((table) => [target, table] as const))
      .filter(([target, table]) => {
        const [sink, id] = [target.traits.name, table.shape.id];
        const found = facts.find((one) => one.sink === sink && one.table === id);
        if (found === undefined) return true;
        const differs = [...this.#differing.keys()].some(
          (place) => place.startsWith(`${sink} ${id}/`) && !this.#isRefused(place),
        );
        return differs
          ? found.missing + found.extra + found.different === 0
          : found.provenAt === null || Date.parse(found.provenAt) <= sinceMs;
      })
      .map(([target, table]) => `${table.name} in ${target.traits.name} is not proven`);
  }
}

function placeOf({ traits }: Target, { shape }: Table, key: string): string {
  return `${traits.name} ${shape.id}/${key}`;
}

/** By what no change of shape alters: a write has a number of its own, and who writes by hand says so. */
function isDifferent(row: Row | undefined, held: StoredVersion | undefined): boolean {
  if (row === undefined || held === undefined) return row !== held;
  return row[1] !== held.row[1] || held.row.includes("spoilt");
}
