/**
 * How a warehouse's table follows its table at the source.
 *
 *     shape of the table ──► layout ──┐
 *     engine's catalogue ──► existing ┴─► changeOf ──► null: it is as it should be
 *                                            │
 *              refused: not ours, a history   ├──► alterations: columns are added, renamed, dropped in place
 *              for a mirror, a type or a key  │
 *              that somebody else changed     └──► copyOf: another key, type or form: the rows go into another table
 *
 * 1. `existing.form` tells whether Millrace made the target, and as what. Any other table is refused before it is touched,
 *    or, with `adopts`, gets Millrace's columns if it has the table's key and types. Its further columns stay its own.
 *    Refused is also one that tables with scopes share, for a table without one, and the reverse: each would write over the
 *    other's rows, under another key.
 * 2. `follow` pairs the table's columns with the target's by the identities of the note beside the target, so that a
 *    renamed column keeps its values and an added one does not get those of a dropped one with its name.
 * 3. A type or key that differs from what the table had when the target was made is the source's change. One that
 *    differs although the source did not change it is somebody else's: the sink refuses the table and changes nothing.
 * 4. Columns that the table lost stay (`retired`), or get another name if theirs is needed (`replaced`). With `drops` they
 *    go, which a history never does: it keeps each value that was ever there, under another name if a type can't hold it.
 * 5. Values that the new type does not accept are null until the table was read again, and rows that have no key under
 *    the new key go: each change of shape makes the runtime read the table again, unless `carries` is true.
 * 6. The engine does what was planned. It writes the note in the same transaction, or after everything else: what is
 *    interrupted begins again.
 *
 * Each engine once planned this on its own, in an order of its own: a fault was corrected in one and stayed in the others,
 * and one engine refused what another made again.
 */
import type { ErrorCode, MillraceError, Raise } from "../../src/core/errors.ts";
import type { Column, TableVersion } from "../../src/core/model/schema.ts";
import type { CheckedTable, TableName } from "../../src/core/contracts/connector.ts";
import { otherSharing, SHARING_HINT } from "../../src/core/targets/sharing.ts";
import {
  encodeNote,
  follow,
  followsByNote,
  formerOf,
  isShared,
  nameUntil,
  noteOf,
  type Rename,
  type TargetNote,
  type WantedColumn,
} from "./following.ts";
import { CHANGE_IDENTITY, EXACT_COLUMN, isOwn, type TargetForm } from "./own-columns.ts";

/** A version of a table as the sink writes it. */
export interface TableLayout {
  readonly table: TableVersion;
  /** Quoted and qualified, as statements name it. */
  readonly sqlName: string;
  readonly form: TargetForm;
  /** Whether a mirror drops columns that the table no longer has. */
  readonly dropsColumns: boolean;
  /** See TargetNote. */
  readonly owner?: string | undefined;
  /** What another program made is taken over. */
  readonly adopts?: boolean | undefined;
}

export interface ExistingColumn {
  /** In its original spelling. */
  readonly name: string;
  readonly type: string;
}

/** What the engine's catalogue has under a target's name. Names are spelled as the engine compares them. */
export interface ExistingTarget {
  readonly isView: boolean;
  /** Null: Millrace did not make it. */
  readonly form: TargetForm | null;
  readonly columns: ReadonlyMap<string, ExistingColumn>;
  /** The columns of each key that identifies its rows, Millrace's own among them. */
  readonly keys: readonly (readonly string[])[];
  readonly note: TargetNote | null;
  /** What goes with the table that the sink wrote is missing: somebody put another one in its place. */
  readonly isAnother?: boolean;
}

/** Why a sink does not write a table. */
export const REFUSED = {
  foreign: "MR3106",
  sharing: "MR3106",
  mode: "MR3120",
  type: "MR3107",
  key: "MR3107",
  "own name": "MR3117",
  adoption: "MR3123",
} as const;

