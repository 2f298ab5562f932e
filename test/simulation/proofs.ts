/** What the continuous comparison may say: it is held against rows that differed all the time since. */
import type { DeadLetter, ProofFacts, ProofPlace } from "../../src/core/contracts/state-store.ts";
import { refusedBy } from "./checks.ts";
import type { Row, Table } from "./database.ts";
import type { Happening } from "./happenings.ts";
import type { StoredVersion, Target, TargetCopy } from "./targets.ts";
import type { World } from "./world.ts";

/** The same two states of a row have stood beside each other at least since then. */
interface Differing {
  readonly row: string | null;
  readonly held: StoredVersion | undefined;
  readonly sinceMs: number;
}

/** What was stored at this time of a comparison that began when the sink's last batch was `step`. */
interface Saved {
  readonly ms: number;
  readonly step: number;
}

/** By sink and table; goes with a copy of the state. */
export type AllSaved = ReadonlyMap<string, readonly Saved[]>;

/** From then on the target holds another content than what was compared before. */
interface Break {
  readonly ms: number;
  /** What was proven up to this batch is of the content that it holds now; null: nothing is. */
  readonly batch: number | null;
  /** While this is the target's checkpoint no daemon has written since. */
  readonly checkpoint: TargetCopy["checkpoint"];
}

/** By these alone no proof becomes void. */
const KEEPING: ReadonlySet<Happening["what"]> = new Set([
  "transaction",
  "crash",
  "stop",
  "weather",
  "pause",
  "wait",
  "repair",
  "spoil",
  "refuse",
]);

export class ProofChecks {
  readonly #world: World;
  /** By target, table and key. */
  #differing = new Map<string, Differing>();
  #saved = new Map<string, readonly Saved[]>();
  readonly #breaks = new Map<Target, Break>();
  /** By sink and table: the newest age that was seen. */
  readonly #proven = new Map<string, string>();

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

  /** Somebody has put another content in the target's place. */
  put(target: Target, { checkpoint }: TargetCopy): void {
    this.#breaks.set(target, { ms: this.#world.timeOfDayMs, batch: checkpoint?.bond.batch ?? null, checkpoint });
  }

  saved(): AllSaved {
    return new Map(this.#saved);
  }

  /** The state is an older copy. */
  async stateRestored(saved: AllSaved): Promise<void> {
    this.#saved = new Map(saved);
    for (const target of this.#world.targets) {
      const { checkpoint } = target;
      const accord = await this.#world.beside.bonds.accord(target.traits.name, checkpoint?.bond);
      const known = this.#breaks.get(target);
      // What was owed since then the copy does not know: each table is to be compared.
      if (accord !== "bound") this.#breaks.set(target, { ms: this.#world.timeOfDayMs, batch: null, checkpoint });
      else if (known !== undefined) this.#breaks.set(target, { ...known, checkpoint });
    }
  }

  /** Invariant: a row that was never equal since then is not said to be proven. `step`: see `ProofStore.save`. */
  stored({ table, sink, provenAt }: ProofFacts, step: number): void {
    // Who sets the clock makes ages wrong.
    if (this.#world.hasClockBeenSet) return;
    const id = idOf({ table, sink });
    this.#saved.set(id, [...(this.#saved.get(id) ?? []), { ms: this.#world.timeOfDayMs, step }]);
    if (provenAt === null) return;
    this.look();
    const provenMs = Date.parse(provenAt);
    for (const [place, { sinceMs, row, held }] of this.#differing) {
      if (!place.startsWith(`${id}/`) || provenMs <= sinceMs) continue;
      const what = `${row ?? "nothing"} at the source, ${held?.row.join() ?? "nothing"} in the sink`;
      this.#world.checks.fail(
        `${place} is said to be proven at ${provenMs % 1e6}, and differs since ${sinceMs % 1e6}: ${what}`,
      );
    }
  }

  /**
   * Invariant: what was proven of a sink before it got another content is void once it writes its progress again, and nothing
   * else is void.
   */
  voided(facts: readonly ProofFacts[]): void {
    const { checks, hasClockBeenSet, plan, targets } = this.#world;
    if (hasClockBeenSet) return;
    for (const one of facts) {
      const target = targets.find(({ traits }) => traits.name === one.sink);
      const known = target === undefined ? undefined : this.#breaks.get(target);
      if (known !== undefined && target?.checkpoint !== known.checkpoint && this.#isOfBefore(one, known))
        checks.fail(`${one.table} in ${one.sink} counts as proven of what ${one.sink} held before`);
    }
    if (!plan.happenings.every(({ what }) => KEEPING.has(what))) return;
    for (const one of facts) {
      const before = this.#proven.get(idOf(one));
      if (before !== undefined && (one.provenAt === null || one.provenAt < before))
        checks.fail(`${one.table} in ${one.sink} was proven at ${before}, and nothing made that void`);
      if (one.provenAt !== null) this.#proven.set(idOf(one), one.provenAt);
    }
  }

  #isOfBefore({ provenAt, ...place }: ProofFacts, { ms, batch }: Break): boolean {
    if (provenAt === null || Date.parse(provenAt) >= ms) return false;
    if (batch === null) return true;
    // What was stored before the age that counts is void, or replaced.
    const counting = (this.#saved.get(idOf(place)) ?? []).filter((one) => one.ms >= Date.parse(provenAt));
    return counting.some((one) => one.ms < ms && one.step > batch);
  }

  /** What the continuous comparison has not yet proven since then, nor found to differ. A row of which a letter waits is neither. */
  missing(facts: readonly ProofFacts[], letters: readonly DeadLetter[], sinceMs: number): readonly string[] {
    this.look();
    const isRefused = refusedBy(letters);
    return this.#world.targets
      .filter(({ traits }) => !traits.isStream)
      .flatMap((target) => this.#world.server.database.tables.map((table) => [target, table] as const))
      .filter(([target, table]) => {
        const [sink, id] = [target.traits.name, table.shape.id];
        const found = facts.find((one) => one.sink === sink && one.table === id);
        if (found === undefined) return true;
        const prefix = `${idOf(found)}/`;
        const keys = [...this.#differing.keys()].flatMap((place) =>
          place.startsWith(prefix) ? [place.slice(prefix.length)] : [],
        );
        const isSince = (at: string | null): boolean => at !== null && Date.parse(at) > sinceMs;
        if (keys.some((key) => !isRefused(sink, id, key))) return found.missing + found.extra + found.different === 0;
        return !isSince(keys.length > 0 ? found.lookedAt : found.provenAt);
      })
      .map(([target, table]) => `${table.name} in ${target.traits.name} is not proven`);
  }
}

function idOf({ table, sink }: ProofPlace): string {
  return `${sink} ${table}`;
}

function placeOf({ traits }: Target, { shape }: Table, key: string): string {
  return `${idOf({ sink: traits.name, table: shape.id })}/${key}`;
}

/** By what no change of shape alters: a write has a number of its own, and who writes by hand says so. */
function isDifferent(row: Row | undefined, held: StoredVersion | undefined): boolean {
  if (row === undefined || held === undefined) return row !== held;
  return row[1] !== held.row[1] || held.row.includes("spoilt");
}
