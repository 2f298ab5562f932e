/** Looks up, for a stream, the versions of tables that the log names. */
import type { TableShape } from "../../../../src/core/contracts/catalog.ts";
import type { StreamOptions } from "../../../../src/core/contracts/change-log.ts";
import { findMillraceError } from "../../../../src/core/errors.ts";
import type { Position } from "../../../../src/core/model/position.ts";
import type { TableVersion } from "../../../../src/core/model/schema.ts";
import type { SourceContext } from "../context.ts";
import type { TableMap } from "../rows/table-map.ts";
import type { StatementTarget } from "../statements/statements.ts";
import { readCatalog } from "./catalog.ts";
import { isLeftOut } from "./selection.ts";
import { followedShape, mappedShape } from "./shapes.ts";

/** The version of a table whose rows follow; null: not captured. */
export async function lookUp(
  context: SourceContext,
  map: TableMap,
  options: StreamOptions,
  position: Position,
): Promise<TableVersion | null> {
  const { schema, table } = map;
  if (!context.captures(schema, table)) return null;
  // The connection's own time limits end it.
  const { signal } = new AbortController();
  const [live] = await readCatalog(context, { schema, table }, signal);
  const shape = mappedShape(map, live, context);
  if (!options.temporary) context.shapes.shown(shape, position.commit);
  context.dropped.delete(shape.id);
  const isUnfit = shape.key.length === 0 || (live !== undefined && isLeftOut(live, context));
  if (isUnfit && options.isKnown?.(shape.id) === false) return null;
  return await resolved(options, shape, position);
}

/** The version in force of a table that a statement names; null: not captured. */
export async function named(
  context: SourceContext,
  target: StatementTarget,
  options: StreamOptions,
  position: Position,
): Promise<TableVersion | null> {
  if (!context.captures(target.schema, target.table)) return null;
  const { signal } = new AbortController();
  const [live] = await readCatalog(context, target, signal);
  const shape = live === undefined ? undefined : followedShape(live, context);
  return shape === undefined ? null : await resolved(options, shape, position);
}

async function resolved(options: StreamOptions, shape: TableShape, position: Position): Promise<TableVersion> {
  try {
    return await options.resolve(shape, position);
  } catch (error) {
    throw findMillraceError(error) ?? error;
  }
}