/** Of a table whose target's schema would be the engine's or Millrace's own. */
export function reservedSchema(raise: Raise, message: string, table: string): MillraceError {
  const hint = "Give the sink a `schema`, or leave the table out of its `tables`.";
  return raise("MR3117", "fatal", message, { hint, table });
}

/** Failures of one table while it is prepared: they do not concern the sink's other tables. */
export const TABLE_FAILURES: readonly ErrorCode[] = [...Object.values(REFUSED), "MR3121"];

type Refusing = Pick<Dialect, "shown" | "place" | "refusal">;

/** A table's target, and the form that the sink's options want it to have. */
interface WantedTarget {
  readonly table: TableName & Pick<CheckedTable, "scope">;
  readonly form: TargetForm;
  readonly adopts?: boolean | undefined;
}

export interface Refused {
  readonly kind: keyof typeof REFUSED;
  readonly message: string;
  readonly table: TableName;
  /** Of kind "type". */
  readonly column?: WantedColumn;
  /** Where it is the same in each engine. */
  readonly hint?: string;
}

/** What the planner must know of an engine. */
export interface Dialect<L extends TableLayout = TableLayout, E extends ExistingTarget = ExistingTarget> {
  /** In messages: "ClickHouse", "the DuckDB file". */
  readonly place: string;
  /** What identifies a row there: "primary key". */
  readonly keyName: string;
  /** The rows are sorted by the key, so that the order of its columns matters. */
  readonly keepsKeyOrder: boolean;
  quote(name: string): string;
  /** A name as the engine spells it, where it may be too long. */
  fitted?(name: string): string;
  /** The target's name in messages. */
  shown(table: TableName): string;
  /** In the order of the table's columns. */
  wanted(layout: L): readonly WantedColumn[];
  /** Whether the target's column accepts what one of the wanted type does. Without it the types must be the same. */
  takes?(there: ExistingColumn, wanted: WantedColumn): boolean;
  /** Throws if somebody changed the target so that it can't hold what is written to it. */
  expectWhole?(layout: TableLayout, existing: E): void;
  /** Whether the target's name is spelled like the table's, where the engine finds it under other spellings. */
  isNamed?(layout: L, existing: E): boolean;
  /** Numbers a refusal, and says what to do. */
  refusal(refused: Refused): MillraceError;
}

export interface ColumnChange {
  readonly wanted: WantedColumn;
  readonly isKey: boolean;
  /** The target's present column; null: it is added. */
  readonly from: ExistingColumn | null;
  readonly isRetyped: boolean;
}

/** What becomes of a target. The names of `retired` and `replaced` are spelled as the engine compares them. */
export interface TableChange<L extends TableLayout = TableLayout, E extends ExistingTarget = ExistingTarget> {
  readonly layout: L;
  readonly existing: E;
  /** In the order of the table's columns. */
  readonly columns: readonly ColumnChange[];
  readonly retired: readonly string[];
  /** Columns that the table no longer has, but whose names are needed, and the names that they get. */
  readonly replaced: readonly Rename[];
  /** Retired and replaced columns go. */
  readonly drops: boolean;
  /** The table has another key than when the target was made, or the target has not got its key yet. */
  readonly isNewKey: boolean;
  /** Another program made the target: it gets Millrace's own columns, and its rows version 0. */
  readonly isAdopted: boolean;
  /** Deleted rows are marked, and should go; or the reverse. */
  readonly isOtherForm: boolean;
  readonly isRenamed: boolean;
  /** The comment with the note of this shape. */
  readonly note: string;
  readonly isNoted: boolean;
  /** The target is as it should be. */
  readonly isNothing: boolean;
}

