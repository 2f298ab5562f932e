/**
 * The application's SQLite file, and what capture adds to it:
 *
 *   millrace_log     every change of a captured table, written by triggers in the application's own transactions
 *   millrace_shape   the columns of a table, as its triggers know them
 *   millrace_meta    which log this is, and from which change on it is kept
 *
 * SQLite has one writer at a time, so the changes of a transaction lie together. But no trigger sees a commit: only a mark,
 * which is written by a transaction of its own, shows that every transaction before it is whole. So a stream reads up to a
 * mark, and writes one where there is none. All changes between two marks count as one transaction.
 */
import { existsSync } from "node:fs";
import { DatabaseSync, type SQLInputValue } from "node:sqlite";
import type { TableSelection } from "../../src/core/table-selection.ts";
import { classify, sqliteError } from "./errors.ts";

export interface SqliteSettings {
  readonly path: string;
  readonly selection: TableSelection;
}

export type SqlRow = Readonly<Record<string, unknown>>;

const BUSY_MS_MAX = 5_000;
const TABLES = `
  CREATE TABLE IF NOT EXISTS millrace_log (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at_us INTEGER NOT NULL, op TEXT NOT NULL, shape INTEGER, old TEXT, new TEXT
  ) STRICT;
  CREATE INDEX IF NOT EXISTS millrace_log_marks ON millrace_log (id) WHERE op = 'm';
  CREATE TABLE IF NOT EXISTS millrace_shape (
    id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, definition TEXT NOT NULL
  ) STRICT;
  CREATE TABLE IF NOT EXISTS millrace_meta (id TEXT NOT NULL, kept_from INTEGER NOT NULL) STRICT;
  INSERT INTO millrace_meta SELECT hex(randomblob(16)), 1 WHERE NOT EXISTS (SELECT 1 FROM millrace_meta);`;
export const NOW_US = "CAST(unixepoch('subsec') * 1000000 AS INTEGER)";

/** One connection. Its calls are synchronous, so nothing else in this process runs in between. */
export class Database implements Disposable {
  readonly #connection: DatabaseSync;

  constructor(path: string, readOnly = false) {
    try {
      // SQLite would make a missing file.
      if (!existsSync(path)) throw sqliteError("MR3203", "blocked", `${path} is missing`);
      this.#connection = new DatabaseSync(path, { readOnly, timeout: BUSY_MS_MAX });
      const [mode] = this.rows("PRAGMA journal_mode");
      if (mode?.["journal_mode"] !== "wal")
        throw sqliteError("MR2005", "blocked", `${path} is in journal mode ${String(mode?.["journal_mode"])}`);
    } catch (error) {
      throw classify(error, `opening ${path}`);
    }
  }

  rows(sql: string, ...values: readonly SQLInputValue[]): readonly SqlRow[] {
    const statement = this.#connection.prepare(sql);
    statement.setReadBigInts(true);
    return statement.all(...values);
  }

  /** In one transaction, which other writers wait for. */
  write<T>(doing: string, work: () => T): T {
    return this.#within("BEGIN IMMEDIATE", doing, work);
  }

  /** All reads see the same moment. */
  read<T>(doing: string, work: () => T): T {
    return this.#within("BEGIN", doing, work);
  }

  /** A transaction that reads the file as it is now, until the connection is closed. */
  stayAtThisMoment(): void {
    this.#connection.exec("BEGIN");
    this.rows("SELECT count(*) FROM sqlite_schema");
  }

  execute(sql: string): void {
    this.#connection.exec(sql);
  }

  addTables(): void {
    this.execute(TABLES);
  }

  /** Whether capture has added its tables. */
  get hasLog(): boolean {
    return this.rows("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'millrace_meta'").length > 0;
  }

  meta(): { readonly id: string; readonly keptFrom: bigint } {
    const [row] = this.hasLog ? this.rows("SELECT id, kept_from FROM millrace_meta") : [];
    if (row === undefined) throw sqliteError("MR2013", "fatal", "the file has no log of ours");
    return { id: String(row["id"]), keptFrom: bigint(row["kept_from"]) };
  }

  /** After the last change or mark. */
  tip(): bigint {
    const [row] = this.rows("SELECT seq FROM sqlite_sequence WHERE name = 'millrace_log'");
    return bigint(row?.["seq"] ?? 0n) + 1n;
  }

  /** Returns its position. Only inside `write`: then every transaction before it is whole. */
  mark(content: string): bigint {
    const [row] = this.rows(
      `INSERT INTO millrace_log (at_us, op, new) VALUES (${NOW_US}, 'm', ?) RETURNING id`,
      content,
    );
    return bigint(row?.["id"]);
  }

  [Symbol.dispose](): void {
    if (this.#connection.isOpen) this.#connection.close();
  }

  #within<T>(begin: string, doing: string, work: () => T): T {
    try {
      this.#connection.exec(begin);
      try {
        const result = work();
        this.#connection.exec("COMMIT");
        return result;
      } finally {
        if (this.#connection.isTransaction) this.#connection.exec("ROLLBACK");
      }
    } catch (error) {
      throw classify(error, doing);
    }
  }
}

/** An INTEGER as `rows` returns it. */
export function bigint(value: unknown): bigint {
  return BigInt(String(value));
}

export function quoteName(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

export function quoteText(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}
