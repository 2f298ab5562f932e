/**
 * What the rows of each table stood under, by an identity that survives renames: rules follow the table, not its name. It is
 * made from the versions that were registered, with the rules of their time.
 */
import type { Rename } from "../core/contracts/change-log.ts";
import type { StoredRenames } from "../core/contracts/state-store.ts";
import { comparePositions, type Position } from "../core/model/position.ts";
import { type Column, isLater, type TableVersion } from "../core/model/schema.ts";
import type { TableShape } from "../core/contracts/catalog.ts";
import { NO_PINS, type Pins } from "./pins.ts";

/** What rules have to know of tables as earlier processes registered them. */
export interface RuleMemory {
  readonly pins: Pins;
  readonly former: FormerRules;
  /** Makes renames durable by which rules follow a table. */
  readonly keep: (renames: readonly Rename[], position: Position) => Promise<void>;
}

export const noMemory = (): RuleMemory => ({ pins: NO_PINS, former: new FormerRules(), keep: async () => {} });

/** What a table stood under when its rows last passed. */
export interface Former {
  /** Its name then. */
  readonly id: string;
  readonly hidden: readonly HiddenColumn[];
  /** True if a condition left rows out. */
  readonly filtered: boolean;
  /** All columns that it had at the source. */
  readonly columns: readonly Column[];
  readonly identity: string;
  readonly fingerprint: string;
  /** Where the log says so; null: it does not matter. */
  readonly at: Position | null;
}

export interface HiddenColumn extends Pick<Column, "name" | "identity"> {
  /** Its name now, if the log has the column renamed since. */
  readonly renamed?: string;
  /** A mask, or `drop`. */
  readonly how: string;
}

type Named = Pick<TableShape, "id">;
type Shown = Pick<TableShape, "id" | "dialect" | "relation" | "columns" | "fingerprint" | "ruled">;

export class FormerRules {
  /** By the table's identity. */
  readonly #byTable = new Map<string, Former>();
  /** Ids of tables whose rows passed. */
  readonly #known = new Set<string>();
  /** Nothing was ever registered: what the first look finds was there before any rule. */
  #isNew = true;
  #hasRuled = false;
  #renamedAt: Position | null = null;

  constructor(versions: Iterable<TableVersion> = [], renames: readonly StoredRenames[] = []) {
    const left = renames.toSorted((a, b) => comparePositions(a.position, b.position));
    for (const version of [...versions].toSorted((a, b) => (isLater(a, b) ? 1 : -1))) {
      while (left[0] !== undefined && comparePositions(left[0].position, version.since) <= 0)
        this.#apply(left.shift()!);
      this.passes(version, version.since);
    }
    for (const stored of left) this.#apply(stored);
  }