/** What makes the target like its table. Throws if it is not ours, or if somebody changed it. */
export function changeOf<L extends TableLayout, E extends ExistingTarget>(
  dialect: Dialect<L, E>,
  layout: L,
  existing: E,
): TableChange<L, E> {
  const { table, form } = layout;
  expectForm(dialect, layout, existing);
  dialect.expectWhole?.(layout, existing);
  const wanted = dialect.wanted(layout);
  const thereAs = (name: string | null | undefined) => (name == null ? null : (existing.columns.get(name) ?? null));
  const takes = (name: string, i: number): boolean => accepts(dialect, thereAs(name)!, wanted[i]!);
  const found = [...existing.columns.keys()].filter((name) => !isOwn(name));
  const { from, retired, replaced } = follow(found, existing.note, table, wanted, takes);
  const isAdopted = existing.form === null;
  for (const name of replaced) {
    const column = wanted.find((one) => one.name === name)!;
    if (existing.note?.theirs?.includes(name) === true) throw otherType(dialect, table, column, thereAs(name)!);
  }
  const columns = wanted.map((column, i): ColumnChange => {
    const there = thereAs(from[i]);
    const isRetyped = there !== null && !accepts(dialect, there, column);
    const noted = existing.note?.columns[from[i] ?? ""]?.[1];
    // Another table's rows have that type there.
    const isOthers = noted === undefined || noted === column.type || table.scope !== undefined;
    if (isRetyped && isOthers) throw otherType(dialect, table, column, there);
    return { wanted: column, isKey: table.key.includes(i), from: there, isRetyped };
  });
  const fitted = (long: string): string => dialect.fitted?.(long) ?? long;
  const taken = new Set(existing.columns.keys());
  const renamed = replaced.map((name) => {
    const to = nameUntil(name, table.version, taken, fitted);
    taken.add(to);
    return { from: name, to };
  });
  const theirs = isAdopted
    ? retired
    : existing.note?.theirs?.filter((name) => existing.columns.has(name) && !from.includes(name));
  const note = noteText(dialect, layout, existing.note, theirs);
  const change: Omit<TableChange<L, E>, "isNothing"> = {
    layout,
    existing,
    columns,
    retired: isAdopted ? [] : retired,
    replaced: renamed,
    drops: layout.dropsColumns && form.mode === "mirror" && table.scope === undefined,
    isNewKey: isNewKey(dialect, layout, existing, { wanted, from }),
    isAdopted,
    isOtherForm: isOtherForm(layout, existing),
    isRenamed: dialect.isNamed?.(layout, existing) === false,
    note,
    isNoted: existing.note !== null && encodeNote(existing.note) === note,
  };
  return { ...change, isNothing: isNothing(change) };
}

/** `existing`: of the target as it is; null: there is none. */
export function noteText<L extends TableLayout>(
  dialect: Pick<Dialect<L>, "wanted">,
  layout: L,
  existing: TargetNote | null = null,
  theirs?: readonly string[],
): string {
  const note = noteOf(layout.table, dialect.wanted(layout), layout.owner, existing, theirs);
  const former = note.owner === undefined ? null : formerOf(note.owner, existing);
  return encodeNote(former === null ? note : { ...note, former });
}

function accepts(dialect: Pick<Dialect, "takes">, there: ExistingColumn, column: WantedColumn): boolean {
  return dialect.takes?.(there, column) ?? there.type === column.type;
}

/** The same rows under another form: those that are marked go, or can be marked from now on. */
export function isOtherForm({ form }: TableLayout, existing: ExistingTarget): boolean {
  return form.mode === "mirror" && existing.form !== null && existing.form.deletes !== form.deletes;
}

/** Of a target as it is, without which it can't be told whether it is the table's. */
type FoundForm = Pick<ExistingTarget, "form" | "isView" | "columns" | "note">;

/** Throws if the target is not ours, holds a history instead of a mirror, is shared and the table's is not, or the reverse of these. */
export function expectForm(dialect: Refusing, wanted: WantedTarget, existing: FoundForm): void {
  const refused = formRefusal(dialect, wanted, existing);
  if (refused !== null) throw refused;
}

