/** SQLite's tables, as the warehouse kit plans them. */
import type { TableName } from "../../../src/core/contracts/connector.ts";
import { aboutTable, type MillraceError } from "../../../src/core/errors.ts";
import { failpoint } from "../../../src/core/failpoint.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import { decodeNote, expectOwned, successorOf, type TargetNote, type WantedColumn } from "../../warehouse/following.ts";
import { DELETED_COLUMN, formOf, VERSION_COLUMN, WRITTEN_COLUMNS } from "../../warehouse/own-columns.ts";
import {
  alterations,
  copyOf,
  type CopyDialect,
  type ExistingColumn,
  type ExistingTarget,
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
import { classify, OF_ONE_TABLE, sqliteError } from "../errors.ts";
import type { Companion, KeptColumns } from "../companion.ts";
import type { SqliteFile } from "../file.ts";
import {
  columnNames,
  fold,
  inScope,
  NOTES,
  quoteIdentifier,
  REBUILT,
  SCOPES,
  targetKey,
  targetName,
} from "../names.ts";
import { NUMBER, Slices, walkOf } from "../write/slices.ts";
import type { CheckpointRow } from "./checkpoint.ts";
import { createSql, DELETED_DEFINITION, indexTruncatesSql, keyNames, layoutOf, type SqliteLayout } from "./layout.ts";
import { dropNewest, lacksNewest } from "./newest.ts";

/** Names of columns are folded. */
export interface SqliteTarget extends ExistingTarget {
  /** In its original spelling. */
  readonly name: string;
}

export const PLACE = "the SQLite file";
export const KEY_NAME = "primary key";

/** An open file, for one call of the sink. */
export class SqliteWarehouse
  implements Warehouse<SqliteLayout, SqliteTarget, SqliteLayout>, CopyDialect<SqliteLayout, SqliteTarget>
{
  readonly place = PLACE;
  readonly keyName = KEY_NAME;
  readonly keepsKeyOrder = false;
  readonly createCountMax = Infinity;
  readonly isOneTransaction = false;
  readonly raise = sqliteError;
  readonly quote = quoteIdentifier;
  readonly #file: SqliteFile;
  readonly #checkpoint: CheckpointRow;
  readonly #options: TargetsOptions;
  readonly #kept: KeptColumns;
  readonly #companion: Companion | undefined;
  readonly #signal: AbortSignal;

  constructor(
    file: SqliteFile,
    checkpoint: CheckpointRow,
    options: TargetsOptions,
    kept: KeptColumns,
    companion: Companion | undefined,
    signal: AbortSignal,
  ) {
    this.#file = file;
    this.#checkpoint = checkpoint;
    this.#options = options;
    this.#kept = kept;
    this.#companion = companion;
    this.#signal = signal;
  }

  key(table: TableName): string {
    return targetKey(this.shown(table));
  }

  target(table: TableVersion): SqliteLayout {
    const { owner, form, dropsColumns } = this.#options;
    const rest = { owner, form, dropsColumns: dropsColumns?.(table) ?? false };
    const kept = this.#kept;
    const columns = { ordinals: kept.ordinals(table), folded: kept.folded(table), indexed: kept.indexed(table) };
    return layoutOf(table, this.shown(table), rest, kept.isPacked, columns);
  }

  layout(table: TableVersion): SqliteLayout {
    return this.target(table);
  }

  inScope(table: TableVersion): string {
    return inScope(table);
  }

  readonly scopes: WarehouseScopes = {
    find: async (scopes) => await SCOPES.find(scopes, (sql) => this.rows(sql)),
    claim: async (claims) => {
      await this.#changing(async () => {
        const there = await this.scopes.find(claims.map(({ scope }) => scope));
        for (const sql of SCOPES.put(claimed(this.raise, this.#options.owner, claims, there))) this.#file.exec(sql);
      });
    },
    own: async () => (await this.rows(SCOPES.of(this.#options.owner))).map(([scope]) => scope!),
    release: async (scopes) => {
      await this.#changing(async () => {
        for (const sql of SCOPES.remove(this.#options.owner, scopes)) this.#file.exec(sql);
      });
    },
  };

  shown(table: TableName): string {
    return targetName(table, this.#options.schema);
  }

  columnNames(table: TableVersion): readonly string[] {
    return columnNames(table.columns).map(fold);
  }

  wanted({ columns }: SqliteLayout): readonly WantedColumn[] {
    return columns.map(({ name, source, sqlite }) => ({
      name: fold(name),
      spelled: name,
      identity: source.identity,
      type: sqlite.name,
    }));
  }

  /** Else it belongs to a dropped table whose name differed only in case. */
  isNamed(layout: SqliteLayout, { name }: SqliteTarget): boolean {
    return name === layout.name;
  }

  async about<T>(table: TableVersion, work: () => T | Promise<T>): Promise<T> {
    const known = (error: unknown) => classify(error, `preparing ${table.id}`, this.#file.path);
    return await aboutTable(table.id, OF_ONE_TABLE, known, async () => await work());
  }

  async rows(sql: string): Promise<readonly (readonly (string | null)[])[]> {
    return this.#file.rows(sql).map((row) => row.map((value) => (value === null ? null : String(value))));
  }

  async find(tables: readonly TableName[]): Promise<Found<SqliteTarget>> {
    const found = new Map<string, SqliteTarget>();
    const slices = new Slices(this.#signal);
    for (const table of tables) {
      if (slices.isOver) await slices.next();
      const target = lookUpTarget((sql, ...values) => this.#file.rows(sql, ...values), this.shown(table));
      if (target !== null) found.set(this.key(table), { ...target, isAnother: this.#isAnother(target) });
    }
    return found;
  }

  #isAnother({ name, form }: SqliteTarget): boolean {
    return form !== null && lacksNewest(this.#file, { name, sqlName: quoteIdentifier(name) });
  }

  async versioned(): Promise<Found<VersionedTarget>> {
    const rows = this.#file.rows(
      `SELECT t.name, n.note FROM sqlite_schema AS t, pragma_table_info(t.name) AS c LEFT JOIN ${NOTES} AS n ON n.name = t.name ` +
        "WHERE t.type = 'table' AND c.name = ?",
      VERSION_COLUMN,
    );
    const { schema } = this.#options;
    const start = schema === undefined ? "" : fold(`${schema}.`);
    const named = rows.map(([name, note]) => [String(name), note === null ? null : String(note)] as const);
    return new Map(
      named
        .filter(([name]) => fold(name).startsWith(start))
        .map(([name, note]) => [targetKey(name), { rows: quoteIdentifier(name), note: decodeNote(note) }]),
    );
  }

  async create(layouts: readonly SqliteLayout[]): Promise<void> {
    await this.#changing(async (slices) => {
      for (const layout of layouts) {
        this.#file.exec(createSql(layout));
        dropNewest(this.#file, layout.name);
        this.#companion?.changing(layout);
        if (layout.form.mode === "history") this.#file.exec(indexTruncatesSql(layout));
        this.note(layout, noteText(this, layout));
        failpoint("sqlite.target-made", layout.table);
        if (slices.isOver) await slices.next();
      }
    });
  }

  /** Invariant: marked rows are removed before the column that marks them, so that no deleted row appears as existing. */
  async convert(
    target: Pick<SqliteLayout, "table" | "owner" | "sqlName" | "form">,
    existing: Pick<SqliteTarget, "name" | "note">,
  ): Promise<void> {
    const { sqlName, form } = target;
    const { name } = existing;
    await this.#changing(async (slices) => {
      this.#expectOwned(target, existing);
      if (form.deletes === "soft") this.#file.exec(`ALTER TABLE ${sqlName} ADD COLUMN ${DELETED_DEFINITION}`);
      else {
        const remove = `DELETE FROM ${sqlName} WHERE ${DELETED_COLUMN}`;
        await slices.overRows(this.#file, sqlName, (isInPiece) => `${remove} AND ${isInPiece()}`);
        dropNewest(this.#file, name);
        this.#file.exec(`ALTER TABLE ${sqlName} DROP COLUMN ${DELETED_COLUMN}`);
      }
    });
  }

  async hide(layout: SqliteLayout, { columns, note }: Unhidden, below: bigint): Promise<void> {
    const { table, sqlName } = layout;
    const sets = columns.map((name) => `${quoteIdentifier(name)} = NULL`).join(", ");
    const hide = `UPDATE ${sqlName} SET ${sets} WHERE (${DELETED_COLUMN} OR ${VERSION_COLUMN} < ?1)${inScope(table)}`;
    await this.#changing(async (slices) => {
      this.#expectOwned(layout);
      const stored = this.#kept.stored(below);
      if (sets !== "") await slices.overRows(this.#file, sqlName, (isInPiece) => `${hide} AND ${isInPiece()}`, stored);
      this.note(layout, note);
    });
  }

  async change(change: TableChange<SqliteLayout, SqliteTarget>): Promise<readonly string[]> {
    const { layout, existing } = change;
    return await this.#changing(async (slices) => {
      this.#expectOwned(layout, existing);
      if (change.isRenamed) this.#rename(existing.name, layout.name);
      const retired = await this.#follow(change, slices);
      this.#companion?.changing(layout);
      this.note(layout, change.note);
      failpoint("sqlite.target-made", layout.table);
      return retired;
    });
  }

  /** Inside a transaction. `existing`: what is changed, which may be another's. */
  #expectOwned(layout: Pick<SqliteLayout, "table" | "owner">, existing?: Pick<SqliteTarget, "note">): void {
    const from = successorOf(layout.owner, existing?.note ?? null);
    expectOwned(sqliteError, layout, noteIn(this.#file, this.shown(layout.table)), from);
  }

  /** SQLite takes a name that differs only in case for the same. */
  #rename(from: string, to: string): void {
    const between = quoteIdentifier("_millrace_renamed");
    this.#file.exec(`ALTER TABLE ${quoteIdentifier(from)} RENAME TO ${between}`);
    this.#file.exec(`ALTER TABLE ${between} RENAME TO ${quoteIdentifier(to)}`);
  }

  /** To drop a column SQLite writes all rows again, in one call: they are copied in pieces. */
  async #follow(change: TableChange<SqliteLayout, SqliteTarget>, slices: Slices): Promise<readonly string[]> {
    const file = this.#file;
    const { layout } = change;
    const table = layout.sqlName;
    const inPlace = alterations(change, { rename: true, drop: false });
    if (inPlace !== null) {
      for (const { from, to } of inPlace.renamed)
        file.exec(`ALTER TABLE ${table} RENAME COLUMN ${quoteIdentifier(from)} TO ${quoteIdentifier(to)}`);
      for (const column of inPlace.added)
        file.exec(`ALTER TABLE ${table} ADD COLUMN ${quoteIdentifier(column.spelled!)} ${column.type}`);
      return keptColumns(change);
    }
    const { cells, kept, moved, hasKeys } = await copyOf(this, change);
    const isHistory = layout.form.mode === "history";
    const made = file
      .rows(
        "SELECT sql FROM sqlite_schema WHERE tbl_name = ? AND type IN ('index', 'trigger') AND sql IS NOT NULL",
        layout.name,
      )
      .map(([sql]) => String(sql));
    file.exec(createSql(layout, REBUILT, kept));
    if (hasKeys) {
      const names = cells.map(({ name }) => name);
      const keys = cells.flatMap(({ isKey, value }) => (isKey ? [`${value} IS NOT NULL`] : []));
      // Rows that do not fit the key are removed, and of two with one key the older one: they are read again.
      const standing = isHistory
        ? "ON CONFLICT DO NOTHING"
        : `AND ${keys.join(" AND ")} ON CONFLICT (${keyNames(layout)}) DO UPDATE SET ` +
          `${names.map((name) => `${name} = excluded.${name}`).join(", ")} WHERE ${VERSION_COLUMN} < excluded.${VERSION_COLUMN}`;
      const select = `SELECT ${cells.map(({ value }) => value).join(", ")} FROM ${table}`;
      const copy = `INSERT INTO ${REBUILT} (${names.join(", ")}) ${select}`;
      await slices.overRows(file, table, (isInPiece) => `${copy} WHERE ${isInPiece()} ${standing}`);
    }
    file.exec(`DROP TABLE ${table}`);
    dropNewest(file, layout.name);
    // Otherwise SQLite looks into views and triggers, which lack their table now.
    file.exec(
      `PRAGMA legacy_alter_table = ON; ALTER TABLE ${REBUILT} RENAME TO ${table}; PRAGMA legacy_alter_table = OFF`,
    );
    for (const sql of made) this.#remake(sql);
    // A history keeps the old values of its columns.
    return isHistory ? keptColumns(change) : [...keptColumns(change), ...moved];
  }

  /** An index or trigger that somebody made. One over a column that is gone goes too. */
  #remake(sql: string): void {
    try {
      this.#file.exec(sql);
    } catch (error) {
      if (classify(error, "making an index again", this.#file.path).code !== "MR3110") throw error;
    }
  }

  ownColumns(): readonly string[] {
    return WRITTEN_COLUMNS;
  }

  /** Null if the value does not fit the new type. */
  cast({ name, type: before }: ExistingColumn, { type }: WantedColumn): string {
    const value = quoteIdentifier(name);
    if (type === "ANY") return before === "BLOB" ? "NULL" : value;
    if (type === "BLOB") return "NULL";
    if (type === "TEXT") return `CASE WHEN typeof(${value}) <> 'blob' THEN CAST(${value} AS TEXT) END`;
    const whole = `CAST(${value} AS INTEGER)`;
    return `CASE WHEN typeof(${value}) <> 'blob' AND CAST(${whole} AS TEXT) = CAST(${value} AS TEXT) THEN ${whole} END`;
  }

  async prepared(
    layout: SqliteLayout,
    retired: readonly string[],
    existing: SqliteTarget | null,
  ): Promise<SqliteLayout> {
    const { table, name, sqlName } = layout;
    // What has its place is filled again.
    if (existing?.isAnother === true && this.#checkpoint.complete[table.id] === undefined)
      await this.#changing(async () => dropNewest(this.#file, name));
    // Somebody may have made it WITHOUT ROWID.
    const notesNewest = layout.notesNewest && walkOf(this.#file, sqlName)[0] === NUMBER;
    return { ...layout, retired, notesNewest };
  }

  async carriesRows(): Promise<boolean> {
    return true;
  }

  refusal(refused: Refused): MillraceError {
    return refusalAt(this.shown(refused.table), refused);
  }

  note({ name }: Pick<SqliteLayout, "name">, note: string): void {
    this.#file.run(
      `INSERT INTO ${NOTES} (name, note) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET name = excluded.name, note = excluded.note`,
      name,
      note,
    );
  }

  async #changing<T>(work: (slices: Slices) => Promise<T>): Promise<T> {
    const slices = new Slices(this.#signal);
    return await this.#file.transaction(
      this.#signal,
      () => this.#checkpoint.fence(this.#file),
      () => work(slices),
    );
  }
}

/** Null: there is none. */
export function lookUpTarget(rows: SqliteFile["rows"], wanted: string): SqliteTarget | null {
  const [there] = rows(
    "SELECT name, type FROM sqlite_schema WHERE type IN ('table', 'view') AND name = ? COLLATE NOCASE",
    wanted,
  );
  if (there === undefined) return null;
  const name = String(there[0]);
  const isView = there[1] === "view";
  const described = rows("SELECT name, type, pk FROM pragma_table_xinfo(?)", name);
  const columns = new Map(
    described.map(([column, type]): [string, ExistingColumn] => {
      return [fold(String(column)), { name: String(column), type: String(type) }];
    }),
  );
  const primary = described
    .filter(([, , place]) => place !== 0n)
    .toSorted(([, , a], [, , b]) => Number(a) - Number(b))
    .map(([column]) => fold(String(column)));
  const unique = rows(
    `SELECT i.name, c.name FROM pragma_index_list(?) AS i, pragma_index_info(i.name) AS c WHERE i.origin = 'u' ORDER BY i.seq, c.seqno`,
    name,
  );
  const others = [...Map.groupBy(unique, ([index]) => index).values()];
  const keys = [primary, ...others.map((index) => index.map(([, column]) => fold(String(column))))];
  return {
    name,
    isView,
    form: isView ? null : formOf(columns),
    columns,
    keys: keys.filter((key) => key.length > 0),
    note: noteIn({ rows }, name),
  };
}

/** Of a target. */
export function noteIn(file: Pick<SqliteFile, "rows">, name: string): TargetNote | null {
  const [row] = file.rows(`SELECT note FROM ${NOTES} WHERE name = ?`, name);
  return decodeNote(row === undefined ? null : String(row[0]));
}

/** `shown`: the target. */
export function refusalAt(shown: string, { kind, message, column, hint: given }: Refused): MillraceError {
  const hint =
    column === undefined
      ? given
      : `drop ${quoteIdentifier(shown)} in the file while Millrace is stopped: it is made and filled again`;
  return sqliteError(REFUSED[kind], "fatal", message, { hint });
}
