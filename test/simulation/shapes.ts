/** Shapes of tables; each is made once, as what it costs is its fingerprint. */
import type { TableShape } from "../../src/core/contracts/catalog.ts";
import { tableVersion } from "../support/model/blocks.ts";

const made = new Map<string, TableShape>();

/** `columns`: names, each with `@` and its identity where that is not its place. The first is the key. */
export function shapeOf(table: string, columns: readonly string[], relation: number): TableShape {
  const id = JSON.stringify([table, columns, relation]);
  let shape = made.get(id);
  if (shape === undefined) {
    const parts = columns.map((column) => column.split("@"));
    const { version: _, ...rest } = tableVersion({
      table,
      relation,
      columns: parts.map(([name], i) => [name!, i === 0 ? "int4" : i === 1 ? "int8" : "text"] as const),
      key: [parts[0]![0]!],
      identities: Object.fromEntries(
        parts.flatMap(([name, identity]) => (identity === undefined ? [] : [[name!, Number(identity)]])),
      ),
    });
    made.set(id, (shape = rest));
  }
  return shape;
}
