import { createHash } from "node:crypto";
import type { TableShape } from "../../../src/core/contracts/catalog.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";

/**
 * A table as readers of the log are told of it. For them a table under rules is a table like any other. Other rules make it
 * another table, as if it were created again: what a reader has of it is void.
 */
export function relayedShape(table: TableShape | TableVersion): TableShape {
  const { ruled, version: _, since: __, ...shape } = { version: 0, since: null, ...table };
  if (ruled === undefined) return shape;
  const relation = createHash("sha256")
    .update(JSON.stringify([shape.relation, ruled.rules]))
    .digest()
    .readUInt32BE(0);
  return { ...shape, relation };
}
