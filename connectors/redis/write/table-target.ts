import { BaseFloors } from "../../../src/core/targets/base-floors.ts";
import type { Block } from "../../../src/core/model/block.ts";
import { ByteWriter } from "../../../src/core/bytes.ts";
import { cacheKeyPart } from "../../../src/core/targets/names.ts";
import { writeRowId } from "../../../src/core/model/row-id.ts";
import type { TableName } from "../../../src/core/contracts/connector.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import { CellMap } from "../../../src/core/model/tuple.ts";
import { RowWriter } from "./row-writer.ts";
import type { RowShape } from "../shapes.ts";

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
