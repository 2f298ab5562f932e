import type { FreshPassword } from "../../src/core/contracts/connector.ts";
import { once } from "node:events";
import { connect, isIP } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import type { ConnectionOptions } from "node:tls";
import { Cluster, Command, Redis } from "ioredis";
import { abortedError } from "../../src/core/errors.ts";
import { serverAt } from "../../src/core/system-errors.ts";
import { invariant } from "../../src/core/invariant.ts";
import { NO_TLS, TLS_ALONE, tryHandshake } from "../../src/tls/failure.ts";
import { tlsOptions, type TlsSettings } from "../../src/tls/options.ts";
import { loginIn } from "../../src/tls/url-parts.ts";
import { classify, type ClientLimit, isHangUp, isRefusal, redisError, replyCode, tlsError } from "./errors.ts";
import { SCRIPT, SCRIPT_SHA } from "./write/script.ts";

/** A server that does not answer in this time counts as unreachable. */
const CONNECT_TIMEOUT_MS = 10_000;
const CALL_TIMEOUT_MS = 30_000;
const KEEP_ALIVE_MS = 10_000;
/** A connection that is given up waits this long for the server to close it; its calls fail then. */
const DISCONNECT_TIMEOUT_MS = 100;
/** If a handshake takes this long, the sink checks whether the server speaks TLS at all. */
const PLAIN_SERVER_AFTER_MS = 1_000;
/** A server that takes a connection waits for a command. */
const REFUSED_WITHIN_MS = 1_000;

/** Redis' own default, for servers that do not let us read their settings. */
const ARGUMENT_BYTES_MAX = 512 * 1024 * 1024;
const ARGUMENT_LIMITS = ["proto-max-bulk-len", "client-query-buffer-limit"] as const;
/** At which the server ends a client's connection without a word, and their defaults. */
const CLIENT_LIMITS = [
  { name: "client-output-buffer-limit", usual: "normal 0 0 0" },
  { name: "maxmemory-clients", usual: "0" },
  { name: "client-query-buffer-limit", usual: "1073741824" },
] as const;

export interface ConnectionSettings {
  readonly url: string;
  readonly cluster: boolean;
  readonly tls: TlsSettings;
  /** In place of the url's password, for each connection. */
  readonly freshPassword?: FreshPassword | undefined;
  /** Nothing is written, not even a script into the server's cache. */
  readonly isReader?: boolean;
}

export type Argument = string | Buffer;
/** A reply as in RESP2: a Buffer for a bulk string, a number, null, or a list of replies. */
export type Reply = unknown;

export function listOf(reply: Reply): readonly unknown[] | null {
  return Array.isArray(reply) ? reply : null;
}

export function textOf(reply: Reply): string | null {
  return Buffer.isBuffer(reply) ? reply.toString("utf8") : null;
}

export interface Commands {
  /** Sends one command; strings in the reply are bytes. */
  command(name: string, ...args: readonly Argument[]): Promise<Reply>;
}

/**
 * One connection to one server or cluster, until it is lost. It never queues, repeats or reconnects by itself: when it
 * is lost every call on it fails, and the sink opens another one. (If ioredis repeated a command, it could arrive after
 * later ones.)
 */
export class Connection implements Commands, AsyncDisposable {
  readonly #client: Redis | Cluster;
  readonly isCluster: boolean;
  /** What the servers take as one argument of a command: they end the connection at a larger one. */
  argumentBytesMax = ARGUMENT_BYTES_MAX;
  // Of a cluster, what all its nodes have: none tells in which of them a command failed. Unknown if the user may not ask.
  /** Limits for a client that are not the defaults. */
  clientLimits: readonly ClientLimit[] = [];
  /** How many clients a server takes. */
  clientsMax: string | null = null;
  /** The folder in which a server saves. */
  saveFolder: string | null = null;

  private constructor(client: Redis | Cluster) {
    this.#client = client;
    this.isCluster = client instanceof Cluster;
  }

