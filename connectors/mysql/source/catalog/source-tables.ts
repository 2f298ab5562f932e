/** Which of the catalogue's tables are captured, and why others can't be, or are not seen. */
import type { Logger } from "../../../../src/core/contracts/telemetry.ts";
import type { TableName } from "../../../../src/core/contracts/connector.ts";
import type { CapturedTables, NamedTable, RefusedTable, TableShape } from "../../../../src/core/contracts/catalog.ts";
import { tableId } from "../../../../src/core/model/schema.ts";
import { copyRefusal } from "../../../kit/online-copies.ts";
import { quoteName, quoteTable } from "../../quote.ts";
import { type CatalogTable, CatalogReader, hasOldFraction } from "./catalog.ts";
import { sourceError, errorNumber } from "../errors.ts";
import { findKey, type FoundKey, catalogShape, type TableRules, unloggedColumns } from "./shapes.ts";
import { type Described, described, LoggedShapes } from "./logged-shapes.ts";
import { findMillraceError, type MillraceError } from "../../../../src/core/errors.ts";
import type { TableNames } from "./table-names.ts";
import type { LogFiles } from "../wire/log-files.ts";
import type { Server } from "../wire/server.ts";
import { Programs } from "../statements/programs.ts";

const NO_ROWS = new Set(["VIEW", "SYSTEM VIEW", "SEQUENCE", "TEMPORARY", "LOCAL TEMPORARY"]);

interface Refusal {
  readonly reason: string;
  readonly fix: string;
  readonly fixWith?: RefusedTable["fixWith"];
  readonly chosenKey?: "unknown" | "unfit";
}

interface SelectedTables extends CapturedTables {
  readonly missing: readonly string[];
  /** Why the log leaves out databases with tables that are to be captured; a sentence for each database. */
  readonly unlogged: readonly string[];
  /** Tables with the generated columns that the log leaves out: `shop.orders (total)`. */
  readonly uncarried: readonly string[];
  /** By table id, when it was last altered. */
  readonly altered: ReadonlyMap<string, string>;
  /** By table id, even if another shape than the catalogue's is followed. */
  readonly described: ReadonlyMap<string, Described>;
}

/** Engines whose tables change only by rows that this server logs; those of others lie elsewhere, or are not kept. */
const ENGINES = new Set(["innodb", "myisam", "aria", "memory", "archive", "csv", "rocksdb", "tokudb", "mroonga"]);

/** What the configuration says about tables, and how often dates that do not exist were met since the start. */
export interface SourceRules extends TableRules {
  readonly metZeroDates: { count: number };
}

/** The tables of the source: which are captured, with what shapes, and what is known of their changes. */
export class SourceTables {
  readonly names: TableNames;
  readonly rules: SourceRules;
  readonly catalog: CatalogReader;
  readonly shapes: LoggedShapes;
  readonly alterations = new Alterations();
  readonly programs: Programs;
  readonly logger: Logger;
  readonly #server: Server;
  readonly #log: Pick<LogFiles, "filter">;
  /** Ids of tables that the server has said not to have. */
  readonly #dropped = new Set<string>();

  constructor(server: Server, log: Pick<LogFiles, "filter">, names: TableNames, rules: SourceRules, logger: Logger) {
    this.#server = server;
    this.#log = log;
    this.names = names;
    this.logger = logger;
    this.rules = rules;
    this.catalog = new CatalogReader(server);
    this.shapes = new LoggedShapes(logger);
    this.programs = new Programs(server);
  }

