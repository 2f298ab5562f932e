/**
 * Who has which table's rows in targets that tables share (connectors/warehouse/scopes), in a table beside the checkpoints.
 * ClickHouse has neither unique keys nor transactions: each change is one insert of rows with a number, whose token is made of the
 * number before. The server takes only the first insert with one token, so of two sinks that have read the same number one
 * changes something, and the other looks again.
 *
 *     scope                                 owner          former         revision
 *     ''                                                                  12         the last change, with a name of its own
 *     `shared`.`orders` {"tenant":"acme"}   eu/warehouse   us/warehouse   12
 *     `shared`.`orders` {"tenant":"zed"}                                  9          nobody's any more
 */
import { randomUUID } from "node:crypto";
import { type ScopeOwners, ScopeTable } from "../warehouse/scopes.ts";
import type { Client } from "./client.ts";
import { current, Reads } from "./current.ts";
import { notShown } from "./errors.ts";
import { META_DATABASE, quoteLiteral, sqlNameOf } from "./names.ts";
import { isReplicated } from "./tables/existing.ts";
import type { Placement } from "./tables/layout.ts";
import { engineOf, onCluster, tableSettings } from "./tables/statements.ts";

const NAME = { database: META_DATABASE, table: "scopes" };
const TABLE = sqlNameOf(NAME);
const OWNED = new ScopeTable(`(SELECT * FROM ${TABLE} FINAL WHERE owner != '')`, quoteLiteral);
const NOBODY = "";

/** How many of the last inserts a table without replicas remembers, so that it takes none twice. */
const TOKENS_KEPT = 1_000;
/** Refusals in a row, without another writer, after which the work is tried again later. */
const REFUSALS_MAX = 3;

/** The last change. */
interface Change {
  readonly revision: bigint;
  /** Of this change alone. */
  readonly writer: string;
}

/** For one call of the sink, which `signal` ends. */
export class ScopeRows {
  readonly #client: Client;
  readonly #placement: Placement;
  readonly #signal: AbortSignal;
  readonly #reads: Reads;
  /** Of the table. */
  #engine: string | undefined;

  constructor(client: Client, placement: Placement, signal: AbortSignal) {
    this.#client = client;
    this.#placement = placement;
    this.#signal = signal;
    this.#reads = new Reads(client, { has: () => isReplicated(this.#engine) }, signal);
  }

  async find(scopes: readonly string[]): Promise<ScopeOwners> {
    await this.#make();
    return await OWNED.find(scopes, (sql) => this.#rows(sql));
  }

  /** The same; makes nothing. */
  async look(scopes: readonly string[]): Promise<ScopeOwners> {
    this.#engine ??= await this.#look();
    return this.#engine === undefined ? new Map() : await OWNED.find(scopes, (sql) => this.#rows(sql));
  }

  async of(owner: string): Promise<readonly string[]> {
    // Most sinks have none.
    this.#engine ??= await this.#look();
    if (this.#engine === undefined) return [];
    return (await this.#rows(OWNED.of(owner))).map(([scope]) => scope ?? "");
  }

  async release(owner: string, scopes: readonly string[]): Promise<void> {
    if (scopes.length === 0) return;
    await this.change(scopes, (there) => {
      const own = scopes.filter((scope) => there.get(scope)?.owner === owner);
      return new Map(own.map((scope) => [scope, { owner: NOBODY }]));
    });
  }

  /** It has no former owner any more. */
  async settle(owner: string, scope: string): Promise<void> {
    await this.change([scope], (there) => {
      const found = there.get(scope);
      return found?.owner === owner && found.former !== undefined ? new Map([[scope, { owner }]]) : new Map();
    });
  }

  /** `changedIn`: what replaces that. Returns what is there then. */
  async change(scopes: readonly string[], changedIn: (there: ScopeOwners) => ScopeOwners): Promise<ScopeOwners> {
    await this.#make();
    let before: bigint | null = null;
    for (let refusals = 0; ;) {
      // Invariant: read first, so that the token is refused if anything that follows is older than what is there.
      const { revision: last } = await this.#last();
      const there = await this.find(scopes);
      const changed = changedIn(there);
      if (changed.size === 0) return there;
      // Nobody wrote and yet the server refused: it remembers what followed this change before the table was put back.
      refusals = last === before ? refusals + 1 : 0;
      if (refusals > REFUSALS_MAX) throw notShown("whose the rows of shared tables are");
      before = last;
      // Millrace writes more slowly, so this is above all that the server remembers of earlier rows.
      const soon = BigInt(Date.now()) * 1_000n;
      const change = { revision: last >= soon ? last + 1n : soon, writer: randomUUID() };
      await this.#insert(changed, change, `scopes after ${last} ${refusals}`);
      const stored = await this.#last();
      if (stored.revision === change.revision && stored.writer === change.writer)
        return new Map([...there, ...changed]);
    }
  }

  async #last(): Promise<Change> {
    const sql = `SELECT revision, writer FROM ${TABLE} WHERE scope = '' ORDER BY revision DESC LIMIT 1`;
    const [[revision, writer] = []] = await this.#rows(sql);
    return { revision: BigInt(revision ?? 0), writer: writer ?? "" };
  }

  async #insert(owners: ScopeOwners, { revision, writer }: Change, token: string): Promise<void> {
    const rows = [...owners].map(([scope, { owner = NOBODY, former = "" }]) => [scope, owner, former]);
    const values = [...rows, ["", "", ""]].map(
      (texts) => `(${[...texts, String(revision), writer].map(quoteLiteral).join(", ")})`,
    );
    await this.#client.run(
      `INSERT INTO ${TABLE} (scope, owner, former, revision, writer) VALUES ${values.join(", ")}`,
      this.#signal,
      { insert_deduplicate: 1, insert_deduplication_token: token },
    );
  }

  async #rows(sql: string): ReturnType<Client["rows"]> {
    return await this.#reads.rows(TABLE, sql);
  }

  async #look(): Promise<string | undefined> {
    const [[engine] = []] = await this.#client.rows(
      `SELECT engine FROM system.tables WHERE database = ${quoteLiteral(NAME.database)} AND name = ${quoteLiteral(NAME.table)}`,
      this.#signal,
    );
    return engine ?? undefined;
  }

  async #make(): Promise<void> {
    this.#engine ??= await this.#look();
    if (this.#engine !== undefined) return;
    const hasReplicas = this.#placement.cluster !== undefined;
    const window = { non_replicated_deduplication_window: TOKENS_KEPT };
    const settings = tableSettings(this.#placement, hasReplicas ? {} : window);
    await this.#client.run(
      `CREATE TABLE IF NOT EXISTS ${TABLE}${onCluster(this.#placement)} (scope String, owner String, former String, ` +
        `revision UInt64, writer String) ENGINE = ${engineOf(this.#placement, ["revision"])} ORDER BY scope${settings}`,
      this.#signal,
    );
    this.#engine = await current(
      () => this.#look(),
      (engine) => engine !== undefined,
      this.#signal,
    );
    if (this.#engine === undefined) throw notShown("the table of those who have rows in shared tables");
  }
}
