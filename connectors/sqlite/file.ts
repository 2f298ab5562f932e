/**
 * An open SQLite file, for one sink.
 *
 *     BEGIN IMMEDIATE ──► slices of rows, other work of the process in between ──► COMMIT ──► fdatasync of the log ──► durable
 *                                                                                    │
 *                                            a thread copies the log into the file ◄─┘
 *
 * SQLite's calls are synchronous, so whatever waits for a disk or a lock would hold up all sinks:
 * - With `synchronous = NORMAL` COMMIT writes into the log (WAL) and syncs nothing. `transaction` syncs the log by itself, in
 *   a thread of Node's, and resolves afterwards: what `synchronous = FULL` promises, without its wait in the event loop.
 * - `busy_timeout` sleeps in the calling thread. It is 0, and BEGIN IMMEDIATE is tried again by a timer.
 * - A checkpoint (the log's pages go into the file, both are synced) belongs to a thread (`FileThread`), and so does what one
 *   call does with a whole table.
 */
import { existsSync, statSync, truncateSync } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import {
  DatabaseSync,
  type FunctionOptions,
  type SQLInputValue,
  type SQLOutputValue,
  type StatementSync,
} from "node:sqlite";
import { setTimeout as sleep } from "node:timers/promises";
import { failpoint } from "../../src/core/failpoint.ts";
import { damaged, fileGone, isBusy, notOurs, sqliteError, stopped } from "./errors.ts";
import { inodeOf } from "../../src/core/files.ts";
import { FilePlace, resolved, stampOf } from "../kit/file-target.ts";
import { FileThread } from "./file-thread.ts";

/** "Mill": marks a file that this sink made. SQLite keeps the number in the file's header. */
export const APPLICATION_ID = 0x4d69_6c6c;
/** How long another writer may hold the file. */
export const BUSY_MS = 5_000;
const BUSY_PAUSE_MS = 10;
/** Of this connection. COMMIT writes the changed pages that it holds in one call; with more of them rows wait for no disk either. */
const CACHE_KIB = 4 * 1024;
/** The log's file shrinks to this when it starts again. */
const LOG_BYTES_KEPT = 64 * 1024 * 1024;
/** Statements of tables that are not written any more go with the others. */
const STATEMENTS_MAX = 1_000;

type SqlFunction = (...values: SQLOutputValue[]) => SQLInputValue;

/** A connection, as far as functions are made known to it. */
export interface Functions {
  function(name: string, options: FunctionOptions, of: SqlFunction): void;
}

export class SqliteFile implements Functions {
  readonly path: string;
  readonly #database: DatabaseSync;
  readonly #place: FilePlace;
  readonly #statements = new Map<string, StatementSync>();
  readonly #queries = new Map<string, StatementSync>();
  readonly #thread: FileThread;
  #logHandle: FileHandle | null = null;
  #logInode = "";
  #logPages = 0;
  #indexBytes = 0;
  #isIndexCut = false;

  private constructor(path: string, database: DatabaseSync) {
    this.path = path;
    this.#database = database;
    this.#place = new FilePlace(path);
    this.#thread = new FileThread(path);
  }

  /** Makes the file if it is missing. Refuses one with tables that we did not make. */
  static async open(given: string, signal: AbortSignal): Promise<SqliteFile> {
    const path = await resolved(given, "SQLite file", sqliteError);
    return await unlessBusy(signal, () => {
      const database = new DatabaseSync(path, { timeout: 0, enableForeignKeyConstraints: false });
      try {
        expectOurs(database, path);
        database.exec(
          `PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 0; ` +
            `PRAGMA journal_size_limit = ${LOG_BYTES_KEPT}; PRAGMA cache_size = -${CACHE_KIB}; ` +
            // What a mask hides later leaves no bytes.
            "PRAGMA secure_delete = ON",
        );
        return new SqliteFile(path, database);
      } catch (error) {
        database.close();
        throw error;
      }
    });
  }

  /** Makes a function known to the statements of this connection. */
  function(name: string, options: FunctionOptions, of: SqlFunction): void {
    this.#database.function(name, options, of);
  }

  exec(sql: string): void {
    this.#database.exec(sql);
  }

