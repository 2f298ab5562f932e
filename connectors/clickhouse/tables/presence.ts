/**
 * Checks that written tables still are what they were, while the daemon runs and at its next start. A dropped, renamed or
 * replaced table has another UUID under its name, or none; one that lost rows lacks numbers of blocks, although this sink
 * removes none; one that somebody altered has another time of its definition. Another daemon that takes a table over
 * alters it, because it writes its name there.
 */
import { formerOf, lostColumns, successorOf } from "../../warehouse/following.ts";
import type { SinkForm } from "../../../src/core/contracts/sink.ts";
import { joined } from "../../../src/core/errors.ts";
import { takenBy } from "../../../src/core/targets/taken.ts";
import type { Client } from "../client.ts";
import { current, DOUBT_MS_MAX, Reads } from "../current.ts";
import { clickhouseError, isDenied, notShown } from "../errors.ts";
import { sqlNameOf, type TargetName } from "../names.ts";
import { type Evidence, type Facts, isSameTable, type Loss, lookUpFacts, lossOf, MADE_AGAIN } from "./evidence.ts";
import { type ClickhouseTarget, lookUpTargets } from "./existing.ts";
import type { LastSeen } from "./last-seen.ts";
import type { TableLayout } from "./layout.ts";

interface PreparedTable {
  /** Of the tables that share it. */
  readonly layouts: readonly [TableLayout, ...TableLayout[]];
  readonly facts: Facts;
}

/** A table that is no longer what it was. */
type LostTable =
  | { readonly layout: TableLayout; readonly what: Loss | "stripped of columns" }
  | { readonly layout: TableLayout; readonly what: "taken over"; readonly successor: string };

/** Throws for tables that another daemon has taken over, or else those that lost what was written to them. */
export function expectNone(lost: readonly LostTable[]): void {
  const [taken, ...further] = lost
    .filter((one) => one.what === "taken over")
    .map(({ layout, successor }) => takenBy(clickhouseError, layout.sqlName, layout.table.id, successor));
  if (taken !== undefined) throw joined([taken, ...further]);
  const [first] = lost;
  if (first === undefined) return;
  throw clickhouseError(
    "MR3110",
    "reopen",
    `the table of ${first.layout.table.id} was ${first.what} in ClickHouse, by somebody else`,
    { lostTables: lost.map(({ layout }) => layout.table.id) },
  );
}

export class Presence {
  readonly #lastSeen: LastSeen;
  /** Tables that were prepared, by name in SQL. */
  readonly #known = new Map<string, PreparedTable>();
  /** Of tables that were not prepared since. */
  readonly #stored = new Map<string, Evidence>();
  /** Histories of which `lostOf` has told. */
  readonly #told = new Set<string>();
  /** Tables that have rows now, and had none when they were seen last. */
  readonly #filled = new Map<string, TableLayout>();

  constructor(lastSeen: LastSeen) {
    this.#lastSeen = lastSeen;
  }

  /** The sink was opened: another process may have written meanwhile. */
  async open(client: Client, signal: AbortSignal): Promise<void> {
    this.#stored.clear();
    for (const [name, evidence] of await this.#lastSeen.load(client, signal)) {
      const known = this.#known.get(name);
      if (known === undefined) this.#stored.set(name, evidence);
      else this.#known.set(name, { ...known, facts: { ...known.facts, ...evidence, defined: "" } });
    }
  }

  /**
   * What is there now counts as written by this sink; of a table that `holds`, only if it is the one that was seen last: somebody
   * may have replaced it since the sink looked. Returns those that are another one.
   */
  async add(
    client: Client,
    layouts: readonly TableLayout[],
    holds: (tableId: string) => boolean,
    signal: AbortSignal,
  ): Promise<readonly TableLayout[]> {
    if (layouts.length === 0) return [];
    const targets = layouts.map(({ target }) => target);
    const isAnother = ({ sqlName, table }: TableLayout, facts: Facts): boolean => {
      const before = this.#seen(sqlName);
      return before !== undefined && !isSameTable(before, facts) && holds(table.id);
    };
    const there = await current(
      () => lookUpFacts(client, targets, signal),
      (found) =>
        layouts.every((layout) => {
          const facts = found.get(layout.sqlName);
          return facts !== undefined && !isAnother(layout, facts);
        }),
      signal,
    );
    const replaced: TableLayout[] = [];
    for (const layout of layouts) {
      const { id, scope } = layout.table;
      const facts = there.get(layout.sqlName);
      // Whether it has replicas decides how it is read.
      if (facts === undefined) throw notShown(layout.sqlName);
      if (isAnother(layout, facts)) {
        replaced.push(layout);
        continue;
      }
      const others = scope === undefined ? [] : (this.#known.get(layout.sqlName)?.layouts ?? []);
      this.forget(layout.sqlName);
      this.#told.delete(layout.sqlName);
      this.#known.set(layout.sqlName, { layouts: [layout, ...others.filter(({ table }) => table.id !== id)], facts });
    }
    const lost = new Set(replaced);
    await this.#save(
      client,
      layouts.filter((layout) => !lost.has(layout)),
      signal,
    );
    return replaced;
  }

