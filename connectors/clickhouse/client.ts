/** ClickHouse's own client over HTTP, with the settings that every statement of the sink needs. */
import { Agent as HttpAgent } from "node:http";
import { Agent as HttpsAgent } from "node:https";
import { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { type ClickHouseClient, ClickHouseLogLevel, type ClickHouseSettings, createClient } from "@clickhouse/client";
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

  static async open(settings: ClientSettings, signal: AbortSignal): Promise<Client> {
    return new Client(settings, await settings.freshPassword?.(signal));
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

  /** Runs a statement without an answer. */
  async run(sql: string, signal: AbortSignal, settings: ClickHouseSettings = {}): Promise<void> {
    const query = { query: sql, abort_signal: signal, clickhouse_settings: { ...lengthOf(sql), ...settings } };
    await this.#counted(this.#client.command({ ...query, ...this.#id() }));
  }

  /** Every value as text, null as null. */
  async rows(sql: string, signal: AbortSignal): Promise<readonly (readonly (string | null)[])[]> {
    const settings = { ...QUOTED, ...lengthOf(sql) };
    const query = { query: sql, format: "JSONCompact", abort_signal: signal, clickhouse_settings: settings } as const;
    const answer = await this.#counted(this.#client.query({ ...query, ...this.#id() }));
    const { data } = await answer.json<unknown[]>();
    return data.map((row) => row.map(textOf));
  }

  /** The answer to a statement that takes no FORMAT. */
  async text(sql: string, signal: AbortSignal): Promise<string> {
    const { stream } = await this.#client.exec({ query: sql, abort_signal: signal });
    return await text(stream);
  }

  /** The answer to a statement that names its FORMAT. */
  async *bytes(sql: string, signal: AbortSignal): AsyncGenerator<Buffer> {
    const query = { query: sql, abort_signal: signal, clickhouse_settings: lengthOf(sql) };
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
      const { stream } = await this.#client.exec({ query: sql, values, abort_signal: signal, ...this.#id() });
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
