/**
 * TABLE_MAP events: the table of the following rows, and its columns. One comes before the rows of every statement; equal
 * ones share one object.
 */
import type { TableName } from "../../../../src/core/contracts/connector.ts";
import type { MillraceError } from "../../../../src/core/errors.ts";
import type { Charset } from "../values/charsets.ts";
import type { TableVersion } from "../../../../src/core/model/schema.ts";
import { damaged } from "../../errors.ts";
import { HEADER_BYTES } from "../log/events.ts";
import * as field from "./field-types.ts";
import type { Flavour } from "../log/format.ts";
import { Cursor, readUint48 } from "../log/little-endian.ts";
import { type OptionalMetadata, readOptionalMetadata } from "./table-metadata.ts";

const TABLE_ID_BYTES = 6;
/** Maps that are kept although no rows refer to them now. */
const KEPT_COUNT_MAX = 4_096;

/** How the rows' values are stored, and which cells they become: see row-plan.ts. */
export interface RowPlan {
  /** Columns of the row in the log. */
  readonly columnCount: number;
  /** Columns of its tuple; further columns are the server's own. */
  readonly cellCount: number;
  /** The column that says until when a row was valid; -1: the table has no history. */
  readonly rowEnd: number;
  readonly code: Uint8Array;
  readonly a: Uint16Array;
  readonly b: Uint16Array;
  readonly charsets: readonly (Charset | undefined)[];
  /** Labels in UTF-8; the one with number 0, for invalid labels, is empty. */
  readonly labels: readonly (readonly Uint8Array[] | undefined)[];
  readonly isKey: Uint8Array;
  /** Names of the key's columns, only for messages. */
  readonly tableName: string;
  /** Counts of dates that do not exist. */
  readonly metZeroDates: { count: number };
}

export interface TableMap {
  readonly tableId: number;
  readonly schema: string;
  readonly table: string;
  readonly flavour: Flavour;
  /** The type of each column, as in field-types.ts; ENUM and SET are already distinguished from CHAR. */
  readonly types: Uint8Array;
  /** What is needed to read the type: length, digits, or size of a length, depending on the type. */
  readonly first: Uint16Array;
  readonly second: Uint8Array;
  readonly nullable: readonly boolean[];
  readonly metadata: OptionalMetadata;
  /** The version of the rows; null: the table is not captured; undefined: it must be looked up. */
  version: TableVersion | null | undefined;
  /** See `RowPlan`; looked up with the version. */
  rowEnd: number;
  /** How its rows become tuples; made for the first row. */
  plan: RowPlan | undefined;
  /** Why its next rows can't be read; their version is null. */
  fault: MillraceError | undefined;
}

interface StoredMap {
  readonly body: Uint8Array;
  readonly map: TableMap;
}

/** The maps of a stream. */
export class TableMaps {
  readonly #kept = new Map<number, StoredMap>();
  /** The maps of the present statement, by table id. */
  readonly #active = new Map<number, TableMap>();
  /** The maps of the present transaction. */
  readonly #ofTransaction = new Set<TableMap>();

  /** Takes the event between `start` and `end`, with header but without checksum. */
  take(bytes: Uint8Array, start: number, end: number, flavour: Flavour): TableMap {
    const at = start + HEADER_BYTES;
    const tableId = readUint48(bytes, at);
    const kept = this.#kept.get(tableId);
    const map =
      kept !== undefined && isSame(kept.body, bytes, at, end) ? kept.map : this.#read(bytes, at, end, flavour);
    this.#active.set(tableId, map);
    this.#ofTransaction.add(map);
    return map;
  }

