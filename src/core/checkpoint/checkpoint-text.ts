/**
 * The texts that sinks store beside the position of their checkpoint: complete tables with the place where they lie, and
 * the bond with the state. The bond changes with each batch. The tables rarely change and may be thousands, so a sink writes
 * their text only when it is another one, and it stays the same while a few tables change: what has changed since stands
 * behind the bond, with the name of the list that it changes. A sink stores both texts at once.
 */
import { createHash } from "node:crypto";
import type { Checkpoint } from "../model/batch.ts";
import { isRecord } from "./stored-json.ts";
import {
  type Completeness,
  type CompleteTables,
  isCompleteTables,
  makeOrigin,
  makingOf,
  storedCompleteness,
  withoutTables,
  withTables,
} from "./completeness.ts";
import { parseBond, serializeBond } from "./bond.ts";

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
