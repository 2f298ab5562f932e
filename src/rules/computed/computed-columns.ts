/**
 * Columns that a function of the configuration makes from others of the row. Its inputs come masked as the sinks get them. The
 * functions are pure, so that the same row always gives the same value: a comparison calls them on the source's rows.
 */
import { ByteWriter } from "../../core/bytes.ts";
import type { TableShape } from "../../core/contracts/catalog.ts";
import type { Column, ComputedLineage, Mask } from "../../core/model/schema.ts";
import {
  CELL_BINARY,
  CELL_FAILED,
  CELL_NULL,
  CELL_UNCHANGED,
  type CellMap,
  readInt32,
  type TupleWriter,
} from "../../core/model/tuple.ts";
import type { ColumnType } from "../../core/model/types.ts";
import type { Masker } from "../masks.ts";
import type { KeptCell } from "../pins.ts";
import { type FunctionName, type Functions, type LoadedFunction, TimedFunction } from "./functions.ts";
import type { Value } from "../rules.d.ts";
import { type DeclaredType, resultText } from "./results.ts";
import { writeJson } from "../../core/values/json.ts";
import { readText } from "../../core/values/text.ts";

/** What the configuration says of a computed column. */
export interface ComputedRule {
  readonly name: string;
  readonly type: DeclaredType;
  /** Names at the source. */
  readonly from: readonly string[];
  readonly function: FunctionName;
  /** How long a call may take, on average, before `status` names the function. */
  readonly budgetMs: number;
  /** Its position in the file. */
  readonly place: string;
}

/** A column that the function gets. */
export interface Input {
  readonly name: string;
  /** At the source. */
  readonly ordinal: number;
  readonly type: ColumnType;
  /** As the sinks get it. */
  readonly mask: Mask | null;
}

const scratch = new ByteWriter(256);

/** One computed column of one table; it is shared by all its shapes. */
export class ComputedColumn {
  readonly column: Column;
  readonly inputs: readonly Input[];
  readonly rule: ComputedRule;
  readonly #loaded: LoadedFunction;
  readonly #function: TimedFunction;

  constructor(rule: ComputedRule, loaded: LoadedFunction, column: Column, inputs: readonly Input[]) {
    this.rule = rule;
    this.#loaded = loaded;
    this.#function = new TimedFunction(loaded, rule.budgetMs);
    this.column = column;
    this.inputs = inputs;
  }

  get lineage(): ComputedLineage {
    return { target: this.column.name, from: this.rule.from, function: this.rule.function.text };
  }

  /** For rows of another shape of the table; null: an input is gone, or is another type there. `cells`: by ordinal of this one. */
  movedTo(cells: readonly KeptCell[]): ComputedColumn | null {
    const inputs: Input[] = [];
    for (const input of this.inputs) {
      const { ordinal, asText } = cells[input.ordinal]!;
      if (ordinal === null || asText) return null;
      inputs.push({ ...input, ordinal });
    }
    return new ComputedColumn(this.rule, this.#loaded, this.column, inputs);
  }

  /** Average of a call in milliseconds, if that is beyond the budget. */
  get slowMs(): number | null {
    return this.#function.slowMs;
  }

  /**
   * True if the tuple has some of the inputs and leaves others out. If it leaves all of them out, they are what they were, and so
   * is the value.
   */
  leavesOutSome(cells: CellMap): boolean {
    let count = 0;
    for (const { ordinal } of this.inputs) if (cells.kind[ordinal] === CELL_UNCHANGED) count++;
    return count > 0 && count < this.inputs.length;
  }

  /**
   * `full`: the cells of a whole tuple of the row, in `fullBytes`, which has what this one leaves out. `isOld`: a row that is gone
   * is no dead letter; of one on which the function fails the value is null.
   */
  write(
    out: TupleWriter,
    masker: Masker,
    bytes: Uint8Array,
    cells: CellMap,
    fullBytes: Uint8Array,
    full: CellMap | null,
    isOld: boolean,
  ): void {
    const input: Record<string, Value> = {};
    for (const { name, ordinal, type, mask } of this.inputs) {
      const isLeftOut = full !== null && cells.kind[ordinal] === CELL_UNCHANGED;
      const own = isLeftOut ? full : cells;
      const from = isLeftOut ? fullBytes : bytes;
      const kind = own.kind[ordinal]!;
      if (kind === CELL_UNCHANGED) return out.unchanged();
      // A function before this one has failed, in the daemon that captures.
      if (kind === CELL_FAILED) return isOld ? out.null() : out.copyCell(from, own, ordinal);
      input[name] = mask === null ? readValue(type, from, own, ordinal) : masker.text(mask, type, from, own, ordinal);
    }
    this.#written(out, input, isOld);
  }

  #written(out: TupleWriter, input: Record<string, Value>, isOld: boolean): void {
    let text: string | null;
    try {
      const value = this.#function.call(input);
      text = value === null ? null : resultText(this.column.type, value);
    } catch (error) {
      return isOld ? out.null() : this.#failed(out, error);
    }
    if (text === null) return out.null();
    scratch.reset();
    scratch.utf8(text);
    out.text(scratch.bytes, 0, scratch.length);
  }

