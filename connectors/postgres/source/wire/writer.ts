/**
 * Where Millrace writes marks and the publication: the server that it reads from, or, while that is a standby, its primary, or
 * nowhere, if `source.primaryUrl` does not say where that is. What was written is there for the next read, because the call
 * waits until the standby has replayed it. So whatever is read after a mark, of rows or of the catalogue, shows everything that
 * was committed before it.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { QueryResultRow } from "pg";
import type { PostgresAddress } from "../../../../src/postgres/url.ts";
import { sourceError } from "../errors.ts";
import { Database } from "./database.ts";
import { parseLsn } from "./lsn.ts";
import { connectReplication, identifySystem } from "./replication-connection.ts";

/** Between two looks at how far the standby is, at first and later. */
const LOOK_MS = 1;
const LOOK_MS_MAX = 50;

interface PrimaryRow {
  readonly standby: boolean;
  readonly log: string;
}

/** System identifier and timeline: the name of a segment begins with the latter. */
const PRIMARY_SQL = `select pg_is_in_recovery() as standby, (select system_identifier::text from pg_control_system()) || ' ' ||
  case when pg_is_in_recovery() then 0 else ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int end as log`;

export class Writer {
  readonly #reads: Database;
  readonly #primary: Database | null;
  /** The primary's log, once it was found to be the one that the standby replays. */
  #log: string | undefined;

  /** `primary`: `source.primaryUrl`. */
  constructor(reads: Database, primary: PostgresAddress | null) {
    this.#reads = reads;
    this.#primary = primary === null ? null : new Database(primary, "source.primaryUrl");
  }

  get hasPrimary(): boolean {
    return this.#primary !== null;
  }

  /** False for a standby whose primary is not known. */
  async canWrite(signal: AbortSignal): Promise<boolean> {
    return this.#primary !== null || !(await this.#reads.isStandby(signal));
  }

  /** The server that takes writes now: a standby may have been promoted since the last call. */
  async database(signal: AbortSignal): Promise<Database> {
    if (this.#primary === null || !(await this.#reads.isStandby(signal))) return this.#reads;
    await this.#expectPrimary(this.#primary, signal);
    return this.#primary;
  }

  /** A statement that writes. */
  async rows<Row extends QueryResultRow>(
    doing: string,
    sql: string,
    values: readonly unknown[],
    signal: AbortSignal,
  ): Promise<Row[]> {
    const database = await this.database(signal);
    const rows = await database.rows<Row>(doing, sql, values, signal);
    await this.replayed(database, signal);
    return rows;
  }

  /** Waits until reads show what was committed over `written`, however long the standby takes. */
  async replayed(written: Database, signal: AbortSignal): Promise<void> {
    if (written.address === this.#reads.address) return;
    const doing = "waiting for the standby";
    // Not where the next record begins: behind a page's header the standby would not arrive before that record.
    const flushed = "select pg_current_wal_flush_lsn()::text as lsn";
    const [end] = await written.rows<{ lsn: string }>(doing, flushed, [], signal);
    const sql = "select pg_last_wal_replay_lsn() >= $1::pg_lsn as there, pg_is_in_recovery() as standby";
    for (let waitMs = LOOK_MS; ; waitMs = Math.min(2 * waitMs, LOOK_MS_MAX)) {
      const [row] = await this.#reads.rows<{ there: boolean; standby: boolean }>(doing, sql, [end?.lsn], signal);
      if (row?.there === true) return;
      if (row?.standby !== true) throw promoted();
      await delay(waitMs, undefined, { signal });
    }
  }

  /** How far the standby is. */
  async replayedUntil(signal: AbortSignal): Promise<bigint> {
    const sql = "select pg_last_wal_replay_lsn()::text as lsn";
    const [row] = await this.#reads.rows<{ lsn: string }>("looking how far the standby is", sql, [], signal);
    return parseLsn(row?.lsn ?? "");
  }

  /** The next write uses other connections, and compares the servers again. */
  async renew(): Promise<void> {
    this.#log = undefined;
    await this.#primary?.renew();
  }

  async close(): Promise<void> {
    await this.#primary?.close();
  }

  /** What is written to a server that was left behind at a promotion never reaches the standby. */
  async #expectPrimary(primary: Database, signal: AbortSignal): Promise<void> {
    const [row] = await primary.rows<PrimaryRow>("looking at the primary", PRIMARY_SQL, [], signal);
    if (row?.standby !== false) throw noPrimary("a standby too");
    if (row.log === this.#log) return;
    using connection = await connectReplication(this.#reads.address, signal);
    const { systemIdentifier, timeline } = await identifySystem(connection, signal);
    const [system, own] = row.log.split(" ");
    if (system !== systemIdentifier) throw noPrimary("another cluster than the standby's");
    if (Number(own) !== timeline)
      throw noPrimary(`a server on timeline ${own}, and the standby replays timeline ${timeline}`);
    this.#log = row.log;
  }
}

function noPrimary(what: string): Error {
  return sourceError("MR2031", "retryable", `source.primaryUrl leads to ${what}`, {
    hint: "Let `source.primaryUrl` lead to the primary whose log the standby replays. Until then nothing can be written: no heartbeat, no table is added, and no rows are read beside the stream.",
  });
}

/** A standby on whose log something happens that needs another comparison before anything is read. */
export function promoted(): Error {
  return sourceError("MR2032", "retryable", "the standby was promoted, or follows a server that was", {
    hint: "Millrace compares the logs and goes on.",
  });
}
