/**
 * The fence around the sink's tables. A statement that we gave up (no answer in time, a lost connection, a killed
 * process) may reach the server later, after what was written since, and versions do not always tell: all changes of a
 * transaction have the same one, and a table that was made since knows no former deletions.
 *
 * So each table has a column of type EPHEMERAL, which stores nothing: its name is known to one run of statements, and
 * each of them names it. After a statement without an answer, and after each opening, a table gets another such column in
 * place of the old one before it is written again (`enter`), and the server ends what is still running of earlier runs.
 * What comes later names a column that is gone, and is refused.
 */
import { randomBytes } from "node:crypto";
import type { Client } from "./client.ts";
import { quoteIdentifier, quoteLiteral, RUN_PREFIX, sqlNameOf } from "./names.ts";
import type { Placement } from "./tables/form.ts";
import type { TableLayout } from "./tables/layout.ts";
import { onCluster, RUN_TYPE } from "./tables/statements.ts";

export type Fenced = Pick<TableLayout, "target" | "sqlName">;

export class WriteFence {
  readonly #client: Client;
  readonly #placement: Placement;
  /** Begins the ids of our statements; the run follows. */
  readonly #owner: string;
  /** Tables that have this run's column, by name in SQL. */
  readonly #entered = new Set<string>();
  #run = "";
  #unansweredCount = 0;

  constructor(client: Client, sink: string, placement: Placement) {
    this.#client = client;
    this.#placement = placement;
    this.#owner = `millrace ${encodeURIComponent(sink)} `;
    this.#begin();
  }

  #begin(): void {
    this.#entered.clear();
    this.#unansweredCount = this.#client.unansweredCount;
    this.#run = randomBytes(8).toString("hex");
    this.#client.mark = `${this.#owner}${this.#run} `;
  }

  /** This run's column. */
  get column(): string {
    return `${RUN_PREFIX}${this.#run}`;
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
    this.#entered.add(sqlName);
  }

  /**
   * From here on only this run's statements change these tables. Call it before each write; true: it has changed
   * something, which took time.
   */
  async enter(tables: readonly Fenced[], signal: AbortSignal): Promise<boolean> {
    if (this.#unansweredCount !== this.#client.unansweredCount) this.#begin();
    const strange = tables.filter(({ sqlName }) => !this.#entered.has(sqlName));
    if (strange.length === 0) return false;
    const stale = await this.#columnsOf(strange, signal);
    await Promise.all(strange.map((table) => this.#replace(table, stale.get(table.sqlName) ?? [], signal)));
    // The server ends one's own statements without a grant, and answers when they have ended.
    await this.#client.run(
      `KILL QUERY${onCluster(this.#placement)} WHERE user = currentUser() AND startsWith(query_id, ${quoteLiteral(this.#owner)}) ` +
        `AND NOT startsWith(query_id, ${quoteLiteral(this.#client.mark)}) SYNC`,
      signal,
    );
    for (const table of strange) this.made(table);
    return true;
  }

  /** A statement that comes late fails as a whole, because what it drops is gone. */
  async #replace({ sqlName }: Fenced, stale: readonly string[], signal: AbortSignal): Promise<void> {
    const drops = stale.map((name) => `DROP COLUMN ${quoteIdentifier(name)}`);
    const changes = [...drops, `ADD COLUMN ${quoteIdentifier(this.column)} ${RUN_TYPE}`].join(", ");
    await this.#client.run(`ALTER TABLE ${sqlName}${onCluster(this.#placement)} ${changes}`, signal);
  }

  async #columnsOf(tables: readonly Fenced[], signal: AbortSignal): Promise<ReadonlyMap<string, readonly string[]>> {
    const databases = [...new Set(tables.map(({ target }) => quoteLiteral(target.database)))].join(", ");
    const columns = await this.#client.rows(
      `SELECT database, table, name FROM system.columns WHERE database IN (${databases}) AND startsWith(name, ${quoteLiteral(RUN_PREFIX)})`,
      signal,
    );
    const found = Map.groupBy(columns, ([database, table]) => sqlNameOf({ database: database!, table: table! }));
    return new Map([...found].map(([name, rows]) => [name, rows.map(([, , column]) => column!)]));
  }
}