  /** A transaction begins. */
  begin(): void {
    if (this.#ofTransaction.size > 0) this.#ofTransaction.clear();
  }

  /** The tables that the present transaction has named before rows of them. */
  get named(): readonly TableName[] {
    return [...this.#ofTransaction];
  }

  find(tableId: number): TableMap | undefined {
    return this.#active.get(tableId);
  }

  /** The statement is over: its table ids mean nothing any more. */
  endStatement(): void {
    this.#active.clear();
  }

  /** Every table must be looked up again: the catalogue, or the captured tables, have changed. */
  forgetVersions(): void {
    for (const { map } of this.#kept.values()) {
      map.version = undefined;
      map.plan = undefined;
    }
  }

  #read(bytes: Uint8Array, at: number, end: number, flavour: Flavour): TableMap {
    let map: TableMap;
    try {
      map = readTableMap(new Cursor(bytes, at, end), flavour);
    } catch (error) {
      if (error instanceof RangeError) throw damaged("a table map is cut short", error);
      throw error;
    }
    if (this.#kept.size >= KEPT_COUNT_MAX) this.#kept.clear();
    this.#kept.set(map.tableId, { body: Uint8Array.prototype.slice.call(bytes, at, end), map });
    return map;
  }
}

function isSame(body: Uint8Array, bytes: Uint8Array, at: number, end: number): boolean {
  if (body.length !== end - at) return false;
  for (let i = 0; i < body.length; i++) if (body[i] !== bytes[at + i]) return false;
  return true;
}

function readTableMap(cursor: Cursor, flavour: Flavour): TableMap {
  const tableId = cursor.uint(TABLE_ID_BYTES);
  cursor.uint(2);
  const schema = readName(cursor);
  const table = readName(cursor);
  const columnCount = cursor.packed();
  const types = Uint8Array.from(cursor.span(columnCount));
  const first = new Uint16Array(columnCount);
  const second = new Uint8Array(columnCount);
  const meta = cursor.span(cursor.packed());
  readTypeMetadata(new Cursor(meta, 0, meta.length), types, first, second);
  const nullBits = cursor.span((columnCount + 7) >> 3);
  const nullable = Array.from(types, (_, i) => ((nullBits[i >> 3]! >> (i & 7)) & 1) === 1);
  const metadata = readOptionalMetadata(cursor, types, flavour);
  return {
    tableId,
    schema,
    table,
    flavour,
    types,
    first,
    second,
    nullable,
    metadata,
    version: undefined,
    rowEnd: -1,
    plan: undefined,
    fault: undefined,
  };
}

/** Length, characters in UTF-8, a zero. */
function readName(cursor: Cursor): string {
  const name = Buffer.from(cursor.span(cursor.byte())).toString("utf8");
  cursor.byte();
  return name;
}

/** The metadata after the types: one or two bytes for types that need it. */
function readTypeMetadata(meta: Cursor, types: Uint8Array, first: Uint16Array, second: Uint8Array): void {
  for (let i = 0; i < types.length; i++) {
    switch (types[i]!) {
      case field.FLOAT:
      case field.DOUBLE:
      case field.BLOB:
      case field.BLOB_COMPRESSED:
      case field.GEOMETRY:
      case field.JSON_TYPE:
      case field.VECTOR:
      case field.TIMESTAMP:
      case field.DATETIME:
      case field.TIME:
        first[i] = meta.byte();
        break;
      case field.VARCHAR:
      case field.VAR_STRING:
      case field.VARCHAR_COMPRESSED:
        first[i] = meta.uint(2);
        break;
      case field.NEWDECIMAL:
      case field.BIT:
        first[i] = meta.byte();
        second[i] = meta.byte();
        break;
      case field.ENUM:
      case field.SET:
      case field.STRING:
        readStringMetadata(meta, types, first, i);
        break;
      case field.TYPED_ARRAY:
        throw new RangeError("an array type, which no column has");
      default:
        break;
    }
  }
}

/**
 * ENUM and SET come as CHAR with their own type in the first byte and the size of their number in the second. CHAR itself
 * has two more bits of its length, inverted, in the first byte.
 */
function readStringMetadata(meta: Cursor, types: Uint8Array, first: Uint16Array, i: number): void {
  const type = meta.byte();
  const length = meta.byte();
  if (type === field.ENUM || type === field.SET) {
    types[i] = type;
    first[i] = length;
  } else {
    types[i] = field.STRING;
    first[i] = (((type & 0x30) ^ 0x30) << 4) | length;
  }
}