  #apply({ renames, position }: StoredRenames): void {
    this.rename(renames, position);
  }

  /** Tables that are there before any row passes are no copies of others. */
  begin(tables: Iterable<Named>): void {
    if (this.#isNew) for (const { id } of tables) this.#known.add(id);
    this.#isNew = false;
  }

  /** True if no table ever stood under rules. */
  get isEmpty(): boolean {
    return !this.#hasRuled;
  }

  /**
   * Rows of this shape may pass. `position`: where the log shows it; without one it is the catalogue's, which says nothing
   * of a table that is known by its name: renames may lie in between.
   */
  passes(shape: Shown, position: Position | null): void {
    if (shape.ruled?.fault != null) return;
    const { id, fingerprint } = shape;
    const identity = identityOf(shape);
    const before = this.#byTable.get(identity);
    this.#isNew = false;
    this.#known.add(id);
    const isNamed = isKnownByName(shape);
    if (isNamed && before !== undefined && (position === null || isEarlier(position, before))) return;
    if (before?.id === id && before.fingerprint === fingerprint && !before.hidden.some(isRenamed)) return;
    const at = isNamed ? position : null;
    const former = { id, identity, fingerprint, at, ...standing(shape) };
    this.#byTable.set(identity, former);
    if (isRuled(former)) this.#hasRuled = true;
  }

  /** What the table stood under; for one that never passed, what a table with the same columns stands under. */
  of(shape: TableShape, position: Position | null): Former | undefined {
    const own = this.#byTable.get(identityOf(shape));
    // A stream that is behind: the table had the name then that it has there.
    if (own !== undefined && position !== null && isEarlier(position, own)) return undefined;
    return own ?? (this.#known.has(shape.id) ? undefined : this.alike(shape));
  }

  /** What its partitions stood under, by names of their own. */
  ofParts({ dialect, parts = [] }: TableShape): readonly Former[] {
    const found = parts.map((relation) => this.#byTable.get(identityOf({ id: "", dialect, relation })));
    return found.filter((former) => former !== undefined && isRuled(former)).map((former) => former!);
  }

  /** Tables that are known by their names get others. Returns the renames by which rules follow a table. */
  rename(renames: readonly Rename[], position: Position): readonly Rename[] {
    // Read again.
    if (this.#renamedAt !== null && comparePositions(position, this.#renamedAt) <= 0) return [];
    this.#renamedAt = position;
    return renames.filter((rename) => this.#rename(rename, position));
  }

  #rename({ from, to, columns, isExchange }: Rename, at: Position): boolean {
    const own = this.#byTable.get(from);
    const other = this.#byTable.get(to);
    if ([own, other].some((former) => former !== undefined && isEarlier(at, former))) return false;
    const isOfRules = [own, other].some((former) => former !== undefined && isRuled(former));
    if (isExchange) {
      // Each may have rows of the other now.
      if (own !== undefined && isRuled(own)) this.#byTable.set(to, { ...own, identity: to, at });
      else if (other !== undefined && isRuled(other)) this.#byTable.set(from, { ...other, identity: from, at });
      return isOfRules;
    }
    this.#byTable.delete(from);
    if (own === undefined) this.#byTable.delete(to);
    else this.#byTable.set(to, { ...own, hidden: own.hidden.map((one) => renamed(one, columns)), identity: to, at });
    return isOfRules;
  }

  /** Ids of the tables of which rows passed, those that are gone too. */
  get known(): Iterable<string> {
    return this.#known;
  }

  /** True if rows of a table of this name passed, of this one or another. */
  isKnown({ id }: Named): boolean {
    return this.#known.has(id);
  }

  /** A table under rules all whose columns this one has. */
  alike(shape: TableShape): Former | undefined {
    const columns = new Set(shape.columns.map(spelled));
    const isAlike = (former: Former): boolean =>
      former.id !== shape.id && isRuled(former) && former.columns.every((column) => columns.has(spelled(column)));
    return [...this.#byTable.values()].find(isAlike);
  }
}

/** True if the table is a partition of this one now. */
export function isPart({ identity }: Former, { dialect, parts = [] }: TableShape): boolean {
  return parts.some((relation) => identity === identityOf({ id: "", dialect, relation }));
}

/** False for a table that only has the same columns. */
export function isSameTable({ identity }: Former, shape: TableShape): boolean {
  return identity === identityOf(shape);
}

/** Where the column is in this shape; below zero: nowhere. */
export function ordinalOf(
  { name, identity, renamed: now = name }: HiddenColumn,
  former: Former,
  shape: TableShape,
): number {
  if (identity > 0 && isSameTable(former, shape))
    return shape.columns.findIndex((column) => column.identity === identity);
  return shape.columns.findIndex((column) => isSameName(column.name, now));
}

/** MySQL has no number of a table that survives all that keeps its rows: there it is the name, and the log has the renames. */
export function isKnownByName({ dialect }: Pick<TableShape, "dialect">): boolean {
  return dialect === "mysql";
}

function identityOf(shape: Pick<Shown, "id" | "dialect" | "relation">): string {
  return isKnownByName(shape) ? shape.id : `${shape.dialect} ${shape.relation}`;
}

/** A table that stands at a later position of the log. */
function isEarlier(position: Position, { at }: Former): boolean {
  return at !== null && comparePositions(position, at) < 0;
}

function isRenamed({ renamed: now }: HiddenColumn): boolean {
  return now !== undefined;
}

/** MySQL's names of columns, in whatever case a statement has them. */
function isSameName(a: string, b: string): boolean {
  return a.toLowerCase() === b.toLowerCase();
}

function renamed(column: HiddenColumn, columns: Rename["columns"]): HiddenColumn {
  const now = columns.find(([from]) => isSameName(from, column.renamed ?? column.name))?.[1];
  return now === undefined ? column : { ...column, renamed: now };
}

function isRuled({ hidden, filtered }: Former): boolean {
  return hidden.length > 0 || filtered;
}

function spelled({ name, native }: Column): string {
  return JSON.stringify([name, native]);
}

function standing({ columns, ruled }: Shown): Pick<Former, "hidden" | "filtered" | "columns"> {
  if (ruled === undefined) return { hidden: [], filtered: false, columns };
  const hidden = ruled.source.columns.flatMap(({ name, identity }): HiddenColumn[] => {
    const found = ruled.lineage.find(({ source }) => source === name);
    const how = found === undefined || found.target === null ? "drop" : found.mask;
    return how === null ? [] : [{ name, identity, how }];
  });
  return { hidden, filtered: ruled.filtered, columns: ruled.source.columns };
}
