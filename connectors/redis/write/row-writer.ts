import { isUtf8 } from "node:buffer";
import type { BaseFloors } from "../../../src/core/targets/base-rows.ts";
import { PATCH, PUT, type TableWrites } from "../../../src/core/model/batch.ts";
import type { Block } from "../../../src/core/model/block.ts";
import { ByteWriter } from "../../../src/core/bytes.ts";
import { invariant } from "../../../src/core/invariant.ts";
import { DIALECTS, type TableVersion } from "../../../src/core/model/schema.ts";
import { JsonFields } from "../../../src/core/targets/json-fields.ts";
import { CELL_NULL, CELL_UNCHANGED, CellMap } from "../../../src/core/model/tuple.ts";
import { writeUnixTimeJson } from "../../../src/core/values/calendar.ts";
import { writeJson } from "../../../src/core/values/json.ts";
import { beginPacked, beginPackedText, endPacked, endPackedText, packedText, type Packing } from "./packed-row.ts";
import {
  beginArray,
  beginText,
  endText,
  setArrayCount,
  textBytes,
  ACTION,
  JSON_HEAD,
  TIME_FIELD,
  VERSION_FIELD,
} from "./script.ts";
import { writeFieldText } from "../types.ts";

/** The row from which a PATCH takes its unchanged cells. */
export interface BaseRow {
  /** Hash: one value per unchanged column, in column order, null for a missing field. Json: the whole text. */
  readonly values: readonly (Buffer | null)[];
}

/**
 * Writes rows of one table in the form that the script expects. Rate to hold: 500k rows/s of 12 columns
 * (bench/apply-redis).
 */
export class RowWriter {
  readonly #table: TableVersion;
  readonly #isJson: boolean;
  readonly #hasHalves: boolean;
  readonly #hashNames: readonly Buffer[];
  readonly #jsonNames: readonly Buffer[];
  readonly #base: JsonFields;
  readonly #floors: BaseFloors;
  readonly #retired: readonly Buffer[];
  readonly #cells = new CellMap();
  readonly #head = new RowHead();
  /** Null if a name is too long to be packed. */
  readonly #packedNames: readonly Buffer[] | null;
  #packing: Packing | null = null;

  /** `retired`: columns that rows of older shapes may have. */
  constructor(table: TableVersion, format: "hash" | "json", floors: BaseFloors, retired: readonly string[]) {
    this.#table = table;
    this.#floors = floors;
    this.#retired = retired.map(textBytes);
    this.#isJson = format === "json";
    this.#hasHalves = DIALECTS[table.dialect].hasHalves;
    const names = table.columns.map((column) => column.name);
    this.#hashNames = names.map(textBytes);
    this.#jsonNames = names.map((name) => Buffer.from(`,${JSON.stringify(name)}:`));
    this.#base = new JsonFields(names);
    const packed = names.map(packedText).filter((name) => name !== null);
    this.#packedNames = packed.length === names.length ? packed : null;
  }

  /** Called before each batch: blocks are reused, so cached values of a block are void. */
  begin(packing: Packing | null): void {
    this.#head.forget();
    const fits = packing !== null && this.#table.columns.length + 2 <= packing.fieldCountMax;
    this.#packing = fits && packing.valueBytesMax >= HEAD_BYTES_MAX ? packing : null;
  }

