/**
 * What tables that are known by their names become further on in the log. It has rows under the names that tables had, and the
 * configuration is written for the names that they have now: a rule for a name says nothing of a table that loses it.
 */
import type { Rename } from "../core/contracts/change-log.ts";
import { comparePositions, type Position, serializePosition } from "../core/model/position.ts";

/** A name that the rows of a table come under, and what its columns are called there. */
export interface LaterTable {
  readonly id: string;
  /** Of those that get other names or are dropped (none), by their present names in lower case. */
  readonly columns: ReadonlyMap<string, readonly string[]>;
}

export interface Future {
  readonly tables: readonly LaterTable[];
  /** The table goes, or may go, and another one gets its name. */
  readonly isReplaced: boolean;
  /** Too much happens to it to say what it becomes. */
  readonly isUnknown?: true;
}

interface FutureFrom {
  /** The statement from which on it is otherwise. */
  readonly before: Position;
  readonly future: Future;
}

/** Where the log gives tables or columns other names. */
export interface RenamesAt {
  readonly position: Position;
  readonly renames: readonly Rename[];
}

/** Beyond it nothing is known of any table. */
export const RENAMES_MAX = 100_000;
/** A partition that is exchanged again and again is in few tables. */
const NAMES_MAX = 32;

const SAME_COLUMNS: ReadonlyMap<string, readonly string[]> = new Map();
const REPLACED: Future = { tables: [], isReplaced: true };
const UNKNOWN: Future = { tables: [], isReplaced: true, isUnknown: true };

export class Foresight {
  /** By table id, the statement that comes last first. */
  readonly #byName = new Map<string, FutureFrom[]>();
  /** Null: all is known. */
  readonly #unknownBefore: Position | null;

  /** `statements`: from where it is to be known, as the log tells them; null: there are too many of them before `until`. */
  constructor(statements: readonly RenamesAt[] | null, until: Position) {
    this.#unknownBefore = statements === null ? until : null;
    for (const statement of inOrder(statements ?? []).toReversed()) this.#add(statement);
  }

  /** Undefined: it keeps its name, and its columns theirs. */
  of(id: string, position: Position): Future | undefined {
    if (this.#unknownBefore !== null && comparePositions(position, this.#unknownBefore) < 0) return UNKNOWN;
    const found = this.#byName.get(id)?.findLast(({ before }) => comparePositions(position, before) < 0);
    return found === undefined || staysAsItIs(id, found.future) ? undefined : found.future;
  }

  #add({ position, renames }: RenamesAt): void {
    const made = new Set(renames.flatMap(({ to, how }) => (how === "made" || how === "perhaps made" ? [to] : [])));
    const changed = new Map<string, Future>();
    const then = (id: string): Future => changed.get(id) ?? this.#byName.get(id)?.at(-1)?.future ?? asItIs(id);
    for (const rename of renames.toReversed())
      // CREATE TABLE … LIKE copies no row.
      if (!isCopy(rename) || !made.has(rename.to))
        for (const [id, future] of stepBack(rename, then)) changed.set(id, future);
    for (const [id, future] of changed) {
      const known = this.#byName.get(id);
      if (known === undefined) this.#byName.set(id, [{ before: position, future }]);
      else known.push({ before: position, future });
    }
  }
}

/** Each once: a log in Kafka has statements again, behind later ones too, where its writer read that part of its own log again. */
function inOrder(told: readonly RenamesAt[]): readonly RenamesAt[] {
  const statements = new Map(told.map((one) => [JSON.stringify([serializePosition(one.position), one.renames]), one]));
  return [...statements.values()].toSorted((a, b) => comparePositions(a.position, b.position));
}

/** True if the name is another table's later on, or none's. */
export function losesName(id: string, { tables, isReplaced }: Future): boolean {
  return isReplaced || tables.some((later) => later.id !== id);
}

export function losesColumn(name: string, { tables }: Future): boolean {
  return tables.some(({ columns }) => columns.has(name.toLowerCase()));
}

/** What a column is called later on. */
export function namesLater(name: string, { columns }: LaterTable): readonly string[] {
  return columns.get(name.toLowerCase()) ?? [name];
}

function isCopy({ how }: Rename): boolean {
  return how === "copied" || how === "perhaps copied";
}

/** The futures of its tables before a rename, from those behind it. */
function stepBack(
  { from, to, columns, how }: Rename,
  then: (id: string) => Future,
): readonly (readonly [id: string, future: Future])[] {
  switch (how) {
    case "renamed":
      return from === to
        ? [[from, through(columns, then(from))]]
        : [
            [from, through(columns, then(to))],
            [to, REPLACED],
          ];
    case "exchanged":
      return [
        [from, either(then(from), through(columns, then(to)))],
        [to, either(then(to), then(from))],
      ];
    // Its rows may have gone there.
    case "copied":
    case "perhaps copied":
      return [[from, either(then(from), then(to))]];
    case "made":
      return [[to, REPLACED]];
    case "perhaps made":
      return [[to, { ...then(to), isReplaced: true }]];
    default:
      return how satisfies never;
  }
}

function asItIs(id: string): Future {
  return { tables: [{ id, columns: SAME_COLUMNS }], isReplaced: false };
}

function staysAsItIs(id: string, { tables, isReplaced }: Future): boolean {
  return !isReplaced && tables.every((later) => later.id === id && later.columns.size === 0);
}

function either(one: Future, other: Future): Future {
  const tables = new Map([...one.tables, ...other.tables].map((later) => [textOf(later), later]));
  if (tables.size > NAMES_MAX || one.isUnknown || other.isUnknown) return UNKNOWN;
  return { tables: [...tables.values()], isReplaced: one.isReplaced || other.isReplaced };
}

function textOf({ id, columns }: LaterTable): string {
  return JSON.stringify([id, [...columns].toSorted(([a], [b]) => (a < b ? -1 : 1))]);
}

function through(pairs: Rename["columns"], future: Future): Future {
  if (pairs.length === 0) return future;
  return { ...future, tables: future.tables.map((later) => ({ ...later, columns: joined(pairs, later) })) };
}

/** `pairs`: all at once; several of one name: it gets one of them. */
function joined(pairs: Rename["columns"], later: LaterTable): LaterTable["columns"] {
  const now = Map.groupBy(pairs, ([from]) => from.toLowerCase());
  const columns = new Map(later.columns);
  for (const [from, own] of now) {
    const names = own.flatMap(([, to]) => (to === "" ? [] : namesLater(to, later)));
    if (names.every((name) => name.toLowerCase() === from) && names.length > 0) columns.delete(from);
    else columns.set(from, [...new Set(names)]);
  }
  return columns;
}
