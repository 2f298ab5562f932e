import type { EngineConnection } from "../engine/engine.ts";
import type { Checkpoint } from "../../../src/core/model/batch.ts";
import { checkpointTexts, checkpointFromTexts } from "../../../src/core/checkpoint/checkpoint-text.ts";
import type { MillraceError } from "../../../src/core/errors.ts";
import { duckdbError } from "../errors.ts";
import { META_SCHEMA, quoteLiteral, quoteName } from "../names.ts";
import { readTextRows } from "../write/text-rows.ts";

/** Checkpoint and lease of each sink that writes to this file: one row, written in the transaction of the rows. */
export class CheckpointRow {
  readonly #sink: string;
  readonly #table: string;
  readonly #isLake: boolean;
  /** What this process last wrote or found; null: no progress yet. */
  #held: Checkpoint | null = null;
  /** The text of the complete tables, if the file certainly has it. */
  #storedTables: string | null = null;
  #lease = 0;
  /** The position of the last attempted batch: if the answer to its COMMIT was lost, the target may hold it. */
  #attempted: Checkpoint["position"] | null = null;

  constructor(sink: string, catalogue: string, { isLake = false }: { readonly isLake?: boolean }) {
    this.#sink = sink;
    this.#isLake = isLake;
    this.#table = `${quoteName(catalogue, META_SCHEMA)}.progress`;
  }

  get held(): Checkpoint | null {
    return this.#held;
  }

