/**
 * What each of a sink's tables was when the sink saw it last, in a table of ClickHouse beside the checkpoints: so a start
 * shows what happened to a table's rows while no daemon ran.
 */
import type { Client } from "../client.ts";
import { isGone } from "../errors.ts";
import { META_DATABASE, quoteLiteral, sqlNameOf, type TargetName } from "../names.ts";
import { type Evidence, parseRows, rowsText } from "./evidence.ts";
import { engineOf, onCluster, tableSettings } from "./statements.ts";
import type { Placement } from "./layout.ts";
import { groupsOf } from "../../../src/core/each-of.ts";

const NAME = { database: META_DATABASE, table: "targets" };
const TABLE = sqlNameOf(NAME);
/** Of this table itself. A backup that was put back has another one, and so have the tables in it. */
const OWN_UUID = `(SELECT toString(uuid) FROM system.tables WHERE database = ${quoteLiteral(NAME.database)} AND name = ${quoteLiteral(NAME.table)})`;

/** Of one statement. */
const ROWS_MAX = 1_000;

interface SeenTarget {
  readonly target: TargetName;
  readonly evidence: Evidence;
}

export class LastSeen {
  readonly #sink: string;
  readonly #placement: Placement;
  /** What is stored, by name in SQL. */
  readonly #stored = new Map<string, string>();
  #revision = 0n;

  constructor(sink: string, placement: Placement) {
    this.#sink = sink;
    this.#placement = placement;
  }

  /** By name in SQL. From now on counts above what an earlier process has sent, which may come late. */
  async load(client: Client, signal: AbortSignal): Promise<ReadonlyMap<string, Evidence>> {
    this.#stored.clear();
    const soon = BigInt(Date.now()) * 1_000n;
    if (soon > this.#revision) this.#revision = soon;
    const found = new Map<string, Evidence>();
    for (const [database, table, uuid, rowRanges, revision, isHome] of await this.#read(client, signal)) {
      const name = sqlNameOf({ database: database ?? "", table: table ?? "" });
      const number = BigInt(revision ?? 0);
      if (number > this.#revision) this.#revision = number;
      if (isHome !== "1") continue;
      const evidence = { uuid: uuid ?? "", rows: parseRows(rowRanges ?? "") };
      found.set(name, evidence);
      this.#stored.set(name, textOf(evidence));
    }
    return found;
  }

  /** Stores what is not stored yet. */
  async save(client: Client, seen: readonly SeenTarget[], signal: AbortSignal): Promise<void> {
    const changed = seen.filter(({ target, evidence }) => this.#stored.get(sqlNameOf(target)) !== textOf(evidence));
    if (changed.length === 0) return;
    const revision = ++this.#revision;
    for (const some of groupsOf(changed, ROWS_MAX)) await this.#insert(client, some, revision, signal);
    for (const { target, evidence } of changed) this.#stored.set(sqlNameOf(target), textOf(evidence));
  }

  async #insert(client: Client, rows: readonly SeenTarget[], revision: bigint, signal: AbortSignal): Promise<void> {
    const values = rows.map(({ target: { database, table }, evidence }) => {
      const texts = [database, table, evidence.uuid, rowsText(evidence.rows)].map(quoteLiteral);
      return `(${texts.join(", ")})`;
    });
    const sql =
      `INSERT INTO ${TABLE} (sink, database, name, uuid, rows, home, revision) ` +
      `SELECT ${quoteLiteral(this.#sink)}, *, ${OWN_UUID}, ${revision} ` +
      `FROM values('database String, name String, uuid String, rows String', ${values.join(", ")})`;
    try {
      await client.run(sql, signal);
    } catch (error) {
      if (!isGone(error)) throw error;
      await this.#create(client, signal);
      await client.run(sql, signal);
    }
  }

  /** Removes what is stored for this sink. The table stays: other sinks may begin to use it. */
  async remove(client: Client, signal: AbortSignal): Promise<void> {
    this.#stored.clear();
    const where = `sink = ${quoteLiteral(this.#sink)} AND revision <= ${this.#revision}`;
    await client.run(`ALTER TABLE ${TABLE}${onCluster(this.#placement)} DELETE WHERE ${where}`, signal);
  }

  async #read(client: Client, signal: AbortSignal): ReturnType<Client["rows"]> {
    try {
      return await client.rows(
        `SELECT database, name, uuid, rows, revision, home = ${OWN_UUID} FROM ${TABLE} FINAL WHERE sink = ${quoteLiteral(this.#sink)}`,
        signal,
      );
    } catch (error) {
      if (!isGone(error)) throw error;
      await this.#create(client, signal);
      return [];
    }
  }

  async #create(client: Client, signal: AbortSignal): Promise<void> {
    await client.run(
      `CREATE TABLE IF NOT EXISTS ${TABLE}${onCluster(this.#placement)} (sink String, database String, name String, ` +
        `uuid String, rows String, home String, revision UInt64) ENGINE = ${engineOf(this.#placement, ["revision"])} ` +
        `ORDER BY (sink, database, name)${tableSettings(this.#placement)}`,
      signal,
    );
  }
}

function textOf({ uuid, rows }: Evidence): string {
  return `${uuid} ${rowsText(rows)}`;
}
