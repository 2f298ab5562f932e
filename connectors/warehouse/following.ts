/**
 * How the target of a table follows a change of the table's shape. A note beside the target identifies its columns (in
 * Postgres and DuckDB it is the table's comment). So a renamed column differs from one that was dropped and another
 * that was added, even after a restore or restart.
 */
import type { Raise } from "../../src/core/errors.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import { takenBy } from "../../src/core/targets/taken.ts";

/** Who has a target, or a table's part of one that tables share. */
export interface Ownership {
  /** Who writes to it, `<daemon>/<sink>`. Absent: of nobody alone, as where tables share a target. */
  readonly owner?: string | undefined;
  /** The owner before, whose rows may still be there: see `TargetPresence.foreign`. */
  readonly former?: string | undefined;
}

/** The table for which the target was created, in the target's names and types. */
export interface TargetNote extends Ownership {
  /** `TableVersion.relation`. */
  readonly relation: number;
  /** Names of the key's columns. */
  readonly key: readonly string[];
  /** By name: `Column.identity`, and the type as the sink requested it. */
  readonly columns: Readonly<Record<string, readonly [identity: number, type: string]>>;
  /** The target has not got its key yet: it is made when the rows of a first copy are there. */
  readonly keyless?: true | undefined;
  /** Columns of the program that had made the target: they are never written. */
  readonly theirs?: readonly string[] | undefined;
  /** By table id, the `TableVersion.hides` under which all of its rows there were written, marked ones too. Without it: nothing. */
  readonly hides?: Readonly<Record<string, string>> | undefined;
}

/** A column as the target should have it. */
export interface WantedColumn {
  /** As the target compares it. */
  readonly name: string;
  /** As statements give it, if that is another spelling. */
  readonly spelled?: string;
  readonly identity: number;
  readonly type: string;
}

/** What happens to each column of the table. */
export interface Following {
  /** For each wanted column: its present name in the target, or null if it must be added. */
  readonly from: readonly (string | null)[];
  /** Columns that the table no longer has: they stay, and are null in rows written from now on. */
  readonly retired: readonly string[];
  /** Columns that the table no longer has, but whose names are needed: they get another name or are dropped. */
  readonly replaced: readonly string[];
}

const MARK = "millrace ";

/** `existing`: of the target, whose other tables keep their columns in it. */
export function noteOf(
  table: TableVersion,
  columns: readonly WantedColumn[],
  owner: string | undefined,
  existing: TargetNote | null = null,
  theirs: readonly string[] = existing?.theirs ?? [],
): TargetNote {
  if (table.scope !== undefined) return sharedNote(table, columns, existing);
  return {
    relation: table.relation,
    key: table.key.map((ordinal) => columns[ordinal]!.name),
    columns: Object.fromEntries(columns.map(({ name, identity, type }) => [name, [identity, type]])),
    ...(owner === undefined ? {} : { owner }),
    ...(theirs.length === 0 ? {} : { theirs }),
    ...hiding(table, existing, hiddenEver(table, existing)),
  };
}

/** From the first row on that is written under other rules, the rows are no longer all of one kind. */
function hiddenEver({ id, hides }: TableVersion, existing: TargetNote | null): string | undefined {
  return existing === null || existing.hides?.[id] === hides ? hides : undefined;
}

/** What the note says that rules hide of this table, beside what it says of others. */
function hiding(
  { id, scope }: TableVersion,
  existing: TargetNote | null,
  own: string | undefined,
): Pick<TargetNote, "hides"> {
  const others = Object.entries((scope === undefined ? undefined : existing?.hides) ?? {}).filter(
    ([other]) => other !== id,
  );
  const hides = own === undefined ? others : [...others, [id, own] as const];
  const inOrder = hides.toSorted(([one], [other]) => (one < other ? -1 : 1));
  return inOrder.length === 0 ? {} : { hides: Object.fromEntries(inOrder) };
}

/** The note once no row of the table shows what its rules hide now; null: it says so already. */
export function hidingNote(table: TableVersion, note: TargetNote): TargetNote | null {
  const own = table.hides;
  if (note.hides?.[table.id] === own) return null;
  const { hides: _, former: __, ...rest } = note;
  return { ...rest, ...hiding(table, note, own) };
}

