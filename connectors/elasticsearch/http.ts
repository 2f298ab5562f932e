import type { ConnectionOptions } from "node:tls";
import { type buildConnector, Pool } from "undici";
import { serverAt } from "../../src/core/system-errors.ts";
import { addressOf, TLS_ALONE, tlsFailure, type TlsFailure, tryHandshake } from "../../src/tls/failure.ts";
import type { FreshPassword } from "../../src/core/contracts/connector.ts";
import { tlsOptions, type TlsSettings } from "../../src/tls/options.ts";
import { loginIn } from "../../src/tls/url-parts.ts";
import type * as z from "zod";
import {
  classifyConnection,
  classifyEngine,
  type EngineError,
  foreignError,
  isHangUp,
  partError,
  searchError,
  tlsError,
  unknownAnswer,
} from "./errors.ts";

/**
 * An answer that takes longer counts as lost. On a healthy server a bulk of eight megabytes takes less than a second.
 */
const REQUEST_TIMEOUT_MS = 60_000;
/** Servers and load balancers end idle connections themselves; this ends what they forgot. */
const IDLE_MS_MAX = 600_000;
/** For how long a node that gave no answer is left out. */
const PAUSE_MS_MIN = 1_000;
const PAUSE_MS_MAX = 300_000;
/** Of index definitions the engine carries out many together: sixteen cost its master half of what one by one do. */
export const CONNECTIONS_MAX = 16;
const REQUEST_TIMEOUT = 408;
const SERVER_ERROR = 500;
const NOT_FOUND = 404;
const OK_STATUS_MAX = 299;
/** These say the same of whoever stands before the engine: a login, a limit of size or of load. */
const OF_ANYBODY: ReadonlySet<number> = new Set([401, 403, REQUEST_TIMEOUT, 413, 429]);

export interface ClientSettings {
  /** Nodes of one cluster; the URLs may contain user and password. */
  readonly urls: readonly string[];
  readonly apiKey: string | undefined;
  readonly tls: TlsSettings;
  /** In place of the urls' password, for each client. */
  readonly freshPassword?: FreshPassword | undefined;
}

export interface Answer {
  readonly status: number;
  readonly body: Buffer;
}

export interface Request {
  readonly method: "GET" | "PUT" | "POST" | "DELETE";
  /** With encoded names; see `pathOf`. */
  readonly path: string;
  readonly query?: Readonly<Record<string, string>>;
  readonly body?: Buffer | object;
  readonly isBulk?: boolean;
}

/** Of a search that means every row: neither a lost shard nor the cluster's own time limit may leave some out. */
export const WHOLE_SEARCH = { allow_partial_search_results: "false", timeout: "-1" } as const;

/** On whose behalf requests are sent. */
export interface Sender {
  /** X-Opaque-Id of each request. */
  readonly mark: string;
  /** A request got no answer, or a gateway's: the engine may still carry it out. */
  unanswered(): void;
}

/** One of the cluster's addresses. */
interface Node {
  readonly pool: Pool;
  /** For messages. */
  readonly server: string;
  /** Of the url's path. */
  readonly prefix: string;
  /** Of `performance.now()`: before, other nodes are asked. */
  askAgainMs: number;
  pauseMs: number;
}

/**
 * One cluster over HTTP: kept-alive connections, plain JSON, no retries. Nodes are asked in turn; one that gave no answer
 * is left out for a while, and longer each time.
 */
export class SearchClient implements AsyncDisposable {
  readonly #nodes: readonly Node[];
  readonly #login: Readonly<Record<string, string>>;
  readonly #urls: readonly URL[];
  readonly #tls: ConnectionOptions;
  readonly #closing = new AbortController();
  #answered = false;
  #turn = 0;
  sender: Sender | null = null;

