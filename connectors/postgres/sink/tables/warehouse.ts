/** Postgres' tables as the warehouse kit plans them, each call in one transaction. */
import type { TableName } from "../../../../src/core/contracts/connector.ts";
import { aboutTable, type MillraceError } from "../../../../src/core/errors.ts";
import { failpoint } from "../../../../src/core/failpoint.ts";
import { hiddenNames, type TableVersion } from "../../../../src/core/model/schema.ts";
import { decodeNote, formerOf, nameUntil, renamesOf } from "../../../warehouse/following.ts";
import { COMMIT_TIME_COLUMN, DELETED_COLUMN, OFFSET_COLUMN, VERSION_COLUMN } from "../../../warehouse/own-columns.ts";
import {
  type ColumnChange,
  goneColumns,
  noteText,
  REFUSED,
  type Refused,
  type TableChange,
  type TableLayout,
} from "../../../warehouse/table-change.ts";
import type {
  Found,
  Targets,
  TargetsOptions,
  Unhidden,
  VersionedTarget,
  Warehouse,
  WarehouseScopes,
} from "../../../warehouse/targets.ts";
import { claimed } from "../../../warehouse/scopes.ts";
import { quoteIdentifier, quoteLiteral, quoteTable } from "../../../../src/postgres/quote.ts";
import { fatal, notTakeable, OF_ONE_TABLE, postgresError, sinkError, stateOf, withoutRow } from "../errors.ts";
import { displaceWriter, MAY_USE_SCOPES, SCOPES } from "../wire/checkpoint.ts";
import type { FencedSession } from "../wire/fenced-session.ts";
import type { Session } from "../wire/session.ts";
import { type CatalogType, cellForms } from "../values/cells.ts";
import { adoptionObstacles, shownColumns } from "./adoption.ts";
import { type FoundColumn, findTables, type FoundTable, obstaclesOf, rowsOf, type TypedColumn } from "./found-table.ts";
import { HISTORY_COLUMNS } from "./history-table.ts";
import { fitted, inScope, type TargetName, targetName } from "./names.ts";
import type { Presence } from "./presence.ts";
import { TargetTable } from "./target-table.ts";
import { resolveTypes, typesOf } from "./types.ts";

export type PostgresTargets = Targets<PostgresLayout, FoundTable, TargetTable>;

interface PostgresLayout extends TableLayout {
  readonly name: TargetName;
  readonly types: readonly string[];
  readonly wanted: readonly TypedColumn[];
  readonly catalog: readonly CatalogType[];
}

/** What the sink's own tables share. */
export interface WarehouseParts extends TargetsOptions {
  readonly sink: FencedSession;
  readonly presence: Presence;
}

export const PLACE = "the target";
export const KEY_NAME = "primary key";

/** Of the targets that this process has prepared: see TargetTable. */
let ordinals = 0;

export class PostgresWarehouse implements Warehouse<PostgresLayout, FoundTable, TargetTable> {
  readonly place = PLACE;
  readonly keyName = KEY_NAME;
  readonly keepsKeyOrder = false;
  readonly createCountMax = 1;
  readonly isOneTransaction = true;
  readonly raise = postgresError;
  readonly quote = quoteIdentifier;
  readonly fitted = fitted;
  readonly #parts: WarehouseParts;
  readonly #session: Session;
  readonly #isOpen: boolean;
  readonly #signal: AbortSignal;

  /** `isOpen`: the session is in a transaction that changes tables, and `finish` commits it. */
  constructor(parts: WarehouseParts, session: Session, isOpen: boolean, signal: AbortSignal) {
    this.#parts = parts;
    this.#session = session;
    this.#isOpen = isOpen;
    this.#signal = signal;
  }