  static async open(settings: ConnectionSettings, signal: AbortSignal): Promise<Connection> {
    signal.throwIfAborted();
    const { freshPassword } = settings;
    const given = parseUrl(settings.url);
    const address = freshPassword === undefined ? given : { ...given, password: await freshPassword(signal) };
    const options = clientOptions(address, secured(address, settings.tls, signal));
    const client = settings.cluster
      ? new Cluster([{ host: address.host, port: address.port }], clusterOptions(options))
      : new Redis({
          ...options,
          host: address.host,
          port: address.port,
          enableOfflineQueue: false,
          retryStrategy: null,
        });
    const connection = new Connection(client);
    const stop = (): void => connection.#disconnect();
    signal.addEventListener("abort", stop);
    const ended = new AbortController();
    try {
      await Promise.race([connection.#establish(address.db, settings), refusePlain(address, ended.signal)]);
      return connection;
    } catch (error) {
      connection.#disconnect();
      const server = serverOf(settings.url);
      if (address.tls || !isHangUp(error)) throw classify(error, signal, server);
      const [isTlsAlone, refusal] = await Promise.all([speaksTlsAlone(address, signal), refusalAt(address, signal)]);
      if (isTlsAlone) throw tlsError(TLS_ALONE, server, error);
      throw classify(refusal === "" ? error : new Error(refusal), signal, server);
    } finally {
      ended.abort();
      signal.removeEventListener("abort", stop);
    }
  }

  /** ioredis reports some refusals (login) only as an event; its promise then only says "closed". */
  async #establish(db: number, { isReader = false }: ConnectionSettings): Promise<void> {
    let reported: unknown;
    this.#client.on("error", (error: unknown) => {
      reported ??= mostTelling(error);
    });
    try {
      await this.#client.connect();
    } catch (error) {
      throw reported ?? mostTelling(error);
    }
    if (db !== 0) await this.command("select", String(db));
    if (isReader) return;
    await this.loadScripts();
    const nodes = await Promise.all(this.primaries().map(settingsOf));
    const limits = nodes.flatMap((node) => ARGUMENT_LIMITS.flatMap((name) => node[name] ?? []));
    this.argumentBytesMax = Math.min(this.argumentBytesMax, ...limits.map(Number));
    this.clientLimits = clientLimitsOf(nodes);
    this.clientsMax = common(nodes.map((node) => node.maxclients));
    this.saveFolder = common(nodes.map((node) => node.dir));
  }

  async loadScripts(): Promise<void> {
    for (const primary of this.primaries()) {
      const sha = await primary.command("script", "load", SCRIPT);
      invariant(String(sha) === SCRIPT_SHA, "the server hashes a script as we do");
    }
  }

  command(name: string, ...args: readonly Argument[]): Promise<Reply> {
    return send(this.#client, name, args);
  }

  /** Sends an encoded command. `routingKey`, one of its keys, selects the node of a cluster. */
  encoded(name: string, bytes: Buffer, routingKey: Buffer): Promise<Reply> {
    const command = new Command(name, [SCRIPT_SHA, "1", routingKey], { replyEncoding: null });
    command.toWritable = () => bytes;
    return sendCommand(this.#client, command);
  }

  /** The servers that hold keys: the server itself, or every primary of the cluster. */
  primaries(): readonly Commands[] {
    const clients = this.#client instanceof Cluster ? this.#client.nodes("master") : [this.#client];
    return clients.map((client) => ({ command: (name, ...args) => send(client, name, args) }));
  }

  get isUp(): boolean {
    return this.#client.status === "ready";
  }

  #disconnect(): void {
    this.#client.disconnect();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#disconnect();
  }
}

function send(client: Redis | Cluster, name: string, args: readonly Argument[]): Promise<Reply> {
  return sendCommand(client, new Command(name, [...args], { replyEncoding: null }));
}

