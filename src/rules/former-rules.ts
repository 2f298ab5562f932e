/**
 * What the rows of each table stood under, by an identity that survives renames: rules follow the table, not its name. It is
 * made from the versions that were registered, with the rules of their time.
 */
import type { Rename } from "../core/contracts/change-log.ts";
import { type StoredRenames, UNREAD } from "../core/contracts/state-store.ts";
import { comparePositions, latest, type Position } from "../core/model/position.ts";
import { type Column, isLater, type TableVersion } from "../core/model/schema.ts";
import type { TableShape } from "../core/contracts/catalog.ts";
import type { KeyText } from "../core/contracts/row-reads.ts";
import { NO_PINS, type Pins } from "./pins.ts";

/** What rules have to know of tables as earlier processes registered them. */
export interface RuleMemory {
  readonly pins: Pins;
  readonly former: FormerRules;
  /** By id, as earlier processes registered them, in the order of the log. */
  readonly versions: ReadonlyMap<string, readonly TableVersion[]>;
  /** Makes renames durable by which rules follow a table. */
  readonly keep: (renames: StoredRenames["renames"], position: Position) => Promise<void>;
  /** A stream before it looks for what tables become further on in the log; null: each knows by its tables whether it has to. */
  readonly foreseen: Position | null;
  /** Makes it durable. */
  readonly foresee: (until: Position) => Promise<void>;
  /** The keys of rows that sinks read again: what the log told of them last, the sinks may not have. Absent: none. */
  readonly pending?: () => Promise<readonly PendingRow[]>;
  /** Makes durable what tables of other shares stand under: they may get names that are in this one. Absent: somebody else does. */
  readonly keepElsewhere?: (shapes: readonly TableShape[]) => Promise<void>;
  /** By id, the fingerprint of what was kept last. Absent: nothing. */
  readonly elsewhere?: ReadonlyMap<string, string>;
}

export interface PendingRow {
  readonly tableId: string;
  /** Null: any row of the table. */
  readonly key: KeyText | null;
}

/** Whether it has tables that are known by their names: what the log says of those has to be known. */
export function knowsByName({ versions }: Pick<RuleMemory, "versions">): boolean {
  return Array.from(versions.values()).some((all) => all.some(isKnownByName));
}

export const noMemory = (): RuleMemory => ({
  pins: NO_PINS,
  former: new FormerRules(),
  versions: new Map(),
  keep: async () => {},
  foreseen: null,
  foresee: async () => {},
});

/** What a table stood under when its rows last passed. */
export interface Former {
  /** Its name then. */
  readonly id: string;
  readonly hidden: readonly HiddenColumn[];
  /** Hidden columns that its newest shape lacks, and that may show themselves later, under another name too. */
  readonly gone?: readonly HiddenColumn[];
  /** True if a condition left rows out. */
  readonly filtered: boolean;
  /** See `Ruled`; empty: none. */
  readonly rules: string;
  /** Where the log has columns renamed since: the names that they had then, by those that they have, in lower case. */
  readonly moved?: ReadonlyMap<string, string>;
  /** All columns that it had at the source. */
  readonly columns: readonly Column[];
  /** Names of those, and of all that it ever had: a rule that names one is no mistake. */
  readonly named: ReadonlySet<string>;
  /**
   * Absent: these are its own rows. A copy of them, those of its partition, or of a table that inherits from it, or that has
   * taken its name.
   */
  readonly held?: "copy" | "part" | "heir" | "namesake";
  readonly identity: string;
  readonly fingerprint: string;
  /** Where the log says so; null: it does not matter. */
  readonly at: Position | null;
  /** The log does not say whether another table was made under its name since. */
  readonly isUncertain?: true;
  /** Of what may be a copy: none if the table still has these columns, with which it was there before. */
  readonly unless?: readonly Column[];
}

export interface HiddenColumn extends Pick<Column, "name" | "identity"> {
  /** Its name now, if the log has the column renamed since. */
  readonly renamed?: string;
  /** The log may have dropped it since. */
  readonly dropped?: true;
  /** A mask, or `drop`. */
  readonly how: string;
  /** It held its table back, because the server computed it from hidden columns. */
  readonly isComputed?: true;
}

/** What the rows of a version that was registered stood under. */
export function formerOf(version: TableVersion): Former {
  const { id, fingerprint, since: at } = version;
  const stands = standing(version);
  const named = new Set(stands.columns.map(({ name }) => name));
  return { id, identity: identityOf(version), fingerprint, at, named, ...stands };
}