  /** How many rows it changed. */
  run(sql: string, ...values: readonly SQLInputValue[]): number {
    const statement = known(this.#statements, sql, () => this.#database.prepare(sql));
    return Number(statement.run(...values).changes);
  }

  /** Integers are bigints. */
  rows(sql: string, ...values: readonly SQLInputValue[]): readonly (readonly SQLOutputValue[])[] {
    return rowsBy(
      known(this.#queries, sql, () => prepareQuery(this.#database, sql)),
      ...values,
    );
  }

  /** Another one after another connection has written. */
  get version(): SQLOutputValue | undefined {
    return this.rows("PRAGMA data_version")[0]?.[0];
  }

  /** Another text after that, or when something else has written into the file. */
  get writings(): string {
    return `${String(this.version)} ${stampOf(this.path)} ${statSync(this.path, { bigint: true }).mtimeNs}`;
  }

  get isInTransaction(): boolean {
    return this.#database.isTransaction;
  }

  /** Durable when it resolves. `begin` is the first of its work: nothing else runs before it. */
  async transaction<T>(signal: AbortSignal, begin: () => void, work: () => T | Promise<T>): Promise<T> {
    this.verifyPlace();
    await this.#thread.makeRoom(this.#logPages);
    // Invariant: rows that go into a file without a name do not count as durable.
    this.verifyPlace();
    await unlessBusy(signal, () => this.exec("BEGIN IMMEDIATE"));
    let result: T;
    try {
      begin();
      result = await work();
      this.exec("COMMIT");
    } catch (error) {
      // SQLite rolls back by itself after some errors (disk full, I/O).
      if (this.#database.isTransaction) this.exec("ROLLBACK");
      throw error;
    }
    failpoint("sqlite.committed");
    if (this.#logHandle === null) {
      this.#logHandle = await open(this.#log, "r+");
      this.#logInode = inodeOf(this.#log);
    }
    await this.#logHandle.datasync();
    this.verifyPlace();
    this.#seeLog();
    return result;
  }

  /** Runs a statement that takes long, as a transaction of its own, while other work of the process goes on. */
  async runBeside(signal: AbortSignal, sql: string): Promise<void> {
    await unlessBusy(signal, () => this.#thread.run(sql));
    this.#seeLog();
  }

  #seeLog(): void {
    this.#logPages = this.#countLog();
    this.#thread.grew(this.#logPages);
  }

  /** Pages in the log; an older SQLite, which knows no NOOP, copies them here. */
  #countLog(): number {
    const [row] = this.rows("PRAGMA wal_checkpoint(NOOP)");
    return Number(row?.[1] ?? 0);
  }

  get #log(): string {
    return `${this.path}-wal`;
  }

  /** Reads the whole file. */
  expectWhole(): void {
    const [[answer] = []] = this.rows("PRAGMA quick_check(1)");
    if (answer !== "ok") throw damaged(this.path, "looking through it");
  }

  /** Throws if the file that we write, or its log, is no longer the one under its name. */
  verifyPlace(): void {
    if (!this.isInPlace) throw fileGone(this.path);
  }

  get isInPlace(): boolean {
    this.#keepIndexMapped();
    if (this.#isIndexCut || !this.#place.isKept()) return false;
    return this.#logHandle === null || inodeOf(this.#log) === this.#logInode;
  }

  /**
   * SQLite maps the index of the log (`-shm`). Where somebody has cut it, the next look behind its end would end the process by a
   * signal (SIGBUS), and all sinks with it. With its size back SQLite sees that it is void, and makes it again from the log.
   */
  #keepIndexMapped(): void {
    const path = `${this.path}-shm`;
    const byteCount = statSync(path, { throwIfNoEntry: false })?.size ?? this.#indexBytes;
    if (byteCount < this.#indexBytes) {
      truncateSync(path, this.#indexBytes);
      this.#isIndexCut = true;
    } else this.#indexBytes = byteCount;
  }

  /** If nobody else has the file open, SQLite copies the log into it and removes the log. It leaves another file's log alone. */
  async close(): Promise<void> {
    await this.#thread.end();
    this.#statements.clear();
    this.#queries.clear();
    await this.#logHandle?.close();
    if (this.#database.isOpen) this.#database.close();
  }
}

/** Another connection beside the writer's, for looking only. */
export function openForReading(path: string): DatabaseSync {
  return new DatabaseSync(path, { readOnly: true, timeout: 0 });
}

/** Null: there is no file, or none of ours. */
export function openExisting(path: string): DatabaseSync | null {
  if (!existsSync(path)) return null;
  const database = openForReading(path);
  if (applicationOf(database) === APPLICATION_ID) return database;
  database.close();
  return null;
}

export function rowsOf(
  database: DatabaseSync,
  sql: string,
  ...values: readonly SQLInputValue[]
): readonly (readonly SQLOutputValue[])[] {
  return rowsBy(prepareQuery(database, sql), ...values);
}

/** Integers are bigints. */
export function prepareQuery(database: DatabaseSync, sql: string): StatementSync {
  const statement = database.prepare(sql);
  statement.setReadBigInts(true);
  statement.setReturnArrays(true);
  return statement;
}

/** Of a statement from `prepareQuery`. */
export function rowsBy(
  statement: StatementSync,
  ...values: readonly SQLInputValue[]
): readonly (readonly SQLOutputValue[])[] {
  // They are arrays, and the driver's types tell of objects only.
  return statement.all(...values).map((row) => Object.values(row));
}

function known(statements: Map<string, StatementSync>, sql: string, prepare: () => StatementSync): StatementSync {
  let statement = statements.get(sql);
  if (statement === undefined) {
    if (statements.size >= STATEMENTS_MAX) statements.clear();
    statements.set(sql, (statement = prepare()));
  }
  return statement;
}

function applicationOf(database: DatabaseSync): number {
  return Number(database.prepare("PRAGMA application_id").get()?.["application_id"]);
}

function expectOurs(database: DatabaseSync, path: string): void {
  if (applicationOf(database) === APPLICATION_ID) return;
  const isEmpty = database.prepare("SELECT 1 FROM sqlite_schema LIMIT 1").get() === undefined;
  if (!isEmpty || applicationOf(database) !== 0) throw notOurs(path);
  database.exec(`PRAGMA application_id = ${APPLICATION_ID}`);
}

/** Tries again while another connection has the lock, without holding up this process. */
export async function unlessBusy<T>(signal: AbortSignal, work: () => T | Promise<T>): Promise<T> {
  const until = performance.now() + BUSY_MS;
  for (;;) {
    if (signal.aborted) throw stopped();
    try {
      return await work();
    } catch (error) {
      if (!isBusy(error) || performance.now() > until) throw error;
    }
    await sleep(BUSY_PAUSE_MS);
  }
}
