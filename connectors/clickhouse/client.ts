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
  parseError,
} from "@clickhouse/client";
import type { FreshPassword } from "../../src/core/contracts/connector.ts";
import { tlsOptions, type TlsSettings } from "../../src/tls/options.ts";
import { loginIn } from "../../src/tls/url-parts.ts";
import { ForeignAnswer, isTooManyAtOnce, mayRunOn, otherId } from "./errors.ts";
import { type FixedLimit, REQUEST_MS_MAX, StatementSettings } from "./settings.ts";

const CONNECTIONS_MAX = 8;
/** An insert reads what its rows build on meanwhile, by a connection of its own. */
const TABLES_AT_ONCE = CONNECTIONS_MAX / 2;
const OK = 200;
/** ClickHouse names the statement and what it did in headers, and proxies pass them on: without any of them nothing was done. */
const OWN_HEADERS = "x-clickhouse-";
const EXCEPTION = "x-clickhouse-exception-code";
const ID = "x-clickhouse-query-id";

export interface ClientSettings {
  /** May contain user and password. */
  readonly url: string;
  readonly tls: TlsSettings;
  /** In place of the url's password, for each client. */
  readonly freshPassword?: FreshPassword | undefined;
  /** See `insert_quorum`. */
  readonly quorum: number | "auto" | undefined;
}

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

interface Answer {
  readonly stream: Readable;
  readonly status: number;
}

/** On whose behalf statements are sent. */
export interface Sender {
  /** Begins the id of each statement. */
  readonly mark: string;
  /** A statement that changes something got no answer, or not that of its end: the server may still carry it out. */
  unanswered(): void;
}

export class Client implements AsyncDisposable {
  sender: Sender | null = null;
  /** Of all clients: a run goes on with another one, and its ids must differ. */
  static #statementCount = 0;
  /** Statements on their way that change something. */
  #changing = 0;
  #tablesAtOnce = TABLES_AT_ONCE;
  readonly #client: ClickHouseClient;
  readonly #agent: HttpAgent;
  #settings: StatementSettings | null = null;
  /** A read sees what was written before it, or fails: see `quorum`. */
  readonly isSequential: boolean;

  static async open(settings: ClientSettings, signal: AbortSignal): Promise<Client> {
    const client = new Client(settings, await settings.freshPassword?.(signal));
    try {
      const ask = async (sql: string, set: ClickHouseSettings) => await client.#answer(sql, signal, set);
      client.#settings = await StatementSettings.read(ask, settings.quorum);
      return client;
    } catch (error) {
      await client[Symbol.asyncDispose]();
      throw error;
    }
  }

