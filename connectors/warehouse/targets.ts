/**
 * The targets of one sink's tables: which there are, whose they are, and how each becomes like its table. The order of things
 * is here; an engine looks, makes and changes.
 */
import type { TableName } from "../../src/core/contracts/connector.ts";
import type { AllTargets, ForeignTarget } from "../../src/core/contracts/sink.ts";
import { eachOf, groupsOf } from "../../src/core/each-of.ts";
import { findMillraceError, joined, type MillraceError, type Raise } from "../../src/core/errors.ts";
import { invariant } from "../../src/core/invariant.ts";
import type { Sweep } from "../../src/core/model/batch.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import { takenBy } from "../../src/core/targets/taken.ts";
import {
  decodeNote,
  encodeNote,
  expectOwned,
  expelledNote,
  formerOf,
  hidingNote,
  lostColumns,
  type Ownership,
  successorOf,
  type TargetNote,
} from "./following.ts";
import { isOwn, type TargetForm, VERSION_COLUMN } from "./own-columns.ts";
import { expectScopes, type ScopeClaim, scopeKey, type ScopeOwners } from "./scopes.ts";
import {
  changeOf,
  type Dialect,
  type ExistingTarget,
  expectForm,
  isAdoptable,
  isOtherForm,
  keptColumns,
  mayCarryRows,
  spelled,
  type TableChange,
  type TableLayout,
} from "./table-change.ts";

/** `E`: by the key of its target. */
export type Found<E> = ReadonlyMap<string, E>;

export interface TargetsOptions {
  /** `<daemon>/<sink>`: who writes to the targets, and the name of the sink's checkpoint. */
  readonly owner: string;
  /** The schema for all tables; undefined: the source's schemas. */
  readonly schema: string | undefined;
  readonly form: TargetForm;
  /** See SinkContext. */
  readonly dropsColumns?: ((table: Pick<TableVersion, "id">) => boolean) | undefined;
  readonly adopts?: boolean | undefined;
}

/** Of a sink, as its configuration says. */
export interface WarehouseSinkOptions extends Omit<TargetsOptions, "form"> {
  readonly name: string;
  /** Default: a mirror with hard deletes. */
  readonly form?: TargetForm;
}

/** A target with a column for versions. */
export interface VersionedTarget {
  /** How statements name its rows. */
  readonly rows: string;
  readonly note: TargetNote | null;
}

/** A target that loses the rows which no batch can have written. */
export interface ExpelledTarget extends Pick<VersionedTarget, "rows"> {
  readonly table: TableVersion;
  /** Its note once they are gone; null: it says so already. */
  readonly noted: string | null;
  /** The scope of a shared target that has no former owner once they are gone; null: it has none already. */
  readonly settled: string | null;
}

/** Who has which table's rows in targets that tables share. */
export interface WarehouseScopes {
  /** Those of these that somebody has. */
  find(scopes: readonly string[]): Promise<ScopeOwners>;
  /**
   * In one transaction, or as one step: looks again (`claimed`), and stores that this sink has these. Invariant: what the former
   * owners sent is done or void when it resolves, or their next batches find it out.
   */
  claim(claims: readonly ScopeClaim[]): Promise<void>;
  /** All that this sink has. */
  own(): Promise<readonly string[]>;
  /** Nobody has these any more, if this sink has them. */
  release(scopes: readonly string[]): Promise<void>;
}

