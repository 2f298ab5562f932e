import { setTimeout as delay } from "node:timers/promises";
import type { Client, QueryResult, QueryResultRow } from "pg";
import { systemClock } from "../../../../src/core/clock.ts";
import { withTimeout } from "../../../../src/core/waiting.ts";
import { connect } from "../../../../src/postgres/connect.ts";
import { failureOf } from "../../../../src/postgres/failure.ts";
import { OneConnection } from "../../../../src/postgres/one-connection.ts";
import type { ErrorReason, MillraceError } from "../../../../src/core/errors.ts";
import { inFrontOf, lockHolders } from "../../blocking-transactions.ts";
import { aborted, failedAt, named, sourceError, type UrlKey, waitedForLock } from "../errors.ts";
import type { PostgresAddress } from "../../../../src/postgres/url.ts";
import { KeptSessions } from "./row-session.ts";

const NEVER = new AbortController().signal;
const QUERY_TIMEOUT_MS = 60_000;
/** After these the connection is in an unknown state. */
const UNCERTAIN: ReadonlySet<ErrorReason> = new Set([
  "stopped",
  "lost",
  "ending",
  "resources",
  // Another limit counts in a new session.
  "temp-files",
  "disk",
  "conflict",
]);
/** A server that is still alive answers a short statement within this time. */
const LAST_ANSWER_MS_MAX = 1_000;

/** In a SQL_ASCII database, bytes of a name that are no UTF-8 would make the whole catalogue unreadable: they are sent as they are. */
const BEGIN_SQL = `select pg_is_in_recovery() as standby, case when current_setting('server_encoding') = 'SQL_ASCII'
  then set_config('client_encoding', 'SQL_ASCII', false) end`;

/**
 * The ordinary connection beside the stream: catalogue, marks, health. It is opened at first use, and again after it broke.
 * Its statements wait for each other, so it is for short, independent ones.
 */
export class Database {
  readonly address: PostgresAddress;
  /** Sessions for reads beside this connection. */
  readonly sessions = new KeptSessions();
  readonly #connection: OneConnection;
  readonly #key: UrlKey;
  /** When the connection was opened: a standby may be promoted, but no primary becomes a standby without ending its sessions. */
  #wasStandby = false;

