/**
 * How runs of statements enter tables (core/targets/write-runs). Each table has a column of type EPHEMERAL, which stores
 * nothing: its name is known to one run, and each statement of the run names it. Another run puts another column in its
 * place, and the server ends what is still running of earlier ones. What comes later names a column that is gone, and is
 * refused. An EXCHANGE can name no column: the copy that it would put in a table's place is gone instead.
 */
import { createHash, randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { ClickHouseSettings } from "@clickhouse/client";
import { eachOf, groupsOf } from "../../src/core/each-of.ts";
import { WriteRuns } from "../../src/core/targets/write-runs.ts";
import type { Client } from "./client.ts";
import { current, DOUBT_MS_MAX } from "./current.ts";
import { isDenied, isLoginRefused, notEntered, stillRunning } from "./errors.ts";
import { quoteIdentifier, quoteLiteral, rebuiltPrefix, RUN_PREFIX, sqlNameOf, viewOf } from "./names.ts";
import type { Placement, TableLayout } from "./tables/layout.ts";
import { onCluster, RUN_TYPE } from "./tables/statements.ts";

/** Without `table`: of one sink alone. */
export type Fenced = Pick<TableLayout, "target" | "sqlName"> & Partial<Pick<TableLayout, "table">>;

/** By owner, which is another sink than this one: the tables in which its rows may be. */
type FormerOwners = ReadonlyMap<string, readonly Fenced[]>;

/** Of runs, by table. */
type Columns = ReadonlyMap<string, readonly string[]>;

/** In a column's name, in place of a run. */
const NO_RUN = "none";

/** A truncate of a large table takes minutes: the batch waits, and is tried again. */
const SETTLED_MS_MAX = 60_000;
const LOOK_AGAIN_MS = 100;
const NAMES_MAX = 500;

/**
 * Names under which a server knows all replicas of these databases, where it says so itself: a balancer may have led a
 * statement to another one than it leads the next to.
 */
export async function replicaClusters(
  client: Client,
  databases: readonly string[],
  signal: AbortSignal,
): Promise<readonly string[]> {
  const list = databases.map(quoteLiteral).join(", ");
  // ClickHouse Cloud's own names, of one service and of all that share its tables.
  const ofCloud = `SELECT DISTINCT arrayJoin(['default', 'all_groups.default']) FROM system.tables WHERE database IN (${list}) AND startsWith(engine, 'Shared')`;
  const names = await client.rows(
    `SELECT name FROM system.databases WHERE engine = 'Replicated' AND name IN (${list}) UNION ALL ${ofCloud}`,
    signal,
  );
  // Not every user may see the list of clusters.
  if (names.length === 0) return [];
  const wanted = names.map(([name]) => quoteLiteral(name!)).join(", ");
  const rows = await client.rows(
    `SELECT cluster FROM system.clusters WHERE cluster IN (${wanted}) GROUP BY cluster HAVING count() > 1 ORDER BY cluster`,
    signal,
  );
  return rows.map(([cluster]) => cluster!);
}

/** What all servers of a cluster run. One that can't be reached is left out. */
export function processesOf(cluster: string): string {
  return `clusterAllReplicas(${quoteLiteral(cluster)}, system.processes)`;
}

export class WriteFence {
  #client: Client;
  readonly #placement: Placement;
  /** Begins the ids of this sink's statements in all processes; lease and run follow. */
  readonly #owner: string;
  readonly lease: number;
  /** Begins the names of this sink's columns: several daemons may write to a table that tables share. */
  readonly #prefix: string;
  readonly #runs = new WriteRuns(() => randomBytes(8).toString("hex"));

  constructor(client: Client, sink: string, lease: number, placement: Placement) {
    this.#client = client;
    this.#placement = placement;
    this.#owner = idsOf(sink);
    this.lease = lease;
    this.#prefix = prefixOf(sink);
    client.sender = this;
  }

  /** The sink was opened again under the same lease: its run goes on, if all that it has sent was answered. */
  reopened(client: Client): void {
    this.#client = client;
    client.sender = this;
  }

  /** Begins the ids of the run's statements in the server's list of what it runs. */
  get mark(): string {
    return `${this.#owner}${this.lease} ${this.#runs.id} `;
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
   * A statement lacked a column of the table, perhaps this run's: somebody else has entered it since. Or this sink has taken a part
   * of it from another one.
   */
  left({ sqlName }: Pick<Fenced, "sqlName">): void {
    this.#runs.left(sqlName);
  }

  /**
   * From here on only this run's statements change these tables. Call it before each write. `formerOwners` is asked
   * about the tables that the run has yet to enter, once the run's column is in each. It throws if another process has
   * taken the sink, or another daemon a table: then none of them counts as entered. One that takes a table later first
   * removes this run's column from it, so nothing is missed.
   */
  async enter<T extends Fenced>(
    tables: readonly T[],
    signal: AbortSignal,
    formerOwners: (entering: readonly T[]) => Promise<FormerOwners>,
  ): Promise<void> {
    const unentered = this.#runs.unentered(tables, ({ sqlName }) => sqlName);
    if (unentered.length === 0) return;
    let columns = await this.#columnsOf(unentered, signal);
    let open: readonly Fenced[] = unentered;
    while (open.length > 0) {
      const known = columns;
      await eachOf(open, this.#client.tablesAtOnce, (table) =>
        this.#replace(table, known.get(table.sqlName) ?? [], signal),
      );
      // The list may have come from a replica that was behind: columns that it lacked are still there.
      columns = await this.#columnsOf(open, signal, this.column);
      open = open.filter(({ sqlName }) => columns.get(sqlName)!.length > 1);
    }
    // Invariant: after the columns. Who makes a copy from here on finds that its own is gone, and goes no further.
    await this.#dropCopies(unentered, signal);
    const owners = await formerOwners(unentered);
    // Invariant: after that one has them no more. Who enters a table looks whose its parts are, once its own column is there.
    await this.#dropRuns(owners, signal);
    await this.#endFormer(unentered, owners, signal);
    for (const table of unentered) this.made(table);
  }

  /**
   * Of tables that are shared. Of others every run's column is gone by now but this one's. A former owner that has other parts of
   * a table enters it again; until then a column still says that it writes there (tables/evidence).
   */
  async #dropRuns(owners: FormerOwners, signal: AbortSignal): Promise<void> {
    for (const [owner, tables] of owners) {
      const shared = tables.filter(({ table }) => table?.scope !== undefined);
      if (shared.length === 0) continue;
      const kept = `${prefixOf(owner)}${NO_RUN}`;
      const look = () => this.#runsIn(shared, prefixOf(owner), signal);
      const isShown = (runs: Columns) => shared.every(({ sqlName }) => runs.has(sqlName));
      const found = await current(look, isShown, signal, DOUBT_MS_MAX);
      for (const { sqlName } of shared) {
        const runs = (found.get(sqlName) ?? []).filter((name) => name !== kept);
        if (runs.length === 0) continue;
        const drops = runs.map((name) => `DROP COLUMN IF EXISTS ${quoteIdentifier(name)}`).join(", ");
        const add = `ADD COLUMN IF NOT EXISTS ${quoteIdentifier(kept)} ${RUN_TYPE}`;
        await this.#client.run(`ALTER TABLE ${sqlName}${onCluster(this.#placement)} ${drops}, ${add}`, signal);
      }
    }
  }

  /**
   * Ends statements of former runs and of former owners, under whatever login and on whichever server they run, and waits until
   * none is left: their column is gone, and what has begun does not look for it again.
   */
  async #endFormer(tables: readonly Fenced[], owners: FormerOwners, signal: AbortSignal): Promise<void> {
    const begunMs = performance.now();
    const former = () => this.#former(owners, begunMs);
    try {
      // It answers when they have ended. Those of one's own login take no grant.
      await this.#client.run(`KILL QUERY${onCluster(this.#placement)} WHERE ${this.#former(owners)} SYNC`, signal);
    } catch (error) {
      // All that are left are another login's.
      if (!isDenied(error) || this.#placement.cluster !== undefined) throw error;
    }
    // On a cluster each server has answered.
    if (this.#placement.cluster !== undefined) return;
    const clusters = await replicaClusters(this.#client, databasesOf(tables), signal);
    const until = performance.now() + SETTLED_MS_MAX;
    await this.#expectEnded("system.processes", former, until, signal);
    for (const cluster of clusters) {
      try {
        await this.#expectEnded(processesOf(cluster), former, until, signal, { skip_unavailable_shards: 1 });
      } catch (error) {
        // The server asks them with a login of its own. The sink's was taken just now.
        if (!isLoginRefused(error)) throw error;
      }
    }
  }

  async #expectEnded(
    processes: string,
    former: () => string,
    until: number,
    signal: AbortSignal,
    settings: ClickHouseSettings = {},
  ): Promise<void> {
    for (;;) {
      const sql = `SELECT DISTINCT user FROM ${processes} WHERE ${former()} ORDER BY user`;
      const users = (await this.#client.rows(sql, signal, settings)).map(([user]) => user ?? "");
      if (users.length === 0) return;
      if (performance.now() > until) throw stillRunning(users);
      await sleep(LOOK_AGAIN_MS, undefined, { signal });
    }
  }

  /** Throws unless the table has been this run's since it was entered: only `enter` brings a removed column back. */
  async expectEntered(table: Fenced, signal: AbortSignal): Promise<void> {
    try {
      await this.#columnsOf([table], signal, this.column);
    } catch (error) {
      this.left(table);
      throw error;
    }
  }

  /** What former runs made to take the place of these tables or their views: without it, an EXCHANGE that comes late fails. */
  async #dropCopies(tables: readonly Fenced[], signal: AbortSignal): Promise<void> {
    const names = tables.flatMap(({ target, table }) =>
      [target, viewOf(target)].map((replaced) => {
        const name = `${rebuiltPrefix(replaced)}${table?.scope === undefined ? "" : this.#prefix}`;
        return `(database = ${quoteLiteral(target.database)} AND startsWith(name, ${quoteLiteral(name)}))`;
      }),
    );
    for (const some of groupsOf(names, NAMES_MAX)) {
      const left = await this.#client.rows(
        `SELECT database, name FROM system.tables WHERE ${some.join(" OR ")}`,
        signal,
      );
      for (const [database, table] of left)
        await this.#client.run(
          `DROP TABLE IF EXISTS ${sqlNameOf({ database: database!, table: table! })}${onCluster(this.#placement)} SYNC`,
          signal,
        );
    }
  }

  /**
   * Statements of this sink's former runs, and of processes before this one; a successor has a higher lease. Of a former owner
   * those that name its tables: it goes on with others. `begunMs`: it also goes on with other parts of a shared table, so only
   * what has begun by then.
   */
  #former(owners: FormerOwners, begunMs?: number): string {
    const since = begunMs === undefined ? "" : ` AND elapsed >= ${((performance.now() - begunMs) / 1_000).toFixed(3)}`;
    const own =
      `startsWith(query_id, ${quoteLiteral(this.#owner)}) AND NOT startsWith(query_id, ${quoteLiteral(this.mark)}) ` +
      `AND toUInt64OrZero(splitByChar(' ', query_id)[3]) <= ${this.lease}`;
    const theirs = [...owners].map(([owner, tables]) => {
      const named = tables
        .map(
          ({ sqlName, table }) =>
            `position(query, ${quoteLiteral(sqlName)}) > 0${table?.scope === undefined ? "" : since}`,
        )
        .join(" OR ");
      return ` OR (startsWith(query_id, ${quoteLiteral(idsOf(owner))}) AND (${named}))`;
    });
    return theirs.length === 0 ? own : `((${own})${theirs.join("")})`;
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
  async #columnsOf(tables: readonly Fenced[], signal: AbortSignal, added?: string): Promise<Columns> {
    const shared = new Set(tables.flatMap(({ sqlName, table }) => (table?.scope === undefined ? [] : [sqlName])));
    const isOurs = (name: string, column: string): boolean => !shared.has(name) || column.startsWith(this.#prefix);
    const read = async () =>
      new Map(
        [...(await this.#runsIn(tables, RUN_PREFIX, signal))].map(([name, columns]) => [
          name,
          columns.filter((column) => isOurs(name, column)),
        ]),
      );
    if (added === undefined) return await read();
    const isIn = (found: Columns) => (table: Fenced) => found.get(table.sqlName)?.includes(added) === true;
    const found = await current(read, (columns) => tables.every(isIn(columns)), signal);
    if (!tables.every(isIn(found))) throw notEntered("its tables");
    return found;
  }

  /** Columns whose names begin so, by table; others may be among them. */
  async #runsIn(tables: readonly Fenced[], prefix: string, signal: AbortSignal): Promise<Columns> {
    const databases = databasesOf(tables).map(quoteLiteral).join(", ");
    const names = [...new Set(tables.map(({ target }) => quoteLiteral(target.table)))].join(", ");
    const rows = await this.#client.rows(
      `SELECT database, table, name FROM system.columns WHERE database IN (${databases}) AND table IN (${names}) AND startsWith(name, ${quoteLiteral(prefix)})`,
      signal,
    );
    const found = Map.groupBy(rows, ([database, table]) => sqlNameOf({ database: database!, table: table! }));
    return new Map([...found].map(([name, columns]) => [name, columns.map(([, , column]) => column!)]));
  }
}

/** Begins the names of a sink's columns. */
function prefixOf(sink: string): string {
  return `${RUN_PREFIX}${createHash("sha256").update(sink).digest("hex").slice(0, 8)}_`;
}

/** Begins the ids of all statements of a sink. */
function idsOf(sink: string): string {
  return `millrace ${encodeURIComponent(sink)} `;
}

function databasesOf(tables: readonly Fenced[]): readonly string[] {
  return [...new Set(tables.map(({ target }) => target.database))];
}
