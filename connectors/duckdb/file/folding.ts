import type { EngineConnection } from "../../kit/duckdb-engine/engine.ts";
import { logBytesOf } from "./copy-file.ts";
import { memoryBytes, walBytesMax } from "./wal-size.ts";

/**
 * For each table into which a transaction inserts, DuckDB counts whole blocks for the index and the columns, even for
 * few rows. With many tables it would fold the log in at nearly every commit. From this number of tables on, the size
 * of the log itself decides.
 */
const MANY_TABLES = 16;
/** Memory that DuckDB holds for a small table that is not folded in: 256 KiB for each updated column, and the index. */
const TABLE_BYTES = 1024 * 1024;
/** The share of the memory that may be held this way. */
const HELD_SHARE = 0.5;
/** After this time without a batch all of it is returned. */
const IDLE_MS = 1_000;
const NEVER = "SET checkpoint_threshold = '1TB'";

/** How many small tables may wait to be folded in. */
function tablesHeldMax(memoryLimit: string): number {
  return (memoryBytes(memoryLimit) * HELD_SHARE) / TABLE_BYTES;
}

/** How many tables one batch may have: as many others wait at most to be folded in when it begins. */
export function tablesPerBatchMax(memoryLimit: string): number {
  return Math.max(MANY_TABLES, Math.floor(tablesHeldMax(memoryLimit) / 2));
}

interface FoldingParts {
  readonly path: string;
  readonly memoryLimit: string;
  /** Runs the work when no writer is active, unless the file has been given up or closed by then. */
  readonly inTurn: (work: (connection: EngineConnection) => Promise<unknown>) => Promise<void>;
}

/** Decides when DuckDB's log is folded into the file. */
export class Folding {
  readonly #parts: FoldingParts;
  /** Ids of tables whose rows are not folded in, as far as batches with many tables wrote them. */
  readonly #unfolded = new Set<string>();
  #copies = 0;
  #idle: NodeJS.Timeout | undefined;

  constructor(parts: FoldingParts) {
    this.#parts = parts;
  }

  /** True while the file is copied: nothing is folded in. */
  get isHeldOff(): boolean {
    return this.#copies > 0;
  }

  /**
   * Folds the log into the file, unless somebody reads it. DuckDB holds in memory what is not folded in, and folds by
   * itself only at the end of a commit, when there may be no memory left. If folding is impossible now, nothing is
   * lost.
   */
  async now(connection: EngineConnection): Promise<boolean> {
    // Invariant: nothing is folded in while the file is copied.
    if (this.isHeldOff) return false;
    try {
      await connection.run("CHECKPOINT");
      this.#unfolded.clear();
      return true;
    } catch {
      // Somebody reads the file: the next attempt at the batch tries again.
      return false;
    }
  }

  /**
   * Runs a batch that writes to these tables, as their writer. Folds in afterwards what the batch left: this batch does
   * not wait for that, the next one does.
   */
  async around(connection: EngineConnection, tableIds: readonly string[], write: () => Promise<void>): Promise<void> {
    clearTimeout(this.#idle);
    const isOwn = tableIds.length >= MANY_TABLES && !this.isHeldOff;
    if (isOwn) await connection.run(NEVER);
    try {
      await write();
    } catch (error) {
      // If that fails too, the file is opened again.
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
    // A batch with few tables may have folded it in.
    if (logBytes === 0) this.#unfolded.clear();
    const isHeld = this.#unfolded.size > tablesHeldMax(memoryLimit);
    if (isHeld || logBytes > walBytesMax(memoryLimit)) void this.#inTurn();
    else this.#idle = setTimeout(() => void this.#inTurn(), IDLE_MS).unref();
  }

  async #inTurn(): Promise<void> {
    const work = async (connection: EngineConnection): Promise<void> => {
      if (this.#unfolded.size > 0) await this.now(connection);
    };
    // If DuckDB has given up the file meanwhile, the next batch finds out.
    await this.#parts.inTurn(work).catch(() => undefined);
  }

  /**
   * Prevents folding until `letGo`. As the writer: first folds in what is there, unless another caller prevents it
   * already.
   */
  async holdOff(connection: EngineConnection): Promise<void> {
    if (!this.isHeldOff) await this.now(connection);
    this.#copies++;
    await connection.run(NEVER);
  }

  async letGo(connection: EngineConnection): Promise<void> {
    this.#copies--;
    // If that fails, the file is opened again.
    await this.#byItself(connection).catch(() => undefined);
  }

  stop(): void {
    clearTimeout(this.#idle);
  }

  async #byItself(connection: EngineConnection): Promise<void> {
    if (this.isHeldOff) return;
    await connection.run(`SET checkpoint_threshold = '${walBytesMax(this.#parts.memoryLimit)}B'`);
  }
}
