/**
 * How runs of statements enter tables (core/targets/write-runs). Each table has a column of type EPHEMERAL, which stores
 * nothing: its name is known to one run, and each statement of the run names it. Another run puts another column in its
 * place, and the server ends what is still running of earlier ones. What comes later names a column that is gone, and is
 * refused.
 */
import { createHash, randomBytes } from "node:crypto";
import { eachOf } from "../../src/core/each-of.ts";
import { WriteRuns } from "../../src/core/targets/write-runs.ts";
import type { Client } from "./client.ts";
import { current } from "./current.ts";
import { notShown } from "./errors.ts";
import { quoteIdentifier, quoteLiteral, RUN_PREFIX, sqlNameOf } from "./names.ts";
import type { Placement, TableLayout } from "./tables/layout.ts";
import { onCluster, RUN_TYPE } from "./tables/statements.ts";

/** Without `table`: of one sink alone. */
export type Fenced = Pick<TableLayout, "target" | "sqlName"> & Partial<Pick<TableLayout, "table">>;

export class WriteFence {
  readonly #client: Client;
  readonly #placement: Placement;
  /** Begins the ids of this sink's statements in all processes; lease and run follow. */
  readonly #owner: string;
  readonly #lease: number;
  /** Begins the names of this sink's columns: several daemons may write to a table that tables share. */
  readonly #prefix: string;
  readonly #runs = new WriteRuns(() => randomBytes(8).toString("hex"));

  constructor(client: Client, sink: string, lease: number, placement: Placement) {
    this.#client = client;
    this.#placement = placement;
    this.#owner = `millrace ${encodeURIComponent(sink)} `;
    this.#lease = lease;
    this.#prefix = `${RUN_PREFIX}${createHash("sha256").update(sink).digest("hex").slice(0, 8)}_`;
    client.sender = this;
  }

  /** Begins the ids of the run's statements in the server's list of what it runs. */
  get mark(): string {
    return `${this.#owner}${this.#lease} ${this.#runs.id} `;
  }

  unanswered(): void {
    this.#runs.unanswered();
  }

  /** This run's column. */
  get column(): string {
    return `${this.#prefix}${this.#runs.id}`;
  }

  /** Part of an ALTER that fails as a whole if the table has left this run. */
  get condition(): string {
    return `COMMENT COLUMN ${quoteIdentifier(this.column)} ''`;
  }

  /** As `condition`, for mutations. */
  holds({ target: { database, table } }: Fenced): string {
    const where = `database = ${quoteLiteral(database)} AND table = ${quoteLiteral(table)} AND name = ${quoteLiteral(this.column)}`;
    return `(SELECT count() FROM system.columns WHERE ${where}) = 1`;
  }

  /** The table was made with this run's column. */
  made({ sqlName }: Fenced): void {
    this.#runs.entered(sqlName);
  }

  /**
   * From here on only this run's statements change these tables. Call it before each write; true: it has changed
   * something, which took time.
   */
  async enter(tables: readonly Fenced[], signal: AbortSignal): Promise<boolean> {
    const unentered = this.#runs.unentered(tables, ({ sqlName }) => sqlName);
    if (unentered.length === 0) return false;
    let columns = await this.#columnsOf(unentered, signal);
    let open = unentered;
    while (open.length > 0) {
      const known = columns;
      await eachOf(open, this.#client.tablesAtOnce, (table) =>
        this.#replace(table, known.get(table.sqlName) ?? [], signal),
      );
      // The list may have come from a replica that was behind: columns that it lacked are still there.
      columns = await this.#columnsOf(open, signal, this.column);
      open = open.filter(({ sqlName }) => columns.get(sqlName)!.length > 1);
    }
    // The server ends one's own statements without a grant, and answers when they have ended.
    await this.#client.run(`KILL QUERY${onCluster(this.#placement)} WHERE ${this.#predecessors()} SYNC`, signal);
    for (const table of unentered) this.made(table);
    return true;
  }

  /** Statements of this sink's former runs, and of processes before this one; a successor has a higher lease. */
  #predecessors(): string {
    return (
      `user = currentUser() AND startsWith(query_id, ${quoteLiteral(this.#owner)}) AND NOT startsWith(query_id, ${quoteLiteral(this.mark)}) ` +
      `AND toUInt64OrZero(splitByChar(' ', query_id)[3]) <= ${this.#lease}`
    );
  }

  /** A statement that comes late fails as a whole, because what it drops is gone. */
  async #replace({ sqlName }: Fenced, known: readonly string[], signal: AbortSignal): Promise<void> {
    const drops = known.filter((name) => name !== this.column).map((name) => `DROP COLUMN ${quoteIdentifier(name)}`);
    const adds = known.includes(this.column) ? [] : [`ADD COLUMN ${quoteIdentifier(this.column)} ${RUN_TYPE}`];
    const changes = [...drops, ...adds].join(", ");
    if (changes === "") return;
    await this.#client.run(`ALTER TABLE ${sqlName}${onCluster(this.#placement)} ${changes}`, signal);
  }

  /** Columns of runs, by table; `added`: one that each of them has by now. */
  async #columnsOf(
    tables: readonly Fenced[],
    signal: AbortSignal,
    added?: string,
  ): Promise<ReadonlyMap<string, readonly string[]>> {
    const [databases, names] = [
      tables.map(({ target }) => target.database),
      tables.map(({ target }) => target.table),
    ].map((list) => [...new Set(list)].map(quoteLiteral).join(", "));
    const sql = `SELECT database, table, name FROM system.columns WHERE database IN (${databases}) AND table IN (${names}) AND startsWith(name, ${quoteLiteral(RUN_PREFIX)})`;
    const read = async () => {
      const rows = await this.#client.rows(sql, signal);
      const found = Map.groupBy(rows, ([database, table]) => sqlNameOf({ database: database!, table: table! }));
      const shared = new Set(tables.flatMap(({ sqlName, table }) => (table?.scope === undefined ? [] : [sqlName])));
      const isOurs = (name: string, column: string): boolean => !shared.has(name) || column.startsWith(this.#prefix);
      return new Map(
        [...found].map(([name, columns]) => [
          name,
          columns.flatMap(([, , column]) => (isOurs(name, column!) ? [column!] : [])),
        ]),
      );
    };
    if (added === undefined) return await read();
    const isIn = (found: ReadonlyMap<string, readonly string[]>) => (table: Fenced) =>
      found.get(table.sqlName)?.includes(added) === true;
    const found = await current(read, (columns) => tables.every(isIn(columns)), signal);
    if (!tables.every(isIn(found))) throw notShown("the column that the sink added to its tables");
    return found;
  }
}