  /** For messages: host and port of the node, or of all nodes. */
  get server(): string {
    return serversOf(this.#urls);
  }

  static async open(settings: ClientSettings, signal: AbortSignal): Promise<SearchClient> {
    return new SearchClient(settings, await settings.freshPassword?.(signal));
  }

  constructor(settings: ClientSettings, fresh?: string) {
    this.#urls = settings.urls.map((url) => new URL(url));
    const encrypted = this.#urls.every(({ protocol }) => protocol === "https:");
    this.#tls = tlsOptions(settings.tls, encrypted);
    const { username, password } = loginIn(this.#urls[0]!);
    this.#login = loginOf(settings.apiKey, username, fresh ?? password);
    this.#nodes = this.#urls.map((url) => ({
      pool: new Pool(url.origin, {
        connections: CONNECTIONS_MAX,
        headersTimeout: REQUEST_TIMEOUT_MS,
        bodyTimeout: REQUEST_TIMEOUT_MS,
        keepAliveTimeout: IDLE_MS_MAX,
        keepAliveMaxTimeout: IDLE_MS_MAX,
        // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- Node's options of TLS, without an address
        connect: this.#tls as buildConnector.BuildOptions,
      }),
      server: serversOf([url]),
      prefix: url.pathname.replace(/\/$/, ""),
      askAgainMs: 0,
      pauseMs: PAUSE_MS_MIN,
    }));
  }

  /** Returns an answer of the engine with any status; throws if the connection fails, or somebody else answers. */
  async request(request: Request, signal: AbortSignal): Promise<Answer> {
    const node = this.#nextNode();
    const answer = await this.#send(request, node, signal);
    if (isOwn(answer)) {
      node.askAgainMs = 0;
      node.pauseMs = PAUSE_MS_MIN;
      return answer;
    }
    this.sender?.unanswered();
    leaveOut(node);
    throw foreignError(node.server, answer.status);
  }

  /** The same for what is only told: whoever answers. */
  async look(request: Request, signal: AbortSignal): Promise<Answer> {
    return await this.#send(request, this.#nextNode(), signal);
  }

  async #send(request: Request, node: Node, signal: AbortSignal): Promise<Answer> {
    const { method, path, query, body, isBulk = false } = request;
    const either = AbortSignal.any([signal, this.#closing.signal]);
    try {
      const answer = await node.pool.request({
        method,
        path: `${node.prefix}${path}${query === undefined ? "" : `?${new URLSearchParams(query).toString()}`}`,
        signal: either,
        headers: {
          accept: "application/json",
          ...this.#login,
          ...(this.sender === null ? {} : { "x-opaque-id": this.sender.mark }),
          ...(body === undefined ? {} : { "content-type": isBulk ? "application/x-ndjson" : "application/json" }),
        },
        ...(body === undefined ? {} : { body: Buffer.isBuffer(body) ? body : JSON.stringify(body) }),
      });
      const chunks: Uint8Array[] = [];
      for await (const chunk of answer.body) chunks.push(chunk);
      this.#answered = true;
      const status = answer.statusCode;
      if (status === REQUEST_TIMEOUT || status >= SERVER_ERROR) this.sender?.unanswered();
      return {
        status,
        body: chunks.length === 1 ? asBuffer(chunks[0]!) : Buffer.concat(chunks),
      };
    } catch (error) {
      this.sender?.unanswered();
      if (!either.aborted) leaveOut(node);
      const failure = this.#answered || !isHangUp(error) ? undefined : await this.#handshakeFailure(either);
      throw failure === undefined
        ? classifyConnection(error, either, this.server)
        : tlsError(failure, this.server, error);
    }
  }

  /** The same for one that must succeed. `what`, `table`: see `classifyEngine`. */
  async ask(request: Request, what: string, signal: AbortSignal, table?: string): Promise<Answer> {
    const answer = await this.request(request, signal);
    expectOk(answer, what, table);
    return answer;
  }

  /** The same for a search, a page of its scroll, or a refresh: they succeed although some shards failed, or took too long. */
  async askEveryShard(request: Request, what: string, signal: AbortSignal, table?: string): Promise<Answer> {
    const answer = await this.request(request, signal);
    expectEveryShard(answer, what, table);
    return answer;
  }

  /** The same for a change of indices: some nodes may not know it yet, and write as before. */
  async askEveryNode(request: Request, what: string, signal: AbortSignal, table?: string): Promise<void> {
    expectEveryNode(await this.request(request, signal), what, table);
  }

  /** Makes everything written so far searchable. */
  async refresh(index: string | readonly string[], table: string | undefined, signal: AbortSignal): Promise<void> {
    await this.askEveryShard({ method: "POST", path: `${pathOf(index)}/_refresh` }, "a refresh", signal, table);
  }

  /**
   * The pages of a search, the first one whatever is on it; `pageOf` parses them. The engine reads on while one is looked at,
   * and a failure surfaces where it is awaited. All pages together have as many documents as the engine counts.
   */
  async *pages<P extends { readonly hits: readonly unknown[] }>(
    index: string,
    { query = {}, body }: Pick<Request, "query" | "body">,
    pageOf: (answer: Answer) => P,
    ask: (request: Request) => Promise<Answer>,
    signal: AbortSignal,
  ): AsyncGenerator<P> {
    const first = { ...WHOLE_SEARCH, ...query, scroll: KEPT_FOR };
    let answer = await ask({ method: "POST", path: `${pathOf(index)}/_search`, query: first, ...(body && { body }) });
    try {
      let page = pageOf(answer);
      const total = totalIn(answer);
      let count = 0;
      do {
        const on = { scroll: KEPT_FOR, scroll_id: scrollIn(answer) };
        const next = ask({ method: "POST", path: SCROLL, query, body: on });
        next.catch(() => undefined);
        count += page.hits.length;
        yield page;
        answer = await next;
        page = pageOf(answer);
      } while (page.hits.length > 0);
      if (count !== total) throw searchError("MR2027", "retryable", "a list of documents lacks some of them");
    } finally {
      await this.look({ method: "DELETE", path: SCROLL, body: { scroll_id: scrollIn(answer) } }, signal);
    }
  }

  /** If all are left out, the one that is due first. */
  #nextNode(): Node {
    const now = performance.now();
    const dueMs = ({ askAgainMs }: Node): number => Math.max(askAgainMs, now);
    const inTurn = this.#nodes.map((_, at) => this.#nodes[(this.#turn + at) % this.#nodes.length]!);
    this.#turn = (this.#turn + 1) % this.#nodes.length;
    return inTurn.reduce((first, other) => (dueMs(other) < dueMs(first) ? other : first));
  }

  /** Called if a server closed the connection before it ever answered: its error does not say why. */
  async #handshakeFailure(signal: AbortSignal): Promise<TlsFailure | undefined> {
    for (const url of this.#urls) {
      const encrypted = url.protocol === "https:";
      const options = encrypted ? this.#tls : { rejectUnauthorized: false };
      const { spoke, code } = await tryHandshake(addressOf(url), options, signal);
      const failure = encrypted ? tlsFailure(code ?? "") : spoke ? TLS_ALONE : undefined;
      if (failure !== undefined) return failure;
    }
    return undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    await Promise.all(this.#nodes.map(({ pool }) => pool.destroy()));
  }
}