  /**
   * With `strict`, as at a start, a table that is named literally and can't be captured is an error, and so is one that the
   * server does not log. While the daemon runs it is refused like others, so that one table does not stop all. `known`: see
   * `Catalog`.
   */
  async select(strict: boolean, signal: AbortSignal, known: readonly NamedTable[] = []): Promise<SelectedTables> {
    const filter = await this.#log.filter(signal);
    const catalog = await this.catalog.read(null, signal);
    this.names.learn(catalog);
    const tables: TableShape[] = [];
    const refused: CapturedTables["refused"][number][] = [];
    const generations = new Map<string, string>();
    const told = new Map<string, Described>();
    const altered = new Map<string, string>();
    const rowful = catalog.filter(({ type }) => !NO_ROWS.has(type));
    const names = Map.groupBy([...rowful, ...known], ({ schema }) => schema);
    const unlogged = new Map<string, string>();
    const uncarried: string[] = [];
    const unread: CatalogTable[] = [];
    for (const table of catalog) {
      if (!this.names.captures(table)) continue;
      const isLiteral = this.names.isLiteral(table);
      if (NO_ROWS.has(table.type) && !isLiteral) continue;
      const copy = isLiteral ? null : copyRefusal(table, namesIn(names.get(table.schema)));
      if (copy !== null) {
        refused.push({ id: tableId(table.schema, table.table), ...copy, isCopy: true });
        continue;
      }
      if (!table.isReadable && !NO_ROWS.has(table.type)) {
        unread.push(table);
        continue;
      }
      const zeroDates = this.rules.zeroDates(table);
      const said = catalogShape(table, this.rules);
      const shape = said === undefined ? undefined : this.shapes.of(table, said);
      if (said !== undefined) told.set(said.id, described(table, said));
      const setting = filter.excludes(table.schema);
      const left = setting === undefined ? undefined : `the log leaves out the database ${table.schema} (${setting})`;
      if (left !== undefined) unlogged.set(table.schema, left);
      const refusal =
        left === undefined
          ? refusalOf(table, shape, findKey(table, this.rules.chosenKey(table)))
          : { reason: left, fix: LOG_FIX };
      if (shape !== undefined && refusal === undefined) {
        tables.push(shape);
        const computed = unloggedColumns(table).map(({ name }) => name);
        if (computed.length > 0) uncarried.push(`${shape.id} (${computed.join(", ")})`);
        // With another choice the table has other rows. Statements that the log leaves out may have altered it.
        const marks = [...(zeroDates === "null" ? [] : [zeroDates]), ...(filter.isSet ? [table.altered] : [])];
        altered.set(shape.id, table.altered.replace("~", ""));
        generations.set(shape.id, [table.generation, ...marks].join(" "));
        continue;
      }
      const { reason, fix, fixWith, chosenKey }: Refusal = refusal ?? NO_KEY;
      if (strict && left !== undefined) throw sourceError("MR2005", "fatal", left, { hint: fix });
      if (isLiteral && strict)
        throw sourceError("MR2020", "fatal", `${table.schema}.${table.table} can't be captured: ${reason}`, {
          hint: fix,
        });
      const id = tableId(table.schema, table.table);
      const more = {
        ...(fixWith && { fixWith }),
        ...(chosenKey && { chosenKey }),
        ...(shape && { readable: shape }),
      };
      refused.push({ id, reason, fix, ...more });
    }
    const shown = new Set(catalog.map(({ schema, table }) => tableId(schema, table)));
    const hidden = await this.#hidden(known, shown, signal);
    for (const refusal of [
      ...(await this.#unread(hidden, "the user may not read it", signal)),
      ...(await this.#unread(unread, "the user may not read all of its columns", signal)),
    ]) {
      if (strict && this.names.literals.includes(refusal.id))
        throw sourceError("MR2020", "fatal", `${refusal.id} can't be captured: ${refusal.reason}`, {
          hint: refusal.fix,
        });
      refused.push(refusal);
    }
    const named = new Set(catalog.map(({ schema, table }) => `${schema}.${table}`));
    const missing = this.names.literals.filter((literal) => !named.has(literal));
    if (strict && missing[0] !== undefined)
      throw sourceError("MR2020", "fatal", `the table ${missing[0]} does not exist, or the user may not read it`, {
        hint: "Correct its name in `tables` (database.table), create it first, or GRANT SELECT on it.",
      });
    return {
      tables,
      refused,
      generations,
      missing,
      idle: this.names.idle(catalog),
      described: told,
      altered,
      unlogged: [...unlogged.values()],
      uncarried,
    };
  }

  /** Whether a table that was never followed stays left out. */
  isLeftOut(table: CatalogTable): boolean {
    if (!table.isReadable) return true;
    const shape = catalogShape(table, this.rules);
    return refusalOf(table, shape, findKey(table, this.rules.chosenKey(table))) !== undefined;
  }

  /**
   * The shape to follow for a table of the catalogue: the log's shape, if the two are known to differ. Undefined also for one
   * of which the user may not see all.
   */
  followedShape(table: CatalogTable): TableShape | undefined {
    if (!table.isReadable) return undefined;
    const shape = catalogShape(table, this.rules);
    return shape === undefined ? undefined : this.shapes.of(table, shape);
  }

  /** The log has rows of the table. */
  met(id: string): void {
    this.#dropped.delete(id);
  }

  /** A statement that creates, alters or drops something is at this position. */
  defined(position: bigint): void {
    this.shapes.defined(position);
    this.alterations.defined(position);
    this.programs.forget();
  }

  /** Another log begins, with other positions. */
  begin(): void {
    this.shapes.begin();
    this.alterations.begin();
  }

  /**
   * Those of the known tables that are not shown because the user may not read them any more. The server checks the privilege
   * first, so it denies a table also if it was dropped after that; one that it said not to have is not asked for again until
   * it is shown, or the log has rows of it.
   */
  async #hidden(
    known: readonly NamedTable[],
    shown: ReadonlySet<string>,
    signal: AbortSignal,
  ): Promise<readonly TableName[]> {
    const hidden: NamedTable[] = [];
    for (const table of known) {
      if (shown.has(table.id)) this.#dropped.delete(table.id);
      else if (this.names.captures(table) && !this.#dropped.has(table.id)) {
        const refusal = await this.#refusal(table, signal);
        if (refusal?.reason === "privilege") hidden.push(table);
        else if (NOT_THERE.has(errorNumber(refusal?.cause) ?? 0)) this.#dropped.add(table.id);
      }
    }
    return hidden;
  }

  async #unread(tables: readonly TableName[], reason: string, signal: AbortSignal): Promise<readonly RefusedTable[]> {
    if (tables.length === 0) return [];
    const user = await this.#server.currentUser(signal);
    return tables.map(({ schema, table }) => ({
      id: tableId(schema, table),
      reason,
      fix: `GRANT SELECT ON ${quoteTable(schema, table)} TO ${user};`,
      byPrivilege: true,
    }));
  }

