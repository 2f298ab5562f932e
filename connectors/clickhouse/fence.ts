/**
 * How runs of statements enter tables (core/targets/write-runs). Each table has a column of type EPHEMERAL, which stores
 * nothing: its name is known to one run, and each statement of the run names it. Another run puts another column in its
 * place, and the server ends what is still running of earlier ones. What comes later names a column that is gone, and is
 * refused.
 */
import { randomBytes } from "node:crypto";
import { WriteRuns } from "../../src/core/targets/write-runs.ts";
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
  readonly #runs = new WriteRuns(() => randomBytes(8).toString("hex"));

  constructor(client: Client, sink: string, placement: Placement) {
    this.#client = client;
    this.#placement = placement;
    this.#owner = `millrace ${encodeURIComponent(sink)} `;
    client.sender = this;
  }

  /** Begins the ids of the run's statements in the server's list of what it runs. */
  get mark(): string {
    return `${this.#owner}${this.#runs.id} `;
  }

  unanswered(): void {
    this.#runs.unanswered();
  }

  /** This run's column. */
  get column(): string {
    return `${RUN_PREFIX}${this.#runs.id}`;
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
    const stale = await this.#columnsOf(unentered, signal);
    await Promise.all(unentered.map((table) => this.#replace(table, stale.get(table.sqlName) ?? [], signal)));
    // The server ends one's own statements without a grant, and answers when they have ended.
    await this.#client.run(
      `KILL QUERY${onCluster(this.#placement)} WHERE user = currentUser() AND startsWith(query_id, ${quoteLiteral(this.#owner)}) ` +
        `AND NOT startsWith(query_id, ${quoteLiteral(this.mark)}) SYNC`,
      signal,
    );
    for (const table of unentered) this.made(table);
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
