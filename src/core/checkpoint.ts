/**
 * A sink's checkpoint: how far the sink is, which tables it holds completely, and under which state that is true. Only this
 * file knows the text forms.
 */
import { createHash } from "node:crypto";
import type { Position } from "./model/position.ts";
import type { TableVersion } from "./model/schema.ts";
import { isRecord, isTextRecord } from "./stored-json.ts";

/** Progress of one sink, stored in the sink with the data that it describes. */
export interface Checkpoint {
  /** Everything before it is in the sink. */
  readonly position: Position;
  /** The tables of which the sink holds a complete copy, and what the copy is of. */
  readonly tables: CompleteTables;
  /** The target that the sink's options gave to one certain table. */
  readonly place: string;
  /** The state under which this was written. */
  readonly bond: Bond;
}

declare const spelled: unique symbol;

/**
 * What a complete copy of a table is a copy of: the table's shape, and the table that had the name. Stored in checkpoints and in
 * the state as `FINGERPRINT/GENERATION`. Copies with equal values hold the same rows; if
 * either part changes, the rows must be read again.
 */
export type Completeness = string & { readonly [spelled]: true };

/** By table id. */
export type CompleteTables = Readonly<Record<string, Completeness>>;

/** `generation`: what the source says about which table has the name. */
export function completeFor({ fingerprint }: Pick<TableVersion, "fingerprint">, generation: string): Completeness {
  return storedCompleteness(`${fingerprint}/${generation}`);
}

/** A text from storage. */
export function storedCompleteness(text: string): Completeness {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the one place where the form is made
  return text as Completeness;
}

/** Whether a stored value is such a map of tables. */
export function isCompleteTables(value: unknown): value is CompleteTables {
  return isTextRecord(value);
}

/** The same without these tables; the same object where it has none of them. */
export function withoutTables(tables: CompleteTables, left: ReadonlySet<string>): CompleteTables {
  const gone = [...left].filter((id) => tables[id] !== undefined);
  if (gone.length === 0) return tables;
  const to = copied(tables);
  for (const id of gone) delete to[id];
  return changed(tables, to, gone);
}

/** The same, with these tables as well, or in place of theirs. */
export function withTables(
  tables: CompleteTables,
  added: Iterable<readonly [id: string, Completeness]>,
): CompleteTables {
  const to = copied(tables);
  const ids: string[] = [];
  for (const [id, copy] of added) {
    to[id] = copy;
    ids.push(id);
  }
  return changed(tables, to, ids);
}

/** A first copy of thousands of tables completes each alone: no list of entries is made here. */
function copied(tables: CompleteTables): Record<string, Completeness> {
  const to: Record<string, Completeness> = {};
  for (const id in tables) to[id] = tables[id]!;
  return to;
}

/** Tables, and the ids in which others that were made of them, change by change, may differ. */
interface Making {
  readonly origin: CompleteTables;
  readonly touched: ReadonlySet<string>;
}

/** What differs in more from its origin is an origin itself. */
const TOUCHED_MAX = 16;
const makings = new WeakMap<CompleteTables, Making>();
const NOTHING: ReadonlySet<string> = new Set();

function changed(from: CompleteTables, to: CompleteTables, ids: readonly string[]): CompleteTables {
  const { origin, touched } = makingOf(from);
  const all = new Set([...touched, ...ids]);
  if (all.size <= TOUCHED_MAX) makings.set(to, { origin, touched: all });
  return to;
}

function makingOf(tables: CompleteTables): Making {
  return makings.get(tables) ?? { origin: tables, touched: NOTHING };
}

/** The ids in which one may differ from the other; null: that is not known. */
export function mayDiffer(one: CompleteTables, other: CompleteTables): ReadonlySet<string> | null {
  const [a, b] = [makingOf(one), makingOf(other)];
  return a.origin === b.origin ? a.touched.union(b.touched) : null;
}

/** What is made of these from here on goes back to them. */
function makeOrigin(tables: CompleteTables): void {
  makings.delete(tables);
}

export function isOfShape(held: Completeness, { fingerprint }: Pick<TableVersion, "fingerprint">): boolean {
  return held.startsWith(`${fingerprint}/`);
}

/** Whether the name meant the same table, whatever its shape was. */
export function isOfSameGeneration(held: Completeness, other: Completeness): boolean {
  return generationOf(held) === generationOf(other);
}