/** Rules under which rows of that name stood, for streams that are behind `until`. */
interface Past {
  readonly until: Position;
  readonly former: Former;
}

type Named = Pick<TableShape, "id">;
type Shown = Pick<TableShape, "id" | "dialect" | "relation" | "columns" | "fingerprint" | "ruled">;
/** Of a column whose number is not known: it is found by its name alone. */
const UNNUMBERED = 0;

export class FormerRules {
  /** By the table's identity. */
  readonly #byTable = new Map<string, Former>();
  /** Of tables that are known by their names: by identity, in the order of the log, what was otherwise from a position on. */
  readonly #past = new Map<string, Past[]>();
  /** By id, what rows last passed under, if these were rules: another table may have the name now. */
  readonly #byName = new Map<string, Former>();
  /** By id, the columns of tables whose rows passed, or that lost the name; null: they are not known. */
  readonly #known = new Map<string, readonly Column[] | null>();
  /** By the table's identity, the partitions that stood under its rules until those were taken off. */
  readonly #released = new Map<string, Set<number>>();
  /** Nothing was ever registered: what the first look finds was there before any rule. */
  #isNew = true;
  #hasRuled = false;
  #renamedAt: Position | null = null;
  /** Those of that position: there may be several calls for it, each of other tables. */
  readonly #renamedThere = new Set<string>();

  constructor(versions: Iterable<TableVersion> = [], renames: readonly StoredRenames[] = []) {
    const left = renames.toSorted((a, b) => comparePositions(a.position, b.position));
    for (const version of [...versions].toSorted((a, b) => (isLater(a, b) ? 1 : -1))) {
      while (left[0] !== undefined && comparePositions(left[0].position, version.since) <= 0)
        this.#apply(left.shift()!);
      this.passes(version, version.since);
      this.#holdAgain(version);
    }
    for (const stored of left) this.#apply(stored);
  }

