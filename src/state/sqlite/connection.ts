import type { DatabaseSync, SQLInputValue, StatementSync } from "node:sqlite";
import type { Clock } from "../../core/clock.ts";
import type { StateDump } from "../../core/contracts/state-store.ts";
import { stateError } from "../errors.ts";
import { dumpOf, load, upgraded } from "./dump.ts";
import { classify } from "./errors.ts";
import type { Row } from "./row.ts";
import type { StateFile } from "./state-file.ts";

type Parameters = Readonly<Record<string, SQLInputValue>>;

/**
 * The open database and its one rule: every write is a transaction that first checks the lease, and is on disk
 * (synchronous=FULL) when `write` returns. Calls are synchronous, so nothing else in this process runs in between.
 */
export class Connection {
  readonly path: string;
  readonly clock: Clock;
  /** The number of the lease that this process holds. Writes fail after another process took the lease. */
  held: number | null = null;
  readonly #database: DatabaseSync;
  /** Null: nothing is written to a file, or not by this process. */
  readonly #file: StateFile | null;
  /** Each statement is compiled once. */
  readonly #statements = new Map<string, StatementSync>();

  constructor(database: DatabaseSync, path: string, clock: Clock, file: StateFile | null = null) {
    this.path = path;
    this.clock = clock;
    this.#file = file;
    this.#database = database;
  }

  all(sql: string, parameters: Parameters = {}): readonly Row[] {
    return this.#classified(() => this.#statement(sql).all(parameters));
  }

  get(sql: string, parameters: Parameters = {}): Row | undefined {
    return this.#classified(() => this.#statement(sql).get(parameters));
  }

  /** For the work of a `write`. Returns how many rows it changed. */
  run(sql: string, parameters: Parameters = {}): number {
    return this.#classified(() => Number(this.#statement(sql).run(parameters).changes));
  }

  #statement(sql: string): StatementSync {
    let statement = this.#statements.get(sql);
    if (statement === undefined) this.#statements.set(sql, (statement = this.#database.prepare(sql)));
    return statement;
  }

  #classified<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      throw classify(error, this.path);
    }
  }

  write<T>(work: () => T): T {
    return this.unfenced(() => {
      this.#proveLease();
      return work();
    });
  }

  /** A write that compares the lease itself: only for the lease's own statements. */
  unfenced<T>(work: () => T): T {
    return this.#classified(() => {
      if (this.held !== null) this.#file?.keep(this.#database);
      this.run("BEGIN IMMEDIATE");
      try {
        const result = work();
        this.run("COMMIT");
        return result;
      } catch (error) {
        // SQLite rolls back by itself after some errors (disk full, I/O).
        if (this.#database.isTransaction) this.run("ROLLBACK");
        throw error;
      }
    });
  }

  dump(): StateDump {
    return this.#classified(() => {
      this.#database.exec("BEGIN");
      try {
        return dumpOf(this.#database, Number(this.#leaseNumber ?? 0));
      } finally {
        this.#database.exec("ROLLBACK");
      }
    });
  }

  /** The lease number continues from the dump's if that is higher; then this process no longer holds the lease. */
  restore(dump: StateDump): void {
    const newest = upgraded(dump);
    this.write(() => {
      load(this.#database, newest);
      this.run("UPDATE lease SET number = max(number, :number)", { number: dump.leaseNumber });
    });
  }

  /** Throws if another process has removed the file since it was opened: nobody would find what is written to it. */
  expectThere(): void {
    this.#file?.expectThere();
  }

  /** The holder's file was removed or replaced: the lease that it held is none of the file that is there. */
  get isLost(): boolean {
    return this.#file?.isGone ?? false;
  }

  remove(): void {
    // Checks the lease: nobody else works on the file.
    this.write(() => undefined);
    this.close();
    this.#file?.remove();
  }

  close(): void {
    if (this.#database.isOpen) this.#database.close();
  }

  get #leaseNumber(): unknown {
    return this.get("SELECT number FROM lease")?.["number"];
  }

  #proveLease(): void {
    if (this.held === null) return;
    const number = this.#leaseNumber;
    if (number !== this.held)
      throw stateError("MR1210", `lease ${this.held} was taken over (the lease is now number ${String(number)})`);
  }
}
