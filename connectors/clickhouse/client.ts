/** ClickHouse's own client over HTTP, with the settings that every statement of the sink needs. */
import { Agent as HttpAgent } from "node:http";
import { Agent as HttpsAgent } from "node:https";
import { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import {
  type ClickHouseClient,
  ClickHouseError,
  ClickHouseLogLevel,
  type ClickHouseSettings,
  createClient,
} from "@clickhouse/client";
import type { FreshPassword } from "../../src/core/contracts/connector.ts";
import { tlsOptions, type TlsSettings } from "../../src/tls/options.ts";
import { mayRunOn } from "./errors.ts";

/** A statement that takes longer counts as lost. Filling a table again from itself can take long. */
const REQUEST_MS_MAX = 600_000;
const CONNECTIONS_MAX = 8;

export interface ClientSettings {
  /** May contain user and password. */
  readonly url: string;
  readonly tls: TlsSettings;
  /** In place of the url's password, for each client. */
  readonly freshPassword?: FreshPassword | undefined;
  /** See `insert_quorum`. */
  readonly quorum: number | "auto" | undefined;
}

/**
 * A table takes a batch at once instead of collecting it with others, and takes an equal one again: its rows may be gone
 * meanwhile. Statements that change a table end when it is changed. Errors come before the answer, not in its middle.
 */
const SETTINGS = {
  async_insert: 0,
  insert_deduplicate: 0,
  mutations_sync: "2",
  alter_sync: "2",
  wait_end_of_query: 1,
} as const;

/**
 * What a profile may limit for people who type statements: it ends ours, or cuts their answers (`limit`, or an
 * …_overflow_mode of `break`). 0 lifts each of them. What protects the server itself, its memory, is not among them.
 */
const LIMITS: readonly string[] = [
  ...["execution_time", "estimated_execution_time", "execution_speed", "execution_speed_bytes"].map(max),
  ...["result_rows", "result_bytes", "rows_to_read", "bytes_to_read", "rows_to_read_leaf", "bytes_to_read_leaf"].map(
    max,
  ),
  ...["rows_to_group_by", "rows_to_sort", "bytes_to_sort", "rows_in_set", "bytes_in_set", "rows_in_join"].map(max),
  ...["bytes_in_join", "rows_in_distinct", "bytes_in_distinct", "rows_to_transfer", "bytes_to_transfer"].map(max),
  ...["columns_to_read", "temporary_columns", "temporary_non_const_columns", "partitions_to_read"].map(max),
  ...["partitions_per_insert_block"].map(max),
  ...["table_size_to_drop", "partition_size_to_drop"].map(max),
  "min_execution_speed",
  "min_execution_speed_bytes",
  "limit",
  "offset",
];
/** -1 for some of them is none, as 0 is. */
const LIFTED = ["0", "-1"];
/** How long the server waits for a client that is busy: while an insert's rows are made, and while an answer is read. */
const CLIENT_WAITS: readonly string[] = ["http_receive_timeout", "http_send_timeout"];
const CLIENT_WAIT_SECONDS = String(REQUEST_MS_MAX / 1000);

function max(limit: string): string {
  return `max_${limit}`;
}

/** A limit of the user's profile that the user may not lift. */
export interface FixedLimit {
  readonly name: string;
  readonly value: string;
}

const OF_A_QUESTION: ClickHouseSettings = {
  limit: "0",
  offset: "0",
  max_execution_time: 0,
  max_result_rows: "0",
  max_rows_to_read: "0",
  max_columns_to_read: "0",
};
/** The user may only read, or a setting has a constraint. */
const MAY_NOT_SET = new Set(["164", "452"]);

/** Numbers that a double may not hold are texts in JSON. */
const QUOTED = {
  output_format_json_quote_64bit_integers: 1,
  output_format_json_quote_decimals: 1,
  output_format_json_quote_denormals: 1,
} as const;

interface Insert {
  readonly sql: string;
  readonly bytes: Buffer;
}

/** On whose behalf statements are sent. */
export interface Sender {
  /** Begins the id of each statement. */
  readonly mark: string;
  /** A statement got no answer, or not that of its end: the server may still carry it out. */
  unanswered(): void;
}

export class Client implements AsyncDisposable {
  sender: Sender | null = null;
  #statementCount = 0;
  readonly #client: ClickHouseClient;
  readonly #agent: HttpAgent;
  #lifted: ClickHouseSettings = {};
  #fixed: readonly FixedLimit[] = [];

  static async open(settings: ClientSettings, signal: AbortSignal): Promise<Client> {
    const client = new Client(settings, await settings.freshPassword?.(signal));
    try {
      await client.#lift(signal);
      return client;
    } catch (error) {
      await client[Symbol.asyncDispose]();
      throw error;
    }
  }

  private constructor({ url: address, tls, quorum }: ClientSettings, password?: string) {
    const url = new URL(address);
    const isEncrypted = url.protocol === "https:";
    const options = { keepAlive: true, maxSockets: CONNECTIONS_MAX, ...tlsOptions(tls, isEncrypted) };
    this.#agent = isEncrypted ? new HttpsAgent(options) : new HttpAgent(options);
    this.#client = createClient({
      url: url.origin,
      pathname: url.pathname,
      username: decodeURIComponent(url.username) || "default",
      password: password ?? decodeURIComponent(url.password),
      application: "millrace",
      http_agent: this.#agent,
      request_timeout: REQUEST_MS_MAX,
      compression: { request: false, response: false },
      clickhouse_settings: { ...SETTINGS, ...(quorum === undefined ? {} : quorumSettings(quorum)) },
      log: { level: ClickHouseLogLevel.OFF },
    });
  }

  get fixedLimits(): readonly FixedLimit[] {
    return this.#fixed;
  }

  /** Asks first: one setting that a profile keeps, or that the server does not know, would have it refuse every statement. */
  async #lift(signal: AbortSignal): Promise<void> {
    const names = [...LIMITS, ...CLIENT_WAITS].map((name) => `'${name}'`).join(", ");
    const few = LIFTED.map((value) => `'${value}'`).join(", ");
    const sql = `SELECT name, value, readonly OR ifNull(min, '0') <> '0' FROM system.settings WHERE name IN (${names}) AND value NOT IN (${few})`;
    const found = await this.#limits(sql, signal);
    const isFixed = (fixed: unknown): boolean => fixed !== "0" && fixed !== "false";
    this.#lifted = Object.fromEntries(
      found
        .filter(([, , fixed]) => !isFixed(fixed))
        .map(([name]) => [name, CLIENT_WAITS.includes(name ?? "") ? CLIENT_WAIT_SECONDS : "0"]),
    );
    this.#fixed = found
      .filter(([name, , fixed]) => isFixed(fixed) && LIMITS.includes(name ?? ""))
      .map(([name, value]) => ({ name: name ?? "", value: value ?? "" }));
  }

  /** The question itself would be cut by some of them. */
  async #limits(sql: string, signal: AbortSignal): Promise<readonly (readonly (string | null)[])[]> {
    this.#lifted = OF_A_QUESTION;
    try {
      return await this.rows(sql, signal);
    } catch (error) {
      if (!(error instanceof ClickHouseError) || !MAY_NOT_SET.has(error.code)) throw error;
    }
    this.#lifted = {};
    return await this.rows(sql, signal);
  }

  /** Runs a statement without an answer. */
  async run(sql: string, signal: AbortSignal, settings: ClickHouseSettings = {}): Promise<void> {
    const query = { query: sql, abort_signal: signal, clickhouse_settings: { ...this.#settings(sql), ...settings } };
    await this.#counted(this.#client.command({ ...query, ...this.#id() }));
  }

  /** Every value as text, null as null. */
  async rows(sql: string, signal: AbortSignal): Promise<readonly (readonly (string | null)[])[]> {
    const settings = { ...this.#settings(sql), ...QUOTED };
    const query = { query: sql, format: "JSONCompact", abort_signal: signal, clickhouse_settings: settings } as const;
    const answer = await this.#counted(this.#client.query({ ...query, ...this.#id() }));
    const { data } = await answer.json<unknown[]>();
    return data.map((row) => row.map(textOf));
  }

  /** The answer to a statement that takes no FORMAT. */
  async text(sql: string, signal: AbortSignal): Promise<string> {
    const { stream } = await this.#client.exec({ query: sql, abort_signal: signal, clickhouse_settings: this.#lifted });
    return await text(stream);
  }

  /** The answer to a statement that names its FORMAT. */
  async *bytes(sql: string, signal: AbortSignal): AsyncGenerator<Buffer> {
    const query = { query: sql, abort_signal: signal, clickhouse_settings: this.#settings(sql) };
    const { stream } = await this.#client.exec(query);
    for await (const chunk of stream) yield Buffer.isBuffer(chunk) ? chunk : Buffer.from(String(chunk));
  }

  /**
   * Inserts rows; `sql` names the format, `bytes` come first. The rows are made while the server reads. False: there are
   * none.
   */
  async insert({ sql, bytes }: Insert, rows: AsyncGenerator<Buffer>, signal: AbortSignal): Promise<boolean> {
    const first = await rows.next();
    if (first.done === true) return false;
    const values = Readable.from(all([bytes, first.value], rows), { objectMode: false });
    try {
      const query = { query: sql, values, abort_signal: signal, clickhouse_settings: this.#lifted };
      const { stream } = await this.#client.exec({ ...query, ...this.#id() });
      for await (const _ of stream);
      return true;
    } catch (error) {
      if (mayRunOn(error)) this.sender?.unanswered();
      // The client tells only that the body ended; why it ended is the body's error.
      throw values.errored ?? error;
    } finally {
      values.destroy();
    }
  }

  #settings(sql: string): ClickHouseSettings {
    return { ...this.#lifted, ...lengthOf(sql) };
  }

  #id(): { readonly query_id?: string } {
    return this.sender === null ? {} : { query_id: `${this.sender.mark}${++this.#statementCount}` };
  }

  async #counted<T>(answer: Promise<T>): Promise<T> {
    try {
      return await answer;
    } catch (error) {
      if (mayRunOn(error)) this.sender?.unanswered();
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#client.close();
    this.#agent.destroy();
  }
}

/** Shorter statements are parsed by every server. */
const SHORT_BYTES = 64 * 1024;

/** A server parses so many bytes of a statement, by default 256 KB, or as its profiles say. One key may be longer. */
function lengthOf(sql: string): ClickHouseSettings {
  const byteCount = Buffer.byteLength(sql);
  return byteCount < SHORT_BYTES ? {} : { max_query_size: String(2 * byteCount) };
}

/** With these, a read sees what a quorum of replicas has taken. */
function quorumSettings(quorum: number | "auto"): ClickHouseSettings {
  return { insert_quorum: String(quorum), insert_quorum_parallel: 0, select_sequential_consistency: "1" };
}

function textOf(value: unknown): string | null {
  if (value === null) return null;
  return typeof value === "string" ? value : JSON.stringify(value);
}

async function* all(first: readonly Buffer[], rest: AsyncGenerator<Buffer>): AsyncGenerator<Buffer> {
  yield* first;
  yield* rest;
}