  /** An earlier process held it back, or knew of partitions and computed columns of it. */
  #holdAgain(version: TableVersion): void {
    const { fault, source, parts = [], unlogged = [] } = version.ruled ?? {};
    const shape = { ...version, ...source };
    this.lacks(
      shape,
      unlogged.map((column) => ({ ...column, how: "drop", isComputed: true })),
    );
    this.holdParts({ ...shape, parts: version.released ?? parts });
    if (fault?.computed !== undefined) this.holdComputed(shape, fault.computed);
    if (fault?.code !== "MR1033") return;
    const former = this.of(shape, null);
    if (former !== undefined) this.hold(shape, former, version.since);
  }

  #apply({ renames, position }: StoredRenames): void {
    this.rename(renames, position);
  }

  /** Tables that are there before any row passes are no copies of others. */
  begin(tables: Iterable<Named & Partial<Pick<TableShape, "columns">>>): void {
    if (this.#isNew) for (const { id, columns = null } of tables) this.#known.set(id, columns);
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
    const stands = standing(shape);
    this.#isNew = false;
    const isNamed = isKnownByName(shape);
    if (!isNamed || position !== null) this.#known.set(id, stands.columns);
    // Of another table under the name of one under rules, too: the log may show other columns of it first.
    const isOlder = position === null || (before !== undefined && isEarlier(position, before));
    if (isNamed && isOlder && (before !== undefined || this.#byName.has(id))) return;
    const isSame = before?.id === id && before.fingerprint === fingerprint;
    if (isSame && before.isUncertain !== true && !before.hidden.some(isRenamed)) return;
    const at = isNamed ? position : null;
    const named = new Set([...(before?.named ?? []), ...stands.columns.map(({ name }) => name)]);
    const gone = withGone(lacking(before, stands.columns));
    const hidden = isNamed ? stands.hidden : stands.hidden.map((column) => numbered(column, before));
    const former = { id, identity, fingerprint, at, named, ...gone, ...stands, hidden };
    if (at === null) this.#byTable.set(identity, former);
    else this.#become(identity, former, at);
    if (!isRuled(former)) {
      this.#byName.delete(id);
      return;
    }
    this.#byName.set(id, former);
    this.#hasRuled = true;
  }

  /** Hidden columns of the table that its log leaves out: they show themselves when it no longer does. */
  lacks(shape: Shown, columns: readonly HiddenColumn[]): void {
    const own = this.#byTable.get(identityOf(shape));
    const known = own?.gone ?? [];
    const more = columns.filter(
      ({ name, identity }) => !known.some((one) => one.name === name && one.identity === identity),
    );
    if (own === undefined || own.held !== undefined || more.length === 0) return;
    this.#byTable.set(own.identity, { ...own, gone: [...known, ...more] });
    this.#hasRuled = true;
  }

  /** What the table stood under; else what a table stands under that had its name, or of which it is a copy. */
  of(shape: TableShape, position: Position | null): Former | undefined {
    const own = this.#byTable.get(identityOf(shape));
    const past = position === null ? undefined : this.#pastOf(identityOf(shape), position);
    // The rows of CREATE TABLE … SELECT stand at the beginning of its transaction, before the statement that replaces the table.
    if (past !== undefined) return (untold(past, shape).length > 0 ? this.#takenOver(shape, own) : undefined) ?? past;
    // A stream that is behind: the table had the name then that it has there.
    if (own !== undefined && position !== null && isEarlier(position, own)) return undefined;
    if (own?.unless !== undefined && hasNames(own.unless, shape.columns)) return undefined;
    const isOther = own === undefined || own.isUncertain === true || (!isRuled(own) && own.id !== shape.id);
    const taken = isOther ? this.#takenOver(shape, own) : undefined;
    if (taken !== undefined) return taken;
    if (own !== undefined && isRuled(own)) {
      // The log may tell what the catalogue is ahead of.
      const columns = position === null ? untold(own, shape) : [];
      return columns.length === 0 ? own : withNames(own, columns);
    }
    const before = own?.columns ?? this.#known.get(shape.id);
    if (before === null || (before !== undefined && hasNames(before, shape.columns))) return own;
    const copied = this.#copied(shape);
    if (copied === undefined) return own;
    // What was there with such columns before goes on; where the name tells tables apart, another one may have had others.
    const ever = own === undefined || isKnownByName(shape) ? before : Array.from(own.named, (name) => ({ name }));
    return ever !== undefined && isCopy(spelledNames(ever), copied) ? own : copied;
  }

  /**
   * A table under the name of one that stood under rules, and perhaps not the same: what that one hid, and this one lacks, may
   * be in each column that has a new name.
   */
  #takenOver(shape: TableShape, own: Former | undefined): Former | undefined {
    const before = this.#byName.get(shape.id);
    if (before === undefined) return undefined;
    const names = spelledNames(shape.columns);
    const lacking = before.hidden.filter((column) => !names.has(spelled(column)));
    const former = new Set(Array.from(before.named, (name) => spelled({ name })));
    const added = shape.columns.filter((column) => !former.has(spelled(column)));
    if (lacking.length === 0 || added.length === 0) return undefined;
    const perhaps = lacking.flatMap(({ name, how }) =>
      added.map((column) => ({ name, how, identity: UNNUMBERED, renamed: column.name })),
    );
    return { ...before, hidden: [...(own?.hidden ?? []), ...perhaps], held: "namesake" };
  }

  /** A copy stands under the rules of what it was copied from, whatever becomes of its columns since. */
  hold(shape: TableShape, { hidden, held = "copy", ...former }: Former, at: Position | null): void {
    const identity = identityOf(shape);
    const own = this.#byTable.get(identity);
    if (former.id === shape.id || (own !== undefined && isRuled(own))) return;
    if (at !== null && this.#pastOf(identity, at) !== undefined) return;
    const numbered = hidden.map(({ name, how }) => {
      const column = shape.columns.find((one) => spelled(one) === spelled({ name }));
      return { name: column?.name ?? name, how, identity: column?.identity ?? UNNUMBERED };
    });
    const since = isKnownByName(shape) ? at : null;
    this.#byTable.set(identity, { ...former, hidden: numbered, held, identity, at: since });
  }

  /** What the server computed from hidden columns is hidden, whatever becomes of the expression. */
  holdComputed(shape: Shown, name: string): void {
    const { id, columns } = shape;
    const identity = identityOf(shape);
    const none = {
      id,
      identity,
      columns,
      fingerprint: "",
      at: null,
      named: new Set<string>(),
      hidden: [],
      filtered: false,
      rules: "",
    };
    const own: Former = this.#byTable.get(identity) ?? none;
    const column = columns.find((one) => one.name === name);
    if (column === undefined || own.hidden.some((one) => one.isComputed === true && one.name === name)) return;
    const computed: HiddenColumn = { name, identity: column.identity, how: "drop", isComputed: true };
    this.#byTable.set(identity, { ...own, hidden: [...own.hidden, computed] });
    this.#hasRuled = true;
  }

  /** Partitions stand under the rules of their table, if they are detached from it too. */
  holdParts(shape: TableShape): void {
    const { dialect, parts = [] } = shape;
    const whole = parts.length === 0 ? undefined : this.#byTable.get(identityOf(shape));
    if (whole === undefined) return;
    const hidden = whole.hidden.map((column) => ({ ...column, identity: UNNUMBERED }));
    for (const relation of parts) {
      const identity = identityOf({ id: "", dialect, relation });
      const own = this.#byTable.get(identity);
      if (own !== undefined && own.held !== "part" && isRuled(own)) continue;
      if (isRuled(whole)) this.#byTable.set(identity, { ...whole, hidden, held: "part", identity });
      else if (own?.held === "part") {
        this.#byTable.delete(identity);
        this.#released.set(whole.identity, (this.#released.get(whole.identity) ?? new Set()).add(relation));
      }
    }
  }

  /** Partitions that stand under no rules since the table does not: the next process has to know, also of one that is detached. */
  released(shape: Shown): readonly number[] {
    const released = this.#released.get(identityOf(shape)) ?? [];
    return [...released].filter((relation) => {
      const own = this.#byTable.get(identityOf({ ...shape, id: "", relation }));
      return own === undefined || !isRuled(own);
    });
  }

  /** Whether partitions stand under the rules of their tables. */
  get holdsParts(): boolean {
    return Array.from(this.#byTable.values()).some(({ held }) => held === "part");
  }

  /** What its partitions stood under, by names of their own. */
  ofParts({ id, dialect, parts = [] }: TableShape): readonly Former[] {
    return parts.flatMap((relation) => {
      const former = this.#byTable.get(identityOf({ id: "", dialect, relation }));
      return former === undefined || !isRuled(former) || (former.held === "part" && former.id === id) ? [] : [former];
    });
  }

  /**
   * Tables that are known by their names get others. Returns the renames of a statement of which the next process has to know:
   * by which rules follow a table, or that `concern` rules.
   */
  rename(
    renames: StoredRenames["renames"],
    position: Position,
    concern: (rename: Rename) => boolean = () => false,
  ): StoredRenames["renames"] {
    const since = this.#renamedAt === null ? 1 : comparePositions(position, this.#renamedAt);
    if (since > 0) this.#renamedThere.clear();
    const told = renames.map((rename) => JSON.stringify(rename));
    // Read again. Those of a statement count together, in their order: an earlier process kept some of them.
    if (since < 0 || told.some((one) => this.#renamedThere.has(one))) return [];
    this.#renamedAt = position;
    for (const one of told) this.#renamedThere.add(one);
    const areOfRules = renames.map((one) =>
      one === UNREAD ? this.#doubt(position) : this.#rename(one, position) || concern(one),
    );
    return areOfRules.includes(true) ? renames : [];
  }

  #rename({ from, to, columns, how }: Rename, at: Position): boolean {
    const own = this.#byTable.get(from);
    const other = this.#byTable.get(to);
    if ([own, other].some((former) => former !== undefined && isEarlier(at, former))) return false;
    const isOfRules = [own, other].some((former) => former !== undefined && isRuled(former));
    if (how === "made" || how === "perhaps made") {
      if (other === undefined || !isRuled(other)) return false;
      this.#become(to, how === "made" ? undefined : { ...other, isUncertain: true }, at);
      return true;
    }
    if (how === "copied" || how === "perhaps copied") {
      const unless = how === "copied" ? undefined : this.#known.get(to);
      const isOther = unless === null || (unless !== undefined && other !== undefined && isRuled(other));
      if (own === undefined || !isRuled(own) || isOther) return isOfRules;
      const copy: Former = { ...own, held: "copy", identity: to, at };
      this.#become(to, unless === undefined ? copy : { ...copy, unless }, at);
      return true;
    }
    if (how === "exchanged") {
      // Each may have rows of the other now, besides its own.
      if (own !== undefined && isRuled(own)) {
        const both = withBoth(withNames(own, columns), other);
        this.#become(to, { ...both, id: idOf(from, own, to), identity: to, at }, at);
      }
      if (other !== undefined && isRuled(other))
        this.#become(from, { ...withBoth(other, own), id: idOf(to, other, from), identity: from, at }, at);
      return isOfRules;
    }
    // No row of it may have passed, but what has the name later is another table.
    if (from !== to && !this.#known.has(from)) this.#known.set(from, own?.columns ?? []);
    if (from !== to) this.#become(from, undefined, at);
    this.#become(to, own === undefined ? undefined : { ...withNames(own, columns), identity: to, at }, at);
    return isOfRules;
  }

  /** From that position on, the table of this name stands under other rules, or is none. */
  #become(identity: string, former: Former | undefined, at: Position): void {
    const before = this.#byTable.get(identity);
    if (before !== undefined && isRuled(before)) {
      const past = this.#past.get(identity) ?? [];
      this.#past.set(identity, past);
      past.push({ until: at, former: before });
    }
    if (former === undefined) this.#byTable.delete(identity);
    else this.#byTable.set(identity, former);
  }

  /** What rows of the name stood under there, if that is not what they stand under now. */
  #pastOf(identity: string, position: Position): Former | undefined {
    const past = this.#past.get(identity)?.find(({ until }) => comparePositions(position, until) < 0);
    return past === undefined || isEarlier(position, past.former) ? undefined : past.former;
  }

  /** The log was read up to here at least, where it tells what tables become; null: it never did. */
  get shownUntil(): Position | null {
    let until = this.#renamedAt;
    for (const { at } of this.#byTable.values()) until = latest(until, at);
    return until;
  }

  #doubt(at: Position): boolean {
    const exchanged = this.#exchanged(at);
    for (const former of exchanged) this.#become(former.identity, former, at);
    return exchanged.length > 0;
  }

  /** Nothing was read since a part of the log that nobody reads. */
  get isInDoubt(): boolean {
    const until = this.shownUntil;
    const isLast = until !== null && this.#renamedAt !== null && comparePositions(until, this.#renamedAt) === 0;
    return isLast && this.#renamedThere.has(JSON.stringify(UNREAD));
  }

  /** Whether rows would show themselves if tables that are known by their names had exchanged them there unseen. */
  mayBeExchanged(at: Position): boolean {
    return this.#exchanged(at).length > 0;
  }

  /** Of tables that are known by their names: each that may have rows of another one, with what that one hides. */
  #exchanged(at: Position): readonly Former[] {
    const all = Array.from(this.#byTable.values(), (former) => this.#asItStands(former)).filter(
      (former) => !isEarlier(at, former),
    );
    const alike = new Map(Array.from(Map.groupBy(all, likenessOf).values(), (tables) => [tables[0]!, tables]));
    return exchangedBy([...alike.keys()]).flatMap(([table, [first, ...more]]) => {
      const rows = more.reduce(withBoth, first);
      return alike.get(table)!.map((own): Former => {
        const { identity } = own;
        return { ...withBoth(rows, own), id: idOf(rows.identity, rows, identity), identity, at };
      });
    });
  }

  /** What may be a copy, without the reservation: a table of its own, or the copy. */
  #asItStands(found: Former): Former {
    if (found.unless === undefined) return found;
    const { unless, ...former } = found;
    const columns = this.#known.get(former.identity);
    return columns != null && hasNames(unless, columns)
      ? { ...former, hidden: [], filtered: false, rules: "" }
      : former;
  }

  /** Renames of a table's columns of which the log does not tell. */
  unlogged(shape: TableShape, position: Position): readonly Rename[] {
    const own = this.#byTable.get(identityOf(shape));
    if (own === undefined || isEarlier(position, own)) return [];
    const columns = untold(own, shape);
    return columns.length === 0 ? [] : [{ from: shape.id, to: shape.id, columns, how: "renamed" }];
  }

  /** Whether rules hide something of the table that has this name, which it is known by, or of one that had it. */
  isRuledNow(id: string): boolean {
    const own = this.#byTable.get(id);
    return this.#byName.has(id) || (own !== undefined && isRuled(own) && !isFound(own));
  }

  /** Renames that hide what this one may show, and show nothing that others may: which of them came when, nobody reads. */
  perhaps(rename: Rename): readonly Rename[] {
    const { from, to, how } = rename;
    if (how === "made" || how === "perhaps made") return [];
    const back = how === "exchanged" ? [{ ...rename, from: to, to: from, columns: [] }] : [];
    return [rename, ...back].flatMap((one) => this.#perhaps(one) ?? []);
  }

  /** Null: all of it is hidden. */
  #perhaps({ from, to, columns }: Rename): Rename | null {
    const own = this.#byTable.get(from);
    const other = this.#byTable.get(to);
    if (own === undefined || !isRuled(own) || isFound(own)) return null;
    const isHidden = (name: string, { hidden }: Former): boolean =>
      hidden.some((column) => isSameName(nameNow(column), name));
    const moved = columns.filter(([name, now]) => now !== "" && (own.filtered || isHidden(name, own)));
    const names = [...own.hidden.map(nameNow), ...moved.flatMap(([name, now]) => (isHidden(name, own) ? [now] : []))];
    const isFiltered =
      !own.filtered || (other?.filtered === true && moved.every(([, now]) => other.moved?.has(now.toLowerCase())));
    if (other !== undefined && isFiltered && names.every((name) => isHidden(name, other))) return null;
    const stay = new Set([...own.hidden.map(nameNow), ...moved.map(([name]) => name)]);
    const both = [...Array.from(stay, (name) => [name, name] as const), ...moved];
    return { from, to, columns: both, how: from === to ? "renamed" : "exchanged" };
  }

  /** Of all tables, those that are gone too. */
  get all(): Iterable<Former> {
    return [...this.#byTable.values(), ...this.#byName.values()];
  }

  /** Ids of the tables of which rows passed, those that are gone too. */
  get known(): Iterable<string> {
    return this.#known.keys();
  }

  /** True if rows of a table of this name passed, of this one or another. */
  isKnown({ id }: Named): boolean {
    return this.#known.has(id);
  }

  /** True if rows of another table passed under this name, and none of this one. */
  isOthers(shape: Shown): boolean {
    return this.#known.has(shape.id) && this.#byTable.get(identityOf(shape))?.id !== shape.id;
  }

  /** The table under rules of which this one is a copy, by its columns; of several the one that it has most of. */
  #copied({ id, columns }: TableShape): Former | undefined {
    const names = spelledNames(columns);
    const found = [...this.#byTable.values()].filter(
      (former) => former.id !== id && former.held !== "part" && isRuled(former) && isCopy(names, former),
    );
    const shared = (former: Former): number => sharedCount(names, former.columns);
    return found.toSorted((a, b) => shared(b) - shared(a))[0];
  }
}

/** True if the table is a partition of this one now. */
export function isPart({ identity }: Former, { dialect, parts = [] }: TableShape): boolean {
  return parts.some((relation) => identity === identityOf({ id: "", dialect, relation }));
}

/** True if the column is in this shape under a name of which nothing is known. */
export function isLost({ identity }: HiddenColumn, ordinal: number): boolean {
  return ordinal < 0 && identity === UNNUMBERED;
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

/** A copy that only a look at the catalogue has shown: it may have come since. */
function isFound({ held, at }: Former): boolean {
  return held === "copy" && at === null;
}

function nameNow({ name, renamed: now = name }: HiddenColumn): string {
  return now;
}

function isRenamed({ renamed: now }: HiddenColumn): boolean {
  return now !== undefined;
}

/** MySQL's names of columns, in whatever case a statement has them. */
function isSameName(a: string, b: string): boolean {
  return a.toLowerCase() === b.toLowerCase();
}

/** Several where the statement can be read in several ways: then each of them is hidden. */
function renamed(column: HiddenColumn, columns: Rename["columns"]): readonly HiddenColumn[] {
  const names = columns.filter(([from]) => isSameName(from, column.renamed ?? column.name));
  return names.length === 0
    ? [column]
    : names.map(([, now]) => (now === "" ? { ...column, dropped: true } : { ...column, renamed: now }));
}

/**
 * The names that hidden columns may have got where the log does not say so: it neither renamed nor dropped them, and they
 * are not there.
 */
function untold(own: Former, { id, dialect, columns }: TableShape): Rename["columns"] {
  if (!isKnownByName({ dialect }) || own.id !== id || own.held !== undefined || own.isUncertain === true) return [];
  const isThere = (name: string, among: readonly string[]): boolean => among.some((one) => isSameName(one, name));
  const names = columns.map(({ name }) => name);
  const lost = own.hidden.filter(({ name, renamed: now = name, dropped }) => dropped !== true && !isThere(now, names));
  if (lost.length === 0) return [];
  const known = [...own.named, ...(own.moved?.keys() ?? [])];
  const added = names.filter((name) => !isThere(name, known));
  return lost.flatMap(({ name, renamed: now = name }) => added.map((one) => [now, one] as const));
}

function withNames(former: Former, columns: Rename["columns"]): Former {
  const now = (all: readonly HiddenColumn[]) => all.flatMap((one) => renamed(one, columns));
  const moved = new Map(former.moved);
  for (const [from] of columns) moved.delete(from.toLowerCase());
  for (const [from, to] of columns.filter((pair) => pair[1] !== ""))
    moved.set(to.toLowerCase(), former.moved?.get(from.toLowerCase()) ?? from.toLowerCase());
  return { ...former, hidden: now(former.hidden), ...withGone(now(former.gone ?? [])), moved };
}

/** Rules that name the table were not written for these rows, though they come from one that has got rows of it before. */
function idOf(other: string, { id }: Former, name: string): string {
  return id === name ? other : id;
}

/** It hides what both hide. */
function withBoth(other: Former, own: Former | undefined): Former {
  const more =
    own?.hidden.filter((column) => !other.hidden.some((one) => isSameName(nameNow(one), nameNow(column)))) ?? [];
  return { ...other, hidden: [...other.hidden, ...more], filtered: other.filtered || own?.filtered === true };
}

function withGone(gone: readonly HiddenColumn[]): Pick<Former, "gone"> {
  return gone.length === 0 ? {} : { gone };
}

/** What was hidden, and is not among these columns. Where the log has renames, those tell what became of a logged one. */
function lacking(before: Former | undefined, columns: readonly Column[]): readonly HiddenColumn[] {
  if (before === undefined || before.held !== undefined) return [];
  const hidden = [...before.hidden.filter(({ identity }) => identity > 0), ...(before.gone ?? [])];
  return hidden.filter(
    ({ name, identity, renamed: now = name }) =>
      !columns.some((column) => (identity > 0 ? column.identity === identity : isSameName(column.name, now))),
  );
}

/** A shape of the log may lack the number of a column, which the version before it had. */
function numbered(column: HiddenColumn, before: Former | undefined): HiddenColumn {
  const known = before?.held === undefined ? before?.columns.find(({ name }) => name === column.name) : undefined;
  return column.identity > 0 || known === undefined ? column : { ...column, identity: known.identity };
}

/** True if nothing says which column of the table it is now, if it is one. */
export function isUnplaced({ identity }: HiddenColumn, ordinal: number, former: Former, shape: TableShape): boolean {
  return ordinal < 0 && identity < 0 && !isKnownByName(shape) && isSameTable(former, shape);
}

/** True if the shape may have it without its number: it is from a log that is behind, and the catalogue has it no longer. */
export function mayHaveNoNumber(
  { identity }: HiddenColumn,
  ordinal: number,
  former: Former,
  shape: TableShape,
): boolean {
  const isNumbered = ordinal < 0 && identity > 0 && !isKnownByName(shape) && isSameTable(former, shape);
  return isNumbered && shape.columns.some((column) => column.identity < 0);
}

/** Those that a shape of the table may have again. */
export function goneOf(former: Former, shape: TableShape): readonly HiddenColumn[] {
  return former.held === undefined && isSameTable(former, shape) ? (former.gone ?? []) : [];
}

/** True if another column has the name now than had it. */
export function isTaken(name: string, former: Former, shape: TableShape): boolean {
  const before = former.columns.find((column) => column.name === name);
  const now = shape.columns.find((column) => column.name === name);
  if (before === undefined || now === undefined || former.held !== undefined) return false;
  if (isKnownByName(shape)) return (former.moved?.get(name.toLowerCase()) ?? name.toLowerCase()) !== name.toLowerCase();
  if (now.identity === before.identity) return false;
  const isAmong = (columns: Former["columns"], identity: number): boolean =>
    columns.some((column) => column.identity === identity);
  // Either has another name now: the column that had this one, beside a new column, or the column that has it.
  const isBeside = before.identity > 0 && isSameTable(former, shape) && isAmong(shape.columns, before.identity);
  return isBeside || isAmong(former.columns, now.identity);
}

function isRuled({ hidden, filtered }: Former): boolean {
  return hidden.length > 0 || filtered;
}

/**
 * All hidden columns, and most of the others: a copy is often made to have other types, or a column more or less. Under a filter
 * alone all columns.
 */
function isCopy(names: ReadonlySet<string>, former: Former): boolean {
  const { hidden, shown } = lookOf(former);
  if (!hidden.isSubsetOf(names)) return false;
  return hidden.size === 0 ? shown.isSubsetOf(names) : shown.intersection(names).size * 2 > shown.size;
}

/** True if rows of the former, under the name of the other, would show what is hidden. */
function mayShow(former: Former, other: Former): boolean {
  const { columns, hidden } = lookOf(other);
  if (!isCopy(columns, former)) return false;
  const isFiltered = former.filtered && !(other.filtered && other.rules === former.rules);
  return isFiltered || !lookOf(former).hidden.isSubsetOf(hidden);
}

/** With each of these tables those under rules that it may have exchanged its name with. */
function exchangedBy(tables: readonly Former[]): readonly Exchanged[] {
  const columns = tables.flatMap((table) => Array.from(lookOf(table).columns, (name) => ({ name, table })));
  const withColumn = Map.groupBy(columns, ({ name }) => name);
  const found = new Map(tables.map((table) => [table, new Set<Former>()]));
  for (const ruled of tables.filter(isRuled)) {
    const { hidden, shown } = lookOf(ruled);
    // A copy has all of these: the rarest one leads to the few that may be some.
    const having = Array.from(hidden.size === 0 ? shown : hidden, (name) => withColumn.get(name) ?? []);
    const few = having.toSorted((a, b) => a.length - b.length)[0] ?? [];
    for (const { table: other } of few) {
      if (other === ruled || !mayShow(ruled, other)) continue;
      found.get(other)!.add(ruled);
      if (isRuled(other)) found.get(ruled)!.add(other);
    }
  }
  return Array.from(found).flatMap(([table, others]): Exchanged[] => {
    const [first, ...more] = others;
    return first === undefined ? [] : [[table, [first, ...more]]];
  });
}

type Exchanged = readonly [table: Former, others: readonly [Former, ...Former[]]];

/** The same of tables that have and hide the same. */
function likenessOf(former: Former): string {
  const { columns, hidden } = lookOf(former);
  return JSON.stringify([[...columns].toSorted(), [...hidden].toSorted(), former.filtered && former.rules]);
}

/** The names of a table's columns as they are compared. */
interface Look {
  readonly columns: ReadonlySet<string>;
  readonly hidden: ReadonlySet<string>;
  readonly shown: ReadonlySet<string>;
}

const LOOKS = new WeakMap<Former, Look>();

/** Asked again and again. */
function lookOf(former: Former): Look {
  const known = LOOKS.get(former);
  if (known !== undefined) return known;
  const [columns, hidden] = [spelledNames(former.columns), spelledNames(former.hidden)];
  const look = { columns, hidden, shown: columns.difference(hidden) };
  LOOKS.set(former, look);
  return look;
}

function sharedCount(names: ReadonlySet<string>, columns: readonly Pick<Column, "name">[]): number {
  return columns.filter((column) => names.has(spelled(column))).length;
}

function hasNames(a: readonly Column[], b: readonly Column[]): boolean {
  return a.length === b.length && a.every(({ name }, i) => name === b[i]!.name);
}

function spelledNames(columns: readonly Pick<Column, "name">[]): ReadonlySet<string> {
  return new Set(columns.map(spelled));
}

function spelled({ name }: Pick<Column, "name">): string {
  return name.normalize("NFKC").toLowerCase();
}

function standing({ columns, ruled }: Shown): Pick<Former, "hidden" | "filtered" | "columns" | "rules"> {
  if (ruled === undefined) return { hidden: [], filtered: false, columns, rules: "" };
  const hidden = ruled.source.columns.flatMap(({ name, identity }): HiddenColumn[] => {
    const found = ruled.lineage.find(({ source }) => source === name);
    const how = found === undefined || found.target === null ? "drop" : found.mask;
    return how === null ? [] : [{ name, identity, how }];
  });
  return { hidden, filtered: ruled.filtered, columns: ruled.source.columns, rules: ruled.rules };
}
