/**
 * The server: where its connections lead, what it is, and the ordinary connection beside the stream, for the catalogue,
 * positions of the log, and settings.
 *
 * Invariant 8: an address may lead the next connection to another server, but positions in the log and rows of tables must
 * come from the same one. `refresh` asks which one it is; from there on every connection must end at it.
 */
import { systemClock } from "../../../../src/core/clock.ts";
import { findMillraceError, type MillraceError } from "../../../../src/core/errors.ts";
import { withTimeout } from "../../../../src/core/waiting.ts";
import type { MysqlAddress } from "../../url.ts";
import { quoteAccount } from "../../quote.ts";
import { aborted, classify, errorNumber, failedAt, sourceError } from "../errors.ts";
import { Session } from "./driver.ts";
import { LogNames } from "./position.ts";
import {
  checkServer,
  checkVersion,
  type Queryable,
  readServer,
  readVariables,
  type ServerFacts,
} from "./server-facts.ts";

const QUERY_TIMEOUT_MS = 60_000;
/** A connection with TLS costs more than the rows of a small table: one that was given back is kept so long for the next. */
const KEPT_MS = 1_000;
const KEPT_COUNT_MAX = 2;
const UNKNOWN_VARIABLE = 1193;
const PREPARING = "preparing a connection";

/**
 * Settings of every connection, whatever the server's own are: values come in the form that the row path writes, no
 * statement of ours is cut by a limit that was meant for others, none leaves a transaction behind, the server reads names as we
 * write them (`init_connect` may set another character set), and the catalogue has every column that the log has (MySQL's
 * generated invisible keys). Each flavour skips the comments with the other's names.
 */
const SESSION_SQL =
  "SET SESSION time_zone = '+00:00', sql_mode = 'NO_BACKSLASH_ESCAPES,ALLOW_INVALID_DATES', sql_quote_show_create = 1, net_write_timeout = 3600, net_read_timeout = 3600, " +
  "wait_timeout = 28800, lock_wait_timeout = 10, innodb_lock_wait_timeout = 50, sql_select_limit = 18446744073709551615, sql_big_selects = 1, sort_buffer_size = 2097152, max_sort_length = 4096, " +
  "group_concat_max_len = 1048576, " +
  "autocommit = 1, completion_type = 'NO_CHAIN', /*!80000 max_execution_time = 0, */ /*!80030 show_gipk_in_create_table_and_information_schema = 1, */ /*M!100500 max_statement_time = 0, " +
  "max_session_mem_used = 9223372036854775807, idle_transaction_timeout = 0, idle_readonly_transaction_timeout = 0, " +
  "idle_write_transaction_timeout = 0, */ character_set_client = 'utf8mb4', collation_connection = 'utf8mb4_general_ci', " +
  "character_set_results = 'utf8mb4', transaction_isolation = 'REPEATABLE-READ'" +
  "/*M!100400 , system_versioning_asof = DEFAULT */";

const READER_ID_MIN = 0x1000_0000;
const READER_ID_SPAN = 0xe000_0000;

const BY_NAME = { known: "server_uuid", sql: "SELECT @@GLOBAL.server_uuid" };
/** Nodes of one cluster (Galera), and hosts made from one image, may have one server_id. */
const BY_PLACE = {
  known: "server_id, host and port",
  sql: "SELECT CONCAT_WS(' ', @@GLOBAL.server_id, @@GLOBAL.hostname, @@GLOBAL.port)",
};

interface ServerUse {
  readonly onOther?: () => void;
  readonly follows?: boolean;
}

export class Server implements Queryable {
  readonly address: MysqlAddress;
  /** The server_id under which the main stream reads the log. */
  readonly readerId: number;
  readonly names = new LogNames("binlog");
  /** Names of tables that differ in case alone are the same name. */
  foldsNames = false;
  readonly #onOther: () => void;
  readonly #follows: boolean;
  /** How the server at which connections must end is known; undefined: it is not known yet. */
  #expected: { readonly known: string; readonly sql: string; readonly value: string } | undefined;
  #facts: Promise<ServerFacts> | undefined;
  /** Our user as a statement names it; undefined: not known yet. */
  #account: string | undefined;
  /** Of connections, as the server told them last: one that has none left can't be asked. */
  #limits: string | undefined;
  /** The ordinary connection: opened at first use, and again after it broke. */
  #connecting: Promise<Session> | undefined;
  #before: Promise<unknown> = Promise.resolve();
  /** Connections that were lent, and that end at the expected server. */
  #lent = new WeakSet<Session>();
  readonly #kept = new Map<Session, NodeJS.Timeout>();