/** An engine that is open for one sink. `P`: how the sink writes the rows of a prepared version. */
export interface Warehouse<L extends TableLayout, E extends ExistingTarget, P> extends Dialect<L, E> {
  readonly raise: Raise;
  /** Equal for two tables if and only if they would share a target. Throws for one that can't have a name there. */
  key(table: TableName): string;
  /** Where its target is, and in which form. */
  target(table: TableVersion): TableLayout;
  layout(table: TableVersion): L | Promise<L>;
  /** Names of the table's columns in the target, as the engine compares them. Without it they are the same. */
  columnNames?(table: TableVersion): readonly string[];
  /** Existing targets. An engine whose answers may be old asks again for a while unless the answer is the expected one. */
  find(tables: readonly TableName[], isExpected?: (found: Found<E>) => boolean): Promise<Found<E>>;
  /** Existing targets that have a column for versions: at least those of these tables, or (null) all where the sink writes. */
  versioned(tables: readonly TableName[] | null): Promise<Found<VersionedTarget>>;
  /** See `andInScope`. Without it a target is of one table. */
  inScope?(table: TableVersion): string;
  readonly scopes?: WarehouseScopes;
  /** Each value as text; null may be empty. `sqlName`: the target that the statement reads. */
  rows(sql: string, sqlName: string): Promise<readonly (readonly (string | null | undefined)[])[]>;
  /** How many targets `create` takes at once: all of them succeed or fail. */
  readonly createCountMax: number;
  /** How many targets are made or changed at the same time. Without it: one. */
  readonly atOnce?: number;
  /** All calls until `finish` are one transaction: nothing more is prepared after a table has failed. */
  readonly isOneTransaction: boolean;
  /** Returns those that are there all the same, if an answer of `find` may be old. */
  create(layouts: readonly L[]): Promise<Found<E> | void>;
  /**
   * Does what is not done yet; what is interrupted is done again. Invariant: nothing, if another daemon has prepared the target
   * since it was looked up (`expectOwned`). Returns the columns that the target keeps for itself.
   */
  change(change: TableChange<L, E>): Promise<readonly string[]>;
  /** Gives a mirror its other form, as `change` would. Without it `change` does. */
  convert?(target: TableLayout, existing: E): Promise<void>;
  /** `retired`: columns of the target that the table does not have. `existing`: as it was before; null: it was made. */
  prepared(layout: L, retired: readonly string[], existing: E | null): P | Promise<P>;
  /** A row stays readable for a while when a later one has replaced it. */
  readonly keepsReplacedRows?: true;
  /** Makes these columns null in rows that are marked as deleted, or are older than `below`; notes it only when that is done. */
  hide(layout: L, unhidden: Unhidden, below: bigint): Promise<void>;
  /** All tables of a call were tried. */
  finish?(prepared: readonly P[]): Promise<void>;
  /** Whether the rows are the same after changes that can keep them. */
  carriesRows(from: L, to: L, existing: E): Promise<boolean>;
  /** Runs work for one table; an error that concerns this table alone names it. */
  about<T>(table: TableVersion, work: () => T | Promise<T>): Promise<T>;
}

/** Of a target that was filled under rules that hid less, or other things. */
export interface Unhidden {
  /** Columns that may show in rows marked as deleted, or replaced, what rules hide now. */
  readonly columns: readonly string[];
  /** When they no longer do. */
  readonly note: string;
}

export class Targets<L extends TableLayout, E extends ExistingTarget, P> {
  readonly #owner: string;
  readonly #prepared = new WeakMap<TableVersion, P>();
  readonly #unhidden = new WeakMap<TableVersion, readonly [layout: L, Unhidden]>();
  /** Ids of the tables that are written to a target, by the target's key. */
  readonly #tables = new Map<string, ReadonlySet<string>>();
  /** The same of a table's part of a shared target, by its scope. */
  readonly #scopes = new Map<string, TableVersion>();
  /** By the target's key or the scope, the other daemon or sink whose it was when `foreign` was asked last. */
  readonly #others = new Map<string, string>();

  /** `owner`: see TargetNote. */
  constructor(owner: string) {
    this.#owner = owner;
  }

  find(table: TableVersion): P | undefined {
    return this.#prepared.get(table);
  }

  get(table: TableVersion): P {
    const found = this.#prepared.get(table);
    invariant(found !== undefined, `${table.id} is prepared before it is written`);
    return found;
  }

