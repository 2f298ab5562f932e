/**
 * The texts that sinks store beside the position of their checkpoint: complete tables with the place where they lie, and
 * the bond with the state. The bond changes with each batch. The tables rarely change and may be thousands, so a sink writes
 * them only after a change.
 */
import type { Checkpoint } from "../model/batch.ts";
import { isRecord } from "./stored-json.ts";
import { isCompleteTables } from "./completeness.ts";
import { parseBond, serializeBond } from "./bond.ts";

export interface CheckpointTexts {
  readonly tables: string;
  readonly bond: string;
}

const known = new WeakMap<Checkpoint["tables"], { readonly place: string; readonly text: string }>();

export function checkpointTexts({ tables, place, bond }: Omit<Checkpoint, "position">): CheckpointTexts {
  let found = known.get(tables);
  if (found === undefined || found.place !== place) {
    found = { place, text: JSON.stringify({ place, tables }) };
    known.set(tables, found);
  }
  return { tables: found.text, bond: serializeBond(bond) };
}

export function checkpointFromTexts(tables: string, bond: string): Omit<Checkpoint, "position"> {
  return { ...placedTables(tables), bond: parseBond(bond) };
}

/** From the text of `tables` alone. */
export function placedTables(text: string): Pick<Checkpoint, "tables" | "place"> {
  const value: unknown = JSON.parse(text);
  if (isRecord(value) && typeof value["place"] === "string" && isCompleteTables(value["tables"]))
    return { tables: value["tables"], place: value["place"] };
  throw new Error("the sink's checkpoint does not hold what was written there");
}