/** The same copy, for a name that means another table by now. */
export function inGeneration(held: Completeness, generation: string): Completeness {
  return completeFor({ fingerprint: held.slice(0, held.indexOf("/")) }, generation);
}

/** The value after a change of generation from `before` to `now`; null if the copy is of a third generation. */
export function acrossGenerations(
  held: Completeness,
  [before, now]: readonly [before: string, now: string],
): Completeness | null {
  return generationOf(held) === before ? inGeneration(held, now) : null;
}

function generationOf(held: Completeness): string {
  return held.slice(held.indexOf("/") + 1);
}

/**
 * Links a sink's checkpoint to the state under which it was written (decision 15). The checkpoint says which tables the
 * sink holds completely. That is only true together with the obligations in the state: listed keys, dead letters,
 * unfinished reads, suspended tables. Checkpoint and state can be restored, replaced or lost separately; the bond
 * reveals that.
 */
export interface Bond {
  /** Identifies the state: a random value, created with it. Export and import keep it. */
  readonly state: string;
  /**
   * Identifies the opening of the sink: a random value, stored in the state before the first checkpoint that names it.
   */
  readonly session: string;
  /** Number of the batch that stored it, counted over all sessions. */
  readonly batch: number;
  /** Number of the last obligation for this sink that the state had stored durably. */
  readonly obligation: number;
  /** The last resets that the sink has done, oldest first: an older copy of the state may still ask for them. */
  readonly resets: readonly string[];
}

const RESETS_MAX = 8;

export function withReset(resets: readonly string[], id: string): readonly string[] {
  return [...resets, id].slice(-RESETS_MAX);
}

export function serializeBond({ state, session, batch, obligation, resets }: Bond): string {
  return [state, session, batch, obligation, ...resets].join("/");
}

/** Whether two checkpoints are of one batch: several may stand at one position. */
export function isSameBond(a: Bond, b: Bond): boolean {
  return a.state === b.state && a.session === b.session && a.batch === b.batch && a.obligation === b.obligation;
}

export function parseBond(text: string): Bond {
  if (!/^[0-9a-f]+\/[0-9a-f]+\/\d+\/\d+(\/[0-9a-f]+)*$/.test(text))
    throw new Error(`not a bond: ${JSON.stringify(text)}`);
  const [state, session, batch, obligation, ...resets] = text.split("/");
  return { state: state!, session: session!, batch: Number(batch), obligation: Number(obligation), resets };
}

/** One opening of a sink, as the state knows it. */
export interface SinkSession {
  readonly session: string;
  /**
   * The sink's last batch when the session began. If an older copy of the sink has later batches of an earlier session, its
   * history differs from ours.
   */
  readonly base: number;
  /** Number of the last obligation that was stored during the session. */
  readonly obligation: number;
}

/**
 * How a checkpoint matches the state.
 *
 * - `bound`: the state knows every obligation that the checkpoint relies on.
 * - `estranged`: the checkpoint belongs to this state, but the state does not know all that the checkpoint relies on:
 *   the state is an older copy or has forgotten the sink, or the checkpoint belongs to an abandoned history.
 * - `foreign`: the checkpoint belongs to another state.
 */
export type Accord = "bound" | "estranged" | "foreign";

/**
 * `own`: undefined if the sink has no checkpoint, which relies on nothing. `sessions`: those of this sink in the state named
 * `state` (null: it has no name yet), oldest first.
 */
export function accordOf(own: Bond | undefined, state: string | null, sessions: readonly SinkSession[]): Accord {
  if (own === undefined) return "bound";
  if (own.state !== state) return "foreign";
  const at = sessions.findIndex(({ session }) => session === own.session);
  if (at < 0 || own.obligation > sessions[at]!.obligation) return "estranged";
  const isGivenUp = sessions.slice(at + 1).some(({ base }) => own.batch > base);
  return isGivenUp ? "estranged" : "bound";
}

/**
 * The texts that sinks store beside the position of their checkpoint: complete tables with the place where they lie, and
 * the bond with the state. The bond changes with each batch. The tables rarely change and may be thousands, so a sink writes
 * their text only when it is another one, and it stays the same while a few tables change: what has changed since stands
 * behind the bond, with the name of the list that it changes. A sink stores both texts at once.
 */