  /** Targets are looked for again at their next preparation. */
  forget(keys?: Iterable<string>): void {
    if (keys === undefined) this.#scopes.clear();
    for (const key of keys ?? [...this.#tables.keys()]) this.#tables.delete(key);
  }

  /** The same for one table; of a shared target, its part. */
  #forgetTable(warehouse: Warehouse<L, E, P>, table: TableVersion): void {
    const key = warehouse.key(table);
    const scope = scopeKey(key, table);
    if (scope === null) this.forget([key]);
    else this.#scopes.delete(scope);
  }

  /**
   * Creates missing targets, and makes each outdated one follow its table. If a table fails, the others are still prepared, and
   * the error names it.
   */
  async prepare(warehouse: Warehouse<L, E, P>, tables: readonly TableVersion[]): Promise<void> {
    const failures: MillraceError[] = [];
    const prepared: (readonly [table: TableVersion, P])[] = [];
    const tried = async <T>(table: TableVersion, work: () => T | Promise<T>): Promise<T | undefined> => {
      try {
        return await warehouse.about(table, work);
      } catch (error) {
        const known = findMillraceError(error);
        if (known?.table === undefined) throw error;
        failures.push(known);
        return undefined;
      }
    };
    const attempt = async <T>(table: TableVersion, work: () => T | Promise<T>): Promise<T | undefined> =>
      await (warehouse.isOneTransaction ? warehouse.about(table, work) : tried(table, work));
    const wanted: L[] = [];
    for (const table of tables) {
      const layout = await attempt(table, async () => named(warehouse, await warehouse.layout(table)));
      if (layout !== undefined) wanted.push(layout);
    }
    const look = (): Promise<Found<E>> => warehouse.find(wanted.map(({ table }) => table));
    const there = wanted.length === 1 ? await attempt(wanted[0]!.table, look) : await look();
    if (there === undefined) throw failures[0];
    const keyOf = ({ table }: TableLayout): string => warehouse.key(table);
    const layouts: L[] = [];
    for (const layout of wanted) {
      const existing = there.get(keyOf(layout));
      const fit = await tried(layout.table, () => {
        // Invariant: before this sink has a part of it.
        if (existing !== undefined && layout.table.scope !== undefined) expectForm(warehouse, layout, existing);
        return layout;
      });
      if (fit !== undefined) layouts.push(fit);
    }
    await this.#claim(
      warehouse,
      layouts.map(({ table }) => table),
    );
    const missing: L[] = [];
    const others: L[] = [];
    /** Targets whose existing form is not known any more. */
    const touched = new Set<string>();
    for (const layout of layouts) {
      (there.has(keyOf(layout)) || touched.has(keyOf(layout)) ? others : missing).push(layout);
      if (!there.has(keyOf(layout))) touched.add(keyOf(layout));
    }
    if (warehouse.isOneTransaction) {
      // All that what is there refuses, before anything is done: each failure ends the work on all of them.
      for (const [key, [layout]] of Map.groupBy(others, keyOf)) {
        const existing = there.get(key);
        if (existing !== undefined) await tried(layout!.table, () => void this.#planned(warehouse, layout!, existing));
      }
      if (isSome(failures)) throw joined(failures);
    }
    const follow = async (layout: L, known: E | undefined): Promise<void> => {
      const [target, unhidden] = await this.#followed(warehouse, layout, known);
      prepared.push([layout.table, target]);
      if (unhidden === null) this.#unhidden.delete(layout.table);
      else this.#unhidden.set(layout.table, [layout, unhidden]);
    };
    const { atOnce = 1, createCountMax } = warehouse;
    await eachOf(groupsOf(missing, createCountMax), atOnce, async (some) => {
      const create = async (): Promise<void> => {
        const existing = await warehouse.create(some);
        for (const layout of some) {
          const known = existing?.get(keyOf(layout));
          if (known !== undefined) await follow(layout, known);
          else prepared.push([layout.table, await warehouse.prepared(layout, [], null)]);
        }
      };
      await (some.length === 1 ? attempt(some[0]!.table, create) : create());
    });
    await eachOf([...Map.groupBy(others, keyOf)], atOnce, async ([key, sharing]) => {
      for (const layout of sharing) {
        const existing = touched.has(key) ? undefined : there.get(key);
        touched.add(key);
        await attempt(layout.table, () => follow(layout, existing));
      }
    });
    await warehouse.finish?.(prepared.map(([, target]) => target));
    for (const [table, target] of prepared) {
      const key = warehouse.key(table);
      const others = table.scope === undefined ? [] : (this.#tables.get(key) ?? []);
      this.#tables.set(key, new Set([...others, table.id]));
      this.#prepared.set(table, target);
    }
    if (isSome(failures)) throw joined(failures);
  }

  /** Their parts of shared targets are this sink's. Throws for all that another one has, before anything is prepared. */
  async #claim(warehouse: Warehouse<L, E, P>, tables: readonly TableVersion[]): Promise<void> {
    const claims = this.#claimsOf(warehouse, tables);
    if (claims.length === 0 || warehouse.scopes === undefined) return;
    const there = await warehouse.scopes.find(claims.map(({ scope }) => scope));
    expectScopes(warehouse.raise, this.#owner, claims, there);
    const others = claims.filter(({ scope }) => there.get(scope)?.owner !== this.#owner);
    if (others.length > 0) await warehouse.scopes.claim(others);
    for (const { scope, table } of claims) this.#scopes.set(scope, table);
  }

  #claimsOf(warehouse: Warehouse<L, E, P>, tables: readonly TableVersion[]): readonly ScopeClaim[] {
    return tables.flatMap((table) => {
      const scope = scopeKey(warehouse.key(table), table);
      return scope === null ? [] : [{ scope, table, from: this.#others.get(scope) ?? null }];
    });
  }

  /** Who has the target of the table, or its part of one that tables share; null: nobody. `found`: the targets. */
  async #owners(
    warehouse: Warehouse<L, E, P>,
    tables: readonly TableVersion[],
    found: Found<{ readonly note: TargetNote | null }>,
  ): Promise<(table: TableVersion) => Ownership | null> {
    const scopes = this.#claimsOf(warehouse, tables).map(({ scope }) => scope);
    const parts =
      (scopes.length === 0 ? undefined : await warehouse.scopes?.find(scopes)) ?? new Map<string, Ownership>();
    return (table) => {
      const key = warehouse.key(table);
      const scope = scopeKey(key, table);
      return (scope === null ? found.get(key)?.note : parts.get(scope)) ?? null;
    };
  }

  async #followed(
    warehouse: Warehouse<L, E, P>,
    layout: L,
    known: E | undefined,
  ): Promise<readonly [P, Unhidden | null]> {
    const key = warehouse.key(layout.table);
    const look = async (): Promise<E | undefined> =>
      (await warehouse.find([layout.table])).get(key) ?? (await warehouse.create([layout]))?.get(key);
    let existing = known ?? (await look());
    let change = existing === undefined ? null : this.#planned(warehouse, layout, existing);
    if (existing !== undefined && change?.isOtherForm === true && warehouse.convert !== undefined) {
      await warehouse.convert(layout, existing);
      existing = await look();
      change = existing === undefined ? null : this.#planned(warehouse, layout, existing);
    }
    if (existing === undefined || change === null) return [await warehouse.prepared(layout, [], null), null];
    const retired = change.isNothing ? keptColumns(change) : await warehouse.change(change);
    return [await warehouse.prepared(layout, retired, existing), unhiddenOf(warehouse, change, retired)];
  }

  /** What makes the target like its table. It is taken only from whom `foreign` has told: the runtime knows what that means. */
  #planned(warehouse: Warehouse<L, E, P>, layout: L, existing: E): TableChange<L, E> {
    const from = this.#others.get(warehouse.key(layout.table)) ?? null;
    // A target that is shared has owners of its parts alone: who has one that is not is no owner of a part.
    expectForm(warehouse, layout, existing);
    expectOwned(warehouse.raise, layout, existing.note, from);
    return changeOf(warehouse, layout, existing);
  }

  /** Whether there is anything to `hide`. */
  showHidden(sweeps: readonly Sweep[]): boolean {
    return sweeps.some(({ table }) => this.#unhidden.has(table));
  }

  /**
   * A whole read ends: all rows that are there were written under the present rules. What rows that are gone show, which these
   * rules hide, goes. Invariant: that is durable before the rows older than the read are removed, after which nobody reads again.
   */
  async hide(warehouse: Warehouse<L, E, P>, sweeps: readonly Sweep[]): Promise<void> {
    for (const { table, below } of sweeps) {
      const found = this.#unhidden.get(table);
      if (found === undefined) continue;
      await warehouse.about(table, () => warehouse.hide(...found, below));
      this.#unhidden.delete(table);
    }
  }

  /**
   * Which of these tables lack their target, or it was replaced, or lost columns. The others get the form that the options request
   * now, even if no rows arrive.
   */
  async missing(warehouse: Warehouse<L, E, P>, tables: readonly TableVersion[]): Promise<readonly TableVersion[]> {
    const isThere = (table: TableVersion, existing: E | undefined): existing is E =>
      existing !== undefined && !existing.isView && !this.#isRobbed(warehouse, table, existing);
    const there = await warehouse.find(tables, (found) =>
      tables.every((table) => isThere(table, found.get(warehouse.key(table)))),
    );
    const missing: TableVersion[] = [];
    for (const table of tables) {
      const existing = there.get(warehouse.key(table));
      if (!isThere(table, existing)) missing.push(table);
      else if (existing.form !== null && successorOf(this.#owner, existing.note) === null)
        await this.#convert(warehouse, warehouse.target(table), existing);
    }
    // What is reported here must not be reported again.
    this.forget(missing.map((table) => warehouse.key(table)));
    return missing;
  }

  async #convert(warehouse: Warehouse<L, E, P>, target: TableLayout, existing: E): Promise<void> {
    await warehouse.about(target.table, () => {
      expectForm(warehouse, target, existing);
      warehouse.expectWhole?.(target, existing);
    });
    if (!isOtherForm(target, existing)) return;
    if (warehouse.convert === undefined) await this.prepare(warehouse, [target.table]);
    else await warehouse.convert(target, existing);
  }

  #isRobbed(warehouse: Warehouse<L, E, P>, table: TableVersion, { form, columns, note, isAnother }: E): boolean {
    if (form === null) return false;
    // A history can't be read again: what was put in its place counts as put back.
    if (isAnother === true && form.mode === "mirror") return true;
    const names = warehouse.columnNames?.(table) ?? table.columns.map(({ name }) => name);
    const lost = lostColumns([...columns.keys()], note, table, names);
    return lost.length > 0;
  }

  /** See `TargetPresence.foreign`. */
  async foreign(warehouse: Warehouse<L, E, P>, tables: readonly TableVersion[]): Promise<readonly ForeignTarget[]> {
    const able = tables.filter((table) => keyOrNull(warehouse, table) !== null);
    if (able.length === 0) return [];
    const ownedIn = (found: Found<E>): boolean =>
      able.every((table) => formerOf(this.#owner, found.get(warehouse.key(table))?.note ?? null) === null);
    const there = await warehouse.find(able, ownedIn);
    const ownerOf = await this.#owners(warehouse, able, there);
    const taken: ForeignTarget[] = [];
    for (const table of able) {
      const key = warehouse.key(table);
      const place = scopeKey(key, table) ?? key;
      const found = ownerOf(table);
      const owner = formerOf(this.#owner, found);
      if (owner !== null) taken.push({ table, owner });
      const other = successorOf(this.#owner, found);
      if (other === null) this.#others.delete(place);
      else this.#others.set(place, other);
    }
    // What is reported here must not be reported again.
    for (const { table } of taken) this.#forgetTable(warehouse, table);
    return taken;
  }

  /** See `TargetPresence.adoptable`. */
  async adoptable(warehouse: Warehouse<L, E, P>, tables: readonly TableVersion[]): Promise<readonly TableVersion[]> {
    const able = tables.filter(
      (table) => keyOrNull(warehouse, table) !== null && warehouse.target(table).adopts === true,
    );
    if (able.length === 0) return [];
    const there = await warehouse.find(able);
    return able.filter((table) => {
      const existing = there.get(warehouse.key(table));
      return existing !== undefined && isAdoptable(existing);
    });
  }

  /** From which targets of these tables `TargetRows.expel` removes rows. */
  async expelled(warehouse: Warehouse<L, E, P>, tables: readonly TableVersion[]): Promise<readonly ExpelledTarget[]> {
    const there = await warehouse.versioned(tables);
    const ownerOf = await this.#owners(warehouse, tables, there);
    return tables.flatMap((table) => {
      const key = warehouse.key(table);
      const target = there.get(key);
      const ownership = ownerOf(table);
      // Rows of a daemon that has taken the target over meanwhile are its own.
      if (target === undefined || successorOf(this.#owner, ownership) !== null) return [];
      const settled = ownership?.former === undefined ? null : scopeKey(key, table);
      return [{ table, rows: target.rows, noted: expelledNote(this.#owner, target.note), settled }];
    });
  }

  /** Throws for prepared targets that another daemon writes now; they are forgotten. */
  expectOwned(raise: Raise, there: Found<Pick<ExistingTarget, "note">>): void {
    const taken: MillraceError[] = [];
    for (const [key, { note }] of there) {
      const ids = this.#tables.get(key);
      const successor = ids === undefined ? null : successorOf(this.#owner, note);
      if (successor === null) continue;
      this.forget([key]);
      for (const id of ids!) taken.push(takenBy(raise, `the target of ${id}`, id, successor));
    }
    if (isSome(taken)) throw joined(taken);
  }

  /** Throws for prepared parts of shared targets that another daemon has now; they are forgotten. `there`: who has them. */
  expectScopes(raise: Raise, there: ScopeOwners): void {
    const claims = [...there].flatMap(([scope, ownership]): readonly ScopeClaim[] => {
      const table = this.#scopes.get(scope);
      if (table === undefined || successorOf(this.#owner, ownership) === null) return [];
      this.#scopes.delete(scope);
      return [{ scope, table, from: null }];
    });
    expectScopes(raise, this.#owner, claims, there);
  }

  /** The same for all of them: a look at each, whoever else writes there. Returns those in which rows of a former owner may be. */
  async checkScopes({
    raise,
    scopes,
  }: Pick<Warehouse<L, E, P>, "raise" | "scopes">): Promise<readonly ForeignTarget[]> {
    if (scopes === undefined || this.#scopes.size === 0) return [];
    const there = await scopes.find([...this.#scopes.keys()]);
    this.expectScopes(raise, there);
    return [...there].flatMap(([scope, ownership]) => {
      const [owner, table] = [formerOf(this.#owner, ownership), this.#scopes.get(scope)];
      return owner === null || table === undefined ? [] : [{ table, owner }];
    });
  }

  /** See `TargetPresence.keepOnly`. */
  async keepOnly(warehouse: Warehouse<L, E, P>, tables: readonly TableVersion[]): Promise<void> {
    if (warehouse.scopes === undefined) return;
    const able = tables.filter((table) => keyOrNull(warehouse, table) !== null);
    const kept = new Set(this.#claimsOf(warehouse, able).map(({ scope }) => scope));
    const gone = (await warehouse.scopes.own()).filter((scope) => !kept.has(scope));
    if (gone.length === 0) return;
    for (const scope of gone) this.#scopes.delete(scope);
    await warehouse.scopes.release(gone);
  }

  /** The same, and for one that is gone. `there`: all that are there. */
  expectPresent(raise: Raise, place: string, there: Found<Pick<ExistingTarget, "note">>): void {
    this.expectOwned(raise, there);
    for (const [key, ids] of this.#tables) {
      if (there.has(key)) continue;
      const [table, ...others] = ids;
      throw raise("MR3110", "reopen", `the table of ${[table, ...others].join(", ")} is gone from ${place}`, {
        hint: "Millrace creates and fills it again",
        lostTables: [...ids],
      });
    }
  }

  /** See `Sink.evolution`. */
  async carries(warehouse: Warehouse<L, E, P>, from: TableVersion, to: TableVersion): Promise<boolean> {
    const [before, after] = [await warehouse.layout(from), await warehouse.layout(to)];
    const carrying = (found: Found<E>): E | null => {
      const existing = found.get(warehouse.key(to));
      return existing !== undefined && mayCarryRows(warehouse, before, after, existing) ? existing : null;
    };
    const existing = carrying(await warehouse.find([to], (found) => carrying(found) !== null));
    return existing !== null && (await warehouse.carriesRows(before, after, existing));
  }

  /** See `TargetRows`. */
  async highestVersion(warehouse: Warehouse<L, E, P>, tables: readonly TableVersion[] | AllTargets): Promise<bigint> {
    const there = await warehouse.versioned(typeof tables === "string" ? null : tables);
    const isCounted = ({ note }: VersionedTarget): boolean => tables === "all" || formerOf(this.#owner, note) === null;
    const asked =
      typeof tables === "string"
        ? [...there.values()].filter(isCounted).map(({ rows }) => [rows, ""] as const)
        : tables.flatMap((table) => {
            const found = there.get(warehouse.key(table));
            return found === undefined ? [] : [[found.rows, warehouse.inScope?.(table) ?? ""] as const];
          });
    let highest = 0n;
    for (const [name, and] of asked) {
      const [row] = await warehouse.rows(`SELECT max(${VERSION_COLUMN}) FROM ${name} WHERE true${and}`, name);
      const version = BigInt(row?.[0] ?? 0);
      if (version > highest) highest = version;
    }
    return highest;
  }
}

/** Removes rows that no batch can have written. `and`: see `andInScope`. */
export function expelSql(sqlName: string, version: bigint, and: string): string {
  return `DELETE FROM ${sqlName} WHERE (${VERSION_COLUMN} > ${version} OR ${VERSION_COLUMN} IS NULL)${and}`;
}

/**
 * The end of a condition that leaves alone the rows that other tables have in the target. `name`: the statement's for a column,
 * by ordinal.
 */
export function andInScope(
  { scope = {}, columns }: Pick<TableVersion, "scope" | "columns">,
  name: (ordinal: number) => string,
  literal: (text: string) => string,
): string {
  const values = Object.values(scope);
  const first = columns.length - values.length;
  return values.map((value, i) => ` AND ${name(first + i)} = ${literal(value)}`).join("");
}

function isSome(failures: readonly MillraceError[]): failures is readonly [MillraceError, ...MillraceError[]] {
  return failures.length > 0;
}

/** A history keeps what it got. */
function unhiddenOf<L extends TableLayout, E extends ExistingTarget>(
  dialect: Dialect<L, E> & Pick<Warehouse<L, E, unknown>, "keepsReplacedRows">,
  change: TableChange<L, E>,
  retired: readonly string[],
): Unhidden | null {
  const { layout, replaced, drops } = change;
  const { table, form } = layout;
  const note = hidingNote(table, decodeNote(change.note)!);
  if (note === null || form.mode === "history") return null;
  const { ruled, hides, scope = {} } = table;
  const masked = new Set(ruled?.lineage.flatMap(({ target, mask }) => (mask === null ? [] : [target])));
  const columns = dialect.wanted(layout).filter((_, i) => {
    const { name, computed } = table.columns[i]!;
    if (table.key.includes(i) || Object.hasOwn(scope, name)) return false;
    return ruled === undefined || ruled.filtered || masked.has(name) || computed !== undefined;
  });
  const kept = drops ? retired : [...retired, ...keptColumns(change), ...replaced.map(({ to }) => to)];
  const isKept = form.deletes === "soft" || dialect.keepsReplacedRows === true;
  const names = isKept && hides !== undefined ? [...columns.map(spelled), ...kept] : [];
  return { columns: [...new Set(names)], note: encodeNote(note) };
}

/** Throws for a table with a column that is named like ours. */
function named<L extends TableLayout>(dialect: Dialect<L>, layout: L): L {
  const own = dialect.wanted(layout).findIndex(({ name }) => isOwn(name));
  if (own < 0) return layout;
  const { table } = layout;
  const message = `column ${table.columns[own]!.name} of ${table.id} is named like Millrace's own columns`;
  throw dialect.refusal({ kind: "own name", message, table });
}

/** Null: it can't have that name, as its own preparation says. */
function keyOrNull(warehouse: { key(table: TableName): string }, table: TableName): string | null {
  try {
    return warehouse.key(table);
  } catch {
    return null;
  }
}