function leaveOut(node: Node): void {
  node.askAgainMs = performance.now() + node.pauseMs;
  node.pauseMs = Math.min(node.pauseMs * 2, PAUSE_MS_MAX);
}

const BRACE = 0x7b;

/** Whether it is the engine's: a proxy's page says neither that something is done, nor that something is not there. */
function isOwn({ status, body }: Answer): boolean {
  if (status >= SERVER_ERROR || OF_ANYBODY.has(status)) return true;
  if (body[0] !== BRACE) return false;
  if (status <= OK_STATUS_MAX) return true;
  const told = parsed(body);
  const error = fieldOf(told, "error");
  if (status !== NOT_FOUND) return typeof error === "string" || typeof fieldOf(error, "type") === "string";
  return (
    typeof fieldOf(error, "type") === "string" ||
    // See `detailed`.
    (typeof error === "string" && fieldOf(told, "status") === NOT_FOUND) ||
    fieldOf(told, "found") === false ||
    fieldOf(told, "result") === "not_found" ||
    typeof fieldOf(told, "succeeded") === "boolean"
  );
}

/** For how long the engine keeps a search between two of its pages. */
const KEPT_FOR = "1m";
const SCROLL = "/_search/scroll";
const HITS = Buffer.from('"hits":');

/** What comes before the hits. */
function headOf({ body }: Answer): string {
  const hits = body.indexOf(HITS);
  return body.toString("latin1", 0, hits < 0 ? body.length : hits);
}

function scrollIn(answer: Answer): string {
  const [, scroll] = /"_scroll_id":"([^"]+)"/.exec(headOf(answer)) ?? [];
  if (scroll === undefined) throw searchError("MR2027", "retryable", "listing documents got no list of them");
  return scroll;
}

