/** DuckDB's tables, in a file or a lake, as the warehouse kit plans them. */
import { type EngineConnection, inTransaction, readTextRows } from "../../kit/duckdb-engine/engine.ts";
import type { TableName } from "../../../src/core/contracts/connector.ts";
import { aboutTable, type MillraceError } from "../../../src/core/errors.ts";
import { failpoint } from "../../../src/core/failpoint.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import { groupsOf } from "../../../src/core/each-of.ts";
import { decodeNote, encodeNote, expectOwned, successorOf, type WantedColumn } from "../../warehouse/following.ts";
import {
  CHANGE_IDENTITY,
  COMMIT_TIME_COLUMN,
  DELETED_COLUMN,
  EXACT_COLUMN,
  VERSION_COLUMN,
  WRITTEN_COLUMNS,
} from "../../warehouse/own-columns.ts";
import {
  alterations,
  copyOf,
  type CopyDialect,
  type ExistingColumn,
  keptColumns,
  noteText,
  REFUSED,
  type Refused,
  type TableChange,
} from "../../warehouse/table-change.ts";
import { claimed } from "../../warehouse/scopes.ts";
import type {
  Found,
  TargetsOptions,
  Unhidden,
  VersionedTarget,
  Warehouse,
  WarehouseScopes,
} from "../../warehouse/targets.ts";
import { classify, duckdbError, OF_ONE_TABLE, overFiles } from "../errors.ts";
import { columnNames, fold, inScope, quoteIdentifier, quoteLiteral, quoteName, targetKey, targetOf } from "../names.ts";
import type { Store } from "../store.ts";
import { HISTORY_COLUMNS } from "../write/history.ts";
import { type DuckdbForm, layoutOf, type TableLayout } from "../write/layout.ts";
import type { CheckpointRow } from "./checkpoint.ts";
import type { DuckdbTarget } from "./existing.ts";

const REBUILT = "_millrace_rebuilt";
/** How many targets one text of statements creates. */
const MADE_TOGETHER = 50;
/** DuckDB can't add a column with a constraint to an existing table; DuckLake takes the default as text only. */
const DELETED = `${quoteIdentifier(DELETED_COLUMN)} BOOLEAN DEFAULT 'false'`;

export interface WarehouseOptions extends TargetsOptions {
  /** The sink's name. */
  readonly name: string;
  readonly form: DuckdbForm;
  /** Called before the targets of these tables change in another way than by rows. Exclusively. */
  readonly changing: (tables: readonly TableVersion[]) => void;
  readonly onPrepared: (layout: TableLayout, hasExact: boolean) => void;
}

type Converted = Pick<TableLayout, "table" | "owner" | "sqlName" | "form">;

interface WarehouseParts {
  readonly connection: EngineConnection;
  readonly store: Store;
  readonly checkpoint: Pick<CheckpointRow, "fence" | "scopes" | "changeScopes">;
  readonly signal: AbortSignal;
}

