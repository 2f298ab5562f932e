/**
 * What the rows of each table stood under, by an identity that survives renames: rules follow the table, not its name. It is
 * made from the versions that were registered, with the rules of their time.
 */
import { type Column, isLater, type TableVersion } from "../core/model/schema.ts";
import type { TableShape } from "../core/contracts/catalog.ts";
import { NO_PINS, type Pins } from "./pins.ts";

/** What rules have to know of tables as earlier processes registered them. */
export interface RuleMemory {
  readonly pins: Pins;
  readonly former: FormerRules;
}

export const noMemory = (): RuleMemory => ({ pins: NO_PINS, former: new FormerRules() });

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
}

export interface HiddenColumn extends Pick<Column, "name" | "identity"> {
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

  constructor(versions: Iterable<TableVersion> = []) {
    for (const version of [...versions].toSorted((a, b) => (isLater(a, b) ? 1 : -1))) this.passes(version);
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

  /** Rows of this shape may pass. */
  passes(shape: Shown): void {
    if (shape.ruled?.fault != null) return;
    const { id, fingerprint } = shape;
    const identity = identityOf(shape);
    const before = this.#byTable.get(identity);
    this.#isNew = false;
    this.#known.add(id);
    if (before?.id === id && before.fingerprint === fingerprint) return;
    const former = { id, identity, fingerprint, ...standing(shape) };
    this.#byTable.set(identity, former);
    if (isRuled(former)) this.#hasRuled = true;
  }

  /** What the table stood under; for one that never passed, what a table with the same columns stands under. */
  of(shape: TableShape): Former | undefined {
    const own = this.#byTable.get(identityOf(shape));
    return own ?? (this.#known.has(shape.id) ? undefined : this.alike(shape));
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

/** False for a table that only has the same columns. */
export function isSameTable({ identity }: Former, shape: TableShape): boolean {
  return identity === identityOf(shape);
}

/** Where the column is in this shape; below zero: nowhere. */
export function ordinalOf({ name, identity }: HiddenColumn, former: Former, shape: TableShape): number {
  if (identity > 0 && isSameTable(former, shape))
    return shape.columns.findIndex((column) => column.identity === identity);
  return shape.columns.findIndex((column) => column.name === name);
}

/** MySQL has no number of a table that survives all that keeps its rows: there it is the name. */
function identityOf({ id, dialect, relation }: Pick<Shown, "id" | "dialect" | "relation">): string {
  return dialect === "mysql" ? id : `${dialect} ${relation}`;
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
