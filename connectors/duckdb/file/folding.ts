import type { DuckDBConnection } from "@duckdb/node-api";
import { logBytesOf } from "./copy-file.ts";
import { memoryBytes, walBytesMax } from "./wal-size.ts";

/**
 * DuckDB counts whole blocks for the index and the columns of each table that a transaction inserts into, however few its rows
 * are, and would fold the log in at nearly every commit that concerns many tables. From so many on the log itself is looked at.
 */
const MANY_TABLES = 16;
/** What DuckDB holds for a table with few rows that are not folded in: 256 KiB for each column that was updated, and the index. */
const TABLE_BYTES = 1024 * 1024;
/** The part of the memory that may be held so. */
const HELD_SHARE = 0.5;
/** Without a step for so long, all of it is given back. */
const IDLE_MS = 1_000;
const NEVER = "SET checkpoint_threshold = '1TB'";

export interface FoldingParts {
  readonly path: string;
  readonly memoryLimit: string;
  /** Runs this when no writer is at work, unless the file is given up or closed by then. */
  readonly inTurn: (work: (connection: DuckDBConnection) => Promise<unknown>) => Promise<void>;
}

/** When DuckDB's log is folded into the file. */
export class Folding {
  readonly #parts: FoldingParts;
  /** Ids of tables whose rows are not folded in, as far as steps of many tables brought them. */
  readonly #unfolded = new Set<string>();
  #copies = 0;
  #idle: NodeJS.Timeout | undefined;

  constructor(parts: FoldingParts) {
    this.#parts = parts;
  }

  /** The file is copied: nothing is folded in. */
  get isHeldOff(): boolean {
    return this.#copies > 0;
  }

  /**
   * Folds the log into the file, where nobody reads: what is not folded in yet is held in memory, and by itself DuckDB folds
   * at the end of a commit alone, for which there may be no memory left. Nothing is lost where it can't be done now.
   */
  async now(connection: DuckDBConnection): Promise<boolean> {
    // Invariant: nothing is folded in while the file is copied.
    if (this.isHeldOff) return false;
    try {
      await connection.run("CHECKPOINT");
      this.#unfolded.clear();
      return true;
    } catch {
      // Somebody reads: the next attempt at the step comes here again.
      return false;
    }
  }

  /**
   * Runs a step that writes to these tables, as their writer. What it leaves to be folded in is folded in behind it: the step
   * does not wait for that, the next one does.
   */
  async around(connection: DuckDBConnection, tableIds: readonly string[], write: () => Promise<void>): Promise<void> {
    clearTimeout(this.#idle);
    const isOwn = tableIds.length >= MANY_TABLES && !this.isHeldOff;
    if (isOwn) await connection.run(NEVER);
    try {
      await write();
    } catch (error) {
      // Where that fails too the file is opened again.
      if (isOwn) await this.#byItself(connection).catch(() => undefined);
      throw error;
    }
    if (isOwn) {
      await this.#byItself(connection);
      for (const id of tableIds) this.#unfolded.add(id);
    }
    if (this.#unfolded.size > 0) this.#behind();
  }

  #behind(): void {
    const { path, memoryLimit } = this.#parts;
    const logBytes = logBytesOf(path);
    // A step of few tables may have folded it in.
    if (logBytes === 0) this.#unfolded.clear();
    const isHeld = this.#unfolded.size * TABLE_BYTES > memoryBytes(memoryLimit) * HELD_SHARE;
    if (isHeld || logBytes > walBytesMax(memoryLimit)) void this.#inTurn();
    else this.#idle = setTimeout(() => void this.#inTurn(), IDLE_MS).unref();
  }

  async #inTurn(): Promise<void> {
    const work = async (connection: DuckDBConnection): Promise<void> => {
      if (this.#unfolded.size > 0) await this.now(connection);
    };
    // DuckDB may have given up on the file meanwhile: the next step meets that.
    await this.#parts.inTurn(work).catch(() => undefined);
  }

  /** Until `letGo`. As the writer: what is there is folded in first, unless somebody else holds it off already. */
  async holdOff(connection: DuckDBConnection): Promise<void> {
    if (!this.isHeldOff) await this.now(connection);
    this.#copies++;
    await connection.run(NEVER);
  }

  async letGo(connection: DuckDBConnection): Promise<void> {
    this.#copies--;
    // Where that fails the file is opened again.
    await this.#byItself(connection).catch(() => undefined);
  }

  stop(): void {
    clearTimeout(this.#idle);
  }

  async #byItself(connection: DuckDBConnection): Promise<void> {
    if (this.isHeldOff) return;
    await connection.run(`SET checkpoint_threshold = '${walBytesMax(this.#parts.memoryLimit)}B'`);
  }
}
