import { setTimeout as delay } from "node:timers/promises";
import type { Client, QueryResult, QueryResultRow } from "pg";
import { within } from "../../../src/core/deadline.ts";
import { connect } from "../client/connect.ts";
import type { ErrorReason } from "../../../src/core/errors.ts";
import { aborted, classify, sourceError } from "./errors.ts";
import type { PostgresAddress } from "../client/url.ts";
import { KeptSessions } from "./snapshot/kept-sessions.ts";
import type { Wire } from "./snapshot/wire.ts";

const QUERY_TIMEOUT_MS = 60_000;
/** After these the connection is in an unknown state. */
const UNCERTAIN: ReadonlySet<ErrorReason> = new Set(["stopped", "lost", "ending", "resources", "disk", "conflict"]);
/** A server that is still there answers a short statement within it. */
const LAST_ANSWER_MS_MAX = 1_000;

/**
 * The ordinary connection beside the stream: catalogue, marks, health. Made when first used and again after it broke;
 * statements queue on it, so it is for short ones that stand alone.
 */
export class Database {
  readonly address: PostgresAddress;
  /** Of reads beside this connection. */
  readonly sessions = new KeptSessions<Wire>();
  #connecting: Promise<Client> | undefined;
  /** Settles when the statement before has: the driver wants one at a time. */
  #before: Promise<unknown> = Promise.resolve();

  constructor(address: PostgresAddress) {
    this.address = address;
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

  /** Statements without parameters, as one simple query: one transaction. */
  async simple(doing: string, sql: string, signal: AbortSignal): Promise<void> {
    await this.#run(doing, (client) => client.query(sql), signal);
  }

  async #run<T>(doing: string, query: (client: Client) => Promise<T>, signal: AbortSignal): Promise<T> {
    const turn = this.#before;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#before = turn.then(() => promise);
    try {
      await withDeadline(turn, doing, signal);
      return await this.#runNow(doing, query, signal);
    } finally {
      resolve();
    }
  }

  async #runNow<T>(doing: string, query: (client: Client) => Promise<T>, signal: AbortSignal): Promise<T> {
    try {
      return await withDeadline(query(await this.#client(signal)), doing, signal);
    } catch (error) {
      const known = classify(error, doing);
      if (known.reason !== undefined && UNCERTAIN.has(known.reason)) await this.close();
      throw known;
    }
  }

  /** The next statement goes by another connection. The one in flight ends first, unless its server is gone. */
  async renew(): Promise<void> {
    const turn = this.#before;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#before = turn.then(() => promise);
    try {
      await Promise.race([turn, delay(LAST_ANSWER_MS_MAX, undefined, { ref: false })]);
      await this.close();
    } finally {
      resolve();
    }
  }

  /** Closes the connection; the next use opens another. */
  async close(): Promise<void> {
    this.sessions.clear();
    const connecting = this.#connecting;
    this.#connecting = undefined;
    if (connecting === undefined) return;
    // A connection that was never made needs no end.
    const client = await connecting.catch(() => undefined);
    if (client !== undefined) endQuietly(client);
  }

  async #client(signal: AbortSignal): Promise<Client> {
    if (signal.aborted) throw aborted("a query to the source");
    const connecting = this.#connecting ?? this.#begin();
    try {
      return await withDeadline(connecting, "connecting to the source", signal);
    } catch (error) {
      if (this.#connecting === connecting) this.#connecting = undefined;
      throw error;
    }
  }

  /** Shared by all who wait for it, so no single caller's signal ends it; it has a time limit of its own. */
  #begin(): Promise<Client> {
    const connecting = this.#connect(() => {
      // Its end may be told when the next connection is there already.
      if (this.#connecting === connecting) this.#connecting = undefined;
    });
    this.#connecting = connecting;
    return connecting;
  }

  async #connect(onEnd: () => void): Promise<Client> {
    const { client } = await connect(this.address, { signal: new AbortController().signal });
    client.on("error", onEnd);
    client.on("end", onEnd);
    return client;
  }
}

/** Ends a client without waiting for its peer, which may be gone. */
export function endQuietly(client: Client): void {
  client.end().catch(() => {
    // The peer was gone already, which is what was wanted.
  });
}

export function withDeadline<T>(
  work: Promise<T>,
  doing: string,
  signal: AbortSignal,
  timeoutMs = QUERY_TIMEOUT_MS,
): Promise<T> {
  const late = () =>
    sourceError(
      "MR2021",
      "retryable",
      `the source did not answer for ${timeoutMs / 1000} s while ${doing}`,
      undefined,
      undefined,
      "lost",
    );
  return within(work, { signal, timeoutMs, stopped: () => aborted(doing), late });
}
