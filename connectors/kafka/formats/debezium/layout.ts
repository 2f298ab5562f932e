/** A table as records of Connect: its fields, and what is the same in every record of it, as bytes. */
import type { ByteWriter } from "../../../../src/core/bytes.ts";
import { BEFORE_FULL } from "../../../../src/core/model/block.ts";
import type { TableVersion } from "../../../../src/core/model/schema.ts";
import { CELL_UNCHANGED, CellMap } from "../../../../src/core/model/tuple.ts";
import { type TopicNaming, topicOf } from "../../names.ts";
import { Inexpressible } from "../format.ts";
import type { Decimals, Field } from "./types/field.ts";
import { fieldOf } from "./types/fields.ts";
import { writeValue } from "./values/values.ts";

/** The key's field that tells apart tables of one topic: as Debezium's ByLogicalTableRouter names it. */
const TABLE_FIELD = "__dbz__physicalTableIdentifier";

export interface Layout {
  readonly table: TableVersion;
  readonly fields: readonly Field[];
  /** `"name":` of each column. */
  readonly names: readonly Buffer[];
  /** Names of schemas begin with it. */
  readonly schemaName: string;
  /** The members of the key's schema, and of that of a row. */
  readonly keySchema: string;
  readonly rowSchema: string;
  /** The rest of a key where tables share a topic, from the comma on. */
  readonly keyEnd: Buffer;
  /** `schema.table`, as transactions name it. */
  readonly collection: string;
}

export interface LayoutOptions {
  readonly naming: TopicNaming;
  readonly decimals: Decimals;
}

export class Layouts {
  readonly #options: LayoutOptions;
  readonly #known = new WeakMap<TableVersion, Layout>();

  constructor(options: LayoutOptions) {
    this.#options = options;
  }

  of(table: TableVersion): Layout {
    let known = this.#known.get(table);
    if (known === undefined) {
      known = layoutOf(table, this.#options);
      this.#known.set(table, known);
    }
    return known;
  }
}

function layoutOf(table: TableVersion, { naming, decimals }: LayoutOptions): Layout {
  const fields = table.columns.map((column) => fieldOf(column, table.dialect, decimals));
  const described = table.columns.map(({ name, nullable }, i) => fieldSchema(fields[i]!, name, nullable));
  const isShared = naming.single !== undefined;
  const keyFields = table.key.map((ordinal) => described[ordinal]!);
  if (isShared) keyFields.push(`{"type":"string","optional":false,"field":"${TABLE_FIELD}"}`);
  const identifier = topicOf(table, { ...naming, single: undefined });
  return {
    table,
    fields,
    names: table.columns.map(({ name }) => Buffer.from(`${JSON.stringify(name)}:`)),
    schemaName: identifier,
    keySchema: `"type":"struct","fields":[${keyFields.join(",")}]`,
    rowSchema: `"type":"struct","fields":[${described.join(",")}]`,
    keyEnd: Buffer.from(isShared ? `,"${TABLE_FIELD}":${JSON.stringify(identifier)}}` : "}"),
    collection: `${table.schema}.${table.table}`,
  };
}

function fieldSchema({ schema: { type, rest } }: Field, name: string, optional: boolean): string {
  return `{${type},"optional":${optional}${rest},"field":${JSON.stringify(name)}}`;
}

const cells = new CellMap();

export function writeKey(out: ByteWriter, layout: Layout, bytes: Uint8Array, offset: number): void {
  cells.read(bytes, offset);
  let separator = "{";
  for (const ordinal of layout.table.key) {
    out.ascii(separator);
    separator = ",";
    writeCell(out, layout, ordinal, bytes);
  }
  out.copy(layout.keyEnd, 0, layout.keyEnd.length);
}

/** `kind`: BEFORE_FULL, or BEFORE_KEY where the tuple has nothing but the key. Without its closing brace. */
export function writeRow(out: ByteWriter, layout: Layout, bytes: Uint8Array, offset: number, kind = BEFORE_FULL): void {
  const { table } = layout;
  cells.read(bytes, offset);
  for (let i = 0; i < table.columns.length; i++) {
    out.ascii(i === 0 ? "{" : ",");
    if (kind === BEFORE_FULL || table.key.includes(i)) writeCell(out, layout, i, bytes);
    else writeUnknown(out, layout, i);
  }
}

function writeCell(out: ByteWriter, layout: Layout, i: number, bytes: Uint8Array): void {
  const { table, fields, names } = layout;
  const column = table.columns[i]!;
  const name = names[i]!;
  const kind = cells.kind[i]!;
  out.copy(name, 0, name.length);
  const isWritten = writeValue(out, fields[i]!, kind, bytes, cells.start[i]!, cells.length[i]!);
  if (isWritten && (column.nullable || kind !== CELL_UNCHANGED || fields[i]!.unavailable !== "null")) return;
  if (!column.nullable) throw new Inexpressible(column.name);
  out.ascii("null");
}

function writeUnknown(out: ByteWriter, { table, fields, names }: Layout, i: number): void {
  const name = names[i]!;
  out.copy(name, 0, name.length);
  out.ascii(table.columns[i]!.nullable ? "null" : fields[i]!.zero);
}