/** How many documents a search finds, over all of its pages. */
function totalIn({ body }: Answer): number {
  const at = body.indexOf(HITS);
  const [, total] = /^"hits":\{"total":\{"value":(\d+)/.exec(body.toString("latin1", at, at + 64)) ?? [];
  if (total === undefined) throw unknownAnswer("listing documents");
  return Number(total);
}

export function expectOk(answer: Answer, what: string, table?: string): void {
  if (answer.status >= 300) throw classifyEngine(errorOf(answer), what, table);
}

export function expectEveryShard(answer: Answer, what: string, table?: string): void {
  expectOk(answer, what, table);
  const head = headOf(answer);
  if (!/"failed":0[,}]/.test(head) || /"(timed_out|terminated_early)":true/.test(head))
    throw partError("retryable", what, table);
}

export function expectEveryNode(answer: Answer, what: string, table?: string): void {
  expectOk(answer, what, table);
  if (fieldOf(parsed(answer.body), "acknowledged") === true) return;
  throw searchError("MR2001", "retryable", `${what}: some nodes of the cluster have not taken it yet`);
}

export function serversOf(urls: readonly (string | URL)[]): string {
  return urls
    .map((url) => addressOf(new URL(url)))
    .map(({ host, port }) => serverAt(host, port))
    .join(", ");
}

/** A path whose parts are names: percent signs in names are data. */
export function pathOf(...parts: readonly (string | readonly string[])[]): string {
  return parts
    .map((part) => `/${typeof part === "string" ? encodeURIComponent(part) : part.map(encodeURIComponent).join(",")}`)
    .join("");
}

/** An answer in a form of the engine's; `what` names the work. */
export function formOf<F>(form: z.ZodType<F>, { status, body }: Answer, what: string): F {
  const found = form.safeParse(parsed(body));
  // The cause would quote what is there.
  if (!found.success) throw unknownAnswer(`${what} failed with ${status}`);
  return found.data;
}

/** The engine's error in an answer, or in one item of it. */
export function engineError(status: number, told: unknown): EngineError {
  const error = typeof told === "string" ? detailed(told) : told;
  const type = fieldOf(error, "type");
  let root = error;
  for (let cause = fieldOf(root, "caused_by"); cause !== undefined; cause = fieldOf(root, "caused_by")) root = cause;
  const rootType = fieldOf(root, "type");
  return {
    status,
    type: typeof type === "string" ? type : "",
    rootType: typeof rootType === "string" ? rootType : "",
    blocked: blockOf(fieldOf(root, "reason")),
  };
}

/** `IndexNotFoundException[no such index [x]]`, as all errors are with http.detailed_errors.enabled: false. */
function detailed(told: string): object {
  const [, name = "", reason] = /^(\w+)\[(.*)\]$/s.exec(told) ?? [];
  const type = name.replaceAll(/(?<=[a-z])[A-Z]/g, (letter) => `_${letter}`).toLowerCase();
  return { type, reason };
}

/** `index [shop-item] blocked by: [TOO_MANY_REQUESTS/12/disk usage exceeded flood-stage watermark, …];` */
function blockOf(reason: unknown): string | undefined {
  const [, index, by] =
    (typeof reason === "string" && /^index \[([^\]]+)\] blocked by: \[\w+\/\d+\/([^\]]+)\]/.exec(reason)) || [];
  return index && `the index ${index} is blocked: ${by}`;
}

export function errorOf({ status, body }: Answer): EngineError {
  return engineError(status, fieldOf(parsed(body), "error"));
}

/** The answer as JSON; undefined if it is not JSON (a proxy's error page). */
export function parsed(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString("utf8"));
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

export function fieldOf(value: unknown, name: string): unknown {
  if (typeof value !== "object" || value === null) return undefined;
  return Object.getOwnPropertyDescriptor(value, name)?.value;
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}

function loginOf(apiKey: string | undefined, username: string, password: string): Readonly<Record<string, string>> {
  if (apiKey !== undefined) return { authorization: `ApiKey ${apiKey}` };
  if (username === "") return {};
  return { authorization: `Basic ${Buffer.from(`${username}:${password}`).toString("base64")}` };
}