/** ioredis types the result as unknown; it is the command's promise. */
async function sendCommand(client: Redis | Cluster, command: Command): Promise<Reply> {
  return await client.sendCommand(command);
}

const SETTINGS = [...ARGUMENT_LIMITS, ...CLIENT_LIMITS.map(({ name }) => name), "maxclients", "dir"] as const;
type Settings = Partial<Record<(typeof SETTINGS)[number], string>>;

async function settingsOf(node: Commands): Promise<Settings> {
  const found: Settings = {};
  const ask = async (name: keyof Settings): Promise<void> => {
    const value = await settingOf(node, name);
    if (value !== null) found[name] = value;
  };
  await Promise.all([...new Set(SETTINGS)].map(ask));
  return found;
}

function clientLimitsOf(nodes: readonly Settings[]): readonly ClientLimit[] {
  return CLIENT_LIMITS.flatMap(({ name, usual }) => {
    // One for each class of clients; we are a normal one.
    const value = common(nodes.map((node) => node[name]?.replace(/^(normal \d+ \d+ \d+) .*$/, "$1")));
    return value === null || value === usual || value === "" ? [] : [{ name, value, usual }];
  });
}

/** Null if they differ. */
function common(values: readonly (string | undefined)[]): string | null {
  const [value, ...others] = new Set(values);
  return others.length === 0 ? (value ?? null) : null;
}

/** Null if the user may not ask: managed servers forbid CONFIG, or do not have it. */
export async function settingOf(connection: Commands, name: string): Promise<string | null> {
  const reply = await permitted(connection.command("config", "get", name));
  return textOf(listOf(reply)?.[1]);
}

export async function permitted<T>(reply: Promise<T>): Promise<T | null> {
  try {
    return await reply;
  } catch (error) {
    if (error instanceof Error && /^(NOPERM|ERR)$/.test(replyCode(error.message))) return null;
    throw error;
  }
}

interface Address {
  readonly host: string;
  readonly port: number;
  readonly username: string | undefined;
  readonly password: string | undefined;
  readonly db: number;
  readonly tls: boolean;
}

/** For messages: host and port. */
export function serverOf(url: string): string {
  const { host, port } = parseUrl(url);
  return serverAt(host, port);
}

export function parseUrl(text: string): Address {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !/^rediss?:$/.test(url.protocol)) {
    throw redisError("MR2004", "fatal", "the sink's url is not of the form redis://user:password@host:port/db");
  }
  const db = url.pathname.replace(/^\//, "");
  if (!/^\d*$/.test(db)) throw redisError("MR2004", "fatal", "the database in the sink's url is not a number");
  const { username, password } = loginIn(url);
  return {
    host: url.hostname.replace(/^\[|\]$/g, "") || "127.0.0.1",
    port: url.port === "" ? 6379 : Number(url.port),
    username: username === "" ? undefined : username,
    password: password === "" ? undefined : password,
    db: Number(db),
    tls: url.protocol === "rediss:",
  };
}

function clientOptions(address: Address, tls: ConnectionOptions) {
  return {
    lazyConnect: true,
    // This sink does not need RESP3, and some proxies do not speak it.
    protocol: 2 as const,
    ...(address.username === undefined ? {} : { username: address.username }),
    ...(address.password === undefined ? {} : { password: address.password }),
    ...(address.tls ? { tls } : {}),
    connectionName: "millrace",
    connectTimeout: CONNECT_TIMEOUT_MS,
    commandTimeout: CALL_TIMEOUT_MS,
    keepAlive: KEEP_ALIVE_MS,
    disconnectTimeout: DISCONNECT_TIMEOUT_MS,
    // A loading server answers LOADING, which has its own message; INFO would need another permission.
    enableReadyCheck: false,
    autoResendUnfulfilledCommands: false,
    autoResubscribe: false,
    maxRetriesPerRequest: 0,
    reconnectOnError: null,
    disableClientInfo: true,
  };
}