  /** Creates the table, takes over the lease and reads the checkpoint. Inside a transaction. */
  async take(connection: EngineConnection, catalogue: string, lease: number): Promise<Checkpoint | null> {
    await connection.run(`CREATE SCHEMA IF NOT EXISTS ${quoteName(catalogue, META_SCHEMA)}`);
    await connection.run(
      `CREATE TABLE IF NOT EXISTS ${this.#table} (name VARCHAR ${this.#isLake ? "NOT NULL" : "PRIMARY KEY"}, epoch INTEGER, "commit" BIGINT, ` +
        `"index" BIGINT, lease BIGINT NOT NULL, tables VARCHAR, bond VARCHAR, updated_at TIMESTAMP WITH TIME ZONE NOT NULL)`,
    );
    const row = await this.#read(connection);
    const found = row === undefined ? 0 : Number(row[3]);
    if (found > lease) {
      throw duckdbError(
        "MR3109",
        "fatal",
        `sink ${this.#sink} belongs to another process (lease ${found}, ours is ${lease})`,
      );
    }
    await connection.run(
      row === undefined
        ? `INSERT INTO ${this.#table} (name, lease, updated_at) VALUES ($1, $2, now())`
        : `UPDATE ${this.#table} SET lease = $2, updated_at = now() WHERE name = $1`,
      [this.#sink, BigInt(lease)],
    );
    // Of two processes that add the same row to a lake, only one can also change the table.
    if (this.#isLake && row === undefined) {
      await connection.run(
        `COMMENT ON TABLE ${this.#table} IS ${quoteLiteral(`last joined by ${this.#sink}, lease ${lease}`)}`,
      );
    }
    this.#attempted = null;
    this.#lease = lease;
    this.#storedTables = null;
    this.#held = parseCheckpoint(row);
    return this.#held;
  }

  /** The stored checkpoint; creates nothing. */
  async look(connection: EngineConnection, catalogue: string): Promise<Checkpoint | null> {
    const there = await readTextRows(
      connection,
      "SELECT 1 FROM duckdb_tables() WHERE database_name = $1 AND schema_name = $2 AND table_name = 'progress'",
      [catalogue, META_SCHEMA],
    );
    if (there.length === 0) return null;
    return parseCheckpoint(await this.#read(connection));
  }

  async #read(connection: EngineConnection): Promise<readonly string[] | undefined> {
    const sql = `SELECT epoch, "commit", "index", lease, tables, bond FROM ${this.#table} WHERE name = $1`;
    const rows = await readTextRows(connection, sql, [this.#sink]);
    if (rows.length > 1) throw twoRows(this.#sink, this.#table);
    return rows[0];
  }

  /**
   * Begins a batch's transaction with the fence and the new checkpoint. Invariant: a batch changes something only if
   * checkpoint and lease are what this process wrote last. Uses literals instead of parameters: text without parameters
   * is one trip to DuckDB's thread, a prepared statement three.
   */
  async begin(connection: EngineConnection, next: Checkpoint): Promise<void> {
    const { position } = next;
    const places = this.#places;
    this.#attempted = position;
    const { tables, bond } = checkpointTexts(next);
    const changed = tables === this.#storedTables ? "" : `tables = ${quoteLiteral(tables)}, `;
    await this.#begin(
      connection,
      `epoch = ${position.epoch}, "commit" = ${position.commit}, "index" = ${position.index}, ${changed}bond = ${quoteLiteral(bond)}, `,
      places,
    );
  }

  /** Begins a transaction that changes targets in another way than by a batch, with the same fence. The checkpoint stays. */
  async fence(connection: EngineConnection): Promise<void> {
    await this.#begin(connection, "", this.#places);
  }

  /** Where the target may be. */
  get #places(): readonly (Checkpoint["position"] | null)[] {
    return [this.#held?.position ?? null, ...(this.#attempted === null ? [] : [this.#attempted])];
  }

  async #begin(
    connection: EngineConnection,
    changes: string,
    places: readonly (Checkpoint["position"] | null)[],
  ): Promise<void> {
    const result = await connection.run(
      `BEGIN TRANSACTION; UPDATE ${this.#table} SET ${changes}updated_at = now() ` +
        `WHERE name = ${quoteLiteral(this.#sink)} AND lease = ${this.#lease} AND (${places.map(isAt).join(" OR ")})`,
    );
    if (result.rowsChanged === 1) return;
    throw duckdbError(
      "MR3109",
      "fatal",
      `sink ${this.#sink} was taken over by another process, or its progress was changed`,
    );
  }

  /**
   * Makes DuckDB write the table's index again at the next checkpoint: an index at the end of the file keeps the file
   * from shrinking. DuckDB itself writes it only when a key changes.
   */
  async rewriteIndex(connection: EngineConnection): Promise<void> {
    await connection.run(`UPDATE ${this.#table} SET name = name WHERE name = ${quoteLiteral(this.#sink)}`);
  }

  /**
   * Removes the sink's row, and from a file with the last one everything of Millrace. In a lake other daemons may begin
   * to use the table, and a DROP does not see the row that one has just written. Inside a transaction.
   */
  async remove(connection: EngineConnection, catalogue: string): Promise<void> {
    await connection.run(`DELETE FROM ${this.#table} WHERE name = $1`, [this.#sink]);
    if (this.#isLake) return;
    const left = await readTextRows(connection, `SELECT name FROM ${this.#table} LIMIT 1`);
    if (left.length > 0) return;
    await connection.run(`DROP TABLE ${this.#table}`);
    await connection.run(`DROP SCHEMA ${quoteName(catalogue, META_SCHEMA)}`);
  }

  committed(next: Checkpoint): void {
    this.#held = next;
    this.#attempted = null;
    this.#storedTables = checkpointTexts(next).tables;
  }
}

/** A lake has no keys. */
function twoRows(sink: string, table: string): MillraceError {
  return duckdbError("MR3202", "fatal", `the lake is damaged: it holds several rows of progress of sink ${sink}`, {
    hint:
      `A transaction of another program brought deleted rows back, perhaps in other tables too. Restore the lake from a backup; or, ` +
      `with the daemon stopped, drop its tables and DELETE FROM ${table} WHERE name = ${quoteLiteral(sink)}: Millrace then fills them again.`,
  });
}

function isAt(position: Checkpoint["position"] | null): string {
  return (
    `epoch IS NOT DISTINCT FROM ${position?.epoch ?? "NULL"} ` +
    `AND "commit" IS NOT DISTINCT FROM ${position?.commit ?? "NULL"} ` +
    `AND "index" IS NOT DISTINCT FROM ${position?.index ?? "NULL"}`
  );
}

function parseCheckpoint(row: readonly string[] | undefined): Checkpoint | null {
  if (row === undefined || row[0] === "") return null;
  const [epoch, commit, index, , tables, bond] = row;
  const position = { epoch: Number(epoch), commit: BigInt(commit!), index: Number(index) };
  return { position, ...checkpointFromTexts(tables!, bond!) };
}
