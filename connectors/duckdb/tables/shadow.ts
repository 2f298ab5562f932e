/**
 * A table is rewritten beside the stream.
 *
 * DuckDB keeps dead rows in a table with a key: deleted ones, and the old form of an updated row that contains a list. Only a
 * new table gives their room back, and to rewrite a large one in one transaction would stop the stream. So the live rows are
 * copied into a shadow of the same form, in turns of about 100 ms between the batches. One more transaction puts the shadow
 * in the table's place.
 *
 * Rows are copied in the order of their rowids: none is used twice, and an update leaves a row in place or moves it behind the
 * last one. After a turn the shadow has exactly the rows below one rowid, except for keys that batches write from then on. A
 * batch says which keys it touches before it changes anything; the next turn removes these from the shadow, and copies their
 * rows below that rowid again. A turn copies at least twice as many rows as were touched, so a rewrite ends under any load.
 *
 * No shadow outlives the process. Anything else that changes the table (its form, TRUNCATE, a sweep) gives it up. Batches that
 * write both tables would fail with the shadow; many deletes and a CHECKPOINT give no room back.
 */
import { type EngineConnection, inTransaction, readTextRows } from "../../kit/duckdb-engine/engine.ts";
import { quoteIdentifier, quoteLiteral, quoteName, type TargetName } from "../names.ts";
import type { TouchedKeys } from "../write/touched-keys.ts";

const SHADOW = "_millrace_rewritten";
/** This comment distinguishes it from a user's table with the same name. */
const MARK = "millrace rewrites";
const TOUCHED = "temp.main.millrace_touched";

/** Read before a table is rewritten, and again before it is replaced. */
interface Definition {
  /** Name, type, nullability, default, comment. */
  readonly columns: readonly (readonly string[])[];
  /** Quoted. */
  readonly key: readonly string[];
  readonly comment: string;
}

interface TurnOptions {
  /** Begins the transaction. */
  readonly begin: () => Promise<unknown>;
  readonly touched: TouchedKeys;
  /** How many rows, live or dead, this turn covers. */
  readonly span: number;
  /** Copying stops after this time; then the turn has had no effect. */
  readonly withinMs: number;
}

export interface Turn {
  readonly rowCount: number;
  /** Time for the rows that batches had touched. */
  readonly renewMs: number;
  /** The shadow has replaced the table. */
  readonly isLast: boolean;
}

/** The table is no longer the one from which the shadow was created. */
export class TableChanged extends Error {}

/**
 * A copy of a table that is built piece by piece and then replaces the table. Rows are copied in the order of their
 * rowids. In a table with a key a row's rowid never changes, and new rows get higher ones. Invariant: at the end of a
 * turn the shadow has exactly the table's rows with a rowid below `#next`. Therefore a turn starts with the keys that
 * batches have touched since the previous one.
 */
export class Shadow {
  readonly #connection: EngineConnection;
  readonly #catalogue: string;
  readonly #target: TargetName;
  readonly #definition: Definition;
  #next = 0n;

  private constructor(connection: EngineConnection, catalogue: string, target: TargetName, definition: Definition) {
    this.#connection = connection;
    this.#catalogue = catalogue;
    this.#target = target;
    this.#definition = definition;
  }

  /**
   * Created from the table's present form in the file, whatever that is. Null, and nothing is created, if somebody has
   * added indexes or constraints.
   */
  static async make(connection: EngineConnection, catalogue: string, target: TargetName): Promise<Shadow | null> {
    const definition = await define(connection, catalogue, target);
    if (definition === null) return null;
    const shadow = new Shadow(connection, catalogue, target, definition);
    const columns = definition.columns.map(([name = "", type, isNullable, standard]) => {
      const notNull = isNullable === "true" ? "" : " NOT NULL";
      return `${quoteIdentifier(name)} ${type}${notNull}${standard === "" ? "" : ` DEFAULT ${standard}`}`;
    });
    const key = `PRIMARY KEY (${definition.key.join(", ")})`;
    await inTransaction(
      connection,
      () => connection.run("BEGIN TRANSACTION"),
      async () => {
        await connection.run(`CREATE TABLE ${shadow.#made} (${[...columns, key].join(", ")})`);
        await connection.run(`COMMENT ON TABLE ${shadow.#made} IS ${quoteLiteral(MARK)}`);
      },
    );
    return shadow;
  }

  /** Removes the leftovers of a killed process. */
  static async clear(connection: EngineConnection, catalogue: string): Promise<void> {
    const left = await readTextRows(
      connection,
      "SELECT schema_name FROM duckdb_tables() WHERE database_name = $1 AND table_name = $2 AND comment = $3",
      [catalogue, SHADOW, MARK],
    );
    for (const [schema = ""] of left) await connection.run(`DROP TABLE ${quoteName(catalogue, schema, SHADOW)}`);
  }