  /** `onOther`: a connection has ended at another server. `follows`: its log is read, and has to be fit for that. */
  constructor(address: MysqlAddress, readerId: number, { onOther = () => {}, follows = true }: ServerUse = {}) {
    this.address = address;
    this.readerId = readerId;
    this.#onOther = onOther;
    this.#follows = follows;
  }

  /** A connection that belongs to the caller. */
  async open(signal: AbortSignal): Promise<Session> {
    const session = await this.#begin(signal);
    try {
      await answered(prepare(session), PREPARING, signal);
      await this.#check(session, signal);
      return session;
    } catch (error) {
      session.destroy();
      throw this.failed(error, PREPARING);
    }
  }

  /** The same, or one that was given back a moment ago. */
  async lend(signal: AbortSignal): Promise<Session> {
    const lent = this.#lent;
    const session = this.#takeKept() ?? (await this.open(signal));
    lent.add(session);
    return session;
  }

  /** Of `lend`, between two transactions. Where that is not certain, destroy it: a server knows privileges by session, too. */
  giveBack(session: Session): void {
    if (session.isBroken || this.#kept.size >= KEPT_COUNT_MAX || !this.#lent.delete(session)) return session.destroy();
    const timer = setTimeout(() => {
      this.#kept.delete(session);
      session.destroy();
    }, KEPT_MS);
    this.#kept.set(session, timer.unref());
  }

  /** Whatever was given back ends; what is lent now will not be kept. */
  dropKept(): void {
    this.#lent = new WeakSet();
    for (let session = this.#takeKept(); session !== undefined; session = this.#takeKept()) session.destroy();
  }

  /** The numbered error of what failed at this server: it says where that is, and whom a GRANT has to name. */
  failed(error: unknown, doing: string): MillraceError {
    return failedAt(error, doing, this.address, this.#account, this.#limits);
  }

  /** The answer over the ordinary connection. Statements wait for each other there: it is for short, independent ones. */
  async rows(doing: string, sql: string, signal: AbortSignal): Promise<(string | null)[][]> {
    return await this.#inTurn(doing, () => this.#run(doing, sql, signal), signal);
  }

  /** As a statement names our user: `'name'@'host'`. */
  async currentUser(signal: AbortSignal): Promise<string> {
    const [row] = await this.rows("asking who we are", "SELECT CURRENT_USER()", signal);
    return (this.#account = quoteAccount(row?.[0] ?? ""));
  }

  /** What the server that answers is, checked, as of the last request. */
  async facts(signal: AbortSignal): Promise<ServerFacts> {
    const asked = (this.#facts ??= this.#checked(signal));
    try {
      return await asked;
    } catch (error) {
      if (this.#facts === asked) this.#facts = undefined;
      throw error;
    }
  }

  /** What it is now, whether it fits or not. */
  async readFacts(signal: AbortSignal): Promise<ServerFacts> {
    const facts = await (this.#follows ? readServer : readVariables)(this, signal);
    const base = facts.variables.get("log_bin_basename")?.replace(/^.*[/\\]/, "");
    if (base !== undefined && base !== "") this.names.use(base);
    const limits = ["max_connections", "max_user_connections"].map(
      (name) => `${name} ${facts.variables.get(name) ?? "0"}`,
    );
    this.#limits = `The server said last: ${limits.join(", ")} (0: none).`;
    this.foldsNames = !["", "0"].includes(facts.variables.get("lower_case_table_names") ?? "");
    return facts;
  }

  /** Asks again to which server the address leads. From here on, every connection must end there. */
  async refresh(signal: AbortSignal): Promise<ServerFacts> {
    // The next statement uses another connection. Those in flight end first, because one that is cut off would wait for ever.
    await this.#inTurn("renewing the connection", () => this.close(), signal);
    this.#expected = undefined;
    this.#facts = undefined;
    const facts = await this.facts(signal);
    const how = facts.uuid === "" ? BY_PLACE : BY_NAME;
    const [row] = await this.rows("asking which server it is", how.sql, signal);
    this.#expected = { ...how, value: row?.[0] ?? "" };
    return facts;
  }

  /** For a reader beside the stream: two readers with one id would disconnect each other. */
  otherReaderId(): number {
    for (;;) {
      const id = READER_ID_MIN + Math.floor(Math.random() * READER_ID_SPAN);
      if (id !== this.readerId) return id;
    }
  }

  /** Closes the ordinary connection, whose next use opens another, and those that were given back. */
  async close(): Promise<void> {
    this.dropKept();
    const connecting = this.#connecting;
    this.#connecting = undefined;
    // A connection that was never opened needs no end.
    (await connecting?.catch(() => undefined))?.destroy();
  }

  async #begin(signal: AbortSignal): Promise<Session> {
    try {
      return await Session.open(this.address, signal);
    } catch (error) {
      throw this.failed(error, PREPARING);
    }
  }

  async #checked(signal: AbortSignal): Promise<ServerFacts> {
    const facts = await this.readFacts(signal);
    if (this.#follows) checkServer(facts, this.readerId);
    else checkVersion(facts);
    await this.currentUser(signal);
    return facts;
  }

  async #check(session: Session, signal: AbortSignal): Promise<void> {
    const expected = this.#expected;
    if (expected === undefined) return;
    const [row] = await answered(session.query(expected.sql), "asking which server it is", signal);
    const found = row?.[0] ?? "";
    if (found === expected.value) return;
    this.#onOther();
    throw sourceError(
      "MR2032",
      "retryable",
      `a connection ended at the server with ${expected.known} ${found}, and the log is read from ${expected.value}`,
    );
  }

  #takeKept(): Session | undefined {
    for (const [session, timer] of this.#kept) {
      clearTimeout(timer);
      this.#kept.delete(session);
      if (!session.isBroken) return session;
    }
    return undefined;
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
    try {
      const session = await this.#ordinary(signal);
      return await answered(session.query(sql), doing, signal);
    } catch (error) {
      // Any failure except an error answer of the server leaves the connection in an unknown state.
      if (errorNumber(findMillraceError(error)?.cause) === undefined) await this.close();
      throw this.failed(error, doing);
    }
  }

  async #ordinary(signal: AbortSignal): Promise<Session> {
    const known = await this.#connecting?.catch(() => undefined);
    if (known?.isBroken === false) return known;
    const connecting = this.#openOrdinary(signal);
    this.#connecting = connecting;
    return await connecting;
  }

  /** Outside of the URL's database: a server looks at a user's privileges on a session's own database only as it enters it. */
  async #openOrdinary(signal: AbortSignal): Promise<Session> {
    const session = await this.open(signal);
    try {
      await answered(session.query("USE information_schema"), PREPARING, signal);
      return session;
    } catch (error) {
      session.destroy();
      throw error;
    }
  }
}

async function prepare(session: Session): Promise<void> {
  try {
    await session.query(SESSION_SQL);
  } catch (error) {
    if (errorNumber(error) !== UNKNOWN_VARIABLE) throw error;
    // MariaDB before 11.1 knows the isolation by its old name.
    await session.query(SESSION_SQL.replace("transaction_isolation", "tx_isolation"));
  }
}

/** The result of work that waits for the server, which must answer in time. Its failure is a numbered error. */
export async function answered<T>(work: Promise<T>, doing: string, signal: AbortSignal): Promise<T> {
  const late = (): never => {
    const message = `the source did not answer for ${QUERY_TIMEOUT_MS / 1000} s while ${doing}`;
    throw sourceError("MR2022", "retryable", message);
  };
  const limits = { clock: systemClock, signal, timeoutMs: QUERY_TIMEOUT_MS, late, stopped: () => aborted(doing) };
  try {
    return await withTimeout(work, limits);
  } catch (error) {
    throw classify(error, doing);
  }
}