  key(table: TableName): string {
    const { schema, table: name } = targetName(table, this.#parts.schema);
    return quoteTable(schema, name);
  }

  inScope(table: TableVersion): string {
    return inScope(table);
  }

  readonly scopes: WarehouseScopes = {
    find: async (scopes) => await SCOPES.find(scopes, (sql) => this.rows(sql)),
    claim: async (claims) => {
      const { owner } = this.#parts;
      const scopes = claims.map(({ scope }) => scope);
      // Transactions that prepare follow one another: see LOCK_DDL.
      const taken = claimed(this.raise, owner, claims, await this.scopes.find(scopes));
      const formers = new Set([...taken.values()].flatMap(({ former }) => former ?? []));
      // Invariant: before this transaction locks anything of the target, so that a batch of the former owner can end.
      for (const former of formers) await this.#query(displaceWriter(former));
      await this.#query(SCOPES.put(taken).join("; "));
    },
    own: async () => {
      // A role that an administrator gave rights on the checkpoints alone has nothing there.
      const [[mayUse] = []] = await this.rows(MAY_USE_SCOPES);
      return mayUse === "t" ? (await this.rows(SCOPES.of(this.#parts.owner))).map(([scope]) => scope!) : [];
    },
    release: async (scopes) => {
      const remove = SCOPES.remove(this.#parts.owner, scopes).join("; ");
      await this.#parts.sink.change(this.#session, remove, this.#signal);
    },
  };

  shown(table: TableName): string {
    return this.key(table);
  }

  target(table: TableVersion): TableLayout {
    const { owner, form, dropsColumns } = this.#parts;
    // What tables share has a key that the other program did not know.
    const adopts = this.#parts.adopts === true && table.scope === undefined;
    return { table, sqlName: this.key(table), form, owner, dropsColumns: dropsColumns?.(table) ?? false, adopts };
  }

  async layout(table: TableVersion): Promise<PostgresLayout> {
    const rows = (sql: string) => this.rows(sql);
    const types = await resolveTypes(table, rows);
    const { wanted, catalog } = await typesOf(table, types, rows);
    return { ...this.target(table), name: targetName(table, this.#parts.schema), types, wanted, catalog };
  }

  columnNames({ columns }: TableVersion): readonly string[] {
    return columns.map(({ name }) => fitted(name));
  }

  wanted({ wanted }: PostgresLayout): readonly TypedColumn[] {
    return wanted;
  }

  /** A type without modifier accepts what the same type with one accepts; a time has at most six digits. */
  takes(there: FoundColumn, wanted: TypedColumn): boolean {
    if (wanted.oid !== there.oid) return false;
    const isWhole = there.modifier === "6" && TIMES.test(there.type);
    return wanted.modifier === there.modifier || there.modifier === "-1" || isWhole;
  }

  expectWhole({ table, sqlName }: TableLayout, existing: FoundTable): void {
    const [obstacle] = obstaclesOf(sqlName, existing, this.columnNames(table));
    if (obstacle !== undefined) throw fatal("MR3107", obstacle.what, obstacle.fix);
  }

  async about<T>(table: TableVersion, work: () => T | Promise<T>): Promise<T> {
    const known = (error: unknown) => withoutRow(sinkError(error, `preparing ${table.id}`, this.#session.address));
    return await aboutTable(table.id, OF_ONE_TABLE, known, async () => await work());
  }

  async rows(sql: string): Promise<readonly (readonly (string | null)[])[]> {
    return (await this.#query(sql)).rows;
  }

  async find(tables: readonly TableName[]): Promise<Found<FoundTable>> {
    const names = tables.map((table) => targetName(table, this.#parts.schema));
    const found = await findTables(this.#session, names, this.#signal);
    return new Map(tables.flatMap((table, i) => (found[i] == null ? [] : [[this.key(table), found[i]] as const])));
  }

  /** Those that can be read. */
  async versioned(tables: readonly TableName[] | null): Promise<Found<VersionedTarget>> {
    const { schema } = this.#parts;
    const named = tables?.map((table) => `to_regclass(${quoteLiteral(this.key(table))})`).join(", ");
    const where = [
      `a.attname = ${quoteLiteral(VERSION_COLUMN)} AND NOT a.attisdropped AND a.atttypid = 'pg_catalog.int8'::regtype`,
      "c.relkind IN ('r', 'p') AND has_table_privilege(c.oid, 'SELECT')",
      ...(schema === undefined ? [] : [`n.nspname = ${quoteLiteral(schema)}`]),
      ...(named === undefined ? [] : [named === "" ? "false" : `c.oid IN (${named})`]),
    ];
    const rows = await this.rows(
      `SELECT n.nspname, c.relname, c.relkind, obj_description(c.oid, 'pg_class') FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
       JOIN pg_namespace n ON n.oid = c.relnamespace WHERE ${where.join(" AND ")} ORDER BY 1, 2`,
    );
    return new Map(
      rows.map(([space, name, kind, comment]) => {
        const quoted = quoteTable(space!, name!);
        return [quoted, { rows: rowsOf(quoted, kind), note: decodeNote(comment ?? null) }];
      }),
    );
  }

  async create(layouts: readonly PostgresLayout[]): Promise<void> {
    for (const layout of layouts) {
      const { rows } = await this.#query(
        `SELECT 1 FROM pg_namespace WHERE nspname = ${quoteLiteral(layout.name.schema)}`,
      );
      // IF NOT EXISTS requires the right to create schemas even if there is nothing to create.
      const createSchema = `CREATE SCHEMA IF NOT EXISTS ${quoteIdentifier(layout.name.schema)}`;
      const statements = [...createStatements(layout), commentSql(layout.sqlName, noteText(this, layout))];
      await this.#query([...(rows.length > 0 ? [] : [createSchema]), ...statements].join("; "));
      failpoint("postgres-sink.table-made", layout.table);
    }
  }

  /** Invariant: marked rows and the column that marks them go in one transaction, so that no deleted row appears as existing. */
  async convert({ sqlName, form }: TableLayout, { kind }: FoundTable): Promise<void> {
    const rows = rowsOf(sqlName, kind);
    const statements =
      form.deletes === "soft"
        ? [`ALTER TABLE ${sqlName} ADD COLUMN ${DELETED_DEFINITION}`]
        : [
            // Locks before it removes rows, so that no reader sees a partial conversion.
            `LOCK TABLE ${sqlName} IN ACCESS EXCLUSIVE MODE`,
            `DELETE FROM ${rows} WHERE ${DELETED_COLUMN}`,
            `ALTER TABLE ${rows} DROP COLUMN ${DELETED_COLUMN}`,
          ];
    if (this.#isOpen) await this.#query(statements.join("; "));
    else await this.#parts.sink.change(this.#session, statements.join("; "), this.#signal);
  }

  async hide({ table, sqlName }: PostgresLayout, { columns, note }: Unhidden, below: bigint): Promise<void> {
    const kind = (await this.find([table])).get(this.key(table))?.kind;
    const sets = columns.map((name) => `${quoteIdentifier(name)} = NULL`);
    const where = `(${DELETED_COLUMN} OR ${VERSION_COLUMN} < ${below})${inScope(table)}`;
    const hide = `UPDATE ${rowsOf(sqlName, kind)} AS t SET ${sets.join(", ")} WHERE ${where}`;
    const { sink } = this.#parts;
    if (sets.length > 0) await sink.change(this.#session, hide, this.#signal);
    try {
      await sink.change(this.#session, commentSql(sqlName, note), this.#signal);
    } catch (error) {
      if (!NOT_THE_OWNER.test(stateOf(error) ?? "")) throw error;
      await this.#query("ROLLBACK");
    }
  }

  /** Everything in place: key, names and types, each where the rows let it; else without the rows, which are read again. */
  async change(change: TableChange<PostgresLayout, FoundTable>): Promise<readonly string[]> {
    const { layout, existing, columns, retired, isNewKey, drops } = change;
    const table = layout.sqlName;
    const rows = rowsOf(table, existing.kind);
    const former = formerOf(layout.owner, existing.note);
    // The note could not say that this sink has it now: the other one would not notice.
    if (former !== null && !existing.isOwned) throw notTakeable(layout.table.id, table, former);
    // Invariant: before this transaction locks anything of the target, so that a batch of the former owner can end.
    if (former !== null) await this.#query(displaceWriter(former));
    if (change.isAdopted) await this.#adopt(change);
    if (isNewKey && existing.primaryKey !== null) await this.#query(dropKey(table, existing.primaryKey));
    const moved = await this.#makeRoom(change);
    const statements = renamesOf(columns).map(({ from, to }) => rename(table, from, to));
    const added = columns.flatMap(({ from, wanted: { name } }, i) =>
      from === null ? [`ADD COLUMN ${quoteIdentifier(name)} ${layout.types[i]}`] : [],
    );
    if (added.length > 0) statements.push(`ALTER TABLE ${table} ${added.join(", ")}`);
    if (statements.length > 0) await this.#query(statements.join("; "));
    for (const [i, column] of columns.entries()) {
      if (column.isRetyped) await this.#retype(change, column, layout.types[i]!);
    }
    if (isNewKey) await this.#makeKey(layout, rows);
    const kept = [...moved];
    for (const column of retired) if (!drops || !(await this.#drop(rows, column))) kept.push(column);
    // If another role owns the table, names will decide next time.
    if (!change.isNoted) await attempt(this.#session, commentSql(table, change.note), this.#signal, NOT_THE_OWNER);
    failpoint("postgres-sink.table-made", layout.table);
    // A history keeps the old values of its columns.
    return layout.form.mode === "history" ? retired : kept;
  }

  /** The rows are not rewritten: the values of the added columns are in the catalogue. */
  async #adopt({ layout, existing, columns }: TableChange<PostgresLayout, FoundTable>): Promise<void> {
    const { sqlName, name, form, table } = layout;
    const [obstacle] = [
      ...shownColumns(name, existing, hiddenNames(table.ruled?.lineage ?? [])),
      ...(await adoptionObstacles(this.#session, name, this.columnNames(table), this.#signal)),
    ];
    if (obstacle !== undefined) throw fatal(REFUSED.adoption, obstacle.what, obstacle.fix);
    const added = [ADOPTED_VERSION, `ADD COLUMN ${COMMIT_TIME_COLUMN} timestamptz`];
    if (form.deletes === "soft") added.push(`ADD COLUMN ${DELETED_DEFINITION}`);
    // The source may allow nulls later, or drop the column.
    const free = columns.filter(({ from, isKey }) => from !== null && !isKey).map(({ wanted }) => wanted.name);
    const released = free
      .filter((column) => existing.primaryKey?.columns.includes(column) !== true)
      .map((column) => `ALTER COLUMN ${quoteIdentifier(column)} DROP NOT NULL`);
    const altered = [...released, `ALTER COLUMN ${VERSION_COLUMN} DROP DEFAULT`];
    const statements = [added, altered].map((changes) => `ALTER TABLE ${sqlName} ${changes.join(", ")}`);
    await this.#query(statements.join("; "));
  }

  /** Columns that the table lost release their names; returns their new names. A user's view may keep one that is to go. */
  async #makeRoom({
    layout,
    existing,
    replaced,
    drops,
  }: TableChange<PostgresLayout, FoundTable>): Promise<readonly string[]> {
    const moved: string[] = [];
    const rows = rowsOf(layout.sqlName, existing.kind);
    for (const { from, to } of replaced) {
      if (drops && (await this.#drop(rows, from))) continue;
      await this.#query(rename(layout.sqlName, from, to));
      moved.push(to);
    }
    return moved;
  }

  /** False if something depends on it. Tables that inherit from `rows` keep it. */
  async #drop(rows: string, column: string): Promise<boolean> {
    const sql = `ALTER TABLE ${rows} DROP COLUMN ${quoteIdentifier(column)}`;
    return await attempt(this.#session, sql, this.#signal, DEPENDED_ON);
  }

  /** Rows that do not fit the new key are removed: they are read again. */
  async #makeKey({ table, sqlName, wanted }: PostgresLayout, rows: string): Promise<void> {
    const key = table.key.map((i) => quoteIdentifier(wanted[i]!.name)).join(", ");
    const sql = `ALTER TABLE ${sqlName} ADD PRIMARY KEY (${key})`;
    if (!(await attempt(this.#session, sql, this.#signal))) await this.#query(`DELETE FROM ${rows}; ${sql}`);
  }

  /**
   * Keeps values that the new type accepts. Others are null until they are read again, and rows without key are removed; in a
   * history they stay in a separate column.
   */
  async #retype(
    { layout, existing }: TableChange<PostgresLayout, FoundTable>,
    { wanted, isKey }: ColumnChange,
    type: string,
  ): Promise<void> {
    const table = layout.sqlName;
    const column = quoteIdentifier(wanted.name);
    const to = (value: string): string => `ALTER TABLE ${table} ALTER COLUMN ${column} TYPE ${type} USING ${value}`;
    const cast = to(`${column}::text::${type}`);
    if (await attempt(this.#session, cast, this.#signal)) return;
    if (existing.hasHeirs) {
      const message = `column ${column} of ${table} can't become ${type}: tables that inherit from it would lose their values`;
      throw this.refusal({ kind: "type", message, table: layout.table, column: wanted });
    }
    if (layout.form.mode === "mirror") {
      await this.#query(isKey ? `DELETE FROM ${rowsOf(table, existing.kind)}; ${cast}` : to(`NULL::${type}`));
      return;
    }
    if (isKey) {
      const message = `the key column ${column} of ${table} can't become ${type}: its history has keys that are none of that type`;
      throw this.refusal({ kind: "key", message, table: layout.table });
    }
    const until = nameUntil(wanted.name, layout.table.version, new Set(existing.columns.keys()), fitted);
    await this.#query(`${rename(table, wanted.name, until)}; ALTER TABLE ${table} ADD COLUMN ${column} ${type}`);
  }

  prepared(layout: PostgresLayout, retired: readonly string[], existing: FoundTable | null): TargetTable {
    const { table, name, types, catalog, form } = layout;
    const forms = cellForms(table, catalog);
    return new TargetTable({
      version: table,
      name,
      ordinal: ordinals++,
      types,
      forms,
      retired,
      form,
      existing,
    });
  }

  async finish(made: readonly TargetTable[]): Promise<void> {
    const { presence } = this.#parts;
    const seen = await presence.see(this.#session, made, this.#signal);
    await this.#query("COMMIT");
    presence.add(seen);
  }

  /** A column that a user's view shows can't go. */
  async carriesRows(from: PostgresLayout, to: PostgresLayout, { kind }: FoundTable): Promise<boolean> {
    const gone = to.form.mode === "mirror" ? goneColumns(from.table, to.table) : [];
    if (gone.length === 0) return true;
    // Rolled back: it must leave nothing.
    await this.#query("BEGIN");
    let areFree = true;
    for (const { name } of gone) areFree &&= await this.#drop(rowsOf(to.sqlName, kind), fitted(name));
    await this.#query("ROLLBACK");
    return areFree;
  }

  refusal(refused: Refused): MillraceError {
    return refusalAt(this.key(refused.table), refused);
  }

  async #query(sql: string): ReturnType<Session["query"]> {
    return await this.#session.query(sql, this.#signal);
  }
}

/** `name`: the target's, quoted. */
export function refusalAt(name: string, { kind, message, column, hint: given }: Refused): MillraceError {
  const retype = column && `ALTER TABLE ${name} ALTER COLUMN ${quoteIdentifier(column.name)} TYPE ${column.type}`;
  const again = "or drop the table and fill it again with `millrace snapshot start`.";
  const hint = retype === undefined ? given : `${retype}; ${again}`;
  return fatal(REFUSED[kind], message, hint);
}

const TIMES = /^time(?:stamp)?\(6\) with(?:out)? time zone$/;
/** Its rows are below everything that is written. Without the default other programs can't insert any. */
const ADOPTED_VERSION = `ADD COLUMN ${VERSION_COLUMN} bigint NOT NULL DEFAULT 0`;
const DELETED_DEFINITION = `${DELETED_COLUMN} boolean NOT NULL DEFAULT false`;
const NOT_THE_OWNER = /^42501$/;
const DEPENDED_ON = /^2BP01$/;
/** SQLSTATE classes 22 and 23: data, and violated constraints; 42846: there is no such cast. */
const FOR_ITS_ROWS = /^(22|23)|^42846$/;

/** False if the server refuses the statement with one of these states: then it did nothing. */
export async function attempt(
  session: Session,
  sql: string,
  signal: AbortSignal,
  refusals = FOR_ITS_ROWS,
): Promise<boolean> {
  await session.query("SAVEPOINT millrace_follow", signal);
  try {
    await session.query(sql, signal);
  } catch (error) {
    const state = stateOf(error);
    if (state === undefined || !refusals.test(state)) throw error;
    await session.query("ROLLBACK TO SAVEPOINT millrace_follow", signal);
    return false;
  }
  return true;
}

function rename(table: string, from: string, to: string): string {
  return `ALTER TABLE ${table} RENAME COLUMN ${quoteIdentifier(from)} TO ${quoteIdentifier(to)}`;
}

function dropKey(table: string, { name, columns }: NonNullable<FoundTable["primaryKey"]>): string {
  const free = columns.map((column) => `ALTER COLUMN ${quoteIdentifier(column)} DROP NOT NULL`);
  return `ALTER TABLE ${table} ${[`DROP CONSTRAINT ${quoteIdentifier(name)}`, ...free].join(", ")}`;
}

export function commentSql(table: string, note: string): string {
  return `COMMENT ON TABLE ${table} IS ${quoteLiteral(note)}`;
}

/** A history's key: the newest change of a key comes first. */
function createStatements({ table, sqlName, types, form }: PostgresLayout): readonly string[] {
  const isHistory = form.mode === "history";
  const columns = table.columns.map(({ name }, i) => {
    const notNull = table.key.includes(i) && !isHistory ? " NOT NULL" : "";
    return `${quoteIdentifier(fitted(name))} ${types[i]}${notNull}`;
  });
  const key = table.key.map((i) => quoteIdentifier(fitted(table.columns[i]!.name))).join(", ");
  if (form.deletes === "soft" && !isHistory) columns.push(DELETED_DEFINITION);
  columns.push(`${VERSION_COLUMN} bigint NOT NULL`, `${COMMIT_TIME_COLUMN} timestamptz`);
  columns.push(...(isHistory ? HISTORY_COLUMNS : [`PRIMARY KEY (${key})`]));
  const create = `CREATE TABLE ${sqlName} (${columns.join(", ")})`;
  if (!isHistory) return [create];
  return [create, `CREATE UNIQUE INDEX ON ${sqlName} (${key}, ${VERSION_COLUMN} DESC, ${OFFSET_COLUMN} DESC)`];
}