/**
 * Of a target that tables with different scopes share: they know its columns by their names, and it belongs to all who write
 * there. Whose the rows of each table are is said elsewhere (scopes.ts).
 */
function sharedNote(table: TableVersion, columns: readonly WantedColumn[], existing: TargetNote | null): TargetNote {
  const { key } = table;
  const own = columns.map(({ name, type }): [string, [identity: number, type: string]] => [name, [0, type]]);
  return {
    relation: SHARED,
    key: key.map((ordinal) => columns[ordinal]!.name),
    columns: { ...existing?.columns, ...Object.fromEntries(own) },
    ...hiding(table, existing, hiddenEver(table, existing)),
  };
}

/** No table's `TableVersion.relation`. */
const SHARED = -1;

/** Whether the target is of tables with different scopes, and not one table's alone; null: that is not known. */
export function isShared(note: TargetNote | null): boolean | null {
  return note === null ? null : note.relation === SHARED;
}

export function encodeNote(note: TargetNote): string {
  return MARK + JSON.stringify(note);
}

/** Null if the text is not a note: another program's comment, or none. */
export function decodeNote(text: string | null): TargetNote | null {
  if (text === null || !text.startsWith(MARK)) return null;
  try {
    const value: unknown = JSON.parse(text.slice(MARK.length));
    return isNote(value) ? value : null;
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}

/**
 * Another daemon or sink that has taken over the target since `owner` prepared it; null: nobody. Two that write to one table
 * hide each other's rows, because the versions of their rows come from different logs.
 */
export function successorOf(owner: string | undefined, note: Ownership | null): string | null {
  const noted = note?.owner;
  return owner === undefined || noted === undefined || noted === owner ? null : noted;
}

/**
 * Throws if another daemon has taken the target over: see `successorOf`. `from`: the one from whom this one takes it, if it
 * does.
 */
export function expectOwned(
  raise: Raise,
  { owner, table: { id } }: { readonly owner?: string | undefined; readonly table: Pick<TableVersion, "id"> },
  note: TargetNote | null,
  from: string | null = null,
): void {
  const successor = successorOf(owner, note);
  if (successor !== null && successor !== from) throw takenBy(raise, `the target of ${id}`, id, successor);
}

/** Whose rows may be in the target of `owner`; null: nobody else's. */
export function formerOf(owner: string | undefined, note: Ownership | null): string | null {
  return successorOf(owner, note) ?? (note?.owner === owner ? (note?.former ?? null) : null);
}

/** The note once the former owner's rows are gone; null: it says so already, or the target is not this owner's. */
export function expelledNote(owner: string | undefined, note: TargetNote | null): string | null {
  if (note?.former === undefined || note.owner !== owner) return null;
  const { former: _, ...rest } = note;
  return encodeNote(rest);
}

function isNote(value: unknown): value is TargetNote {
  if (typeof value !== "object" || value === null) return false;
  if (!("relation" in value && "key" in value && "columns" in value)) return false;
  const { relation, key, columns } = value;
  const isColumn = (c: unknown): boolean => Array.isArray(c) && typeof c[0] === "number" && typeof c[1] === "string";
  return (
    typeof relation === "number" &&
    Array.isArray(key) &&
    typeof columns === "object" &&
    columns !== null &&
    Object.values(columns).every(isColumn) &&
    (!("owner" in value) || typeof value.owner === "string") &&
    (!("former" in value) || typeof value.former === "string") &&
    (!("theirs" in value) || (Array.isArray(value.theirs) && value.theirs.every((name) => typeof name === "string")))
  );
}

/**
 * `found`: names of the target's columns, without Millrace's own. If identities are unknown (another table under the
 * name, no note), names decide: the rows are read again after every change of shape. `takes`: whether the column with
 * this name has the type of the wanted one.
 */
export function follow(
  found: readonly string[],
  note: TargetNote | null,
  table: TableVersion,
  wanted: readonly WantedColumn[],
  takes: (name: string, ordinal: number) => boolean,
): Following {
  const there = new Set(found);
  const noted = note?.relation === table.relation ? note : null;
  const nameOf = new Map<number, string>();
  for (const [name, [identity]] of Object.entries(noted?.columns ?? {})) {
    if (identity > 0 && there.has(name)) nameOf.set(identity, name);
  }
  const proven = wanted.map(({ identity }) => nameOf.get(identity) ?? null);
  const claimed = new Set(proven.filter((name) => name !== null));
  const from = proven.map((name, i) => {
    const column = wanted[i]!;
    if (name !== null) return name;
    if (!there.has(column.name) || claimed.has(column.name)) return null;
    const before = noted?.columns[column.name]?.[0] ?? 0;
    // Dropped and added again: the same name for another column.
    if (before > 0 && column.identity > 0) return null;
    // The table lost a column of this name in an earlier shape. The target kept it, and can reuse it only with the same
    // type.
    const isRetired = note !== null && !Object.hasOwn(note.columns, column.name);
    return isRetired && !takes(column.name, i) ? null : column.name;
  });
  const goingOn = new Set(from);
  const left = found.filter((name) => !goingOn.has(name));
  const names = new Set(wanted.map(({ name }) => name));
  const theirs = new Set(note?.theirs);
  return {
    from,
    retired: left.filter((name) => !names.has(name) && !theirs.has(name)),
    replaced: left.filter((name) => names.has(name)),
  };
}

/**
 * Columns that the table still has and the target no longer has, although it was given them: somebody dropped or renamed
 * them there, so their values are lost. `names`: of the table's columns, as the target spells them.
 */
export function lostColumns(
  found: readonly string[],
  note: TargetNote | null,
  table: TableVersion,
  names: readonly string[],
): readonly string[] {
  const isOfTable = note?.relation === (table.scope === undefined ? table.relation : SHARED);
  if (note === null || !isOfTable) return [];
  const there = new Set(found);
  const isWanted = (name: string, identity: number): boolean =>
    table.columns.some((column, i) =>
      identity > 0 && column.identity > 0 ? column.identity === identity : names[i] === name,
    );
  return Object.entries(note.columns)
    .filter(([name, [identity]]) => !there.has(name) && isWanted(name, identity))
    .map(([name]) => name);
}

/** Renames in an order in which none takes a name that another column still has. */
export function renamesOf(
  columns: readonly { readonly from: { readonly name: string } | null; readonly wanted: WantedColumn }[],
): readonly Rename[] {
  const outOfTheWay: Rename[] = [];
  const direct: Rename[] = [];
  const back: Rename[] = [];
  const taken = new Set(columns.map(({ from }) => from?.name));
  for (const [i, column] of columns.entries()) {
    const [from, { name }] = [column.from?.name, column.wanted];
    if (from === undefined || from === name) continue;
    if (taken.has(name)) {
      const between = `_millrace_renamed_${i}`;
      outOfTheWay.push({ from, to: between });
      back.push({ from: between, to: name });
    } else {
      direct.push({ from, to: name });
    }
  }
  return [...outOfTheWay, ...direct, ...back];
}

/**
 * A temporary name for a column whose own name the next version of its table needs; not one of `taken`. `fitted`: how
 * the target spells a name.
 */
export function nameUntil(
  column: string,
  version: number,
  taken: ReadonlySet<string>,
  fitted: (name: string) => string,
): string {
  const name = `${column}_until_${version}`;
  for (let i = 1; ; i++) {
    const chosen = fitted(i === 1 ? name : `${name}_${i}`);
    if (!taken.has(chosen)) return chosen;
  }
}

export interface Rename {
  readonly from: string;
  readonly to: string;
}

/**
 * Whether a target with the columns `found`, noted for `from`, becomes like `wanted` only by renamed, added and dropped
 * columns. An added column must not exist already under its name: it would get the old values.
 */
export function followsByNote(
  found: readonly string[],
  note: TargetNote | null,
  from: readonly Pick<WantedColumn, "name" | "identity">[],
  table: TableVersion,
  wanted: readonly WantedColumn[],
): boolean {
  if (note === null || note.relation !== table.relation) return false;
  const there = new Set(found);
  const isNoted = from.every(({ name, identity }) => note.columns[name]?.[0] === identity && there.has(name));
  if (!isNoted || Object.keys(note.columns).length !== from.length) return false;
  const noted = new Map(Object.values(note.columns));
  return wanted.every(({ name, identity, type }) =>
    noted.has(identity) ? noted.get(identity) === type : !there.has(name),
  );
}