  /**
   * One transaction; the shadow takes the table's place in another. DuckDB writes a deletion into its log under the name that the
   * table has at the end of the transaction: read again, that of the shadow's rows would be one of the table that it replaces.
   * Throws `TableChanged` if the shadow can't replace the table.
   */
  async turn({ begin, touched, span, withinMs }: TurnOptions): Promise<Turn> {
    const connection = this.#connection;
    const { to, end, ...turn } = await inTransaction(connection, begin, async () => {
      const startedMs = performance.now();
      if (touched.count > 0) await this.#renew(touched);
      const renewMs = performance.now() - startedMs;
      const end = await this.#end();
      const next = this.#next + BigInt(span);
      const to = next < end ? next : end;
      const interrupt = setTimeout(() => connection.interrupt(), withinMs);
      let rowCount = 0;
      try {
        if (to > this.#next) rowCount = await this.#copy(to);
      } finally {
        clearTimeout(interrupt);
      }
      return { to, end, rowCount, renewMs };
    });
    this.#next = to;
    touched.clear();
    const isLast = to === end;
    if (isLast) await inTransaction(connection, begin, () => this.#takePlace());
    return { ...turn, isLast };
  }

  async drop(): Promise<void> {
    await this.#connection.run(`DROP TABLE IF EXISTS ${this.#made}`);
  }

  get #old(): string {
    return quoteName(this.#catalogue, this.#target.schema, this.#target.table);
  }

  get #made(): string {
    return quoteName(this.#catalogue, this.#target.schema, SHADOW);
  }

  get #insert(): string {
    return this.#insertFrom(this.#old);
  }

  #insertFrom(from: string): string {
    const names = this.#definition.columns.map(([name = ""]) => quoteIdentifier(name));
    const values = names.map((name) => `millrace_row.${name}`);
    return `INSERT INTO ${this.#made} (${names.join(", ")}) SELECT ${values.join(", ")} FROM ${from} AS millrace_row`;
  }

  async #renew(touched: TouchedKeys): Promise<void> {
    const { matches } = touched;
    await this.#connection.run(`CREATE OR REPLACE TEMP TABLE millrace_touched AS ${touched.select}`);
    const listed = await touched.listed(this.#connection, TOUCHED);
    if (listed !== null) {
      await this.#connection.run(`DELETE FROM ${this.#made} AS millrace_row WHERE ${listed}`);
      // In a statement without rowids: beside another condition DuckDB does not use the key's index.
      await this.#connection.run(
        `CREATE OR REPLACE TEMP TABLE millrace_found AS SELECT millrace_row.rowid AS _millrace_rowid, millrace_row.* ` +
          `FROM ${this.#old} AS millrace_row WHERE ${listed}`,
      );
      await this.#connection.run(
        `${this.#insertFrom("temp.main.millrace_found")} WHERE millrace_row._millrace_rowid < ${this.#next}`,
      );
      return;
    }
    await this.#connection.run(
      `DELETE FROM ${this.#made} AS millrace_row USING ${TOUCHED} AS touched WHERE ${matches}`,
    );
    // Found by their keys alone: a join with the rows would read all columns of the table.
    await this.#connection.run(
      `CREATE OR REPLACE TEMP TABLE millrace_found_rows AS SELECT millrace_row.rowid AS id FROM ${this.#old} AS millrace_row ` +
        `SEMI JOIN ${TOUCHED} AS touched ON ${matches} WHERE millrace_row.rowid < ${this.#next}`,
    );
    await this.#connection.run(
      `${this.#insert} WHERE millrace_row.rowid IN (SELECT id FROM temp.main.millrace_found_rows)`,
    );
  }

  async #copy(to: bigint): Promise<number> {
    const { rowsChanged } = await this.#connection.run(
      `${this.#insert} WHERE millrace_row.rowid >= ${this.#next} AND millrace_row.rowid < ${to}`,
    );
    return rowsChanged;
  }

  /** The rowid after the last row. */
  async #end(): Promise<bigint> {
    const [row] = await readTextRows(this.#connection, `SELECT coalesce(max(rowid) + 1, 0)::VARCHAR FROM ${this.#old}`);
    const end = BigInt(row![0]!);
    return end < this.#next ? this.#next : end;
  }

  async #takePlace(): Promise<void> {
    const connection = this.#connection;
    const now = await define(connection, this.#catalogue, this.#target);
    if (JSON.stringify(now) !== JSON.stringify(this.#definition)) throw new TableChanged();
    const { comment } = this.#definition;
    await connection.run(`DROP TABLE ${this.#old}`);
    await connection.run(`ALTER TABLE ${this.#made} RENAME TO ${quoteIdentifier(this.#target.table)}`);
    await connection.run(`COMMENT ON TABLE ${this.#old} IS ${comment === "" ? "NULL" : quoteLiteral(comment)}`);
    for (const [name = "", , , , text = ""] of this.#definition.columns) {
      const column = `${this.#old}.${quoteIdentifier(name)}`;
      if (text !== "") await connection.run(`COMMENT ON COLUMN ${column} IS ${quoteLiteral(text)}`);
    }
  }
}

async function define(
  connection: EngineConnection,
  catalogue: string,
  { schema, table }: TargetName,
): Promise<Definition | null> {
  const names = [catalogue, schema, table];
  const ofTable = "database_name = $1 AND schema_name = $2 AND table_name = $3";
  const columns = await readTextRows(
    connection,
    `SELECT column_name, data_type, is_nullable, coalesce(column_default, ''), coalesce(comment, '') FROM duckdb_columns() WHERE ${ofTable} ORDER BY column_index`,
    names,
  );
  const constraints = await readTextRows(
    connection,
    `SELECT constraint_type, unnest(constraint_column_names) FROM duckdb_constraints() WHERE ${ofTable} AND constraint_type <> 'NOT NULL'`,
    names,
  );
  const indexes = await readTextRows(connection, `SELECT index_name FROM duckdb_indexes() WHERE ${ofTable}`, names);
  const key = constraints.map(([, column = ""]) => quoteIdentifier(column));
  if (indexes.length > 0 || key.length === 0 || constraints.some(([type]) => type !== "PRIMARY KEY")) return null;
  const [comment = [""]] = await readTextRows(
    connection,
    `SELECT comment FROM duckdb_tables() WHERE ${ofTable}`,
    names,
  );
  return { columns, key, comment: comment[0]! };
}