  /**
   * Writes entry `i` and returns its action, or why it has none: the base lacks a column that the entry leaves unchanged, or a
   * text is no UTF-8, which JSON can't hold. A PATCH without base is written for the script to complete (format hash only).
   */
  write(out: ByteWriter, writes: TableWrites, i: number, base: BaseRow | null): number | "incomplete" | "no UTF-8" {
    const block = writes.blocks[writes.block[i]!]!;
    const row = writes.row[i]!;
    this.#cells.read(block.bytes, block.after[row]!);
    this.#head.set(block, block.tx[row]!);
    if (this.#isJson) return this.#writeJsonRow(out, block, base);
    if (writes.action[i] === PATCH && base === null) {
      this.#writePatch(out, block, this.#floors.of(block.bytes, block.after[row]!));
      return ACTION.patchHash;
    }
    if (writes.action[i] === PUT && this.#packing !== null && this.#packedNames !== null) {
      const at = out.length;
      if (this.#writePackedRow(out, block, this.#packedNames, this.#packing.valueBytesMax)) {
        return writes.fresh[i] === 1 ? ACTION.putFresh : ACTION.putPacked;
      }
      out.length = at;
    }
    this.#writeHashRow(out, block, base);
    return ACTION.putHash;
  }

  /** Writes all columns that are not null in the server's own form. False if a value is too long for that. */
  #writePackedRow(out: ByteWriter, block: Block, names: readonly Buffer[], valueBytesMax: number): boolean {
    const text = beginText(out);
    const at = beginPacked(out);
    out.copy(this.#head.packed, 0, this.#head.packed.length);
    let count = 4;
    const { kind, start, length } = this.#cells;
    for (let c = 0; c < this.#cells.count; c++) {
      if (kind[c] === CELL_NULL) continue;
      const name = names[c]!;
      out.copy(name, 0, name.length);
      const value = beginPackedText(out);
      writeFieldText(out, this.#table.columns[c]!.type, kind[c]!, block.bytes, start[c]!, length[c]!);
      if (!endPackedText(out, value, valueBytesMax)) return false;
      count += 2;
    }
    endPacked(out, at, count);
    endText(out, text);
    return true;
  }

  /** [field, value, …] of all columns that are not null. */
  #writeHashRow(out: ByteWriter, block: Block, base: BaseRow | null): void {
    const at = beginArray(out);
    out.copy(this.#head.fields, 0, this.#head.fields.length);
    let count = 4;
    let unchanged = 0;
    const { kind } = this.#cells;
    for (let c = 0; c < this.#cells.count; c++) {
      if (kind[c] === CELL_NULL) continue;
      if (kind[c] !== CELL_UNCHANGED) {
        this.#writeField(out, block, c);
      } else {
        const value = base?.values[unchanged++] ?? null;
        if (value === null) continue;
        out.copy(this.#hashNames[c]!, 0, this.#hashNames[c]!.length);
        const text = beginText(out);
        out.copy(value, 0, value.length);
        endText(out, text);
      }
      count += 2;
    }
    setArrayCount(out, at, count);
  }

  /**
   * [[field, value, …], [field, …], version?]: fields to set, fields to remove, and the lowest version of a usable
   * base.
   */
  #writePatch(out: ByteWriter, block: Block, floor: bigint): void {
    beginArray(out, floor === 0n ? 2 : 3);
    const at = beginArray(out);
    out.copy(this.#head.fields, 0, this.#head.fields.length);
    let count = 4;
    let nullCount = 0;
    const { kind } = this.#cells;
    for (let c = 0; c < this.#cells.count; c++) {
      if (kind[c] === CELL_UNCHANGED) continue;
      if (kind[c] === CELL_NULL) {
        nullCount++;
        continue;
      }
      this.#writeField(out, block, c);
      count += 2;
    }
    setArrayCount(out, at, count);
    beginArray(out, nullCount + this.#retired.length);
    for (let c = 0; c < this.#cells.count; c++) {
      if (kind[c] === CELL_NULL) out.copy(this.#hashNames[c]!, 0, this.#hashNames[c]!.length);
    }
    for (const name of this.#retired) out.copy(name, 0, name.length);
    if (floor === 0n) return;
    const text = beginText(out);
    out.ascii(String(floor));
    endText(out, text);
  }

  #writeField(out: ByteWriter, block: Block, c: number): void {
    const { kind, start, length } = this.#cells;
    const name = this.#hashNames[c]!;
    out.copy(name, 0, name.length);
    const text = beginText(out);
    writeFieldText(out, this.#table.columns[c]!.type, kind[c]!, block.bytes, start[c]!, length[c]!);
    endText(out, text);
  }

  /** [version, text]. Unchanged columns are copied from the base as they are written there. */
  #writeJsonRow(out: ByteWriter, block: Block, base: BaseRow | null): number | "incomplete" | "no UTF-8" {
    const { kind, start, length } = this.#cells;
    const old = base?.values[0] ?? null;
    if (old !== null) this.#base.read(old);
    beginArray(out, 2);
    out.copy(this.#head.version, 0, this.#head.version.length);
    const text = beginText(out);
    const from = out.length;
    out.copy(this.#head.json, 0, this.#head.json.length);
    for (let c = 0; c < this.#cells.count; c++) {
      const name = this.#jsonNames[c]!;
      out.copy(name, 0, name.length);
      if (kind[c] !== CELL_UNCHANGED) {
        writeJson(out, this.#table.columns[c]!.type, kind[c]!, block.bytes, start[c]!, length[c]!);
      } else {
        if (old === null || !this.#base.has(c)) return "incomplete";
        const at = this.#base.start[c]!;
        out.copy(old, at, this.#base.end[c]! - at);
      }
    }
    out.byte(0x7d); // }
    if (this.#hasHalves && !isUtf8(out.bytes.subarray(from, out.length))) return "no UTF-8";
    endText(out, text);
    return ACTION.putText;
  }
}

/** Of the two fields in every row: a version of up to 19 digits, and a time whose year may have six. */
const HEAD_BYTES_MAX = 40;

/** The part that all rows of one transaction share; built once for consecutive rows. */
class RowHead {
  #block: Block | undefined;
  #tx = -1;
  fields: Buffer = Buffer.alloc(0);
  version: Buffer = Buffer.alloc(0);
  json: Buffer = Buffer.alloc(0);
  packed: Buffer = Buffer.alloc(0);

  forget(): void {
    this.#block = undefined;
  }

  set(block: Block, tx: number): void {
    if (block === this.#block && tx === this.#tx) return;
    this.#block = block;
    this.#tx = tx;
    const version = String(block.transactions.version[tx]!);
    const time = commitTime(block.transactions.commitTimeUs[tx]!);
    this.version = textBytes(version);
    this.fields = Buffer.concat([textBytes(VERSION_FIELD), this.version, textBytes(TIME_FIELD), textBytes(time)]);
    this.packed = Buffer.concat([VERSION_FIELD, version, TIME_FIELD, time].map(packedShort));
    this.json = Buffer.from(`${JSON_HEAD}${version},"${TIME_FIELD}":"${time}"`);
  }
}

function packedShort(text: string): Buffer {
  const packed = packedText(text);
  invariant(packed !== null, "Millrace's own fields are short");
  return packed;
}

function commitTime(timeUs: bigint): string {
  const out = new ByteWriter(64);
  writeUnixTimeJson(out, timeUs);
  return out.view().toString("latin1");
}
