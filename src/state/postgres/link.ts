import { setTimeout as sleep } from "node:timers/promises";
import type { Client, QueryResultRow } from "pg";
import { connect, plainClient } from "../../postgres/connect.ts";
import { OneConnection } from "../../postgres/one-connection.ts";
import { parsePostgresUrl, type PostgresAddress } from "../../postgres/url.ts";
import type { FreshPassword, StateAddress } from "../../core/contracts/connector.ts";
import { systemClock, timestamp } from "../../core/clock.ts";
import { type StateWait, type StoredError, storedErrorOf } from "../../core/contracts/state-store.ts";
import { atServer, findMillraceError, type Login } from "../../core/errors.ts";
import { serverAt } from "../../core/system-errors.ts";
import { stateError } from "../errors.ts";
import { classify, silentSoFar } from "./errors.ts";

const CONNECT_MS_MAX = 5_000;
const ANSWER_MS_MAX = 10_000;
const AGAIN_MS = 250;
/** A server that is well answers in milliseconds. */
const SILENT_MS = 2_000;
const NEVER = new AbortController().signal;

/** An answer to COMMIT must mean that the data is on disk. */
const SETTINGS = {
  synchronous_commit: "on",
  statement_timeout: "10000",
  lock_timeout: "5000",
  idle_in_transaction_session_timeout: "15000",
};

export type Query = <Row extends QueryResultRow>(sql: string, values?: readonly unknown[]) => Promise<readonly Row[]>;

/** The only connection to the state's server. */
export class Link {
  readonly #connection: OneConnection;
  readonly #login: Login | undefined;
  readonly #address: PostgresAddress;
  readonly #server: string;
  #isClosed = false;
  #waitsFor: StoredError | null = null;
  /** When the work began that has no answer yet; null: all has one. */
  #asked: { readonly at: string; readonly ms: number } | null = null;

  /** Relative file names in the URL start at `folder`. */
  constructor({ url, freshPassword, login }: StateAddress, folder: string) {
    this.#login = login;
    const address = { ...addressOf(url, folder), freshPassword: freshPassword && passing(freshPassword) };
    this.#address = address;
    this.#server = serverAt(address.host, address.port);
    this.#connection = new OneConnection(() => open(address));
  }

  /** Why what is to be done is tried again now, or has no answer yet. */
  get waitsFor(): StateWait | null {
    if (this.#waitsFor !== null) return { error: this.#waitsFor, isSilent: false };
    if (this.#asked === null || performance.now() - this.#asked.ms < SILENT_MS) return null;
    return { error: storedErrorOf(silentSoFar(this.#server), this.#asked.at), isSilent: true };
  }

  /** Runs several statements as one transaction. */
  async transaction<T>(work: (query: Query) => Promise<T>): Promise<T> {
    return await this.once(async (query) => {
      await query("BEGIN");
      const result = await work(query);
      await query("COMMIT");
      return result;
    });
  }

  /** Runs one statement. `until` is in milliseconds of `performance.now`. */
  async once<T>(work: (query: Query) => Promise<T>, until = 0): Promise<T> {
    return await this.#connection.inTurn(() => this.#retried(work, until));
  }

  async #retried<T>(work: (query: Query) => Promise<T>, until: number): Promise<T> {
    for (;;) {
      this.#asked = { at: timestamp(systemClock), ms: performance.now() };
      try {
        const result = await work(await this.#query());
        this.#waitsFor = null;
        return result;
      } catch (error) {
        const known = atServer(classify(error, this.#login, this.#address), this.#server);
        // The session is in an unknown state: the next work opens another one.
        this.#connection.drop();
        if (known.kind !== "retryable" || this.#isClosed || performance.now() + AGAIN_MS >= until) throw known;
        const at = timestamp(systemClock);
        this.#waitsFor = storedErrorOf(known, at, this.#waitsFor?.since ?? at);
        await sleep(AGAIN_MS);
      } finally {
        this.#asked = null;
      }
    }
  }

  async #query(): Promise<Query> {
    const client = await this.#connection.client();
    return async <Row extends QueryResultRow>(sql: string, values: readonly unknown[] = []) =>
      (await client.query<Row>(sql, [...values])).rows;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#connection.close();
  }
}

async function open(address: PostgresAddress): Promise<Client> {
  const { client } = await connect(address, {
    signal: NEVER,
    settings: SETTINGS,
    make: (config) =>
      plainClient({
        ...config,
        application_name: "millrace state",
        connectionTimeoutMillis: CONNECT_MS_MAX,
        query_timeout: ANSWER_MS_MAX,
      }),
  });
  return client;
}

/** The state waits for its password as for its server: while the lease lasts. */
function passing(ask: FreshPassword): FreshPassword {
  return async (signal) => {
    try {
      return await ask(signal);
    } catch (error) {
      const { code, message, hint } = findMillraceError(error) ?? classify(error);
      throw stateError(code, message, { kind: "retryable", ...(hint === undefined ? {} : { hint }), cause: error });
    }
  };
}

function addressOf(url: string, folder: string): PostgresAddress {
  try {
    return parsePostgresUrl(url, folder);
  } catch (error) {
    throw classify(error);
  }
}