function formRefusal(
  dialect: Refusing,
  { table, form, adopts }: WantedTarget,
  existing: FoundForm,
): MillraceError | null {
  const name = dialect.shown(table);
  const { form: found } = existing;
  if (found === null && adopts === true && isAdoptable(existing)) return null;
  if (found === null) {
    const message = `${name} exists in ${dialect.place} and was not made by Millrace`;
    return dialect.refusal({ kind: "foreign", message, table });
  }
  if (found.mode !== form.mode) {
    const message = `${name} holds a ${found.mode}, and the sink is to keep a ${form.mode}`;
    return dialect.refusal({ kind: "mode", message, table });
  }
  const message = otherSharing(name, isShared(existing.note), table);
  return message === null ? null : dialect.refusal({ kind: "sharing", message, table, hint: SHARING_HINT });
}

/** A table of another program, which Millrace has never written to. */
export function isAdoptable({ form, isView, columns }: Pick<ExistingTarget, "form" | "isView" | "columns">): boolean {
  return form === null && !isView && ![...columns.keys()].some(isOwn);
}

/** What a start would refuse, as far as the target and its note show it without the table; null: nothing. */
export function refusalOf(
  dialect: Refusing & Pick<Dialect, "keyName" | "takes">,
  wanted: WantedTarget,
  existing: ExistingTarget,
): MillraceError | null {
  const refused = formRefusal(dialect, wanted, existing);
  const { note, columns } = existing;
  if (refused !== null || note === null) return refused;
  if (!hasNotedKey(existing, wanted.form)) return keyRefusal(dialect, wanted.table, note.key);
  for (const [name, [identity, type]] of Object.entries(note.columns)) {
    const there = columns.get(name);
    if (there === undefined) continue;
    const column = { name, spelled: there.name, identity, type };
    if (!accepts(dialect, there, column)) return otherType(dialect, wanted.table, column, there);
  }
  return null;
}

/** What a start would refuse of a target that it takes over. */
export function adoptionRefusals(
  dialect: Refusing & Pick<Dialect, "keyName" | "takes">,
  {
    table,
    columns,
    key,
  }: { readonly table: TableName; readonly columns: readonly WantedColumn[]; readonly key: readonly string[] },
  existing: Pick<ExistingTarget, "columns" | "keys">,
): readonly MillraceError[] {
  const types = columns.flatMap((column) => {
    const there = existing.columns.get(column.name);
    return there === undefined || accepts(dialect, there, column) ? [] : [otherType(dialect, table, column, there)];
  });
  const hasKey = existing.keys.some((one) => isSame(one, key));
  return hasKey ? types : [...types, keyRefusal(dialect, table, key)];
}

function otherType(dialect: Refusing, table: TableName, column: WantedColumn, { type }: ExistingColumn): MillraceError {
  const name = `column ${spelled(column)} of ${dialect.shown(table)}`;
  const message = `${name} is ${type} in ${dialect.place} and should be ${column.type}`;
  return dialect.refusal({ kind: "type", message, table, column });
}

/** Whether the target must get another key. Throws if somebody else took or changed the key that it had. */
function isNewKey<L extends TableLayout, E extends ExistingTarget>(
  dialect: Dialect<L, E>,
  layout: L,
  { keys, note }: E,
  { wanted, from }: { readonly wanted: readonly WantedColumn[]; readonly from: readonly (string | null)[] },
): boolean {
  const { table, form } = layout;
  const key = table.key.map((ordinal) => wanted[ordinal]!.name);
  const nowNamed = new Map(wanted.map(({ name }, i) => [from[i] ?? null, name]));
  const now = (columns: readonly string[]): readonly string[] => columns.map((column) => nowNamed.get(column) ?? "");
  const isInOrder = (columns: readonly string[]): boolean => columns.every((name, i) => name === key[i]);
  const noted = note === null || note.keyless === true ? null : now(note.key);
  const isNoted = noted !== null && isSame(noted, key) && (!dialect.keepsKeyOrder || isInOrder(noted));
  // Distinguishes the changes of a row in a history.
  const change = form.mode === "history" ? CHANGE_IDENTITY : [];
  const isThere = keys.some(
    (columns) => isSame(columns.filter(isOwn), change) && isSame(now(columns.filter((column) => !isOwn(column))), key),
  );
  if (isThere && (note === null || isNoted || !dialect.keepsKeyOrder)) return false;
  if (note !== null && !isNoted && form.mode === "mirror" && table.scope === undefined) return true;
  throw keyRefusal(dialect, table, key);
}

