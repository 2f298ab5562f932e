import { DELETE, PATCH, type TableWrites } from "../../src/core/model/batch.ts";
import { ByteWriter } from "../../src/core/bytes.ts";
import { writeRowId } from "../../src/core/model/row-id.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import { CELL_UNCHANGED, CellMap } from "../../src/core/model/tuple.ts";
import { BaseFloors } from "../../src/core/targets/base-rows.ts";
import { JsonFields } from "../../src/core/targets/json-fields.ts";
import { writeJson } from "../../src/core/values/json.ts";
import type { HeldRow, HeldTable } from "./file.ts";

/** Applies the entries to `held`. Returns those that need a row that is not there: their keys are read from the source. */
export function applyWrites(writes: TableWrites, held: HeldTable): readonly number[] {
  const writer = new RowWriter(writes.table, held);
  const incomplete: number[] = [];
  const puts: (readonly [id: string, row: HeldRow])[] = [];
  // All rows that a PATCH builds on are read before anything is changed. See TableWrites.
  for (let i = 0; i < writes.count; i++) {
    if (writes.action[i] === DELETE) continue;
    const entry = writer.entry(writes, i);
    if (entry.row === "missing") incomplete.push(i);
    else if (entry.row !== "newer") puts.push([entry.id, entry.row]);
  }
  for (let i = 0; i < writes.count; i++) {
    if (writes.action[i] !== DELETE) continue;
    const { id, version } = writer.deletion(writes, i);
    if (mayWrite(held, id, version)) held.rows.delete(id);
  }
  for (const [id, row] of puts) if (mayWrite(held, id, row.version)) held.rows.set(id, row);
  return incomplete;
}

/** A row is never set back; an equal version writes. */
function mayWrite({ rows }: HeldTable, id: string, version: bigint): boolean {
  return (rows.get(id)?.version ?? 0n) <= version;
}

interface Entry {
  readonly id: string;
  /** `newer`: the file shows a later commit already. */
  readonly row: HeldRow | "missing" | "newer";
}

class RowWriter {
  readonly #table: TableVersion;
  readonly #held: HeldTable;
  readonly #floors: BaseFloors;
  readonly #base: JsonFields;
  readonly #cells = new CellMap();
  readonly #out = new ByteWriter();

  constructor(table: TableVersion, held: HeldTable) {
    this.#table = table;
    this.#held = held;
    this.#floors = new BaseFloors(held.shape);
    this.#base = new JsonFields(table.columns.map(({ name }) => name));
  }

  deletion(writes: TableWrites, i: number): { readonly id: string; readonly version: bigint } {
    const { bytes, before, version } = placeOf(writes, i);
    return { id: this.#id(bytes, before), version };
  }

  entry(writes: TableWrites, i: number): Entry {
    const { bytes, after, before, version } = placeOf(writes, i);
    const id = this.#id(bytes, after);
    let base: Buffer | null = null;
    if (writes.action[i] === PATCH) {
      const isMoved = writes.moved[i] === 1;
      const held = this.#held.rows.get(isMoved ? this.#id(bytes, before) : id);
      // When the log is read again, another row may have the old key by now.
      if (held === undefined || (isMoved && held.version >= version)) return { id, row: "missing" };
      if (held.version > version) return { id, row: "newer" };
      if (held.version < this.#floors.of(bytes, after)) return { id, row: "missing" };
      base = Buffer.from(held.json);
    }
    const json = this.#json(bytes, after, base);
    return { id, row: json === null ? "missing" : { version, json } };
  }

  #id(bytes: Uint8Array, offset: number): string {
    this.#cells.read(bytes, offset);
    this.#out.reset();
    writeRowId(this.#out, this.#table, bytes, this.#cells);
    return this.#out.view().toString("utf8");
  }

  /** Null where the base lacks a column that the log did not carry. */
  #json(bytes: Uint8Array, offset: number, base: Buffer | null): string | null {
    const out = this.#out;
    const { kind, start, length } = this.#cells;
    this.#cells.read(bytes, offset);
    if (base !== null) this.#base.read(base);
    out.reset();
    for (const [c, { name, type }] of this.#table.columns.entries()) {
      out.utf8(`${c === 0 ? "{" : ","}${JSON.stringify(name)}:`);
      if (kind[c] !== CELL_UNCHANGED) writeJson(out, type, kind[c]!, bytes, start[c]!, length[c]!);
      else if (base === null || !this.#base.has(c)) return null;
      else out.copy(base, this.#base.start[c]!, this.#base.end[c]! - this.#base.start[c]!);
    }
    out.ascii("}");
    return out.view().toString("utf8");
  }
}

/** Where the entry's row lies: the bytes stay where the source received them. */
function placeOf(writes: TableWrites, i: number) {
  const block = writes.blocks[writes.block[i]!]!;
  const row = writes.row[i]!;
  return {
    bytes: block.bytes,
    after: block.after[row]!,
    before: block.before[row]!,
    version: block.transactions.version[block.tx[row]!]!,
  };
}
