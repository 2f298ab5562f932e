/**
 * The images of rows inside an event: whole ones, partial ones that build on the previous image, and ones that are only
 * counted.
 */
import { OP_UPDATE } from "../../../../src/core/model/block.ts";
import { ByteWriter } from "../../../../src/core/bytes.ts";
import { invariant } from "../../../../src/core/invariant.ts";
import { CELL_NULL, CellMap, TupleWriter } from "../../../../src/core/model/tuple.ts";
import { damaged } from "../errors.ts";
import * as code from "../wire/event-header.ts";
import * as field from "../values/field-types.ts";
import { writeChangedJson } from "../values/json-diffs.ts";
import { Cursor, readUint24, readUint32 } from "../wire/bytes.ts";
import { beginText, endText } from "../values/number-cells.ts";
import { isNull, writeCell, writeCells } from "./row-cells.ts";
import { AS_HIDDEN, type RowPlan } from "../values/cell-plan.ts";
import { type TableMap, valueEnd } from "./table-map.ts";

export interface ImageColumns {
  readonly bits: Uint8Array;
  readonly count: number;
  /** How many columns come before the first one that is left out. */
  readonly lead: number;
}

/** A flag of the options before a partial image: bits follow that show which JSON columns are partial. */
const PARTIAL_JSON = 1;
const JSON_LENGTH_BYTES = 4;

export class RowImages {
  #map: TableMap | undefined;
  #plan: RowPlan | undefined;
  #out = new ByteWriter(0);
  #tuples = new TupleWriter(this.#out);
  #bytes: Uint8Array = new Uint8Array(0);
  #end = 0;
  readonly #cells = new CellMap();
  /** Offsets of the old row's JSON documents in the event, by column. */
  readonly #documents = new Map<number, Uint8Array>();

  open(map: TableMap, plan: RowPlan, out: ByteWriter, bytes: Uint8Array, end: number): void {
    this.#map = map;
    this.#plan = plan;
    if (out !== this.#out) {
      this.#out = out;
      this.#tuples = new TupleWriter(out);
    }
    this.#bytes = bytes;
    this.#end = end;
  }