function keyRefusal(
  dialect: Refusing & Pick<Dialect, "keyName">,
  table: TableName,
  key: readonly string[],
): MillraceError {
  const list = key.map((name) => JSON.stringify(name)).join(", ");
  const message = `${dialect.shown(table)} has no ${dialect.keyName} over ${list} in ${dialect.place}, the table's key at the source`;
  return dialect.refusal({ kind: "key", message, table });
}

/** Whether the target has the key that its note tells of. */
function hasNotedKey({ keys, note }: ExistingTarget, { mode }: TargetForm): boolean {
  if (note === null || note.keyless === true) return true;
  const key = mode === "history" ? [...note.key, ...CHANGE_IDENTITY] : note.key;
  return keys.some((columns) => isSame(columns, key));
}

function isSame(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((name) => b.includes(name));
}

/** A column's name as statements give it. */
export function spelled({ name, spelled }: WantedColumn): string {
  return spelled ?? name;
}

function isSpelledAnew({ from, wanted }: ColumnChange): boolean {
  return from !== null && from.name !== spelled(wanted);
}

function isNothing(change: Omit<TableChange, "isNothing">): boolean {
  const { columns, retired, replaced, drops, isNoted } = change;
  const isLike = columns.every((column) => column.from !== null && !column.isRetyped && !isSpelledAnew(column));
  const isKept = replaced.length === 0 && (retired.length === 0 || !drops);
  return (
    isLike && isKept && isNoted && !change.isAdopted && !change.isNewKey && !change.isOtherForm && !change.isRenamed
  );
}

/** Columns that the table no longer has and a target keeps that changes in no other way, as they are spelled there. */
export function keptColumns({ existing, retired, drops }: TableChange): readonly string[] {
  return drops ? [] : retired.map((name) => existing.columns.get(name)!.name);
}

export interface Alterations {
  readonly added: readonly WantedColumn[];
  readonly renamed: readonly Rename[];
  readonly dropped: readonly string[];
}

/**
 * How the target changes in place; null: its rows must be copied into another table. `can`: what the engine can do besides
 * adding a column, in tables of any shape.
 */
export function alterations(
  change: TableChange,
  can: { readonly rename: boolean; readonly drop: boolean },
): Alterations | null {
  const { columns, existing, retired, replaced, drops } = change;
  if (change.isOtherForm || change.isNewKey || replaced.length > 0) return null;
  const dropped = drops ? retired : [];
  const added = columns.filter(({ from }) => from === null);
  const renamed = columns.filter(isSpelledAnew);
  if ((dropped.length > 0 && !can.drop) || (renamed.length > 0 && !can.rename)) return null;
  if (columns.some(({ isRetyped }) => isRetyped)) return null;
  // Where a name changes hands only a copy is certain to end well, and engines can't rename a column of their key.
  if ([...added, ...renamed].some(({ wanted }) => existing.columns.has(wanted.name))) return null;
  if (renamed.some(({ isKey }) => isKey)) return null;
  return {
    added: added.map(({ wanted }) => wanted),
    renamed: renamed.map(({ from, wanted }) => ({ from: from!.name, to: spelled(wanted) })),
    dropped: dropped.map((name) => existing.columns.get(name)!.name),
  };
}

/** What a copy needs to know of an engine besides. */
export interface CopyDialect<
  L extends TableLayout = TableLayout,
  E extends ExistingTarget = ExistingTarget,
> extends Dialect<L, E> {
  /** The value of a column as another type; null if that can't hold it. */
  cast(there: ExistingColumn, column: WantedColumn): string;
  /** Own columns that a target of this form is made with, and that a statement can write. */
  ownColumns(form: TargetForm): readonly string[];
  /** `sqlName`: the target that the statement reads. */
  rows(sql: string, sqlName: string): Promise<readonly unknown[]>;
}