  private constructor({ url: address, tls, quorum }: ClientSettings, password: string | undefined) {
    this.isSequential = quorum !== undefined;
    const url = new URL(address);
    const login = loginIn(url);
    const isEncrypted = url.protocol === "https:";
    const options = { keepAlive: true, maxSockets: CONNECTIONS_MAX, ...tlsOptions(tls, isEncrypted) };
    this.#agent = isEncrypted ? new HttpsAgent(options) : new HttpAgent(options);
    this.#client = createClient({
      url: url.origin,
      pathname: url.pathname,
      username: login.username || "default",
      password: password ?? login.password,
      application: "millrace",
      http_agent: this.#agent,
      request_timeout: REQUEST_MS_MAX,
      compression: { request: false, response: false },
      // Errors come before the answer, not in its middle.
      clickhouse_settings: { wait_end_of_query: 1 },
      log: { level: ClickHouseLogLevel.OFF },
    });
  }

  /** For how many tables statements may run at once. */
  get tablesAtOnce(): number {
    return this.#tablesAtOnce;
  }

  get fixedLimits(): readonly FixedLimit[] {
    return this.#settings?.fixedLimits ?? [];
  }

  /** Runs a statement without an answer. */
  async run(sql: string, signal: AbortSignal, settings: ClickHouseSettings = {}): Promise<void> {
    await this.#change(sql, signal, { ...this.#settingsOf(sql), ...settings });
  }

  /** Every value as text, null as null. */
  async rows(
    sql: string,
    signal: AbortSignal,
    settings: ClickHouseSettings = {},
  ): Promise<readonly (readonly (string | null)[])[]> {
    return await this.#answer(sql, signal, { ...this.#settingsOf(sql), ...QUOTED, ...settings });
  }

  async #answer(
    sql: string,
    signal: AbortSignal,
    settings: ClickHouseSettings,
  ): Promise<readonly (readonly (string | null)[])[]> {
    const { stream, status } = await this.#send(`${sql} FORMAT JSONCompact`, signal, settings);
    return rowsIn(await text(stream), status).map((row) => row.map(textOf));
  }

  /** The answer to a statement that takes no FORMAT. */
  async text(sql: string, signal: AbortSignal, settings: ClickHouseSettings = {}): Promise<string> {
    const { stream } = await this.#send(sql, signal, { ...this.#settingsOf(sql), ...settings });
    return await text(stream);
  }

  /** The answer to a statement that names its FORMAT. A refusal comes before the first of its bytes. */
  async bytes(sql: string, signal: AbortSignal, settings: ClickHouseSettings): Promise<AsyncGenerator<Buffer>> {
    const { stream } = await this.#send(sql, signal, { ...this.#settingsOf(sql), ...settings });
    return buffers(stream);
  }

  /**
   * Inserts rows; `sql` names the format, `bytes` come first. The rows are made while the server reads. The statement is
   * sent before them: names of a thousand columns would not fit into an address. False: there are no rows.
   */
  async insert({ sql, bytes }: Insert, rows: AsyncGenerator<Buffer>, signal: AbortSignal): Promise<boolean> {
    const first = await rows.next();
    if (first.done === true) return false;
    const values = Readable.from(all([Buffer.from(`${sql}\n`), bytes, first.value], rows), { objectMode: false });
    try {
      await this.#change("", signal, this.#settingsOf(sql), values);
      return true;
    } catch (error) {
      // The client tells only that the body ended; why it ended is the body's error.
      throw values.errored ?? error;
    } finally {
      values.destroy();
    }
  }

  #settingsOf(sql: string): ClickHouseSettings {
    return this.#settings?.of(sql) ?? {};
  }

  #id(): string | undefined {
    return this.sender === null ? undefined : `${this.sender.mark}${++Client.#statementCount}`;
  }

  async #change(query: string, signal: AbortSignal, settings: ClickHouseSettings, values?: Readable): Promise<void> {
    this.#changing++;
    try {
      const { stream } = await this.#send(query, signal, settings, values);
      for await (const _ of stream);
    } catch (error) {
      if (mayRunOn(error)) this.sender?.unanswered();
      throw error;
    } finally {
      this.#changing--;
    }
  }

  /** The client's own reading of a refusal drops its HTTP status. */
  async #send(query: string, signal: AbortSignal, settings: ClickHouseSettings, values?: Readable): Promise<Answer> {
    try {
      const about = { query, abort_signal: signal, clickhouse_settings: settings, ignore_error_response: true };
      const body = values === undefined ? {} : { values };
      const id = this.#id();
      const answer = await this.#client.exec({ ...about, ...body, ...(id === undefined ? {} : { query_id: id }) });
      const { stream, http_status_code: status = 0, response_headers: headers } = answer;
      const isOwn = Object.keys(headers).some((name) => name.startsWith(OWN_HEADERS));
      if (id !== undefined && (headers[ID] ?? id) !== id) {
        stream.destroy();
        throw otherId();
      }
      if (status === OK && isOwn && headers[EXCEPTION] === undefined) return { stream, status };
      if (status === OK && !isOwn) {
        stream.destroy();
        throw new ForeignAnswer(status);
      }
      const error = parseError(await text(stream));
      throw error instanceof ClickHouseError ? error : new ForeignAnswer(status);
    } catch (error) {
      // The work is tried again.
      if (isTooManyAtOnce(error)) this.#tablesAtOnce = 1;
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Invariant: known before the sink sends anything by another client.
    if (this.#changing > 0) this.sender?.unanswered();
    await this.#client.close();
    this.#agent.destroy();
  }
}

function rowsIn(answer: string, status: number): readonly (readonly unknown[])[] {
  try {
    const { data }: { readonly data: unknown[][] } = JSON.parse(answer);
    return data;
  } catch (error) {
    throw error instanceof SyntaxError ? new ForeignAnswer(status) : error;
  }
}

function textOf(value: unknown): string | null {
  if (value === null) return null;
  return typeof value === "string" ? value : JSON.stringify(value);
}

async function* buffers(stream: Readable): AsyncGenerator<Buffer> {
  for await (const chunk of stream) yield Buffer.isBuffer(chunk) ? chunk : Buffer.from(String(chunk));
}

async function* all(first: readonly Buffer[], rest: AsyncGenerator<Buffer>): AsyncGenerator<Buffer> {
  yield* first;
  yield* rest;
}