  /**
   * Writes an image as a tuple; returns the offset after it. `before`: the old row's tuple, which has what a new row leaves
   * out because it did not change.
   */
  row(columns: ImageColumns, at: number, before?: number): number {
    const plan = this.#opened();
    if (columns.lead < plan.cellsEnd || plan.cellCount < plan.cellsEnd)
      return this.#merged(columns, at, before, undefined);
    this.#tuples.begin(plan.cellCount);
    const next = writeCells(this.#out, plan, this.#bytes, at, columns.count);
    return this.#within(this.#passedHidden(plan, columns, at, next, plan.cellsEnd));
  }

  /** The offset after the server's own columns at `value`, of which the first is number `ordinal` in the image. */
  #passedHidden(plan: RowPlan, columns: ImageColumns, nulls: number, value: number, ordinal: number): number {
    let at = value;
    let nth = ordinal;
    for (let i = plan.cellsEnd; i < plan.columnCount; i++)
      if (hasColumn(columns, i) && !isNull(this.#bytes, nulls, nth++)) at = valueEnd(this.#map!, i, this.#bytes, at);
    return at;
  }

  /** The same; also remembers the offsets of the JSON documents, which `partial` needs. */
  rowWithPlaces(columns: ImageColumns, at: number): number {
    const plan = this.#opened();
    const map = this.#map!;
    this.#documents.clear();
    let value = at + ((columns.count + 7) >> 3);
    for (let i = 0; i < plan.cellsEnd; i++) {
      if (isNull(this.#bytes, at, i)) continue;
      const next = valueEnd(map, i, this.#bytes, value);
      if (map.types[i] === field.JSON_TYPE) {
        this.#documents.set(i, this.#bytes.subarray(value + map.first[i]!, this.#within(next)));
      }
      value = next;
    }
    return this.row(columns, at);
  }

  /** A new row whose JSON columns may be changes to the old row's documents. */
  partial(columns: ImageColumns, at: number, before: number): number {
    const map = this.#map!;
    const header = new Cursor(this.#bytes, at, this.#end);
    const isPartial = new Set<number>();
    if ((header.packed() & PARTIAL_JSON) !== 0) {
      const json = Array.from(map.types, (_, i) => i).filter((i) => map.types[i] === field.JSON_TYPE);
      const bits = header.span((json.length + 7) >> 3);
      json.forEach((column, i) => {
        if (((bits[i >> 3]! >> (i & 7)) & 1) === 1) isPartial.add(column);
      });
    }
    return this.#merged(columns, header.at, before, isPartial);
  }

  #merged(
    columns: ImageColumns,
    at: number,
    before: number | undefined,
    isPartial: ReadonlySet<number> | undefined,
  ): number {
    const plan = this.#opened();
    const out = this.#out;
    // Later writes may move the writer to a larger buffer, but the tuple stays unchanged in this one.
    const old = out.bytes;
    let isOldRead = false;
    this.#tuples.begin(plan.cellCount);
    let value = at + ((columns.count + 7) >> 3);
    let ordinal = 0;
    for (let i = 0, cell = 0; i < plan.cellsEnd; i++) {
      const isHidden = plan.code[i] === AS_HIDDEN;
      const nth = isHidden ? -1 : cell++;
      if (!hasColumn(columns, i)) {
        if (isHidden) continue;
        if (!isOldRead) {
          invariant(before !== undefined, "an image without another one has every cell");
          this.#cells.read(old, before);
          isOldRead = true;
        }
        this.#tuples.copyCell(old, this.#cells, nth);
      } else if (isNull(this.#bytes, at, ordinal++)) {
        if (!isHidden) out.byte(CELL_NULL);
      } else if (isHidden) value = valueEnd(this.#map!, i, this.#bytes, value);
      else if (isPartial?.has(i) === true) value = this.#changed(i, value);
      else value = writeCell(out, plan, i, this.#bytes, value);
    }
    return this.#within(this.#passedHidden(plan, columns, at, value, ordinal));
  }

  #changed(i: number, at: number): number {
    const document = this.#documents.get(i);
    if (document === undefined) throw damaged("a partial update of JSON without the old document");
    const from = at + JSON_LENGTH_BYTES;
    const next = this.#within(from + readUint32(this.#bytes, at));
    const text = beginText(this.#out);
    writeChangedJson(this.#out, document, this.#bytes.subarray(from, next));
    endText(this.#out, text);
    return next;
  }

  /** Whether the image at `at` is of a present row, not of one in the table's history. */
  isPresent(columns: ImageColumns, at: number): boolean {
    const { rowEnd } = this.#opened();
    const value = this.#within(passed(this.#map!, columns, this.#bytes, at, rowEnd));
    const seconds = readUint32(this.#bytes, value);
    // Up to version 11.4 until 2038, from 11.5 on until 2106.
    return (
      (seconds === FOREVER_31 || seconds === FOREVER_32) && readUint24(this.#bytes, value + 4) === FOREVER_FRACTION
    );
  }

  /** The offset after an image that is not needed. */
  passed(columns: ImageColumns, at: number): number {
    return this.#within(passed(this.#map!, columns, this.#bytes, at));
  }

  /** Counts the rows by the lengths of their values. */
  count(
    map: TableMap,
    kind: number,
    present: ImageColumns,
    presentAfter: ImageColumns,
    bytes: Uint8Array,
    start: number,
    end: number,
    type: number,
  ): number {
    const jsonCount = map.types.reduce((sum, each) => sum + (each === field.JSON_TYPE ? 1 : 0), 0);
    let count = 0;
    for (let at = start; at < end; count++) {
      at = passed(map, present, bytes, at);
      if (kind !== OP_UPDATE) continue;
      if (type === code.PARTIAL_UPDATE_ROWS) {
        const header = new Cursor(bytes, at, end);
        if ((header.packed() & PARTIAL_JSON) !== 0) header.span((jsonCount + 7) >> 3);
        at = header.at;
      }
      at = passed(map, presentAfter, bytes, at);
    }
    return count;
  }

  #opened(): RowPlan {
    invariant(this.#plan !== undefined, "images are read after `open`");
    return this.#plan;
  }

  #within(at: number): number {
    if (at > this.#end) throw new RangeError("a row is longer than its event");
    return at;
  }
}

/** Highest byte first in the log, read lowest byte first. */
const FOREVER_31 = 0xffff_ff7f;
const FOREVER_32 = 0xffff_ffff;
/** 999999. */
const FOREVER_FRACTION = 0x3f_420f;

export function hasColumn({ bits }: ImageColumns, i: number): boolean {
  return ((bits[i >> 3]! >> (i & 7)) & 1) === 1;
}

/** The offset after the values of the first `count` columns. */
function passed(
  map: TableMap,
  columns: ImageColumns,
  bytes: Uint8Array,
  nulls: number,
  count = map.types.length,
): number {
  let at = nulls + ((columns.count + 7) >> 3);
  let ordinal = 0;
  for (let i = 0; i < count; i++) {
    if (!hasColumn(columns, i) || isNull(bytes, nulls, ordinal++)) continue;
    at = valueEnd(map, i, bytes, at);
  }
  return at;
}