/** Which values of the target go into the table that takes its place. */
interface TableCopy {
  /** Quoted names of the new table's columns, and the expressions that they get. */
  readonly cells: readonly { readonly name: string; readonly value: string; readonly isKey: boolean }[];
  /** Definitions of columns that the table does not have. */
  readonly kept: readonly string[];
  /** Names of replaced columns, and of those with the values that a type can't hold. */
  readonly moved: readonly string[];
  /** The key has no new column: rows can have values in it. */
  readonly hasKeys: boolean;
}

export async function copyOf<L extends TableLayout, E extends ExistingTarget>(
  dialect: CopyDialect<L, E>,
  change: TableChange<L, E>,
): Promise<TableCopy> {
  const { layout, existing, columns, retired, replaced, drops } = change;
  const cells: { readonly name: string; readonly value: string; readonly isKey: boolean }[] = [];
  const kept: string[] = [];
  const moved: string[] = [];
  const fitted = (long: string): string => dialect.fitted?.(long) ?? long;
  const taken = new Set([...existing.columns.keys(), ...replaced.map(({ to }) => to)]);
  const keep = ({ name: from, type }: ExistingColumn, to = from): void => {
    const name = dialect.quote(to);
    kept.push(`${name} ${type}`);
    cells.push({ name, value: dialect.quote(from), isKey: false });
  };
  const move = (there: ExistingColumn, to: string): void => {
    moved.push(to);
    keep(there, to);
  };
  for (const { wanted, from, isKey, isRetyped } of columns) {
    const value = from === null ? "NULL" : isRetyped ? dialect.cast(from, wanted) : dialect.quote(from.name);
    if (from !== null || isKey) cells.push({ name: dialect.quote(spelled(wanted)), value, isKey });
    if (from === null || !isRetyped || layout.form.mode === "mirror") continue;
    const lost = `${dialect.quote(from.name)} IS NOT NULL AND ${value} IS NULL`;
    const { sqlName } = layout;
    if ((await dialect.rows(`SELECT 1 FROM ${sqlName} WHERE ${lost} LIMIT 1`, sqlName)).length === 0) continue;
    const until = nameUntil(wanted.name, layout.table.version, taken, fitted);
    taken.add(until);
    move(from, until);
  }
  if (!drops) {
    for (const name of retired) keep(existing.columns.get(name)!);
    for (const { from, to } of replaced) move(existing.columns.get(from)!, to);
  }
  const own = new Set(dialect.ownColumns(layout.form));
  for (const [column, { name }] of existing.columns) {
    if (column === EXACT_COLUMN && !own.has(column)) keep(existing.columns.get(column)!);
    if (own.has(column)) cells.push({ name: dialect.quote(name), value: dialect.quote(name), isKey: false });
  }
  return { cells, kept, moved, hasKeys: columns.every(({ isKey, from }) => !isKey || from !== null) };
}

/**
 * Whether the existing rows of `from` become rows of `to` by renamed, added and dropped columns: see `Sink.carries`. The
 * engine decides further.
 */
export function mayCarryRows<L extends TableLayout, E extends ExistingTarget>(
  dialect: Dialect<L, E>,
  from: L,
  to: L,
  existing: E,
): boolean {
  if (existing.form === null) return false;
  // A column that a mirror keeps must be null in all rows; a history keeps the old values.
  if (!to.dropsColumns && to.form.mode === "mirror" && goneColumns(from.table, to.table).length > 0) return false;
  const found = [...existing.columns.keys()].filter((name) => !isOwn(name));
  return followsByNote(found, existing.note, dialect.wanted(from), to.table, dialect.wanted(to));
}

/** Columns of the earlier shape that the later one lacks. */
export function goneColumns(from: TableVersion, to: TableVersion): readonly Column[] {
  return from.columns.filter((column) => to.columns.every(({ identity }) => identity !== column.identity));
}
