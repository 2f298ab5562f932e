/** A table as records of Connect: its fields, and what is the same in every record of it, as bytes. */
import type { ByteWriter } from "../../../../src/core/bytes.ts";
import { BEFORE_FULL } from "../../../../src/core/model/block.ts";
import { namesOfTable, type TableVersion } from "../../../../src/core/model/schema.ts";
import { CELL_UNCHANGED, CellMap } from "../../../../src/core/model/tuple.ts";
import { type TopicNaming, topicOf } from "../../names.ts";
import { Inexpressible } from "../format.ts";
import type { Cell, Decimals, Field } from "./fields.ts";
import { writeValue } from "./values.ts";
import { fieldOf } from "./column-fields.ts";

/** The key's field that tells apart tables of one topic: as Debezium's ByLogicalTableRouter names it. */
const TABLE_FIELD = "__dbz__physicalTableIdentifier";

export interface Layout {
  readonly table: TableVersion;
  /** At the source. */
  readonly own: { readonly schema: string; readonly table: string };
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
}

/** What is the same in every record of a table, made once. */
export class PerTable<K extends object, T> {
  readonly #make: (table: K) => T;
  readonly #known = new WeakMap<K, T>();

  constructor(make: (table: K) => T) {
    this.#make = make;
  }

  of(table: K): T {
    let known = this.#known.get(table);
    if (known === undefined) {
      known = this.#make(table);
      this.#known.set(table, known);
    }
    return known;
  }
}

export function layoutOf(table: TableVersion, naming: TopicNaming, decimals: Decimals): Layout {
  const fields = table.columns.map((column) => fieldOf(column, table.dialect, decimals));
  const described = table.columns.map(({ name, nullable }, i) => fieldSchema(fields[i]!, name, nullable));
  const isShared = naming.single !== undefined;
  const keyFields = table.key.map((ordinal) => described[ordinal]!);
  if (isShared) keyFields.push(`{"type":"string","optional":false,"field":"${TABLE_FIELD}"}`);
  const identifier = topicOf(table, { ...naming, single: undefined });
  return {
    table,
    own: namesOfTable(table.id),
    fields,
    names: table.columns.map(({ name }) => Buffer.from(`${JSON.stringify(name)}:`)),
    schemaName: identifier,
    keySchema: `"type":"struct","fields":[${keyFields.join(",")}]`,
    rowSchema: `"type":"struct","fields":[${described.join(",")}]`,
    keyEnd: Buffer.from(isShared ? `,"${TABLE_FIELD}":${JSON.stringify(identifier)}}` : "}"),
  };
}

function fieldSchema({ schema: { type, rest } }: Field, name: string, optional: boolean): string {
  return `{${type},"optional":${optional}${rest},"field":${JSON.stringify(name)}}`;
}

const cells = new CellMap();
const cell: Cell = { kind: CELL_UNCHANGED, bytes: Buffer.alloc(0), start: 0, length: 0 };

export function writeKey(out: ByteWriter, layout: Layout, bytes: Uint8Array, offset: number): void {
  cells.read(bytes, offset);
  cell.bytes = bytes;
  let separator = "{";
  for (const ordinal of layout.table.key) {
    out.ascii(separator);
    separator = ",";
    writeCell(out, layout, ordinal);
  }
  out.copy(layout.keyEnd, 0, layout.keyEnd.length);
}

/** `kind`: BEFORE_FULL, or BEFORE_KEY where the tuple has nothing but the key. Without its closing brace. */
export function writeRow(out: ByteWriter, layout: Layout, bytes: Uint8Array, offset: number, kind = BEFORE_FULL): void {
  const { table } = layout;
  cells.read(bytes, offset);
  cell.bytes = bytes;
  for (let i = 0; i < table.columns.length; i++) {
    out.ascii(i === 0 ? "{" : ",");
    if (kind === BEFORE_FULL || table.key.includes(i)) writeCell(out, layout, i);
    else writeUnknown(out, layout, i);
  }
}

function writeCell(out: ByteWriter, layout: Layout, i: number): void {
  const { table, fields, names } = layout;
  const column = table.columns[i]!;
  const name = names[i]!;
  const kind = cells.kind[i]!;
  out.copy(name, 0, name.length);
  cell.kind = kind;
  cell.start = cells.start[i]!;
  cell.length = cells.length[i]!;
  const isWritten = writeValue(out, fields[i]!, cell);
  if (isWritten && (column.nullable || kind !== CELL_UNCHANGED || fields[i]!.unavailable !== "null")) return;
  if (!column.nullable) throw new Inexpressible(column.name);
  out.ascii("null");
}

function writeUnknown(out: ByteWriter, { table, fields, names }: Layout, i: number): void {
  const name = names[i]!;
  out.copy(name, 0, name.length);
  out.ascii(table.columns[i]!.nullable ? "null" : fields[i]!.zero);
}
