/**
 * What a sink's complete copy of a table is a copy of: the table's shape, and the table that had the name. Only this
 * file knows the text form.
 */
import type { TableVersion } from "../model/schema.ts";
import { isTextRecord } from "./stored-json.ts";

declare const spelled: unique symbol;

/**
 * Stored in checkpoints and in the state as `FINGERPRINT/GENERATION`. Copies with equal values hold the same rows; if
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

export function makingOf(tables: CompleteTables): Making {
  return makings.get(tables) ?? { origin: tables, touched: NOTHING };
}

/** The ids in which one may differ from the other; null: that is not known. */
export function mayDiffer(one: CompleteTables, other: CompleteTables): ReadonlySet<string> | null {
  const [a, b] = [makingOf(one), makingOf(other)];
  return a.origin === b.origin ? a.touched.union(b.touched) : null;
}

/** What is made of these from here on goes back to them. */
export function makeOrigin(tables: CompleteTables): void {
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