  #failed(out: TupleWriter, error: unknown): void {
    scratch.reset();
    scratch.utf8(this.#function.failure(error));
    out.failed(scratch.bytes, 0, scratch.length);
  }
}

/** The column as it stands in the table's shape. It has no number at the source: it is known by its name. */
export function computedColumn({ name, type }: ComputedRule, { dialect }: Pick<TableShape, "dialect">): Column | null {
  const native = type.native[dialect];
  return native === null ? null : { name, type: type.type, native, nullable: true, identity: 0, computed: "column" };
}

/** What a change of is a change of the table's rules. */
export function definitionOf(
  { name, type, from, function: { text } }: ComputedRule,
  functions: Functions,
): readonly unknown[] {
  const loaded = functions.get(text);
  return [name, type.text, from, text, loaded !== undefined && "digest" in loaded ? loaded.digest : null];
}

/**
 * What functions get: the value of a cell as JavaScript has it, without loss (the table in docs/rules.md). A value that
 * JavaScript's own types would round stays a text.
 */
const json = new ByteWriter(256);

/** Of cell `i`, which is none of those that the log left out. */
export function readValue(type: ColumnType, bytes: Uint8Array, cells: CellMap, i: number): Value {
  const kind = cells.kind[i]!;
  if (kind === CELL_NULL) return null;
  const start = cells.start[i]!;
  const length = cells.length[i]!;
  switch (type.kind) {
    case "bool":
      return kind === CELL_BINARY ? bytes[start] !== 0 : bytes[start] === 0x74;
    case "int":
      if (kind === CELL_BINARY && length === 4) return readInt32(bytes, start);
      return type.bits === 64
        ? BigInt(readText(type, kind, bytes, start, length))
        : Number(readText(type, kind, bytes, start, length));
    case "float":
      return Number(readText(type, kind, bytes, start, length));
    case "bytes":
      if (kind === CELL_BINARY) return Uint8Array.from(bytes.subarray(start, start + length));
      return Uint8Array.from(
        Buffer.from(Buffer.from(bytes.buffer, bytes.byteOffset + start + 2, length - 2).toString("latin1"), "hex"),
      );
    case "date":
    case "time":
    case "timestamp":
      json.reset();
      writeJson(json, type, kind, bytes, start, length);
      return json.bytes.toString("latin1", 1, json.length - 1);
    case "array":
      return readArray(type.of, kind, bytes, start, length);
    case "vector": {
      const text = readText(type, kind, bytes, start, length);
      return type.form === "sparse" ? text : text.slice(1, -1).split(",").map(Number);
    }
    case "decimal":
    case "text":
    case "uuid":
    case "json":
    case "enum":
    case "opaque":
      return readText(type, kind, bytes, start, length);
    default:
      return type satisfies never;
  }
}

/** JSON has the dimensions; each element is then what it is alone. Of arrays of JSON and of other arrays the text. */
function readArray(of: ColumnType, kind: number, bytes: Uint8Array, start: number, length: number): Value {
  if (of.kind === "json" || of.kind === "array") return readText({ kind: "array", of }, kind, bytes, start, length);
  json.reset();
  writeJson(json, { kind: "array", of }, kind, bytes, start, length);
  return JSON.parse(
    json.bytes.toString("utf8", 0, json.length),
    (_key, value: unknown, context?: { readonly source?: string }) => elementOf(of, value, context?.source),
  );
}

/** `source`: of a number, as it is written. */
function elementOf(of: ColumnType, value: unknown, source: string | undefined): unknown {
  if (of.kind === "int" && of.bits === 64 && typeof value === "number") return BigInt(source!);
  if (typeof value !== "string") return value;
  if (of.kind === "float") return Number(value);
  return of.kind === "bytes" ? Uint8Array.from(Buffer.from(value, "base64")) : value;
}