/** Reads the files for each connection: they may have been renewed. */
function secured({ host, port, tls }: Address, settings: TlsSettings, signal: AbortSignal): ConnectionOptions {
  // A server name must not be an address (RFC 6066); the certificate is compared with the host anyway.
  const name = isIP(host) === 0 ? { servername: host } : {};
  try {
    return { ...name, ...tlsOptions(settings, tls) };
  } catch (error) {
    throw classify(error, signal, serverAt(host, port));
  }
}

/**
 * Fails if the handshake hangs because a server without TLS waits for the end of a line; else settles only with the
 * signal.
 */
async function refusePlain(address: Address, signal: AbortSignal): Promise<never> {
  if (address.tls) {
    await sleep(PLAIN_SERVER_AFTER_MS, undefined, { signal });
    if (await answersPlainly(address, signal)) throw tlsError(NO_TLS, serverAt(address.host, address.port));
  }
  if (!signal.aborted) await once(signal, "abort");
  throw abortedError(signal);
}

/** A Redis without TLS says nothing to a handshake, of which it waits for the end of a line: its answer to PING ends that. */
async function speaksTlsAlone(address: Address, signal: AbortSignal): Promise<boolean> {
  const known = new AbortController();
  const either = AbortSignal.any([signal, known.signal]);
  const answered = (async () => {
    if (await answersPlainly(address, either)) known.abort();
  })();
  const { spoke } = await tryHandshake(address, { rejectUnauthorized: false }, either);
  known.abort();
  await answered;
  return spoke;
}

/** Any reply to PING, even a refusal, means Redis without TLS. */
async function answersPlainly({ host, port }: Address, signal: AbortSignal): Promise<boolean> {
  const socket = connect({ host, port, timeout: CONNECT_TIMEOUT_MS, signal });
  socket.on("timeout", () => socket.destroy());
  socket.on("connect", () => socket.write("PING\r\n"));
  try {
    return await new Promise<boolean>((resolve) => {
      socket.once("data", (reply) => resolve(reply[0] === 0x2b || reply[0] === 0x2d));
      socket.once("error", () => resolve(false));
      socket.once("close", () => resolve(false));
    });
  } finally {
    socket.destroy();
  }
}

/** Before it closes a connection that it does not take, a server says why; the client loses that if it has sent something. */
async function refusalAt({ host, port }: Address, signal: AbortSignal): Promise<string> {
  const socket = connect({ host, port, timeout: REFUSED_WITHIN_MS, signal });
  socket.on("timeout", () => socket.destroy());
  try {
    return await new Promise<string>((resolve) => {
      socket.once("data", (reply) => {
        const text = reply.toString("latin1").replace(/^-/, "");
        resolve(isRefusal(text) ? text : "");
      });
      socket.once("error", () => resolve(""));
      socket.once("close", () => resolve(""));
    });
  } finally {
    socket.destroy();
  }
}

/** The node that redirects a command does not execute it, so following MOVED and ASK repeats nothing. */
function clusterOptions(redisOptions: ReturnType<typeof clientOptions>) {
  return {
    lazyConnect: true,
    redisOptions,
    enableOfflineQueue: false,
    enableReadyCheck: true,
    clusterRetryStrategy: () => null,
    clusterNodeRetryStrategy: () => null,
    retryDelayOnFailover: 0,
    retryDelayOnClusterDown: 0,
    retryDelayOnTryAgain: 100,
    maxRedirections: 16,
    slotsRefreshTimeout: CONNECT_TIMEOUT_MS,
  };
}

/** A cluster client says "Failed to refresh slots cache"; the real reason is attached to that error. */
function mostTelling(error: unknown): unknown {
  if (error instanceof Error && "lastNodeError" in error && error.lastNodeError instanceof Error) {
    return error.lastNodeError;
  }
  return error;
}
