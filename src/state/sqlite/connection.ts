import { rmSync } from "node:fs";
import type { DatabaseSync, StatementSync } from "node:sqlite";
import type { Clock } from "../../core/clock.ts";
import type { StateDump } from "../../core/contracts/state-store.ts";
import { stateError } from "../errors.ts";
import { dumpOf, load, upgraded } from "./dump.ts";
import { classify } from "./errors.ts";

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
  readonly #begin: StatementSync;
  readonly #commit: StatementSync;
  readonly #rollback: StatementSync;
  readonly #lease: StatementSync;

  constructor(database: DatabaseSync, path: string, clock: Clock) {
    this.path = path;
    this.clock = clock;
    this.#database = database;
    this.#begin = database.prepare("BEGIN IMMEDIATE");
    this.#commit = database.prepare("COMMIT");
    this.#rollback = database.prepare("ROLLBACK");
    this.#lease = database.prepare("SELECT number FROM lease");
  }

  prepare(sql: string): StatementSync {
    return this.#database.prepare(sql);
  }

  read<T>(work: () => T): T {
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
    try {
      this.#begin.run();
      try {
        const result = work();
        this.#commit.run();
        return result;
      } catch (error) {
        // SQLite rolls back by itself after some errors (disk full, I/O).
        if (this.#database.isTransaction) this.#rollback.run();
        throw error;
      }
    } catch (error) {
      throw classify(error, this.path);
    }
  }

  dump(): StateDump {
    return this.read(() => {
      this.#database.exec("BEGIN");
      try {
        return dumpOf(this.#database, Number(this.#lease.get()?.["number"] ?? 0));
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
      this.#database.prepare("UPDATE lease SET number = max(number, ?)").run(dump.leaseNumber);
    });
  }

  remove(): void {
    // Checks the lease: nobody else works on the file.
    this.write(() => undefined);
    this.close();
    for (const suffix of ["-wal", "-shm", ""]) rmSync(`${this.path}${suffix}`, { force: true });
  }

  close(): void {
    if (this.#database.isOpen) this.#database.close();
  }

  #proveLease(): void {
    if (this.held === null) return;
    const number = this.#lease.get()?.["number"];
    if (number !== this.held)
      throw stateError("MR1210", `lease ${this.held} was taken over (the lease is now number ${String(number)})`);
  }
}
