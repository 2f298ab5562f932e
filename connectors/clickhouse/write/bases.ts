/** The rows in the target from which changes take what the log left out. */
import { readText } from "../../../src/core/values/text.ts";
import { CellMap } from "../../../src/core/model/tuple.ts";
import type { TableWrites } from "../../../src/core/model/batch.ts";
import { baseOffset } from "../../../src/core/targets/base-rows.ts";
import { DELETE } from "../../../src/core/model/batch.ts";
import type { Reads } from "../current.ts";
import { quoteIdentifier } from "../names.ts";
import type { TableLayout } from "../tables/layout.ts";
import { literalOf, tupleOf } from "./literal.ts";
import type { RowWriter } from "./row-writer.ts";
import {
  exactTexts,
  shapeOf,
  storedRows,
  type StoredRow,
  STRING_SHAPE,
  textAt,
  UINT64_SHAPE,
  UINT8_SHAPE,
} from "./stored-rows.ts";
import { DELETED_COLUMN, EXACT_COLUMN, VERSION_COLUMN } from "../../warehouse/own-columns.ts";

/** Parts of keys in one statement, whose count servers limit, and the bytes of these. */
const KEY_PARTS_MAX = 1_000;
const KEY_BYTES_MAX = 150_000;

export interface Base extends StoredRow {
  readonly version: bigint;
  readonly isDeleted: boolean;
}

/** Some of a table's entries, and the keys of the rows that they build on. */
export interface BaseRequest {
  readonly entries: readonly number[];
  readonly keys: readonly string[];
  readonly literals: readonly string[];
}

/** Where the base's key of an entry is in its block. */
function keyOffset(writes: TableWrites, entry: number): number {
  const block = writes.blocks[writes.block[entry]!]!;
  if (writes.action[entry] === DELETE) return block.before[writes.row[entry]!]!;
  return baseOffset({ target: null, writes, entry });
}

const map = new CellMap();

/**
 * Cut so that each part can be asked for at once. Entries whose key does not fit are given to `unfit`. `keyAt`: where the key is
 * in the entry's block.
 */
export function* inParts(
  {
    layout,
    writes,
    writer,
  }: { readonly layout: TableLayout; readonly writes: TableWrites; readonly writer: RowWriter },
  entries: readonly number[],
  unfit: (entry: number) => void,
  keyAt: (writes: TableWrites, entry: number) => number = keyOffset,
): Generator<BaseRequest> {
  let wanted = { entries: [] as number[], keys: [] as string[], literals: [] as string[] };
  let byteCount = 0;
  for (const entry of entries) {
    const { bytes } = writes.blocks[writes.block[entry]!]!;
    const offset = keyAt(writes, entry);
    const key = writer.keyOf(layout, bytes, offset);
    if (key === null) {
      unfit(entry);
      continue;
    }
    const literal = keyLiteral(layout, bytes, offset);
    wanted.entries.push(entry);
    wanted.keys.push(key);
    wanted.literals.push(literal);
    byteCount += Buffer.byteLength(literal);
    if (wanted.entries.length * layout.key.length < KEY_PARTS_MAX && byteCount < KEY_BYTES_MAX) continue;
    yield wanted;
    wanted = { entries: [], keys: [], literals: [] };
    byteCount = 0;
  }
  if (wanted.entries.length > 0) yield wanted;
}

function keyLiteral(layout: TableLayout, bytes: Uint8Array, offset: number): string {
  map.read(bytes, offset);
  return tupleOf(
    layout.key.map(({ source, type }, k) => {
      const i = layout.table.key[k]!;
      return literalOf(type, readText(source.type, map.kind[i]!, bytes, map.start[i]!, map.length[i]!));
    }),
  );
}

/** The rows that exist under these keys, by their keys as `RowWriter.keyOf` gives them, in any order. */
export async function* readBases(
  reads: Reads,
  layout: TableLayout,
  literals: readonly string[],
): AsyncGenerator<readonly [key: string, base: Base]> {
  const { columns, key, sqlName, table } = layout;
  const shapes = columns.map(({ type }) => shapeOf(type));
  const names = [...columns.map(({ name }) => name), VERSION_COLUMN, DELETED_COLUMN, EXACT_COLUMN].map(quoteIdentifier);
  const sql =
    `SELECT ${names.join(", ")} FROM ${sqlName} FINAL ` +
    `WHERE ${tupleOf(key.map(({ name }) => quoteIdentifier(name)))} IN (${literals.join(", ")}) FORMAT RowBinary`;
  const at = columns.length;
  const rows = storedRows(await reads.bytes(sqlName, sql), [...shapes, UINT64_SHAPE, UINT8_SHAPE, STRING_SHAPE]);
  for await (const row of rows) {
    const { bytes, start } = row;
    const found = table.key.map((i) => bytes.toString("latin1", start[i], start[i + 1])).join("");
    yield [
      found,
      {
        ...row,
        exact: exactTexts(textAt(row, at + 2)),
        version: bytes.readBigUInt64LE(start[at]),
        isDeleted: bytes[start[at + 1]!] === 1,
      },
    ];
  }
}
