/** ClickHouse's tables, and the views of their live rows, as the warehouse kit plans them. */
import type { TableName } from "../../../src/core/contracts/connector.ts";
import type { ForeignTarget } from "../../../src/core/contracts/sink.ts";
import type { Logger } from "../../../src/core/contracts/telemetry.ts";
import { aboutTable, type MillraceError } from "../../../src/core/errors.ts";
import { failpoint } from "../../../src/core/failpoint.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import { decodeNote, successorOf } from "../../warehouse/following.ts";
import {
  DELETED_COLUMN,
  EXACT_COLUMN,
  isOwn,
  OWN_PREFIX,
  type TargetForm,
  VERSION_COLUMN,
} from "../../warehouse/own-columns.ts";
import {
  alterations,
  copyOf,
  type CopyDialect,
  type ExistingColumn,
  REFUSED,
  type Refused,
  type TableChange,
} from "../../warehouse/table-change.ts";
import { claimed, type ScopeClaim, type ScopeOwners } from "../../warehouse/scopes.ts";
import type {
  Found,
  Targets,
  TargetsOptions,
  Unhidden,
  VersionedTarget,
  Warehouse,
  WarehouseScopes,
} from "../../warehouse/targets.ts";
import type { CheckpointRow } from "../checkpoint.ts";
import type { Client } from "../client.ts";
import { current, DOUBT_MS_MAX, Reads } from "../current.ts";
import { classify, clickhouseError, isThere, lacksColumn, notShown, OF_ONE_TABLE, takesNoTable } from "../errors.ts";
import type { WriteFence } from "../fence.ts";
import {
  fitted,
  inScope,
  quoteIdentifier,
  quoteLiteral,
  rebuiltPrefix,
  shownTarget,
  sqlNameOf,
  targetOf,
  viewOf,
} from "../names.ts";
import { ScopeRows } from "../scopes.ts";
import { alterationOf, type ClickhouseTarget, isReplicated, lookUpTargets } from "./existing.ts";
import { layoutOf, type Placement, type TableLayout } from "./layout.ts";
import { expectNone, type Presence } from "./presence.ts";
import { createSql, onCluster, ownColumns, wantedColumns } from "./statements.ts";
import { isOurView, type View, viewFor } from "./view.ts";

export interface WarehouseOptions extends TargetsOptions {
  readonly owner: string;
  readonly placement: Placement;
  readonly logger: Logger;
}

/** For a version that need not be prepared. */
export function layoutFor(table: TableVersion, options: Omit<WarehouseOptions, "logger">): TableLayout {
  const { owner, schema, form, placement, dropsColumns } = options;
  const target = targetOf(table, schema);
  return layoutOf(table, { target, form, placement, owner, dropsColumns: dropsColumns?.(table) ?? false });
}

/** Of the open sink. */
interface WarehouseState {
  readonly fence: WriteFence;
  readonly presence: Presence;
  readonly checkpoint: Pick<CheckpointRow, "holds" | "compare">;
  readonly targets: Pick<Targets<TableLayout, ClickhouseTarget, TableLayout>, "checkScopes">;
}

