/**
 * The texts that sinks store beside the position of their checkpoint: complete tables with the place where they lie, and
 * the bond with the state. The bond changes with each batch. The tables rarely change and may be thousands, so a sink writes
 * them only after a change.
 */
import type { Checkpoint } from "../model/batch.ts";
import { isRecord } from "./stored-json.ts";
import { type CompleteTables, isCompleteTables } from "./completeness.ts";
import { parseBond, serializeBond } from "./bond.ts";

export type CheckpointContent = Pick<Checkpoint, "tables" | "place" | "bond">;

export interface CheckpointTexts {
  readonly tables: string;
  /** "" if there is none. */
  readonly bond: string;
}

const known = new WeakMap<CheckpointContent["tables"], { readonly place: string | undefined; readonly text: string }>();

export function checkpointTexts({ tables, place, bond }: CheckpointContent): CheckpointTexts {
  let found = known.get(tables);
  if (found === undefined || found.place !== place) {
    found = { place, text: JSON.stringify(place === undefined ? tables : { place, tables }) };
    known.set(tables, found);
  }
  return { tables: found.text, bond: bond === undefined ? "" : serializeBond(bond) };
}

/**
 * `bond`: "" or null if none is stored. Earlier versions wrote no place, and no bond or one in the text of the tables. No
 * table's id is a key of ours.
 */
export function checkpointFromTexts(tablesText: string, bondText: string | null | undefined): CheckpointContent {
  const value: unknown = JSON.parse(tablesText);
  if (!isRecord(value)) throw notContent();
  const { bond: oldBond, place, tables: inner } = value;
  if (!isRecord(inner)) return { tables: tablesOf(value), ...bonded(bondText) };
  const bond = bonded(bondText || (typeof oldBond === "string" ? oldBond : ""));
  return { tables: tablesOf(inner), ...(typeof place === "string" ? { place } : {}), ...bond };
}

function bonded(text: string | null | undefined): Pick<CheckpointContent, "bond"> {
  return text ? { bond: parseBond(text) } : {};
}

function tablesOf(value: Record<string, unknown>): CompleteTables {
  if (!isCompleteTables(value)) throw notContent();
  return value;
}

function notContent(): Error {
  return new Error("the sink's checkpoint does not hold what was written there");
}
