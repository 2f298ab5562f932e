/** Looks rows up by the values that rows of another table have: see `RowReads`. The values stay here. */
import type { Chunk, KeyText, RowReads } from "../../src/core/contracts/row-reads.ts";
import type { Block } from "../../src/core/model/block.ts";
import { joinedKey } from "../../src/core/model/row-id.ts";
import type { Column, TableVersion } from "../../src/core/model/schema.ts";
import { CELL_NULL, CellMap } from "../../src/core/model/tuple.ts";
import { spellings } from "../../src/core/values/alike.ts";
import { readText } from "../../src/core/values/text.ts";

/** `matching`: reads the rows whose columns `by` have one of these values. */
export function joinedRows(
  readKeys: RowReads["readKeys"],
  matching: (
    table: TableVersion,
    by: readonly number[],
    values: readonly KeyText[],
    signal: AbortSignal,
  ) => Promise<Chunk>,
): NonNullable<RowReads["readJoined"]> {
  return async (table, by, above, signal) => {
    const { block, ...rest } = await readKeys(above.table, above.keys, signal);
    const values =
      block === null
        ? []
        : valuesOf(
            block,
            above.table,
            above.of,
            by.map((i) => table.columns[i]!),
          );
    block?.release();
    return values.length === 0 ? { ...rest, block: null } : await matching(table, by, values, signal);
  };
}

/** Each once, as the column below may have it. A null joins nothing. */
function valuesOf(
  { after, bytes, count }: Block,
  { columns }: TableVersion,
  of: readonly number[],
  below: readonly Column[],
): readonly KeyText[] {
  const asked = of.map((ordinal, i) => askedAs(columns[ordinal]!, below[i]!));
  const cells = new CellMap();
  const values = new Map<string, KeyText>();
  for (let row = 0; row < count; row++) {
    cells.read(bytes, after[row]!);
    const texts = of.flatMap((ordinal, i) => {
      const kind = cells.kind[ordinal]!;
      if (kind === CELL_NULL) return [];
      return [asked[i]!(readText(columns[ordinal]!.type, kind, bytes, cells.start[ordinal]!, cells.length[ordinal]!))];
    });
    if (texts.length === of.length) values.set(joinedKey(texts), texts);
  }
  return [...values.values()];
}

const NUMBERS: ReadonlySet<string> = new Set(["int", "decimal", "float"]);

/** 1.0 joins the integer 1. */
function askedAs({ type: above }: Column, { type: below }: Column): (text: string) => string {
  const isNumber = NUMBERS.has(above.kind) && NUMBERS.has(below.kind);
  return (isNumber ? spellings(above, below)?.[0] : null) ?? ((text) => text);
}
