/** The text that sinks keep beside the position of their checkpoint: complete tables, and the bond with the state. */
import type { SinkProgress } from "./batch.ts";
import { parseBond, serializeBond } from "./bond.ts";

export type CheckpointContent = Pick<SinkProgress, "tables" | "bond">;

export function serializeContent({ tables, bond }: CheckpointContent): string {
  return JSON.stringify(bond === undefined ? tables : { bond: serializeBond(bond), tables });
}

/** Without a bond it is what versions before 0.2 wrote: the tables alone, whose values are texts. */
export function parseContent(text: string): CheckpointContent {
  const value: unknown = JSON.parse(text);
  if (!isRecord(value)) throw notContent();
  const { bond, tables } = value;
  if (typeof bond === "string" && isRecord(tables)) return { tables: textsOf(tables), bond: parseBond(bond) };
  return { tables: textsOf(value) };
}

function textsOf(value: Record<string, unknown>): Record<string, string> {
  if (!Object.values(value).every((item) => typeof item === "string")) throw notContent();
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- every value was looked at
  return value as Record<string, string>;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function notContent(): Error {
  return new Error("the sink's checkpoint does not hold what was written there");
}
