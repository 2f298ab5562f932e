/** Looks up, for a stream, the versions of tables that the log names. */
import type { TableShape } from "../../../../src/core/contracts/catalog.ts";
import type { StreamOptions } from "../../../../src/core/contracts/change-log.ts";
import { type ErrorCode, findMillraceError, type MillraceError } from "../../../../src/core/errors.ts";
import type { Position } from "../../../../src/core/model/position.ts";
import { tableId, type TableVersion } from "../../../../src/core/model/schema.ts";
import { isLoggedCopy } from "../../../kit/online-copies.ts";
import type { SourceContext } from "../context.ts";
import type { TableMap } from "../rows/table-map.ts";
import type { Uncertain } from "../statements/programs.ts";
import type { StatementTarget } from "../statements/statements.ts";
import { readCatalog, tableNames } from "./catalog.ts";
import { described } from "./logged-shapes.ts";
import { isLeftOut } from "./selection.ts";
import { catalogShape, followedShape, mappedShape, rowEndOf } from "./shapes.ts";

/** Failures that come from the rows of one table, and not from the log. */
const OF_ONE_TABLE: ReadonlySet<ErrorCode> = new Set(["MR2103", "MR2104", "MR2105", "MR2106"]);

/** The version of a table whose rows follow; null: not captured, or to be passed by because they can't be read. */
export async function lookUp(
  context: SourceContext,
  map: TableMap,
  options: StreamOptions,
  position: Position,
): Promise<TableVersion | null> {
  const { schema, table } = map;
  if (!context.captures(schema, table)) return null;
  if (await isCopy(context, map, options)) return null;
  try {
    if (map.fault !== undefined) throw map.fault;
    return await versionOf(context, map, options, position);
  } catch (error) {
    const known: MillraceError | undefined = findMillraceError(error);
    if (known === undefined || !OF_ONE_TABLE.has(known.code) || options.onUnreadableRows === undefined) throw error;
    await options.onUnreadableRows(tableId(schema, table), known);
    // Later rows under the same map are rows that the sinks lack, too.
    map.fault = known;
    return null;
  }
}

async function versionOf(
  context: SourceContext,
  map: TableMap,
  options: StreamOptions,
  position: Position,
): Promise<TableVersion | null> {
  const { schema, table } = map;
  // The connection's own time limits end it.
  const { signal } = new AbortController();
  const [live] = await readCatalog(context, { schema, table }, signal);
  const shape = mappedShape(map, live, context);
  map.rowEnd = rowEndOf(map, live);
  const said = live === undefined ? undefined : catalogShape(live, context);
  const now = live === undefined || said === undefined ? undefined : described(live, said);
  if (!options.temporary) context.shapes.shown(shape, position.commit, now);
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
  if (await isCopy(context, target, options)) return null;
  const { signal } = new AbortController();
  const [live] = await readCatalog(context, target, signal);
  const shape = live === undefined ? undefined : followedShape(live, context);
  const isLeft =
    live !== undefined && isLeftOut(live, context) && options.isKnown?.(tableId(live.schema, live.table)) === false;
  return shape === undefined || isLeft ? null : await resolved(options, shape, position);
}

/** The followed tables that a statement may have changed. */
export async function changed(
  context: SourceContext,
  by: Uncertain,
  options: StreamOptions,
): Promise<readonly StatementTarget[]> {
  // The connection's own time limits end it.
  const { signal } = new AbortController();
  const touched = await context.programs.written(context.database, by, signal);
  const captured = touched.filter(({ schema, table }) => context.captures(schema, table));
  const followed: StatementTarget[] = [];
  for (const target of captured) {
    const isKnown = options.isKnown?.(tableId(target.schema, target.table)) === true;
    if (isKnown || (await isFit(context, target, options, signal))) followed.push(target);
  }
  return followed;
}

/** Whether a table that was not met yet can be followed. */
async function isFit(
  context: SourceContext,
  target: StatementTarget,
  options: StreamOptions,
  signal: AbortSignal,
): Promise<boolean> {
  if (await isCopy(context, target, options)) return false;
  const [live] = await readCatalog(context, target, signal);
  return live !== undefined && catalogShape(live, context) !== undefined && !isLeftOut(live, context);
}

/** Whether a glob leaves the table out, as a copy of another one. */
async function isCopy(context: SourceContext, target: StatementTarget, { isKnown }: StreamOptions): Promise<boolean> {
  if (context.isLiteral(target.schema, target.table)) return false;
  // The connection's own time limits end it.
  const { signal } = new AbortController();
  const isFollowed = ({ schema, table }: StatementTarget): boolean => isKnown?.(tableId(schema, table)) === true;
  return await isLoggedCopy(target, isFollowed, () => tableNames(context, target.schema, signal));
}

async function resolved(options: StreamOptions, shape: TableShape, position: Position): Promise<TableVersion> {
  try {
    return await options.resolve(shape, position);
  } catch (error) {
    throw findMillraceError(error) ?? error;
  }
}