/** For one call of the sink, which `signal` ends. */
export class ClickhouseWarehouse
  implements Warehouse<TableLayout, ClickhouseTarget, TableLayout>, CopyDialect<TableLayout, ClickhouseTarget>
{
  readonly place = "ClickHouse";
  readonly keyName = "sorting key";
  readonly keepsKeyOrder = true;
  readonly createCountMax = 1;
  readonly isOneTransaction = false;
  readonly raise = clickhouseError;
  readonly keepsReplacedRows = true;
  readonly quote = quoteIdentifier;
  readonly wanted = wantedColumns;
  readonly #client: Client;
  readonly #fence: WriteFence;
  readonly #presence: Presence;
  readonly #checkpoint: WarehouseState["checkpoint"];
  readonly #targets: WarehouseState["targets"];
  readonly #scopes: ScopeRows;
  readonly #options: WarehouseOptions;
  readonly #signal: AbortSignal;
  /** What was found under the names of tables and views. */
  readonly #found = new Map<string, ClickhouseTarget>();
  /** Names of those that have replicas. */
  readonly #replicated = new Set<string>();
  readonly #reads: Reads;
  /** That certainly exist. */
  readonly #databases = new Set<string>();

  constructor(
    client: Client,
    { fence, presence, checkpoint, targets }: WarehouseState,
    options: WarehouseOptions,
    signal: AbortSignal,
  ) {
    this.#client = client;
    this.#fence = fence;
    this.#presence = presence;
    this.#checkpoint = checkpoint;
    this.#targets = targets;
    this.#scopes = new ScopeRows(client, options.placement, signal);
    this.#options = options;
    this.#signal = signal;
    this.#reads = new Reads(client, this.#replicated, signal);
  }

  get atOnce(): number {
    return this.#client.tablesAtOnce;
  }

  key(table: TableName): string {
    return sqlNameOf(targetOf(table, this.#options.schema));
  }

  target(table: TableVersion): TableLayout {
    return layoutFor(table, this.#options);
  }

  layout(table: TableVersion): TableLayout {
    return this.target(table);
  }

  shown(table: TableName): string {
    return shownTarget(targetOf(table, this.#options.schema));
  }

  expectWhole({ table }: Pick<TableLayout, "table">, existing: ClickhouseTarget): void {
    const alteration = alterationOf(existing, this.#options.placement);
    if (alteration === null) return;
    const message = `${this.shown(table)} was changed by somebody: ${alteration}`;
    throw clickhouseError("MR3107", "fatal", message);
  }

  refusal({ kind, message, hint }: Refused): MillraceError {
    return clickhouseError(REFUSED[kind], "fatal", message, { hint });
  }

  async about<T>(table: TableVersion, work: () => T | Promise<T>): Promise<T> {
    const known = (error: unknown) => classify(error, `preparing ${table.id}`, this.#signal);
    try {
      return await aboutTable(table.id, OF_ONE_TABLE, known, async () => await work());
    } catch (error) {
      // Those that are there go on.
      throw takesNoTable(error) ? known(error).with({ table: table.id }) : error;
    }
  }

  async rows(sql: string, sqlName: string): ReturnType<Client["rows"]> {
    return await this.#reads.rows(sqlName, sql);
  }

  async find(
    tables: readonly TableName[],
    isExpected?: (found: Found<ClickhouseTarget>) => boolean,
  ): Promise<Found<ClickhouseTarget>> {
    const look = async (): Promise<Found<ClickhouseTarget>> => await this.#look(tables);
    return isExpected === undefined ? await look() : await current(look, isExpected, this.#signal, DOUBT_MS_MAX);
  }

  async #look(tables: readonly TableName[]): Promise<Found<ClickhouseTarget>> {
    const targets = tables.map((table) => targetOf(table, this.#options.schema));
    const names = targets.flatMap((target) => [target, viewOf(target)]);
    const found = await lookUpTargets(this.#client, names, this.#signal);
    for (const name of names.map(sqlNameOf)) {
      const there = found.get(name);
      if (there === undefined) this.#found.delete(name);
      else this.#found.set(name, there);
      if (there !== undefined && isReplicated(there.engine.name)) this.#replicated.add(name);
    }
    const wanted = new Set(targets.map(sqlNameOf));
    // The view of another table is none of the table's: the table goes before it.
    return new Map([...found].filter(([name, there]) => wanted.has(name) && !isOurView(there)));
  }

  /** Views have the column too. */
  async versioned(tables: readonly TableName[] | null): Promise<Found<VersionedTarget>> {
    const areThere = (found: Found<VersionedTarget>) => tables?.every((table) => found.has(this.key(table))) !== false;
    return await current(() => this.#versioned(), areThere, this.#signal, DOUBT_MS_MAX);
  }

  async #versioned(): Promise<Found<VersionedTarget>> {
    const { schema } = this.#options;
    const there = schema === undefined ? "" : ` AND c.database = ${quoteLiteral(fitted(schema))}`;
    const rows = await this.#client.rows(
      `SELECT c.database, c.table, t.engine, t.comment FROM system.columns AS c INNER JOIN system.tables AS t ON c.database = t.database AND c.table = t.name ` +
        `WHERE c.name = ${quoteLiteral(VERSION_COLUMN)} AND t.engine LIKE '%ReplacingMergeTree' AND NOT startsWith(c.table, ${quoteLiteral(OWN_PREFIX)})${there}`,
      this.#signal,
    );
    const found = new Map<string, VersionedTarget>();
    for (const [database, table, engine, comment] of rows) {
      const name = sqlNameOf({ database: database ?? "", table: table ?? "" });
      found.set(name, { rows: name, note: decodeNote(comment ?? null) });
      if (isReplicated(engine)) this.#replicated.add(name);
    }
    return found;
  }

  async create(layouts: readonly TableLayout[]): Promise<Found<ClickhouseTarget>> {
    const there = new Map<string, ClickhouseTarget>();
    for (const layout of layouts) {
      const existing = await this.#create(layout);
      if (existing !== null) there.set(layout.sqlName, existing);
    }
    return there;
  }

  readonly scopes: WarehouseScopes = {
    find: async (scopes) => await this.#scopes.find(scopes),
    claim: async (claims) => {
      const scopes = claims.map(({ scope }) => scope);
      const taken = (there: ScopeOwners) => claimed(this.raise, this.#options.owner, claims, there);
      await this.#stopFormer(claims, await this.#scopes.change(scopes, taken));
    },
    own: async () => await this.#scopes.of(this.#options.owner),
    release: async (scopes) => await this.#scopes.release(this.#options.owner, scopes),
  };

  /** The rows that a former owner had there are gone. */
  async settle(scope: string): Promise<void> {
    await this.#scopes.settle(this.#options.owner, scope);
  }

  /** What former owners of these parts still send changes nothing. `owners`: who has them now, and had them before. */
  async #stopFormer(claims: readonly ScopeClaim[], owners: ScopeOwners): Promise<void> {
    const taken = claims.flatMap(({ scope, table }): readonly ForeignTarget[] => {
      const owner = owners.get(scope)?.former;
      return owner === undefined ? [] : [{ table, owner }];
    });
    if (taken.length === 0) return;
    const tables = taken.map(({ table }) => table);
    const there = await this.find(tables, (found) => tables.every((table) => found.has(this.key(table))));
    const layouts = tables.filter((table) => there.has(this.key(table))).map((table) => this.target(table));
    for (const layout of layouts) this.#fence.left(layout);
    await this.#enter(layouts, null, taken);
  }

  /** Null: it was made. */
  async #create(layout: TableLayout): Promise<ClickhouseTarget | null> {
    const { database } = layout.target;
    const on = onCluster(layout.placement);
    if (!this.#databases.has(database)) {
      await this.#run(`CREATE DATABASE IF NOT EXISTS ${quoteIdentifier(database)}${on}`);
      this.#databases.add(database);
    }
    try {
      await this.#run(createSql(layout, this.#fence));
    } catch (error) {
      if (!isThere(error)) throw error;
      // An earlier answer did not show it, or it is the view of another table.
      const existing = await this.#foundAgain(layout.sqlName, layout.target);
      if (!isOurView(existing)) return existing;
      await this.#run(`DROP VIEW ${layout.sqlName}${on} SYNC`);
      await this.#run(createSql(layout, this.#fence));
    }
    this.#fence.made(layout);
    failpoint("clickhouse.target-made", layout.table);
    return null;
  }

  /** A table or view that an answer of before did not show. */
  async #foundAgain(name: string, target: TableLayout["target"]): Promise<ClickhouseTarget> {
    const look = async () => (await lookUpTargets(this.#client, [target], this.#signal)).get(name);
    const found = await current(look, (existing) => existing !== undefined, this.#signal);
    if (found === undefined) throw notShown(name);
    return found;
  }

  /** Of a table that the run has entered. A mutation writes the files anew, with what else is in them. */
  async hide(layout: TableLayout, { columns, note }: Unhidden, below: bigint): Promise<void> {
    const { table, sqlName, placement } = layout;
    const there = (await this.#look([table])).get(this.key(table));
    const names = columns.length === 0 ? [] : [...columns, EXACT_COLUMN];
    const sets = names.flatMap((name) => {
      const type = there?.columns.get(name)?.type;
      return type === undefined ? [] : [`${quoteIdentifier(name)} = defaultValueOfTypeName(${quoteLiteral(type)})`];
    });
    const alter = `ALTER TABLE ${sqlName}${onCluster(placement)}`;
    const rows = `(${DELETED_COLUMN} = 1 OR ${VERSION_COLUMN} < ${below}) AND ${this.#fence.holds(layout)}${inScope(table)}`;
    if (sets.length > 0)
      await this.#client.run(`${alter} UPDATE ${sets.join(", ")} WHERE ${rows}`, this.#signal, {
        allow_nondeterministic_mutations: 1,
      });
    await this.note(layout, note);
  }

  async note(layout: TableLayout, note: string): Promise<void> {
    await this.#alter(layout, [`MODIFY COMMENT ${quoteLiteral(note)}`]);
  }

  /** One statement changes everything, or nothing if the table has left the run. */
  async #alter(layout: TableLayout, changes: readonly string[]): Promise<void> {
    const parts = [...changes, this.#fence.condition].join(", ");
    try {
      await this.#run(`ALTER TABLE ${layout.sqlName}${onCluster(layout.placement)} ${parts}`);
    } catch (error) {
      if (lacksColumn(error)) this.#fence.left(layout);
      throw error;
    }
  }

  /**
   * See `WriteFence.enter`. Another process that has taken the sink over enters its tables after its lease is stored: either we see
   * the lease here, or our column is gone before it writes. So does a daemon that takes a table over, and it notes that only where
   * its own column still is. Who takes a part of a shared table first stores that, and then removes the former owner's column.
   * `existing`: what is changed, which may be another's.
   */
  async enter(layouts: readonly TableLayout[], existing?: ClickhouseTarget): Promise<void> {
    const from = successorOf(this.#options.owner, existing?.note ?? null);
    await this.#enter(layouts, from);
  }

  /** `taken`: parts of shared tables that are this sink's from now on. */
  async #enter(
    layouts: readonly TableLayout[],
    from: string | null,
    taken: readonly ForeignTarget[] = [],
  ): Promise<void> {
    await this.#fence.enter(layouts, this.#signal, async (entered) => {
      await this.#checkpoint.compare(this.#signal);
      const formers = await this.#presence.expectOwned(this.#client, entered, from, this.#signal);
      if (entered.every(({ table }) => table.scope === undefined)) return formers;
      const known = await this.#targets.checkScopes(this);
      const shared = new Map(entered.map((layout) => [layout.sqlName, layout]));
      const parts = [...known, ...taken].flatMap(({ table, owner }) => {
        const layout = shared.get(this.key(table));
        return layout === undefined ? [] : [{ layout, owner }];
      });
      const all = [...formers].flatMap(([owner, some]) => some.map((layout) => ({ layout, owner })));
      return new Map(
        [...Map.groupBy([...all, ...parts], ({ owner }) => owner)].map(([owner, some]) => [
          owner,
          [...new Set(some.map(({ layout }) => layout))],
        ]),
      );
    });
  }

  async change(change: TableChange<TableLayout, ClickhouseTarget>): Promise<readonly string[]> {
    const { layout, existing } = change;
    await this.enter([layout], existing);
    const inPlace = alterations(change, { rename: true, drop: true });
    if (inPlace === null) {
      await this.#rebuild(change);
      return [];
    }
    await this.#alter(layout, [
      ...inPlace.dropped.map((name) => `DROP COLUMN ${quoteIdentifier(name)}`),
      ...inPlace.added.map(({ name, type }) => `ADD COLUMN ${quoteIdentifier(name)} ${type}`),
      ...inPlace.renamed.map(({ from, to }) => `RENAME COLUMN ${quoteIdentifier(from)} TO ${quoteIdentifier(to)}`),
      ...(change.isNoted ? [] : [`MODIFY COMMENT ${quoteLiteral(change.note)}`]),
    ]);
    return [];
  }

  /**
   * Makes a table again where ClickHouse can't change it: its key, a column of the key, how it hides deleted rows, a type. The
   * rows are copied into another table, which then takes the name.
   */
  async #rebuild(change: TableChange<TableLayout, ClickhouseTarget>): Promise<void> {
    const { layout } = change;
    const { sqlName } = layout;
    const { cells, kept, hasKeys } = await copyOf(this, change);
    const rows = cells.flatMap(({ isKey, value }) => (isKey ? [`${value} IS NOT NULL`] : []));
    // Rows that were marked under soft deletes are gone under hard ones, and the reverse.
    if (change.isOtherForm) rows.push(`${quoteIdentifier(DELETED_COLUMN)} = 0`);
    await this.#replace(layout, layout.target, async (rebuilt) => {
      await this.#run(createSql(layout, { column: this.#fence.column, sqlName: rebuilt, kept }));
      const names = cells.map(({ name }) => name).join(", ");
      const values = cells.map(({ isKey, value }) => (isKey ? `assumeNotNull(${value})` : value)).join(", ");
      const select = `SELECT ${values} FROM ${sqlName} FINAL WHERE ${rows.join(" AND ")}`;
      if (hasKeys) await this.#reads.run(sqlName, `INSERT INTO ${rebuilt} (${names}) ${select}`);
      failpoint("clickhouse.target-rebuilt", layout.table);
      await this.#presence.madeAgain(this.#client, layout, this.#signal);
    });
  }

  /**
   * Puts another table or view in the place of one, in one step; if that is interrupted, it begins again. The run has entered
   * the layout's table, so statements that come late know only names that are gone; and a process that was stopped until
   * another run has entered goes no further than to make its copy.
   */
  async #replace(
    layout: TableLayout,
    replaced: TableLayout["target"],
    make: (sqlName: string) => Promise<void>,
  ): Promise<void> {
    const on = onCluster(layout.placement);
    const made = sqlNameOf({ ...replaced, table: `${rebuiltPrefix(replaced)}${this.#fence.column}` });
    // Of this run alone: those of former runs went when it entered the table.
    await this.#run(`DROP TABLE IF EXISTS ${made}${on} SYNC`);
    await make(made);
    await this.#fence.expectEntered(layout, this.#signal);
    await this.#run(`EXCHANGE TABLES ${made} AND ${sqlNameOf(replaced)}${on}`);
    await this.#run(`DROP TABLE ${made}${on} SYNC`);
  }

  /** An alias stores nothing. */
  ownColumns(form: TargetForm): readonly string[] {
    const names = ownColumns(form).map(([name]) => name);
    return form.mode === "history" ? names.filter((name) => name !== DELETED_COLUMN) : names;
  }

  /** Null if the value does not fit the new type. Every type converts to text and back. */
  cast(there: ExistingColumn, { base }: ReturnType<typeof wantedColumns>[number]): string {
    const text = `toString(${quoteIdentifier(there.name)})`;
    return base === "String" ? text : `accurateCastOrNull(${text}, ${quoteLiteral(base)})`;
  }

  inScope(table: TableVersion): string {
    return inScope(table);
  }

  async prepared(
    layout: TableLayout,
    _retired: readonly string[],
    existing: ClickhouseTarget | null,
  ): Promise<TableLayout> {
    const view = viewFor(layout, layout.table.scope === undefined ? null : sharedColumns(layout, existing));
    await this.#show(layout, view, this.#found.get(sqlNameOf(viewOf(layout.target))));
    return layout;
  }

  async #show(layout: TableLayout, wanted: View, existing: ClickhouseTarget | undefined): Promise<void> {
    const { comment, createSql: sqlOf } = wanted;
    const view = viewOf(layout.target);
    if (existing?.comment === comment) return;
    if (existing !== undefined && !isOurView(existing)) {
      const name = `${view.database}.${view.table}`;
      this.#options.logger.warn(
        { table: layout.table.id },
        `there is no view of its live rows: ${name} exists already`,
      );
      return;
    }
    if (existing !== undefined) {
      await this.enter([layout]);
      await this.#replace(layout, view, (made) => this.#run(sqlOf(made)));
      return;
    }
    try {
      await this.#run(sqlOf(sqlNameOf(view)));
    } catch (error) {
      if (!isThere(error)) throw error;
      // An earlier answer did not show it.
      await this.#show(layout, wanted, await this.#foundAgain(sqlNameOf(view), view));
    }
  }

  async finish(prepared: readonly TableLayout[]): Promise<void> {
    const holds = (id: string): boolean => this.#checkpoint.holds(id);
    const replaced = await this.#presence.add(this.#client, prepared, holds, this.#signal);
    expectNone(replaced.map((layout) => ({ layout, what: "dropped, renamed or replaced" })));
  }

  /** Texts of values that do not fit are stored under the columns' names. */
  async carriesRows(from: TableLayout, to: TableLayout): Promise<boolean> {
    const namesOf = ({ columns }: TableLayout) => JSON.stringify(columns.map(({ name }) => name));
    if (namesOf(from) === namesOf(to)) return true;
    const { sqlName } = to;
    return (await this.rows(`SELECT 1 FROM ${sqlName} WHERE ${EXACT_COLUMN} != '' LIMIT 1`, sqlName)).length === 0;
  }

  async #run(sql: string): Promise<void> {
    await this.#client.run(sql, this.#signal);
  }
}

/** Of a target that tables share: with their types those that were there, then those that this table adds. */
function sharedColumns({ columns }: TableLayout, existing: ClickhouseTarget | null): ReadonlyMap<string, string> {
  const all = new Map(columns.map(({ name, type }) => [name, type.name]));
  const there = [...(existing?.columns.values() ?? [])].filter(({ name }) => !isOwn(name));
  return new Map([
    ...there.map(({ name, type }): [string, string] => [name, type]),
    ...[...all].filter(([name]) => existing?.columns.has(name) !== true),
  ]);
}
