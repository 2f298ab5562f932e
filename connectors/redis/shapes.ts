/** Identifies rows of an older shape of a table. Stored beside the checkpoint, one field per table. */
import * as z from "zod";
import { type ShapeNote, shapeNote } from "../../src/core/targets/base-floors.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import { STORED_SHAPE } from "../kit/stored-shape.ts";
import { type Commands, textOf } from "./connection.ts";
import { overwritten } from "./checkpoint.ts";

export interface RowShape extends ShapeNote {
  /** Columns that the table had: older hashes may still have their fields. */
  readonly retired: readonly string[];
  /** The numbers of columns that its keys have had, so that rows with an earlier key are found for removal. */
  readonly widths: readonly number[];
}

const SHAPE = STORED_SHAPE.extend({ retired: z.array(z.string()), widths: z.array(z.int()) });

/** Only under the claim that writes the rows. */
const STORE = `
if redis.call('HGET', KEYS[1], 'claim') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
return 1
`;

/** Null if another claim is stored, or none. `since`: the sink's version now. */
export async function followShape(
  connection: Commands,
  checkpointKey: Buffer,
  claim: string,
  table: TableVersion,
  since: bigint,
): Promise<RowShape | null> {
  const field = `shape:${table.id}`;
  const stored = textOf(await connection.command("hget", checkpointKey, field));
  const noted = stored === null ? null : storedShape(stored, checkpointKey);
  const shape = nextShape(noted, table, since);
  const text = JSON.stringify(shape);
  if (text === stored) return shape;
  const answer = await connection.command("eval", STORE, "1", checkpointKey, claim, field, text);
  return answer === 1 ? shape : null;
}

function storedShape(text: string, checkpointKey: Buffer): RowShape {
  try {
    return SHAPE.parse(JSON.parse(text));
  } catch (error) {
    throw overwritten(checkpointKey, error);
  }
}

function nextShape(noted: RowShape | null, table: TableVersion, since: bigint): RowShape {
  const names = new Set(table.columns.map(({ name }) => name));
  const before = [...(noted?.retired ?? []), ...(noted?.columns.map(([name]) => name) ?? [])];
  return {
    ...shapeNote(noted, table, since),
    retired: before.filter((name) => !names.has(name)),
    widths: [...new Set([...(noted?.widths ?? []), table.key.length])],
  };
}
