/**
 * The texts that sinks store beside the position of their checkpoint: complete tables, and the bond with the state. The
 * bond changes with each step. The tables rarely change and may be thousands, so a sink writes them only after a
 * change.
 */
import type { SinkProgress } from "../model/batch.ts";
import { isRecord } from "./stored-json.ts";
import { type CompleteTables, isCompleteTables } from "./completeness.ts";
import { parseBond, serializeBond } from "./bond.ts";

export type CheckpointContent = Pick<SinkProgress, "tables" | "bond">;

export interface CheckpointTexts {
  readonly tables: string;
  /** "" if there is none. */
  readonly bond: string;
}

const known = new WeakMap<CheckpointContent["tables"], string>();

export function checkpointTexts({ tables, bond }: CheckpointContent): CheckpointTexts {
  let text = known.get(tables);
  if (text === undefined) known.set(tables, (text = JSON.stringify(tables)));
  return { tables: text, bond: bond === undefined ? "" : serializeBond(bond) };
}

/**
 * `bond`: "" or null if none is stored. Versions before 0.2 wrote no bond, or wrote it into the text of the tables;
 * there `bond` and `tables` are keys.
 */
export function parseCheckpoint(tables: string, bond: string | null | undefined): CheckpointContent {
  const value: unknown = JSON.parse(tables);
  if (!isRecord(value)) throw notContent();
  const { bond: oldBond, tables: inner } = value;
  if (typeof oldBond === "string" && isRecord(inner))
    return { tables: tablesOf(inner), bond: parseBond(bond || oldBond) };
  return bond ? { tables: tablesOf(value), bond: parseBond(bond) } : { tables: tablesOf(value) };
}

function tablesOf(value: Record<string, unknown>): CompleteTables {
  if (!isCompleteTables(value)) throw notContent();
  return value;
}

function notContent(): Error {
  return new Error("the sink's checkpoint does not hold what was written there");
}
