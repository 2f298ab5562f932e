/** A table in Redis: its keys, the form of its rows, and what tells rows of an older shape. */
import * as z from "zod";
import { SHAPE_NOTE, BaseFloors, type ShapeNote, shapeNote } from "../../../src/core/targets/base-rows.ts";
import type { Block } from "../../../src/core/model/block.ts";
import { ByteWriter } from "../../../src/core/bytes.ts";
import { cacheKeyPart } from "../../../src/core/targets/names.ts";
import { writeRowId } from "../../../src/core/model/row-id.ts";
import type { TableName } from "../../../src/core/contracts/connector.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import { CellMap } from "../../../src/core/model/tuple.ts";
import { RowWriter } from "./row-writer.ts";
import { type Commands, textOf } from "../connection.ts";
import { overwritten } from "../checkpoint.ts";

export type Format = "hash" | "json";

export interface KeyNaming {
  readonly prefix: string;
  /** Whether the tables are documents. Default: false. */
  readonly isOfDocuments?: boolean | undefined;
}

export function tableKeyStart(
  { prefix, isOfDocuments = false }: KeyNaming,
  { schema, table, scope = {} }: TableName & Pick<TableVersion, "scope">,
): string {
  const parts = [...(isOfDocuments ? [] : [schema]), table, ...Object.values(scope)];
  return `${prefix}${parts.map((part) => `${cacheKeyPart(part)}:`).join("")}`;
}

/** The keys of one table and the form of its rows. */
export class TableTarget {
  readonly keyStart: string;
  /** The numbers of columns that its keys have had. */
  readonly keyWidths: readonly number[];
  readonly rows: RowWriter;
  /** Rows with a lower version may have other columns, or be other rows, than in this table version. */
  readonly floors: BaseFloors;
  /** The last key that `key` wrote. */
  readonly keyBytes = new ByteWriter(512);
  readonly #start: Buffer;
  readonly #table: TableVersion;
  readonly #cells = new CellMap();

  constructor(naming: KeyNaming, format: Format, table: TableVersion, shape: RowShape) {
    this.keyStart = tableKeyStart(naming, table);
    this.keyWidths = shape.widths;
    this.floors = new BaseFloors(shape);
    this.rows = new RowWriter(table, format, this.floors, shape.retired);
    this.#start = Buffer.from(this.keyStart);
    this.#table = table;
  }

  /** Writes the key of the row whose key cells are in the tuple at `offset`. */
  key(block: Block, offset: number): ByteWriter {
    const out = this.keyBytes;
    out.reset();
    out.copy(this.#start, 0, this.#start.length);
    this.#cells.read(block.bytes, offset);
    writeRowId(out, this.#table, block.bytes, this.#cells);
    return out;
  }
}

/** Identifies rows of an older shape of a table. Stored beside the checkpoint, one field per table. */
export interface RowShape extends ShapeNote {
  /** Columns that the table had: older hashes may still have their fields. */
  readonly retired: readonly string[];
  /** The numbers of columns that its keys have had, so that rows with an earlier key are found for removal. */
  readonly widths: readonly number[];
}

const SHAPE = SHAPE_NOTE.extend({ retired: z.array(z.string()), widths: z.array(z.int()) });

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
