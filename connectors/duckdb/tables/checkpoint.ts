import { randomUUID } from "node:crypto";
import { type EngineConnection, readTextRows } from "../../kit/duckdb-engine/engine.ts";
import type { Checkpoint } from "../../../src/core/checkpoint.ts";
import { checkpointOfRow, HeldCheckpoint } from "../../kit/held-checkpoint.ts";
import type { MillraceError } from "../../../src/core/errors.ts";
import { duckdbError } from "../errors.ts";
import { META_SCHEMA, quoteLiteral, quoteName } from "../names.ts";
import { type ScopeOwners, ScopeTable } from "../../warehouse/scopes.ts";

/** Checkpoint and lease of each sink that writes to this file: one row, written in the transaction of the rows. */
export class CheckpointRow {
  readonly #owner: string;
  readonly #table: string;
  readonly #scopesName: string;
  /** Who has which table's rows in targets that tables share. */
  readonly scopes: ScopeTable;
  readonly #isLake: boolean;
  readonly #known: HeldCheckpoint;

  /** `owner`: several daemons may write there, each with a sink of this name. */
  constructor(owner: string, catalogue: string, { isLake = false }: { readonly isLake?: boolean }) {
    this.#owner = owner;
    this.#known = new HeldCheckpoint(duckdbError, owner);
    this.#isLake = isLake;
    this.#table = `${quoteName(catalogue, META_SCHEMA)}.progress`;
    this.#scopesName = `${quoteName(catalogue, META_SCHEMA)}.scopes`;
    this.scopes = new ScopeTable(this.#scopesName, quoteLiteral);
  }

  get held(): Checkpoint | null {
    return this.#known.held;
  }

  /** Creates the table, takes over the lease and reads the checkpoint. Inside a transaction. */
  async take(connection: EngineConnection, catalogue: string, lease: number): Promise<Checkpoint | null> {
    await connection.run(`CREATE SCHEMA IF NOT EXISTS ${quoteName(catalogue, META_SCHEMA)}`);
    await connection.run(
      `CREATE TABLE IF NOT EXISTS ${this.#table} (name VARCHAR ${this.#isLake ? "NOT NULL" : "PRIMARY KEY"}, epoch INTEGER, "commit" BIGINT, ` +
        `"index" BIGINT, lease BIGINT NOT NULL, tables VARCHAR, bond VARCHAR, updated_at TIMESTAMP WITH TIME ZONE NOT NULL)`,
    );
    // A lake has no keys, and DuckDB's would not let a transaction replace a row.
    await connection.run(
      `CREATE TABLE IF NOT EXISTS ${this.#scopesName} (scope VARCHAR NOT NULL, owner VARCHAR NOT NULL, former VARCHAR)`,
    );
    const row = await this.#read(connection);
    this.#known.expectFree(Number(row?.[0] ?? 0), lease);
    await connection.run(
      row === undefined
        ? `INSERT INTO ${this.#table} (name, lease, updated_at) VALUES ($1, $2, now())`
        : `UPDATE ${this.#table} SET lease = $2, updated_at = now() WHERE name = $1`,
      [this.#owner, BigInt(lease)],
    );
    // Of two processes that add the same row to a lake, only one can also change the table.
    if (this.#isLake && row === undefined) {
      await connection.run(
        `COMMENT ON TABLE ${this.#table} IS ${quoteLiteral(`last joined by ${this.#owner}, lease ${lease}`)}`,
      );
    }
    return this.#known.taken(parsed(row), lease);
  }

  /** The stored checkpoint; creates nothing. */
  async look(connection: EngineConnection, catalogue: string): Promise<Checkpoint | null> {
    return (await isThere(connection, catalogue, "progress")) ? parsed(await this.#read(connection)) : null;
  }

  /** Who has these; creates nothing. */
  async lookAtScopes(connection: EngineConnection, catalogue: string, scopes: readonly string[]): Promise<ScopeOwners> {
    if (scopes.length === 0 || !(await isThere(connection, catalogue, "scopes"))) return new Map();
    return await this.scopes.find(scopes, (sql) => readTextRows(connection, sql));
  }

  async #read(connection: EngineConnection): Promise<readonly string[] | undefined> {
    const sql = `SELECT lease, epoch, "commit", "index", tables, bond FROM ${this.#table} WHERE name = $1`;
    const rows = await readTextRows(connection, sql, [this.#owner]);
    if (rows.length > 1) throw twoRows(this.#owner, this.#table);
    return rows[0];
  }

  /**
   * Begins a batch's transaction with the fence and the new checkpoint. Invariant: a batch changes something only if
   * checkpoint and lease are what this process wrote last. Uses literals instead of parameters: text without parameters
   * is one trip to DuckDB's thread, a prepared statement three.
   */
  async begin(connection: EngineConnection, next: Checkpoint): Promise<void> {
    const { position } = next;
    const { places } = this.#known;
    const { tables, bond } = this.#known.attempt(next);
    const changed = tables === null ? "" : `tables = ${quoteLiteral(tables)}, `;
    await this.#begin(
      connection,
      `epoch = ${position.epoch}, "commit" = ${position.commit}, "index" = ${position.index}, ${changed}bond = ${quoteLiteral(bond)}, `,
      places,
    );
  }

  /** Begins a transaction that changes targets in another way than by a batch, with the same fence. The checkpoint stays. */
  async fence(connection: EngineConnection): Promise<void> {
    await this.#begin(connection, "", this.#known.places);
  }

  async #begin(connection: EngineConnection, changes: string, places: HeldCheckpoint["places"]): Promise<void> {
    const result = await connection.run(
      `BEGIN TRANSACTION; UPDATE ${this.#table} SET ${changes}updated_at = now() ` +
        `WHERE name = ${quoteLiteral(this.#owner)} AND lease = ${this.#known.lease} AND (${places.map(isAt).join(" OR ")})`,
    );
    if (result.rowsChanged !== 1) throw this.#known.lost();
  }

  /** Runs statements on `scopes`. Of two daemons that change what both have read, only one can also change the table. */
  async changeScopes(connection: EngineConnection, statements: readonly string[]): Promise<void> {
    const marked = `COMMENT ON TABLE ${this.#scopesName} IS ${quoteLiteral(`last changed by ${this.#owner}, ${randomUUID()}`)}`;
    for (const sql of this.#isLake ? [marked, ...statements] : statements) await connection.run(sql);
  }

  /**
   * Makes DuckDB write the table's index again at the next checkpoint: an index at the end of the file keeps the file
   * from shrinking. DuckDB itself writes it only when a key changes.
   */
  async rewriteIndex(connection: EngineConnection): Promise<void> {
    await connection.run(`UPDATE ${this.#table} SET name = name WHERE name = ${quoteLiteral(this.#owner)}`);
  }

  /**
   * Removes the sink's row, and from a file with the last one everything of Millrace. In a lake other daemons may begin
   * to use the table, and a DROP does not see the row that one has just written. Inside a transaction.
   */
  async remove(connection: EngineConnection, catalogue: string): Promise<void> {
    await connection.run(`DELETE FROM ${this.#table} WHERE name = $1`, [this.#owner]);
    await connection.run(this.scopes.removeAll(this.#owner));
    if (this.#isLake) return;
    const left = await readTextRows(connection, `SELECT name FROM ${this.#table} LIMIT 1`);
    if (left.length > 0) return;
    await connection.run(`DROP TABLE ${this.#table}; DROP TABLE ${this.#scopesName}`);
    await connection.run(`DROP SCHEMA ${quoteName(catalogue, META_SCHEMA)}`);
  }

  committed(next: Checkpoint): void {
    this.#known.committed(next);
  }
}

/** `name`: of a table beside the checkpoints. */
async function isThere(connection: EngineConnection, catalogue: string, name: string): Promise<boolean> {
  const sql = "SELECT 1 FROM duckdb_tables() WHERE database_name = $1 AND schema_name = $2 AND table_name = $3";
  return (await readTextRows(connection, sql, [catalogue, META_SCHEMA, name])).length > 0;
}

/** A lake has no keys. */
function twoRows(owner: string, table: string): MillraceError {
  return duckdbError("MR3202", "fatal", `the lake is damaged: it holds several rows of progress of ${owner}`, {
    hint:
      `A transaction of another program brought deleted rows back, perhaps in other tables too. Restore the lake from a backup; or, ` +
      `with the daemon stopped, drop its tables and DELETE FROM ${table} WHERE name = ${quoteLiteral(owner)}: Millrace then fills them again.`,
  });
}

function isAt(position: HeldCheckpoint["places"][number]): string {
  const { epoch, commit, index } = position ?? { epoch: "NULL", commit: "NULL", index: "NULL" };
  const same = "IS NOT DISTINCT FROM";
  return `epoch ${same} ${epoch} AND "commit" ${same} ${commit} AND "index" ${same} ${index}`;
}

function parsed([, ...row]: readonly string[] = []): Checkpoint | null {
  return checkpointOfRow(row);
}