  /** The server's answer to a SELECT; null: it lets us read the table, which is just being created or altered. */
  async #refusal({ schema, table }: NamedTable, signal: AbortSignal): Promise<MillraceError | null> {
    try {
      await this.#server.rows("looking for a table", `SELECT 1 FROM ${quoteTable(schema, table)} LIMIT 0`, signal);
      return null;
    } catch (error) {
      const known = findMillraceError(error);
      if (errorNumber(known?.cause) === undefined) throw error;
      return known!;
    }
  }
}

/** Unknown database, no such table. */
const NOT_THERE = new Set([1049, 1146]);

function* namesIn(tables: readonly TableName[] = []): Generator<string> {
  for (const { table } of tables) yield table;
}

export const LOG_FIX =
  "Take binlog-do-db and binlog-ignore-db out of the server's configuration and restart it, or leave the database out of `tables`.";
const NO_KEY: Refusal = { reason: "it has no usable key", fix: "Give it a primary key." };

/** `former`: the columns of a key that the table had. */
function keyFix({ columns, nullableUnique }: CatalogTable, name: string, former: readonly string[] = []): string {
  if (former.length > 0 && former.every((column) => columns.some((one) => one.name === column)))
    return `ALTER TABLE ${name} ADD PRIMARY KEY (${former.map(quoteName).join(", ")});`;
  if (nullableUnique === undefined)
    return `ALTER TABLE ${name} ADD PRIMARY KEY (…), or a unique index over NOT NULL columns.`;
  const nullable = columns.filter((column) => column.nullable && nullableUnique.columns.includes(column.name));
  const changes = nullable.map((column) => `MODIFY ${quoteName(column.name)} ${column.columnType} NOT NULL`);
  return `ALTER TABLE ${name} ${changes.join(", ")}; makes its unique index ${quoteName(nullableUnique.name)} a key, or ADD PRIMARY KEY (…).`;
}

function refusalOf(table: CatalogTable, shape: TableShape | undefined, key: FoundKey): Refusal | undefined {
  const name = quoteTable(table.schema, table.table);
  if (NO_ROWS.has(table.type))
    return {
      reason: "it is no base table, and what it shows is not in the log",
      fix: "Capture the tables beneath it.",
    };
  if (table.engine !== "" && !ENGINES.has(table.engine.toLowerCase()))
    return {
      reason: `the log does not show how rows of the engine ${table.engine} change`,
      fix: "Leave it out of `tables`.",
    };
  if (table.history?.isPrecise === true)
    return {
      reason: "it has a transaction-precise history, so that its changes are logged as statements",
      fix: "Leave it out of `tables`, or let its history have times: columns of type TIMESTAMP(6) AS ROW START and AS ROW END.",
    };
  const old = table.columns.find(hasOldFraction);
  if (old !== undefined)
    return {
      reason: `its column ${old.name} has fractions of seconds in the format of before MariaDB 10.1, of which the log does not tell`,
      fix: `SET GLOBAL mysql56_temporal_format = ON; ALTER TABLE ${name} FORCE;`,
    };
  if (key.kind === "unknown" || key.kind === "unfit") return { ...key, chosenKey: key.kind };
  if (shape === undefined) {
    const fixWith = (former: readonly string[]) => keyFix(table, name, former);
    return { reason: NO_KEY.reason, fix: keyFix(table, name), fixWith };
  }
  const reserved = shape.columns.find((column) => column.name.startsWith("_millrace_"));
  if (reserved !== undefined)
    return {
      reason: `its column ${reserved.name} has a name that Millrace reserves`,
      fix: "Rename the column.",
    };
  return undefined;
}