  /** `key`: where the configuration has the address. */
  constructor(address: PostgresAddress, key: UrlKey = "source.url") {
    this.address = address;
    this.#key = key;
    // Shared by all callers that wait for it, so no single caller's signal ends it; it has its own time limit.
    this.#connection = new OneConnection(async () => {
      const { client } = await connect(address, { signal: NEVER });
      const { rows } = await client.query<{ standby: boolean }>(BEGIN_SQL);
      this.#wasStandby = rows[0]?.standby === true;
      return client;
    });
  }

  async rows<Row extends QueryResultRow>(
    doing: string,
    sql: string,
    values: readonly unknown[],
    signal: AbortSignal,
  ): Promise<Row[]> {
    const result = await this.#run(
      doing,
      (client): Promise<QueryResult<Row>> => client.query<Row>(sql, [...values]),
      signal,
    );
    return result.rows;
  }

  /** See `Reads`. */
  async legibleRows<Row extends QueryResultRow>(
    doing: string,
    sql: string,
    values: readonly unknown[],
    signal: AbortSignal,
  ): Promise<Row[] | null> {
    return await this.#run(doing, (client) => new Reads(client).legible<Row>(sql, values), signal);
  }

  /** Several reads that see one moment. Those within a transaction that the session is in each see their own. */
  async atOneMoment<T>(doing: string, work: (reads: Reads) => Promise<T>, signal: AbortSignal): Promise<T> {
    const query = async (client: Client): Promise<T> => {
      if (isInTransaction(client)) return await work(new Reads(client));
      await client.query("begin isolation level repeatable read read only");
      try {
        return await work(new Reads(client));
      } finally {
        // If the connection is gone, the work has said so.
        await client.query("rollback").catch(() => {});
      }
    };
    return await this.#run(doing, query, signal);
  }

  async isStandby(signal: AbortSignal): Promise<boolean> {
    const doing = "looking whether the source is a standby";
    await this.#run(doing, async () => {}, signal);
    if (!this.#wasStandby) return false;
    const sql = "select pg_is_in_recovery() as standby";
    const [row] = await this.rows<{ standby: boolean }>(doing, sql, [], signal);
    return row?.standby === true;
  }

  /** Statements without parameters, as one simple query: one transaction. */
  async simple(doing: string, sql: string, signal: AbortSignal): Promise<void> {
    await this.#run(doing, (client) => client.query(sql), signal);
  }

  async #run<T>(doing: string, query: (client: Client) => Promise<T>, signal: AbortSignal): Promise<T> {
    return await this.#connection.inTurn(
      () => this.#runNow(doing, query, signal),
      (before) => answered(before, doing, signal),
    );
  }

  async #runNow<T>(doing: string, query: (client: Client) => Promise<T>, signal: AbortSignal): Promise<T> {
    let client: (Client & { readonly processID?: number | null }) | undefined;
    try {
      client = await this.#client(signal);
      return await answered(query(client), doing, signal);
    } catch (error) {
      const found = named(failedAt(error, doing, this.address), this.#key);
      const known = found.reason === "lost" ? await this.#explained(found, client?.processID, signal) : found;
      if (known.reason !== undefined && UNCERTAIN.has(known.reason)) this.#drop();
      throw known;
    }
  }

  /** A server that gave no answer may be there: then the statement waits for a lock. */
  async #explained(error: MillraceError, pid: number | null | undefined, signal: AbortSignal): Promise<MillraceError> {
    if (pid == null || signal.aborted) return error;
    const holders = await lockHolders(this.address, inFrontOf(pid), signal);
    return holders === null ? error : waitedForLock(error, holders);
  }

  async #client(signal: AbortSignal): Promise<Client> {
    if (signal.aborted) throw aborted("a query to the source");
    return await answered(this.#connection.client(), "connecting to the source", signal);
  }

  /** The next statement uses another connection. The one in flight ends first, unless its server is gone. */
  async renew(): Promise<void> {
    const wait = (before: Promise<unknown>) =>
      Promise.race([before, delay(LAST_ANSWER_MS_MAX, undefined, { ref: false })]);
    await this.#connection.inTurn(() => this.close(), wait);
  }

  /** Closes the connection; the next use opens another. */
  async close(): Promise<void> {
    this.#drop();
  }

  #drop(): void {
    this.sessions.clear();
    this.#connection.drop();
  }
}

/** Reads of texts that may have no form in UTF-8. */
export class Reads {
  readonly #client: Client;

  constructor(client: Client) {
    this.#client = client;
  }

  /** Null: the answer has a text without a form in UTF-8. A transaction that the session is in goes on. */
  async legible<Row extends QueryResultRow>(sql: string, values: readonly unknown[]): Promise<Row[] | null> {
    const client = this.#client;
    const isInside = isInTransaction(client);
    if (isInside) await client.query("savepoint legible");
    try {
      return (await client.query<Row>(sql, [...values])).rows;
    } catch (error) {
      if (failureOf(error).reason !== "encoding") throw error;
      if (isInside) await client.query("rollback to savepoint legible");
      return null;
    }
  }

  /** Texts as the server has them, read as UTF-8. */
  async raw<Row extends QueryResultRow>(sql: string, values: readonly unknown[]): Promise<Row[]> {
    await this.#client.query("set client_encoding = 'SQL_ASCII'");
    const { rows } = await this.#client.query<Row>(sql, [...values]);
    await this.#client.query("set client_encoding = 'UTF8'");
    return rows;
  }
}

function isInTransaction(client: Client): boolean {
  return client.getTransactionStatus() === "T";
}

/** The result of work that waits for the server, which must answer in time. */
export async function answered<T>(
  work: Promise<T>,
  doing: string,
  signal: AbortSignal,
  timeoutMs = QUERY_TIMEOUT_MS,
): Promise<T> {
  const late = (): never => {
    const message = `the source did not answer for ${timeoutMs / 1000} s while ${doing}`;
    throw sourceError("MR2001", "retryable", message, { reason: "lost" });
  };
  return await withTimeout(work, { clock: systemClock, signal, timeoutMs, late, stopped: () => aborted(doing) });
}