interface CheckpointTexts {
  readonly tables: string;
  readonly bond: string;
}

interface StoredList {
  readonly name: string;
  readonly text: string;
  /** How many bytes of changes were written in place of another list. */
  spent: number;
}

/** As stored: null for a table that is not complete any more. */
type Changes = readonly (readonly [id: string, Completeness | null])[];

const BEHIND_BOND = " ";

interface Texts extends CheckpointTexts {
  readonly list: StoredList;
}

/** By tables and place. Invariant: the texts of the same tables stay the same, because a sink compares them with what it has. */
const known = new WeakMap<CompleteTables, Map<string, Texts>>();

/** `bond`: what stands behind it. */
function knownTexts(tables: CompleteTables): Map<string, Texts> {
  const found = known.get(tables) ?? new Map<string, Texts>();
  known.set(tables, found);
  return found;
}

export function checkpointTexts({ tables, place, bond }: Omit<Checkpoint, "position">): CheckpointTexts {
  const ofPlaces = knownTexts(tables);
  let found = ofPlaces.get(place);
  if (found === undefined) ofPlaces.set(place, (found = textsOf(tables, place)));
  return { tables: found.tables, bond: serializeBond(bond) + found.bond };
}

/** Few changes: more would burden each batch; they are short enough for a row of Postgres that is written in place. */
function textsOf(tables: CompleteTables, place: string): Texts {
  const { origin, touched } = makingOf(tables);
  const list = knownTexts(origin).get(place)?.list;
  if (list !== undefined) {
    const since = changesOf(origin, tables, touched);
    const bond = since.length === 0 ? "" : `${BEHIND_BOND}${JSON.stringify([list.name, since])}`;
    list.spent += bond.length;
    if (list.spent <= list.text.length) return { list, tables: list.text, bond };
  }
  const text = JSON.stringify(tables);
  const name = createHash("sha256").update(text).digest().toString("hex", 0, 8);
  const whole = { name, text: `{"place":${JSON.stringify(place)},"name":"${name}","tables":${text}}`, spent: 0 };
  makeOrigin(tables);
  return { list: whole, tables: whole.text, bond: "" };
}

function changesOf(before: CompleteTables, after: CompleteTables, touched: Iterable<string>): Changes {
  const changes: (readonly [string, Completeness | null])[] = [];
  for (const id of touched) if (before[id] !== after[id]) changes.push([id, after[id] ?? null]);
  return changes;
}

export function checkpointFromTexts(tables: string, bond: string): Omit<Checkpoint, "position"> {
  const { name, place, tables: listed } = listOf(tables);
  const at = bond.indexOf(BEHIND_BOND);
  if (at < 0) return { tables: listed, place, bond: parseBond(bond) };
  const [changed, changes] = changesIn(bond.slice(at + BEHIND_BOND.length));
  if (changed !== name) throw unwritten();
  const gone = new Set(changes.flatMap(([id, copy]) => (copy === null ? [id] : [])));
  const added = changes.flatMap(([id, copy]) => (copy === null ? [] : [[id, copy] as const]));
  return { tables: withTables(withoutTables(listed, gone), added), place, bond: parseBond(bond.slice(0, at)) };
}

function listOf(text: string): Pick<Checkpoint, "tables" | "place"> & { readonly name: string } {
  const value: unknown = JSON.parse(text);
  if (!isRecord(value)) throw unwritten();
  const { place, name, tables } = value;
  if (typeof place !== "string" || typeof name !== "string" || !isCompleteTables(tables)) throw unwritten();
  return { place, name, tables };
}

function changesIn(text: string): readonly [name: string, Changes] {
  const value: unknown = JSON.parse(text);
  if (!Array.isArray(value)) throw unwritten();
  const [name, changes]: readonly unknown[] = value;
  if (typeof name !== "string" || !Array.isArray(changes)) throw unwritten();
  return [name, changes.map(changeOf)];
}

function changeOf(value: unknown): Changes[number] {
  if (!Array.isArray(value)) throw unwritten();
  const [id, copy]: readonly unknown[] = value;
  if (typeof id !== "string" || (copy !== null && typeof copy !== "string")) throw unwritten();
  return [id, copy === null ? null : storedCompleteness(copy)];
}

function unwritten(): Error {
  return new Error("the sink's checkpoint does not hold what was written there");
}