  #seen(sqlName: string): Evidence | undefined {
    return this.#known.get(sqlName)?.facts ?? this.#stored.get(sqlName);
  }

  /** A copy takes the table's place from here on, also if this process ends before it knows. */
  async madeAgain(client: Client, { sqlName, target }: TableLayout, signal: AbortSignal): Promise<void> {
    const known = this.#known.get(sqlName);
    if (known === undefined) this.#stored.set(sqlName, MADE_AGAIN);
    else this.#known.set(sqlName, { ...known, facts: { ...known.facts, ...MADE_AGAIN, defined: "" } });
    await this.#lastSeen.save(client, [{ target, evidence: MADE_AGAIN }], signal);
  }

  /** Rows were removed there by this sink. */
  async refresh(client: Client, sqlNames: readonly string[], signal: AbortSignal): Promise<void> {
    for (const name of sqlNames) this.#stored.delete(name);
    await this.add(
      client,
      sqlNames.flatMap((name) => this.#known.get(name)?.layouts ?? []),
      () => false,
      signal,
    );
  }

  /** By name in SQL: tables that have replicas. */
  readonly replicated = { has: (sqlName: string) => this.#known.get(sqlName)?.facts.isReplicated === true };

  /** Rows were written there. */
  filled(layout: TableLayout): void {
    if (this.#known.get(layout.sqlName)?.facts.rows.length === 0) this.#filled.set(layout.sqlName, layout);
  }

  /** A crash from here on is followed by a start that knows of these rows. Invariant: before the checkpoint that counts them. */
  async saveFilled(client: Client, signal: AbortSignal): Promise<void> {
    const layouts = [...this.#filled.values()];
    if (layouts.length === 0) return;
    const targets = layouts.map(({ target }) => target);
    const there = await lookUpFacts(client, targets, signal);
    for (const { sqlName } of layouts) {
      const [known, now] = [this.#known.get(sqlName), there.get(sqlName)];
      if (known === undefined) continue;
      // What the lists show of a table with replicas may be from before its rows.
      const rows = known.facts.isReplicated ? "some" : now?.uuid === known.facts.uuid ? now.rows : null;
      if (rows !== null) this.#known.set(sqlName, { ...known, facts: { ...known.facts, rows } });
    }
    await this.#save(client, layouts, signal);
    this.#filled.clear();
  }

  forget(sqlName: string): void {
    this.#known.delete(sqlName);
    this.#stored.delete(sqlName);
    this.#filled.delete(sqlName);
  }

  /**
   * Those of these tables that lost what was written to them; they are forgotten. A history is told once in a process: a sink that
   * is opened again goes on by an operator's word, with what was put back.
   */
  async lostOf(
    client: Client,
    targets: readonly TargetName[],
    form: SinkForm,
    signal: AbortSignal,
  ): Promise<ReadonlySet<string>> {
    let isDoubted = false;
    const look = async () => {
      // What is stored may have been an older answer too.
      if (isDoubted) await this.open(client, signal);
      isDoubted = true;
      const before = targets.flatMap((target) => {
        const name = sqlNameOf(target);
        const evidence = this.#seen(name);
        return evidence === undefined ? [] : [[name, evidence] as const];
      });
      if (before.length === 0) return { there: new Map<string, Facts>(), lost: [] };
      const there = await lookUpFacts(client, targets, signal);
      const lost = before.flatMap(([name, evidence]) => {
        const what = lossOf(evidence, there.get(name));
        return what === null ? [] : [{ name, what }];
      });
      return { there, lost };
    };
    const { there, lost } = await current(look, (found) => found.lost.length === 0, signal, DOUBT_MS_MAX);
    for (const { name } of lost) await expectShown(client, name, there, signal);
    const names = new Set<string>();
    for (const { name, what } of lost) {
      if (form === "history" && there.has(name) && this.#told.has(name)) {
        this.forget(name);
        continue;
      }
      if (what !== "emptied" || !(await holdsRows(client, name, there, signal))) names.add(name);
    }
    for (const name of names) {
      this.forget(name);
      if (form === "history") this.#told.add(name);
    }
    return names;
  }

  /**
   * Prepared tables that lost what was written to them, or else those that another daemon writes now; they are forgotten. Of one
   * that the user may not see nobody knows: its next rows meet that.
   */
  async lost(client: Client, signal: AbortSignal): Promise<readonly LostTable[]> {
    const all = [...this.#known.values()];
    if (all.length === 0) return [];
    const look = async () => await this.#look(client, all, signal);
    const { there, lost: suspected } = await current(look, (found) => found.lost.length === 0, signal, DOUBT_MS_MAX);
    const lost: LostTable[] = [];
    for (const one of suspected) {
      if (!(await isShown(client, one.layout.sqlName, there, signal))) continue;
      if (one.what !== "emptied" || !(await holdsRows(client, one.layout.sqlName, there, signal))) lost.push(one);
    }
    const taken = lost.filter(({ what }) => what === "taken over");
    for (const { layout } of taken.length > 0 ? taken : lost) this.forget(layout.sqlName);
    if (taken.length > 0) return taken;
    for (const { layouts } of all) {
      const [{ sqlName }] = layouts;
      const facts = there.get(sqlName);
      const known = this.#known.get(sqlName);
      if (facts === undefined || known === undefined) continue;
      // Rows that a replica does not show yet are there.
      const rows = facts.isReplicated && facts.rows.length === 0 ? known.facts.rows : facts.rows;
      this.#known.set(sqlName, { layouts, facts: { ...facts, rows } });
    }
    await this.#save(
      client,
      all.map(({ layouts }) => layouts[0]),
      signal,
    );
    return lost;
  }

  /**
   * Throws if another daemon has some of these tables now, and forgets those. Returns the tables by former owner: the
   * sink whose rows may still be there. `from`: the owner from whom this one takes them; null: nobody.
   */
  async expectOwned(
    client: Client,
    layouts: readonly TableLayout[],
    from: string | null,
    signal: AbortSignal,
  ): Promise<ReadonlyMap<string, readonly TableLayout[]>> {
    const targets = layouts.map(({ target }) => target);
    const takenIn = (found: ReadonlyMap<string, ClickhouseTarget>) =>
      layouts.flatMap((layout) => {
        const successor = successorOf(layout.owner, found.get(layout.sqlName)?.note ?? null);
        return successor === null || successor === from ? [] : [{ layout, what: "taken over", successor } as const];
      });
    const look = async () => await lookUpTargets(client, targets, signal);
    const there = await current(look, (found) => takenIn(found).length === 0, signal, DOUBT_MS_MAX);
    const taken = takenIn(there);
    for (const { layout } of taken) this.forget(layout.sqlName);
    expectNone(taken);
    const formers = Map.groupBy(layouts, ({ owner, sqlName }) => formerOf(owner, there.get(sqlName)?.note ?? null));
    return new Map([...formers].flatMap(([former, theirs]) => (former === null ? [] : [[former, theirs] as const])));
  }

  async #look(client: Client, all: readonly PreparedTable[], signal: AbortSignal) {
    const targets = all.map(({ layouts }) => layouts[0].target);
    const there = await lookUpFacts(client, targets, signal);
    const lost: LostTable[] = [];
    const suspects: TableLayout[] = [];
    for (const { layouts, facts: before } of all) {
      const now = there.get(layouts[0].sqlName);
      const what = lossOf(before, now);
      if (what !== null) lost.push(...layouts.map((layout) => ({ layout, what })));
      // A daemon that takes a table over removes rows there.
      if (now !== undefined && (what !== null || now.defined === "" || now.defined !== before.defined))
        suspects.push(...layouts);
    }
    lost.push(...(await altered(client, suspects, signal)));
    return { there, lost };
  }

  async #save(client: Client, layouts: readonly TableLayout[], signal: AbortSignal): Promise<void> {
    const seen = layouts.flatMap(({ sqlName, target }) => {
      const known = this.#known.get(sqlName);
      return known === undefined ? [] : [{ target, evidence: known.facts }];
    });
    await this.#lastSeen.save(client, seen, signal);
  }
}

/** The server's lists leave out tables of which the user has no grant: for them it refuses the question. */
async function expectShown(
  client: Client,
  sqlName: string,
  there: ReadonlyMap<string, Facts>,
  signal: AbortSignal,
): Promise<void> {
  if (!there.has(sqlName)) await client.rows(`EXISTS TABLE ${sqlName}`, signal);
}

async function isShown(
  client: Client,
  sqlName: string,
  there: ReadonlyMap<string, Facts>,
  signal: AbortSignal,
): Promise<boolean> {
  try {
    await expectShown(client, sqlName, there, signal);
    return true;
  } catch (error) {
    if (!isDenied(error)) throw error;
    return false;
  }
}

/** Whether a table has rows, although an answer showed none: it came from a replica that is behind. */
async function holdsRows(
  client: Client,
  sqlName: string,
  there: ReadonlyMap<string, Facts>,
  signal: AbortSignal,
): Promise<boolean> {
  if (there.get(sqlName)?.isReplicated !== true) return false;
  const reads = new Reads(client, { has: () => true }, signal);
  return (await reads.rows(sqlName, `SELECT 1 FROM ${sqlName} LIMIT 1`)).length > 0;
}

async function altered(
  client: Client,
  layouts: readonly TableLayout[],
  signal: AbortSignal,
): Promise<readonly LostTable[]> {
  const there = await lookUpTargets(
    client,
    layouts.map(({ target }) => target),
    signal,
  );
  return layouts.flatMap((layout): LostTable[] => {
    const existing = there.get(layout.sqlName);
    if (existing === undefined) return [];
    const successor = successorOf(layout.owner, existing.note);
    if (successor !== null) return [{ layout, what: "taken over", successor }];
    const names = layout.columns.map(({ name }) => name);
    const lost = lostColumns([...existing.columns.keys()], existing.note, layout.table, names);
    return lost.length > 0 ? [{ layout, what: "stripped of columns" }] : [];
  });
}
