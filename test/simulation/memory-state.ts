/** The real state on SQLite, in memory: it outlives the simulated processes, and is emptied for the next run. */
import { DatabaseSync, type SQLInputValue, type StatementSync } from "node:sqlite";
import type { Clock } from "../../src/core/clock.ts";
import type { StateStore } from "../../src/core/contracts/state-store.ts";
import { stateError } from "../../src/state/errors.ts";
import { Connection } from "../../src/state/sqlite/connection.ts";
import { migrate } from "../../src/state/sqlite/migrate.ts";
import { assemble } from "../../src/state/sqlite/open.ts";
import { never, type SimulatedProcess } from "./scheduler.ts";

/** Statements are compiled once, however many processes open the state. */
class SharedDatabase extends DatabaseSync {
  readonly #statements = new Map<string, StatementSync>();

  override prepare(sql: string): StatementSync {
    let statement = this.#statements.get(sql);
    if (statement === undefined) this.#statements.set(sql, (statement = super.prepare(sql)));
    return statement;
  }
}

type Copy = readonly { readonly table: string; readonly rows: readonly Record<string, SQLInputValue>[] }[];

export class MemoryState {
  readonly #database: SharedDatabase;
  readonly #tables: readonly string[];
  /** Which tables have rows. */
  readonly #filled: StatementSync;
  readonly #begin: StatementSync;
  readonly #commit: StatementSync;
  /** Writes fail while true. */
  isFull = false;

  constructor() {
    this.#database = new SharedDatabase(":memory:");
    this.#database.exec("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA foreign_keys = ON");
    this.#database.exec("PRAGMA journal_mode = MEMORY");
    migrate(this.#database, "in memory");
    const found = this.#database.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'").all();
    this.#tables = found.map(({ name }) => String(name)).filter((name) => name !== "migration");
    const ofEach = this.#tables.map((table) => `EXISTS (SELECT 1 FROM ${table}) AS ${table}`);
    this.#filled = this.#database.prepare(`SELECT ${ofEach.join(", ")}`);
    this.#begin = this.#database.prepare("BEGIN");
    this.#commit = this.#database.prepare("COMMIT");
  }

  clear(): void {
    this.isFull = false;
    const filled = Object.entries(this.#filled.get()!).filter(([, isFilled]) => isFilled === 1);
    this.#begin.run();
    for (const [table] of filled) this.#database.prepare(`DELETE FROM ${table}`).run();
    this.#commit.run();
  }

  copy(): Copy {
    return this.#tables.map((table) => ({
      table,
      // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- what it gives it takes
      rows: this.#database.prepare(`SELECT * FROM ${table}`).all() as Record<string, SQLInputValue>[],
    }));
  }

  put(copy: Copy): void {
    this.clear();
    for (const { table, rows } of copy) {
      for (const row of rows) {
        const names = Object.keys(row);
        const marks = names.map(() => "?").join(", ");
        this.#database
          .prepare(`INSERT INTO ${table} (${names.join(", ")}) VALUES (${marks})`)
          .run(...Object.values(row));
      }
    }
  }

  /** As a process opens it: each call is a place where it may die, before and after it had its effect. */
  open(process: SimulatedProcess): StateStore {
    return guarded(process, this, this.direct(process.clock));
  }

  /** For the simulation's own eyes, and for commands beside no daemon. */
  direct(clock: Clock): StateStore {
    return assemble(new Connection(this.#database, "in memory", clock));
  }
}

const READS = /^(get|list|all|current|accord|undone|obligation|versions|keys|listed|countKeys|counts)$/;

function guarded(process: SimulatedProcess, state: MemoryState, store: StateStore): StateStore {
  const parts = Object.entries(store).map(([name, part]: [string, unknown]) => [
    name,
    typeof part === "object" && part !== null
      ? new (guardedClass(part))(process, state, part)
      : name === "close"
        ? async () => undefined
        : part,
  ]);
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the same members, each of the same type
  return Object.fromEntries(parts) as StateStore;
}

class GuardedPart {
  readonly #process: SimulatedProcess;
  readonly #state: MemoryState;
  readonly #part: object;

  constructor(process: SimulatedProcess, state: MemoryState, part: object) {
    this.#process = process;
    this.#state = state;
    this.#part = part;
  }

  protected call(method: Method, isRead: boolean, given: unknown[]): Promise<unknown> {
    if (!this.#process.passes()) return never();
    if (this.#state.isFull && !isRead)
      return Promise.reject(stateError("MR1209", "the disk is full", { kind: "retryable", reason: "passing" }));
    const answer = method.apply(this.#part, given);
    if (this.#process.passes()) return answer;
    // Nobody is there any more whom a refusal could be told.
    answer.catch(() => undefined);
    return never();
  }
}

type Method = (this: object, ...given: unknown[]) => Promise<unknown>;

const made = new Map<unknown, typeof GuardedPart>();

/** With the methods of the part's class; made once, as a store is opened by every process of every run. */
function guardedClass(part: object): typeof GuardedPart {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- an instance of a class
  const prototype = Object.getPrototypeOf(part) as object;
  const known = made.get(prototype);
  if (known !== undefined) return known;
  class Guarded extends GuardedPart {}
  for (const name of Object.getOwnPropertyNames(prototype)) {
    if (name === "constructor") continue;
    const isRead = READS.test(name);
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- every method of a store is asynchronous
    const method = Reflect.get(prototype, name) as Method;
    Object.defineProperty(Guarded.prototype, name, {
      value(this: Guarded, ...given: unknown[]): Promise<unknown> {
        return this.call(method, isRead, given);
      },
    });
  }
  made.set(prototype, Guarded);
  return Guarded;
}