/**
 * Tables that were changed without a statement in the log (`sql_log_bin = 0`). The catalogue shows when a table was last
 * altered, and the log every statement that was logged. Where other tables are altered at the same time, it stays unknown.
 *
 * - Shape and number are as before: a column was dropped and made again, or is computed in another way.
 * - Made again, or emptied: such a session fills it, too, and no row of that is in the log (a dump of MySQL with GTIDs is
 *   such a session). The table has another generation until nobody writes to it, so that it is read after that, too.
 */
interface Look {
  /** The end of the log before it. */
  readonly before: bigint;
  readonly tables: ReadonlyMap<string, TableState>;
  /** Those of the tables that were being filled to which somebody has written, but not just now. */
  readonly filled: Iterable<string>;
}

interface TableState {
  readonly generation: string;
  /** When it was last altered, in seconds. */
  readonly altered: string;
}

interface Doubt {
  readonly altered: string;
  /** It has another number than before, or was not there. */
  readonly isMade: boolean;
  /** Where the statement is in the log, if it was logged. */
  readonly from: bigint;
  readonly to: bigint;
}

export class Alterations {
  /** The last two. */
  #looks: readonly Look[] = [];
  readonly #doubts = new Map<string, Doubt>();
  /** When tables were last altered without a statement. */
  readonly #unlogged = new Map<string, string>();
  readonly #filling = new Set<string>();
  #isLoaded = false;
  /** The position of the last statement that may have changed a table. */
  #definedAt = -1n;
  /** Those of the last TRUNCATE of a table. */
  readonly #truncatedAt = new Map<string, bigint>();

  /** Tables that were made again or emptied without a statement, and may be being filled. */
  get filling(): ReadonlySet<string> {
    return this.#filling;
  }

  /** Loads what is stored with the log's identity: a session that fills a table goes on while no daemon runs. */
  load(text: string | undefined): void {
    if (text === undefined || this.#isLoaded) return;
    this.#isLoaded = true;
    // Our own text.
    const stored: string[] = JSON.parse(text);
    for (const id of stored) this.#filling.add(id);
  }

  get text(): string {
    return JSON.stringify([...this.#filling].toSorted());
  }

  /** Another log begins, with other positions. */
  begin(): void {
    this.#looks = [];
    this.#doubts.clear();
    this.#truncatedAt.clear();
    this.#definedAt = -1n;
  }

  defined(position: bigint): void {
    if (position > this.#definedAt) this.#definedAt = position;
  }

  /** Streams that are further behind tell of statements that others passed. */
  truncated(id: string, position: bigint): void {
    if (position > (this.#truncatedAt.get(id) ?? -1n)) this.#truncatedAt.set(id, position);
  }

  /** `reached`: the stream's position. Returns the tables' generations. */
  looked(look: Look, after: bigint, reached: bigint): ReadonlyMap<string, string> {
    for (const id of look.filled) this.#filling.delete(id);
    for (const id of this.#filling) if (!look.tables.has(id)) this.#filling.delete(id);
    const [older, last] = this.#looks;
    // A statement is in the log before its change is in the catalogue, so it may lie before the last look.
    if (older !== undefined && last !== undefined)
      for (const [id, { altered, generation }] of look.tables) {
        const before = last.tables.get(id);
        const isMade = before?.generation !== generation;
        if (isMade || before.altered !== altered)
          this.#doubts.set(id, { altered, isMade, from: older.before, to: after });
      }
    for (const [id, { altered, isMade, from, to }] of this.#doubts) {
      if (reached < to) continue;
      this.#doubts.delete(id);
      if (this.#definedAt >= from || (this.#truncatedAt.get(id) ?? -1n) >= from) continue;
      if (isMade) this.#filling.add(id);
      else this.#unlogged.set(id, altered);
    }
    this.#looks = [...this.#looks.slice(-1), look];
    this.#forget();
    return new Map(Array.from(look.tables, ([id, { generation }]) => [id, this.#marked(id, generation)]));
  }

  /** Statements before all that a doubt may still be about. */
  #forget(): void {
    const from = [this.#looks[0]!.before, ...Array.from(this.#doubts.values(), (doubt) => doubt.from)];
    const lowest = from.reduce((least, one) => (one < least ? one : least));
    for (const [id, position] of this.#truncatedAt) if (position < lowest) this.#truncatedAt.delete(id);
  }

  #marked(id: string, generation: string): string {
    if (this.#filling.has(id)) return `${generation} filling`;
    const altered = this.#unlogged.get(id);
    return altered === undefined ? generation : `${generation} ${altered}`;
  }
}
