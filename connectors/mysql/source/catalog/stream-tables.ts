/** The versions of tables that a stream meets: in table maps, and in statements. */
import type { TableShape } from "../../../../src/core/contracts/catalog.ts";
import type { StreamOptions } from "../../../../src/core/contracts/change-log.ts";
import type { TableName } from "../../../../src/core/contracts/connector.ts";
import { type ErrorCode, findMillraceError, type MillraceError } from "../../../../src/core/errors.ts";
import type { Position } from "../../../../src/core/model/position.ts";
import { tableId, type TableVersion } from "../../../../src/core/model/schema.ts";
import { isLoggedCopy } from "../../../kit/online-copies.ts";
import type { TableMap } from "../rows/table-map.ts";
import type { Uncertain } from "../statements/programs.ts";
import { namesIn } from "../statements/statements.ts";
import { alteredSeconds, type CatalogTable } from "./catalog.ts";
import { described } from "./logged-shapes.ts";
import { catalogShape, mappedShape, refuseOldFractions, rowEndOf } from "./shapes.ts";
import type { SourceTables } from "./source-tables.ts";

/** Failures that come from the rows of one table, and not from the log. */
const OF_ONE_TABLE: ReadonlySet<ErrorCode> = new Set(["MR2103", "MR2105"]);

export class StreamTables {
  readonly #tables: SourceTables;
  readonly #options: StreamOptions;
  /** The connection's own time limits end what it asks. */
  readonly #signal = new AbortController().signal;

  constructor(tables: SourceTables, options: StreamOptions) {
    this.#tables = tables;
    this.#options = options;
  }

  /**
   * The version of a table whose rows follow; null: not captured, or to be passed by because they can't be read. Those that are
   * older than the table's last change are read from the table instead: what they lack may have come with that, as the
   * values of a column that the server computed. `loggedAt`: in seconds since 1970.
   */
  async ofRows(map: TableMap, position: Position, loggedAt: number): Promise<TableVersion | null> {
    if (!this.#tables.names.captures(map)) return null;
    if (await this.#isCopy(map)) return refuse(map, tableId(map.schema, map.table));
    try {
      if (map.fault !== undefined) throw map.fault;
      return await this.#version(map, position);
    } catch (error) {
      const known: MillraceError | undefined = findMillraceError(error);
      const { onUnloggedRows, onUnreadableRows } = this.#options;
      if (known === undefined || !OF_ONE_TABLE.has(known.code) || onUnreadableRows === undefined) throw error;
      const id = tableId(map.schema, map.table);
      if (onUnloggedRows !== undefined && (await this.#isChangedSince(map, loggedAt)))
        await onUnloggedRows(id, "passed by");
      else await onUnreadableRows(id, known);
      // Later rows under the same map are rows that the sinks lack, too.
      map.fault = known;
      return null;
    }
  }

  /** The version in force of a table that a statement names; null: not captured. */
  async named(target: TableName, position: Position): Promise<TableVersion | null> {
    if (!(await this.#isWanted(target))) return null;
    const live = await this.#live(target);
    const shape = live === undefined ? undefined : this.#tables.followedShape(live);
    const isLeft = live !== undefined && this.#tables.isLeftOut(live) && this.#isKnown(live) === false;
    return shape === undefined || isLeft ? null : await this.#resolved(shape, position);
  }

  /** The followed tables that a statement may have changed. */
  async changed(by: Uncertain): Promise<readonly TableName[]> {
    const touched = await this.#tables.programs.written(by, this.#signal);
    const followed: TableName[] = [];
    for (const target of touched) {
      if (!this.#tables.names.captures(target)) continue;
      if (this.#isKnown(target) === true || (await this.#isFit(target))) followed.push(target);
    }
    return followed;
  }

  /** The same of a definition that is not read whole: also those that it names and that are gone since. */
  async altered(by: Uncertain): Promise<readonly TableName[]> {
    const { names } = this.#tables;
    const named = namesIn(by.statement.text, by.statement.schema).map((name) => names.spelled(name));
    const known = named.filter((name) => names.captures(name) && this.#isKnown(name) === true);
    const all = [...known, ...(await this.changed(by))];
    return [...new Map(all.map((name) => [tableId(name.schema, name.table), name])).values()];
  }

  async #version(map: TableMap, position: Position): Promise<TableVersion | null> {
    const { rules, shapes } = this.#tables;
    const found = await this.#live(map);
    // What the user may not see is no change of shape: the next look at the catalogue refuses the table.
    const live = found?.isReadable === false ? undefined : found;
    const shape = mappedShape(map, live, rules);
    map.rowEnd = rowEndOf(map, live);
    const said = live === undefined ? undefined : catalogShape(live, rules);
    const now = live === undefined || said === undefined ? undefined : described(live, said);
    if (!this.#options.temporary) shapes.shown(shape, position.commit, now);
    this.#tables.met(shape.id);
    const isUnfit = shape.key.length === 0 || (found !== undefined && this.#tables.isLeftOut(found));
    if (isUnfit && this.#isKnown(shape) === false) return refuse(map, shape.id);
    refuseOldFractions(map, live);
    return await this.#resolved(shape, position);
  }

  /** True for a table that is gone, too; within the same second it counts as changed. */
  async #isChangedSince(table: TableName, seconds: number): Promise<boolean> {
    const live = await this.#live(table);
    return live === undefined || alteredSeconds(live) >= seconds;
  }

  /** Whether a table that was not met yet can be followed. */
  async #isFit(target: TableName): Promise<boolean> {
    if (await this.#isCopy(target)) return false;
    const live = await this.#live(target);
    return live !== undefined && catalogShape(live, this.#tables.rules) !== undefined && !this.#tables.isLeftOut(live);
  }

  async #isWanted(table: TableName): Promise<boolean> {
    return this.#tables.names.captures(table) && !(await this.#isCopy(table));
  }

  /** Whether a glob leaves the table out, as a copy of another one. */
  async #isCopy(table: TableName): Promise<boolean> {
    const { catalog, names } = this.#tables;
    if (names.isLiteral(table)) return false;
    return await isLoggedCopy(table, this.#options, () => catalog.names(table.schema, this.#signal));
  }

  /** Undefined: the stream's reader does not say. */
  #isKnown({ schema, table }: TableName): boolean | undefined {
    return this.#options.isKnown?.(tableId(schema, table));
  }

  async #live({ schema, table }: TableName): Promise<CatalogTable | undefined> {
    const [live] = await this.#tables.catalog.read({ schema, table }, this.#signal);
    return live;
  }

  async #resolved(shape: TableShape, position: Position): Promise<TableVersion> {
    try {
      return await this.#options.resolve(shape, position);
    } catch (error) {
      throw findMillraceError(error) ?? error;
    }
  }
}

function refuse(map: TableMap, id: string): null {
  map.refused = id;
  return null;
}
