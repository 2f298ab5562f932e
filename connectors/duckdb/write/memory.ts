import type { EngineConnection } from "../../kit/duckdb-engine/engine.ts";
import { isOutOfMemory } from "../errors.ts";
import { quoteLiteral } from "../names.ts";
import { memoryBytes } from "../file/wal-size.ts";
import type { StageFile } from "./stage-file.ts";

/** Measured with rows of 100 MB: seven copies. */
const COPIES_OF_ROW = 8;
/** After this many bytes of rows DuckDB must return freed memory. A large batch has about as many bytes. */
const PASSED_BYTES = 2 * 1024 * 1024;

/** DuckDB's memory limit, and how it is exceeded for large rows. */
export class MemoryLimit {
  /** In DuckDB's form: `512MB`. */
  readonly #limit: string;
  readonly #stages: readonly StageFile[];
  /** DuckDB's memory limit while a large row is written; 0: as configured. */
  #roomBytes = 0;
  /** Bytes of rows in the staged files when memory was last returned. */
  #passedBytes = 0;
  /** Size of the largest row that this process has written. */
  #rowBytesMax = 0;

  constructor(limit: string, stages: readonly StageFile[]) {
    this.#limit = limit;
    this.#stages = stages;
  }

  /**
   * Provides memory for writing a row of this size, until `giveBack`: DuckDB keeps several copies of a row while it
   * reads, converts and stores it. Called between two statements of the writer.
   */
  async makeRoom(connection: EngineConnection, rowBytes: number): Promise<void> {
    this.#rowBytesMax = Math.max(this.#rowBytesMax, rowBytes);
    await this.#raise(connection, rowBytes * COPIES_OF_ROW);
  }

  /** For a batch that ran out of memory: neighbouring rows may be large too, and DuckDB may hold them all. */
  async makeMoreRoom(connection: EngineConnection): Promise<void> {
    const limit = memoryBytes(this.#limit);
    await this.#raise(connection, limit + Math.max(limit, this.#rowBytesMax * COPIES_OF_ROW));
  }

  async #raise(connection: EngineConnection, bytes: number): Promise<void> {
    if (bytes <= Math.max(this.#roomBytes, memoryBytes(this.#limit))) return;
    await connection.run(`SET memory_limit = '${bytes}B'`);
    this.#roomBytes = bytes;
  }

  /**
   * Called after a batch. Sets the limit to its configured value, even if it has that value already: this makes DuckDB's
   * allocator and the C library return freed memory, which no limit counts. Takes 4 ms. `before`: called first, if more
   * memory was provided.
   */
  async giveBack(connection: EngineConnection, before: () => Promise<unknown>): Promise<void> {
    const passedBytes = this.#stages.reduce((sum, { passedByteCount }) => sum + passedByteCount, 0);
    if (this.#roomBytes === 0 && passedBytes - this.#passedBytes < PASSED_BYTES) return;
    this.#passedBytes = passedBytes;
    if (this.#roomBytes > 0) await before();
    try {
      await connection.run(`SET memory_limit = ${quoteLiteral(this.#limit)}`);
      this.#roomBytes = 0;
    } catch (error) {
      if (!isOutOfMemory(error)) throw error;
    }
  }
}
