import { type EngineConnection, readTextRows } from "../../kit/duckdb-engine/engine.ts";
import type { TableWrites } from "../../../src/core/model/batch.ts";
import { quoteIdentifier, quoteLiteral } from "../names.ts";
import { type TableLayout, selectTouched } from "./layout.ts";
import { RowStage, staging } from "./stage.ts";
import type { StageFile } from "./stage-file.ts";

/** With more keys than this the rewriting that collects them is abandoned. */
const BYTES_MAX = 16 * 1024 * 1024;
/** DuckDB looks up to 2,048 keys up in an index. */
const LISTED_MAX = 1_000;

/**
 * Keys of a table whose rows batches have written or deleted, or have tried to. Kept outside the file and the batches'
 * transactions: an extra key does no harm.
 */
export class TouchedKeys {
  readonly #stage = new RowStage();
  readonly #file: StageFile;
  readonly #layout: TableLayout;
  /** Repetitions included. */
  count = 0;

  constructor(file: StageFile, layout: TableLayout) {
    this.#file = file;
    this.#layout = layout;
    file.begin();
  }

  get areTooMany(): boolean {
    return this.#file.byteCount > BYTES_MAX;
  }

  /** `layout`: of these rows, whose table may share the target. */
  async add(writes: TableWrites, layout: TableLayout): Promise<void> {
    const entries = Array.from({ length: writes.count }, (_, i) => i);
    await this.#stage.append(this.#file, staging(layout, writes, "touch", entries), Number.POSITIVE_INFINITY);
    this.count += entries.length;
  }

  /** Selects each key once, as k0, k1 … */
  get select(): string {
    return selectTouched(this.#layout, this.#file);
  }

  /**
   * A condition for rows of the table (as `millrace_row`) with one of the keys in `table`, which has what `select`
   * selects. DuckDB evaluates it by the key's index, so it costs the same in a table of any size. Null: these keys have
   * no such condition.
   */
  async listed(connection: EngineConnection, table: string): Promise<string | null> {
    if (this.#layout.key.length > 1 || this.count > LISTED_MAX) return null;
    // The binding removes a byte order mark from the start of a string.
    const rows = await readTextRows(connection, `SELECT '=' || k0::VARCHAR FROM ${table}`);
    if (rows.length === 0) return "false";
    const literals = rows.map(([text]) => quoteLiteral(text!.slice(1)));
    return `millrace_row.${quoteIdentifier(this.#layout.key[0]!.name)} IN (${literals.join(", ")})`;
  }

  /** A condition for rows of the table (as `millrace_row`) with one of those keys (as `touched`). */
  get matches(): string {
    return this.#layout.key.map(({ name }, i) => `millrace_row.${quoteIdentifier(name)} = touched.k${i}`).join(" AND ");
  }

  clear(): void {
    this.#file.begin();
    this.count = 0;
  }
}
