/** The ordinary connection beside the stream: catalogue, positions of the log, settings. */
import { systemClock } from "../../../src/core/clock.ts";
import { withTimeout } from "../../../src/core/with-timeout.ts";
import type { MysqlAddress } from "../url.ts";
import { aborted, classify, errorNumber, sourceError } from "./errors.ts";
import { Session } from "./driver.ts";
import type { Host } from "./transactions/host.ts";

const QUERY_TIMEOUT_MS = 60_000;

/**
 * Settings of every connection, whatever the server's own are: values come in the form that the row path writes, no
 * statement of ours is cut by a limit that was meant for others, none leaves a transaction behind, and the catalogue has every
 * column that the log has (MySQL's generated invisible keys). Each flavour skips
 * the comments with the other's names.
 */
export const SESSION_SQL =
  "SET SESSION time_zone = '+00:00', sql_mode = 'NO_BACKSLASH_ESCAPES,ALLOW_INVALID_DATES', net_write_timeout = 3600, net_read_timeout = 3600, " +
  "wait_timeout = 28800, lock_wait_timeout = 10, innodb_lock_wait_timeout = 50, sql_select_limit = 18446744073709551615, sql_big_selects = 1, " +
  "autocommit = 1, completion_type = 'NO_CHAIN', /*!80000 max_execution_time = 0, */ /*!80030 show_gipk_in_create_table_and_information_schema = 1, */ /*M!100500 max_statement_time = 0, " +
  "max_session_mem_used = 9223372036854775807, idle_transaction_timeout = 0, idle_readonly_transaction_timeout = 0, " +
  "idle_write_transaction_timeout = 0, */ character_set_results = 'utf8mb4', transaction_isolation = 'REPEATABLE-READ'" +
  "/*M!100400 , system_versioning_asof = DEFAULT */";

/** Where connections lead, and the server at which they must end. */
export interface Target {
  readonly address: MysqlAddress;
  readonly host: Host;
}

export async function openSession({ address, host }: Target, signal: AbortSignal): Promise<Session> {
  const session = await Session.open(address, signal);
  try {
    await answered(prepare(session), "preparing a connection", signal);
    await host.check(session, signal);
    return session;
  } catch (error) {
    session.destroy();
    throw classify(error, "preparing a connection");
  }
}

const UNKNOWN_VARIABLE = 1193;

async function prepare(session: Session): Promise<void> {
  try {
    await session.query(SESSION_SQL);
  } catch (error) {
    if (errorNumber(error) !== UNKNOWN_VARIABLE) throw error;
    // MariaDB before 11.1 knows the isolation by its old name.
    await session.query(SESSION_SQL.replace("transaction_isolation", "tx_isolation"));
  }
}

/** Opened at first use, and again after it broke. Its statements wait for each other, so it is for short, independent ones. */
export class Database {
  readonly #target: Target;
  #connecting: Promise<Session> | undefined;
  #before: Promise<unknown> = Promise.resolve();

  constructor(target: Target) {
    this.#target = target;
  }

  async rows(doing: string, sql: string, signal: AbortSignal): Promise<(string | null)[][]> {
    return await this.#inTurn(doing, () => this.#run(doing, sql, signal), signal);
  }

  /**
   * The next statement uses another connection. Those in flight end first, because one that is cut off would wait for ever.
   */
  async renew(signal: AbortSignal): Promise<void> {
    await this.#inTurn("renewing the connection", () => this.close(), signal);
  }

  async #inTurn<T>(doing: string, work: () => Promise<T>, signal: AbortSignal): Promise<T> {
    const turn = this.#before;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#before = turn.then(() => promise);
    try {
      await answered(turn, doing, signal);
      return await work();
    } finally {
      resolve();
    }
  }

  async #run(doing: string, sql: string, signal: AbortSignal): Promise<(string | null)[][]> {
    let session: Session | undefined;
    try {
      session = await this.#session(signal);
      return await answered(session.query(sql), doing, signal);
    } catch (error) {
      // Any failure except an error answer of the server leaves the connection in an unknown state.
      if (errorNumber(error) === undefined) await this.close();
      throw classify(error, doing);
    }
  }

  async #session(signal: AbortSignal): Promise<Session> {
    const known = this.#connecting;
    if (known !== undefined) {
      const session = await known.catch(() => undefined);
      if (session?.isBroken === false) return session;
    }
    const connecting = this.#open(signal);
    this.#connecting = connecting;
    return await connecting;
  }

  /** Outside of the URL's database: a server looks at a user's privileges on a session's own database only as it enters it. */
  async #open(signal: AbortSignal): Promise<Session> {
    const session = await openSession(this.#target, signal);
    try {
      await answered(session.query("USE information_schema"), "preparing a connection", signal);
      return session;
    } catch (error) {
      session.destroy();
      throw error;
    }
  }

  /** Closes the connection; the next use opens another. */
  async close(): Promise<void> {
    const connecting = this.#connecting;
    this.#connecting = undefined;
    // A connection that was never opened needs no end.
    (await connecting?.catch(() => undefined))?.destroy();
  }
}

/** The result of work that waits for the server, which must answer in time. */
export async function answered<T>(
  work: Promise<T>,
  doing: string,
  signal: AbortSignal,
  timeoutMs = QUERY_TIMEOUT_MS,
): Promise<T> {
  const late = (): never => {
    throw sourceError("MR2121", "retryable", `the source did not answer for ${timeoutMs / 1000} s while ${doing}`);
  };
  return await withTimeout(work, { clock: systemClock, signal, timeoutMs, late, stopped: () => aborted(doing) });
}