export class DuckdbWarehouse
  implements Warehouse<TableLayout, DuckdbTarget, TableLayout>, CopyDialect<TableLayout, DuckdbTarget>
{
  readonly place: string;
  readonly keyName = "primary key";
  readonly keepsKeyOrder = true;
  readonly createCountMax = Infinity;
  readonly isOneTransaction = false;
  readonly raise = duckdbError;
  readonly quote = quoteIdentifier;
  readonly #connection: EngineConnection;
  readonly #store: Store;
  readonly #checkpoint: WarehouseParts["checkpoint"];
  readonly #signal: AbortSignal;
  readonly #options: WarehouseOptions;

  constructor({ connection, store, checkpoint, signal }: WarehouseParts, options: WarehouseOptions) {
    this.#connection = connection;
    this.#store = store;
    this.#checkpoint = checkpoint;
    this.#signal = signal;
    this.#options = options;
    this.place = options.form.isLake === true ? "the lake" : "the DuckDB file";
  }

  key(table: TableName): string {
    return targetKey(targetOf(table, this.#options.schema));
  }

  target(table: TableVersion): TableLayout {
    const { owner, schema, form, dropsColumns } = this.#options;
    const layout = layoutOf(table, targetOf(table, schema), this.#store.catalogue, form);
    return { ...layout, owner, dropsColumns: dropsColumns?.(table) ?? false };
  }

  layout(table: TableVersion): TableLayout {
    this.#store.writers.claim(this.key(table), { sink: this.#options.name, tableId: table.id });
    return this.target(table);
  }

  inScope(table: TableVersion): string {
    return inScope(table, this.#options.form);
  }

  readonly scopes: WarehouseScopes = {
    find: async (scopes) => await this.#checkpoint.scopes.find(scopes, (sql) => this.rows(sql)),
    claim: async (claims) => {
      await this.#changing([], async () => {
        const there = await this.scopes.find(claims.map(({ scope }) => scope));
        const taken = claimed(this.raise, this.#options.owner, claims, there);
        await this.#checkpoint.changeScopes(this.#connection, this.#checkpoint.scopes.put(taken));
        await this.#stopFormer(
          claims.flatMap(({ scope, table }) => (taken.get(scope)?.former === undefined ? [] : [table])),
        );
      });
    },
    own: async () => (await this.rows(this.#checkpoint.scopes.of(this.#options.owner))).map(([scope]) => scope!),
    release: async (scopes) => {
      const remove = this.#checkpoint.scopes.remove(this.#options.owner, scopes);
      await this.#changing([], async () => await this.#checkpoint.changeScopes(this.#connection, remove));
    },
  };

  /**
   * Of a batch that the former owner has begun, which does not see whose the rows are now, and of this transaction one fails: both
   * touch the target. Where no other process writes there is none.
   */
  async #stopFormer(tables: readonly TableVersion[]): Promise<void> {
    const targets = tables.map((table) => targetOf(table, this.#options.schema));
    for (const { name, note } of (await this.#store.noted?.(targets))?.values() ?? []) {
      const { catalogue } = this.#store;
      if (note !== null)
        await this.#connection.run(commentSql(quoteName(catalogue, name.schema, name.table), encodeNote(note)));
    }
  }

  shown(table: TableName): string {
    const target = targetOf(table, this.#options.schema);
    return `${target.schema}.${target.table}`;
  }

  columnNames(table: TableVersion): readonly string[] {
    return columnNames(table.columns, this.#options.form).map(fold);
  }

  wanted({ columns }: TableLayout): readonly WantedColumn[] {
    return columns.map(({ name, source, duck }) => ({
      name: fold(name),
      spelled: name,
      identity: source.identity,
      type: duck.name,
    }));
  }

  /** Else it belongs to a dropped table whose name differed only in case. */
  isNamed({ target }: TableLayout, { name }: DuckdbTarget): boolean {
    return name === target.table;
  }

  async about<T>(table: TableVersion, work: () => T | Promise<T>): Promise<T> {
    const known = (error: unknown) => classify(error, `preparing ${table.id}`);
    return await aboutTable(table.id, OF_ONE_TABLE, known, () => overFiles(table.id, work));
  }

  async rows(sql: string): Promise<readonly (readonly string[])[]> {
    return await readTextRows(this.#connection, sql);
  }

  async find(tables: readonly TableName[]): Promise<Found<DuckdbTarget>> {
    const names = tables.map((table) => targetOf(table, this.#options.schema));
    const found = await this.#store.find(this.#connection, names);
    // A lake has no constraints: only the note tells.
    if (this.#options.form.isLake !== true) return found;
    const change = this.#options.form.mode === "history" ? CHANGE_IDENTITY : [];
    return new Map(
      [...found].map(([key, target]) => {
        const { note } = target;
        return [key, { ...target, keys: note === null ? [] : [[...note.key, ...change]] }];
      }),
    );
  }

  async versioned(): Promise<Found<VersionedTarget>> {
    const { catalogue } = this.#store;
    const { schema: only } = this.#options;
    const rows = await readTextRows(
      this.#connection,
      "SELECT schema_name, table_name, t.comment FROM duckdb_columns() AS c JOIN duckdb_tables() AS t " +
        "USING (database_name, schema_name, table_name) WHERE database_name = $1 AND column_name = $2",
      [catalogue, VERSION_COLUMN],
    );
    return new Map(
      rows
        .filter(([schema = ""]) => only === undefined || fold(schema) === fold(only))
        .map(([schema = "", table = "", comment = ""]) => [
          targetKey({ schema, table }),
          { rows: quoteName(catalogue, schema, table), note: decodeNote(comment) },
        ]),
    );
  }

  async create(layouts: readonly TableLayout[]): Promise<void> {
    await this.#changing(layouts, async () => {
      for (const together of groupsOf(layouts, MADE_TOGETHER)) {
        await this.#connection.run(
          [...new Set(together.flatMap((layout) => this.#createStatements(layout)))].join("; "),
        );
        for (const { table } of together) failpoint("duckdb.target-made", table);
      }
    });
  }

  /**
   * Each statement is a separate transaction, because DuckDB alters no table with uncommitted changes. Invariant: marked rows
   * are removed before the column that marks them, so that no deleted row appears as existing.
   */
  async convert(layout: Converted, existing: Pick<DuckdbTarget, "note">): Promise<void> {
    const { sqlName, form } = layout;
    const deleted = quoteIdentifier(DELETED_COLUMN);
    const statements =
      form.deletes === "soft"
        ? [`ALTER TABLE ${sqlName} ADD COLUMN ${DELETED}`]
        : [`DELETE FROM ${sqlName} WHERE ${deleted}`, `ALTER TABLE ${sqlName} DROP COLUMN ${deleted}`];
    for (const sql of statements)
      await this.#changing([layout], async () => {
        await this.#expectOwned(layout, existing);
        await this.#connection.run(sql);
      });
  }

  /** In two transactions, because DuckDB alters no table with uncommitted changes. */
  async hide(layout: TableLayout, { columns, note }: Unhidden, below: bigint): Promise<void> {
    const { table, sqlName, form } = layout;
    const there = (await this.find([table])).get(this.key(table));
    const exact = there?.columns.has(EXACT_COLUMN) === true && columns.length > 0 ? [EXACT_COLUMN] : [];
    const sets = [...columns, ...exact].map((name) => `${quoteIdentifier(name)} = NULL`).join(", ");
    const where = `(${quoteIdentifier(DELETED_COLUMN)} OR ${quoteIdentifier(VERSION_COLUMN)} < ${below})${inScope(table, form)}`;
    for (const sql of [
      ...(sets === "" ? [] : [`UPDATE ${sqlName} SET ${sets} WHERE ${where}`]),
      commentSql(layout.sqlName, note),
    ])
      await this.#changing([layout], async () => {
        await this.#expectOwned(layout);
        await this.#connection.run(sql);
      });
  }

  async change(change: TableChange<TableLayout, DuckdbTarget>): Promise<readonly string[]> {
    const { layout, existing } = change;
    return await this.#changing([layout], async () => {
      await this.#expectOwned(layout, existing);
      if (change.isRenamed)
        await this.#connection.run(`ALTER TABLE ${layout.sqlName} RENAME TO ${quoteIdentifier(layout.target.table)}`);
      const retired = await this.#follow(change);
      await this.#connection.run(commentSql(layout.sqlName, change.note));
      failpoint("duckdb.target-made", layout.table);
      return retired;
    });
  }

  /** Inside a transaction. `existing`: what is changed, which may be another's. */
  async #expectOwned(layout: Converted, existing?: Pick<DuckdbTarget, "note">): Promise<void> {
    const target = targetOf(layout.table, this.#options.schema);
    const noted = await this.#store.noted?.([target]);
    const from = successorOf(layout.owner, existing?.note ?? null);
    expectOwned(duckdbError, layout, noted?.get(targetKey(target))?.note ?? null, from);
  }

  /** DuckDB can't change the type of a key column, or the key, or drop a column before one: the rows are copied. */
  async #follow(change: TableChange<TableLayout, DuckdbTarget>): Promise<readonly string[]> {
    const { layout } = change;
    const table = layout.sqlName;
    const inPlace = alterations(change, { rename: false, drop: false });
    for (const column of inPlace?.added ?? []) {
      await this.#connection.run(`ALTER TABLE ${table} ADD COLUMN ${quoteIdentifier(column.spelled!)} ${column.type}`);
    }
    if (inPlace !== null) return keptColumns(change);
    const { cells, kept, moved, hasKeys } = await copyOf(this, change);
    const rebuilt = quoteName(layout.catalogue, layout.target.schema, REBUILT);
    const key = cells.flatMap(({ isKey, value }) => (isKey ? [value] : []));
    // Rows that do not fit the key are removed: they are read again.
    const standing =
      `WHERE ${key.map((value) => `${value} IS NOT NULL`).join(" AND ")} ` +
      `QUALIFY row_number() OVER (PARTITION BY ${key.join(", ")} ORDER BY ${VERSION_COLUMN} DESC) = 1`;
    const isHistory = layout.form.mode === "history";
    const [names, values] = [cells.map(({ name }) => name), cells.map(({ value }) => value)];
    await this.#connection.run(createSql(layout, rebuilt, kept));
    if (hasKeys) {
      const select = `SELECT ${values.join(", ")} FROM ${table} ${isHistory ? "" : standing}`;
      await this.#connection.run(`INSERT INTO ${rebuilt} (${names.join(", ")}) ${select}`);
    }
    await this.#connection.run(`DROP TABLE ${table}`);
    await this.#connection.run(`ALTER TABLE ${rebuilt} RENAME TO ${quoteIdentifier(layout.target.table)}`);
    // A history keeps the old values of its columns.
    return isHistory ? keptColumns(change) : [...keptColumns(change), ...moved];
  }

  ownColumns(): readonly string[] {
    return WRITTEN_COLUMNS;
  }

  /** Null if the value does not fit the new type: so a negative zero as a float. Every type converts to text and back. */
  cast(there: ExistingColumn, { type }: WantedColumn): string {
    const value = `TRY_CAST(CAST(${quoteIdentifier(there.name)} AS VARCHAR) AS ${type})`;
    const isFloat = type === "FLOAT" || type === "DOUBLE";
    return isFloat ? `CASE WHEN ${value}::VARCHAR <> '-0.0' THEN ${value} END` : value;
  }

  prepared(layout: TableLayout, retired: readonly string[], existing: DuckdbTarget | null): TableLayout {
    const prepared = { ...layout, retired };
    this.#options.onPrepared(prepared, existing?.columns.has(EXACT_COLUMN) === true);
    return prepared;
  }

  /** Exact texts are stored under the columns' old names. */
  async carriesRows(from: TableLayout, to: TableLayout, existing: DuckdbTarget): Promise<boolean> {
    const areSame = from.columns.map(({ name }) => name).join() === to.columns.map(({ name }) => name).join();
    return areSame || !existing.columns.has(EXACT_COLUMN);
  }

  refusal({ kind, message, table, column, hint: given }: Refused): MillraceError {
    const code = REFUSED[kind];
    const { schema, table: name } = targetOf(table, this.#options.schema);
    const retype =
      column &&
      `ALTER TABLE ${quoteName(this.#store.catalogue, schema, name)} ALTER ${quoteIdentifier(column.spelled!)} TYPE ${column.type}`;
    const hint =
      retype === undefined ? given : `${retype} while Millrace is stopped, or drop the table and fill it again`;
    return duckdbError(code, "fatal", message, { hint });
  }

  #createStatements(layout: TableLayout): readonly string[] {
    return [
      `CREATE SCHEMA IF NOT EXISTS ${quoteName(layout.catalogue, layout.target.schema)}`,
      createSql(layout),
      commentSql(layout.sqlName, noteText(this, layout)),
    ];
  }

  /** In one transaction, behind the fence. */
  async #changing<T>(layouts: readonly Pick<TableLayout, "table">[], work: () => Promise<T>): Promise<T> {
    return await this.#store.exclusively(async () => {
      this.#options.changing(layouts.map(({ table }) => table));
      return await inTransaction(this.#connection, () => this.#checkpoint.fence(this.#connection), work);
    }, this.#signal);
  }
}

export function commentSql(sqlName: string, note: string): string {
  return `COMMENT ON TABLE ${sqlName} IS ${quoteLiteral(note)}`;
}

/** `kept`: definitions of columns that the table no longer has and the target keeps. */
function createSql(layout: TableLayout, sqlName = layout.sqlName, kept: readonly string[] = []): string {
  const { mode, deletes, isLake } = layout.form;
  const columns = layout.columns.map(({ name, duck }) => `${quoteIdentifier(name)} ${duck.name}`);
  columns.push(...kept);
  if (mode === "history") columns.push(...HISTORY_COLUMNS);
  else if (deletes === "soft") columns.push(DELETED);
  columns.push(`${VERSION_COLUMN} BIGINT NOT NULL`, `${COMMIT_TIME_COLUMN} TIMESTAMP WITH TIME ZONE NOT NULL`);
  const key = layout.key.map(({ name }) => quoteIdentifier(name)).join(", ");
  if (isLake !== true)
    columns.push(mode === "history" ? `UNIQUE (${key}, ${CHANGE_IDENTITY.join(", ")})` : `PRIMARY KEY (${key})`);
  return `CREATE TABLE ${sqlName} (${columns.join(", ")})`;
}
