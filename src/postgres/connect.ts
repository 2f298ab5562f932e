import { Socket, type SocketConstructorOpts } from "node:net";
import { Duplex } from "node:stream";
import type { ConnectionOptions } from "node:tls";
import { Client, type ClientConfig, Connection } from "pg";
import { serverAt } from "../core/system-errors.ts";
import { DATA_FOLDER_SQL, learnFolder } from "./data-folder.ts";
import { Failure, failureOf, NO_TLS } from "./failure.ts";
import type { PostgresAddress } from "./url.ts";
import { setTimeout as delay } from "node:timers/promises";

const KEEP_ALIVE_MS = 30_000;

/** Creates a connected client from a configuration. It must add the caller's error listener before it connects. */
export type ClientMaker = (config: ClientConfig) => Promise<Client>;

interface ConnectOptions {
  readonly signal: AbortSignal;
  /** Receives the socket's bytes instead of 'data' events: plain connections only; see socket-reads.ts. */
  readonly onread?: SocketConstructorOpts["onread"];
  readonly make?: ClientMaker;
  readonly settings?: OtherSettings;
}

interface Connected {
  readonly client: Client;
  readonly encrypted: boolean;
}

/**
 * Follows libpq's rules for sslmode, otherwise throws a `Failure`; `prefer` falls back to a plain connection if the
 * server has no TLS.
 */
export async function connect(given: PostgresAddress, options: ConnectOptions): Promise<Connected> {
  const { freshPassword } = given;
  const address = freshPassword === undefined ? given : { ...given, password: await freshPassword(options.signal) };
  const local = address.host.startsWith("/");
  const mode = local ? "disable" : address.sslMode;
  if (mode === "disable") return { client: await attempt(address, false, options), encrypted: false };
  try {
    return { client: await attempt(address, tlsOptions(address), options), encrypted: true };
  } catch (error) {
    const refused = error instanceof Failure && NO_TLS.test(String(error.cause));
    if (mode !== "prefer" || !refused) throw error;
    return { client: await attempt(address, false, options), encrypted: false };
  }
}

async function attempt(
  address: PostgresAddress,
  ssl: false | ConnectionOptions,
  options: ConnectOptions,
): Promise<Client> {
  try {
    const { signal, settings = {} } = options;
    const { client, majorVersion } = await login(address, ssl, options);
    const stop = (): void => void streamOf(client).destroy();
    signal.addEventListener("abort", stop, { once: true });
    try {
      await settle(client, address, majorVersion, settings, async () => (await login(address, ssl, { signal })).client);
      return client;
    } catch (error) {
      stop();
      throw error;
    } finally {
      signal.removeEventListener("abort", stop);
    }
  } catch (error) {
    throw options.signal.aborted ? stopped() : failureOf(error, serverAt(address.host, address.port));
  }
}

interface Login {
  readonly client: Client;
  readonly majorVersion: number;
}

/** Again without startup options if a pooler refuses them. */
async function login(
  address: PostgresAddress,
  ssl: false | ConnectionOptions,
  options: ConnectOptions,
  startup = startupOptions(options.settings ?? {}),
): Promise<Login> {
  if (options.signal.aborted) throw stopped();
  const socket = new Socket(ssl === false && options.onread !== undefined ? { onread: options.onread } : {});
  const stop = (): void => void socket.destroy(new Error("Connection terminated"));
  options.signal.addEventListener("abort", stop, { once: true });
  try {
    const { config, majorVersion } = clientConfig(address, ssl, socket, startup);
    const client = await (options.make ?? plainClient)(config);
    return { client, majorVersion: majorVersion() };
  } catch (error) {
    socket.destroy();
    const isRefused = startup !== "" && error instanceof Error && OPTIONS_REFUSED.test(error.message);
    if (isRefused && !options.signal.aborted) return await login(address, ssl, options, "");
    throw error;
  } finally {
    options.signal.removeEventListener("abort", stop);
  }
}

/** PgBouncer's, whose language is one: all options, or one in them (1.20). */
export const OPTIONS_REFUSED = /unsupported startup parameter(?:: options\b| in options\b)/;

function stopped(): Failure {
  return new Failure("stopped", "connecting was stopped", { connecting: true });
}

/** Through the driver only. */
export async function plainClient(config: ClientConfig): Promise<Client> {
  const client = new Client(config);
  // A connection that breaks while idle reports it at its next use.
  client.on("error", () => {});
  await client.connect();
  return client;
}

interface Prepared {
  readonly config: ClientConfig;
  /** Of the server, as it said it at the login. */
  readonly majorVersion: () => number;
}

function clientConfig(
  address: PostgresAddress,
  ssl: false | ConnectionOptions,
  socket: Socket,
  startup: string,
): Prepared {
  const connection = loginConnection(address, ssl, socket);
  let version = "";
  connection.on("parameterStatus", ({ parameterName, parameterValue }: ParameterStatus) => {
    if (parameterName === "server_version") version = parameterValue;
  });
  const config: ClientConfig & { readonly connection: Connection } = {
    host: address.host,
    port: address.port,
    user: address.user,
    database: address.database,
    password: address.password,
    ssl,
    sslnegotiation: address.directTls && ssl !== false ? "direct" : "postgres",
    enableChannelBinding: address.channelBinding,
    application_name: address.applicationName,
    ...(startup === "" ? {} : { options: address.options === undefined ? startup : `${address.options} ${startup}` }),
    connectionTimeoutMillis: address.connectTimeoutMs,
    keepAlive: true,
    keepAliveInitialDelayMillis: KEEP_ALIVE_MS,
    stream: () => socket,
    connection,
  };
  return { config, majorVersion: () => Number.parseInt(version, 10) || 0 };
}

interface ParameterStatus {
  readonly parameterName: string;
  readonly parameterValue: string;
}

/** The driver's own, as it would make it from the other settings. */
function loginConnection(address: PostgresAddress, ssl: false | ConnectionOptions, socket: Socket): Connection {
  const connection = new Connection({
    stream: () => socket,
    ssl,
    sslNegotiation: address.directTls && ssl !== false ? "direct" : "postgres",
    keepAlive: true,
    keepAliveInitialDelayMillis: KEEP_ALIVE_MS,
  } as object);
  if (address.channelBinding) requireBinding(connection);
  holdFarewell(connection);
  return connection;
}

/**
 * A backend whose server goes down may end the session in the piece of bytes that ends the login. The driver reports it
 * before the caller that waits for the login runs again. An error without a listener would end the process, so it waits.
 */
function holdFarewell(connection: Connection): void {
  const emit = connection.emit.bind(connection);
  let isAccepted = false;
  connection.emit = (name, ...given) => {
    if (name === "errorMessage" && isAccepted) {
      queueMicrotask(() => emit(name, ...given));
      return true;
    }
    if (name === "readyForQuery") {
      isAccepted = true;
      queueMicrotask(() => void (connection.emit = emit));
    }
    return emit(name, ...given);
  };
}

const BOUND = "SCRAM-SHA-256-PLUS";

/** The members of the driver's connection for the login, which its types omit. */
interface LoginSide {
  password(text: string): void;
  sendSASLInitialResponseMessage(mechanism: string, response: string): void;
}

/**
 * Makes it a connection for `channel_binding=require` with libpq's meaning: it reveals nothing about the password and accepts
 * no login, except by SCRAM bound to this TLS session. The driver alone binds if the server offers it, and answers every
 * other request too.
 */
function requireBinding(connection: Connection): void {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the driver's own methods (pg/lib/connection.js)
  const login = connection as unknown as LoginSide;
  const send = login.sendSASLInitialResponseMessage.bind(connection);
  let isBound = false;
  const refuse = (what: string): void => void connection.emit("error", notBound(what));
  login.password = () => refuse("asks for the password itself");
  login.sendSASLInitialResponseMessage = (mechanism, response) => {
    if (mechanism !== BOUND) return refuse("does not offer to bind the login to TLS");
    isBound = true;
    send(mechanism, response);
  };
  connection.prependListener("authenticationOk", () => {
    if (!isBound) refuse("accepts a login that is not bound");
  });
}

function notBound(what: string): Error {
  return new Failure("unbound", `the server ${what}, and channel_binding=require forbids that`, {
    fix: "Let pg_hba.conf ask this role for scram-sha-256 in a hostssl line (its password has to be stored as one), or leave channel_binding out.",
  });
}

function tlsOptions(address: PostgresAddress): ConnectionOptions {
  const own = {
    ...(address.certificate === undefined ? {} : { cert: address.certificate }),
    ...(address.key === undefined ? {} : { key: address.key }),
  };
  switch (address.sslMode) {
    case "verify-full":
      return {
        ...own,
        ...(address.rootCertificate === undefined ? {} : { ca: address.rootCertificate }),
        rejectUnauthorized: true,
      };
    case "verify-ca":
      // The certificate's chain counts, its name does not.
      return {
        ...own,
        ...(address.rootCertificate === undefined ? {} : { ca: address.rootCertificate }),
        rejectUnauthorized: true,
        checkServerIdentity: () => undefined,
      };
    case "require":
    case "prefer":
    case "disable":
      return { ...own, rejectUnauthorized: false };
    default:
      return address.sslMode satisfies never;
  }
}

/** The stream of a client: the TLS socket if there is one. pg keeps it in a field that its types don't declare. */
export function streamOf(client: Client): Duplex {
  const connection: unknown = "connection" in client ? client.connection : undefined;
  if (typeof connection === "object" && connection !== null && "stream" in connection) {
    if (connection.stream instanceof Duplex) return connection.stream;
  }
  throw new Error("the driver has no stream to take over");
}

// The settings of all our sessions, and how they come into force, also behind a pooler.

/** What a server, a database or a role sets for everybody ends or delays no work of ours. */
export const WITHOUT_LIMITS = {
  statement_timeout: "0",
  lock_timeout: "0",
  idle_in_transaction_session_timeout: "0",
  idle_session_timeout: "0",
  default_transaction_deferrable: "off",
  // A stricter one ends statements because of what others write, and does not exist on a standby.
  default_transaction_isolation: "read committed",
} as const;

/**
 * The settings of all our sessions, independent of the role's and the database's settings: as startup options, which
 * override them. The first seven fix the text form of values and of type names, also in a walsender, whose output functions use
 * its own session's settings; array_nulls and xmloption fix how texts are parsed. row_security=off makes the server
 * refuse a read that a policy would restrict, instead of hiding rows.
 */
const SESSION_SETTINGS = {
  DateStyle: "ISO",
  IntervalStyle: "postgres",
  TimeZone: "UTC",
  // The server's own types need only 1; extensions' types print that many digits more than the safe number.
  extra_float_digits: "3",
  bytea_output: "hex",
  lc_monetary: "C",
  quote_all_identifiers: "off",
  array_nulls: "on",
  xmloption: "content",
  client_encoding: "UTF8",
  standard_conforming_strings: "on",
  search_path: "pg_catalog",
  row_security: "off",
  ...WITHOUT_LIMITS,
  // The server's default; the stream reports every ten seconds at the latest.
  wal_sender_timeout: "60s",
  // A stream whose sinks are all busy is not read, which this one would take for a peer that is gone.
  tcp_user_timeout: "0",
  default_transaction_read_only: "off",
  // A mark must come back even while a synchronous standby is away.
  synchronous_commit: "local",
  // From Postgres 18 on, a missing publication only causes a warning.
  client_min_messages: "warning",
  jit: "off",
} as const;

/** By name, in place of those of all sessions. */
type OtherSettings = Readonly<Partial<Record<keyof typeof SESSION_SETTINGS, string>>>;

/** After the login: an older server would refuse a login with a setting that it does not know. */
export const TRANSACTION_TIMEOUT = "transaction_timeout";
const TRANSACTION_TIMEOUT_SINCE = 17;
/** A pooler whose sessions are all taken lets another one wait. */
const OTHER_MS_MAX = 2_000;

function startupOptions(other: OtherSettings): string {
  return optionsOf({ ...SESSION_SETTINGS, ...other });
}

/** As the startup parameter `options` has them. */
export function optionsOf(settings: Readonly<Record<string, string>>): string {
  return Object.entries(settings)
    .map(([name, value]) => `-c ${name}=${value.replaceAll(" ", "\\ ")}`)
    .join(" ");
}

/**
 * Completes the login. A pooler may have left out the startup options, so behind one the settings come as statements; it is
 * told by another process id than it said. `loginAgain` opens another session: one that gives both the same session of the
 * server, transaction by transaction, keeps nothing of what we set, and would leave it to other clients.
 */
async function settle(
  client: Client & { readonly processID?: number | null },
  address: PostgresAddress,
  majorVersion: number,
  other: OtherSettings,
  loginAgain: () => Promise<Client>,
): Promise<void> {
  const hasTimeout = majorVersion >= TRANSACTION_TIMEOUT_SINCE;
  const limit = hasTimeout ? `, ${setting(TRANSACTION_TIMEOUT, "0")}` : "";
  const direct = await client.query<{ folder: string | null; started: string }>(
    `SELECT ${DATA_FOLDER_SQL}${limit} WHERE pg_backend_pid() = ${client.processID ?? 0}`,
  );
  const [own] = direct.rows;
  if (own !== undefined) return learnFolder(address, own);
  await expectOwn(client, loginAgain);
  const settings = { ...SESSION_SETTINGS, ...other, ...(hasTimeout ? { [TRANSACTION_TIMEOUT]: "0" } : {}) };
  await client.query(
    `SELECT ${Object.entries(settings)
      .map(([name, value]) => setting(name, value))
      .join(", ")}`,
  );
}

/** All are ours, and have no quotes in them. */
function setting(name: string, value: string): string {
  return `set_config('${name}', '${value}', false)`;
}

async function expectOwn(client: Client, loginAgain: () => Promise<Client>): Promise<void> {
  const before = await backendOf(client);
  const another = await loginAgain();
  try {
    const waiting = delay(OTHER_MS_MAX, undefined, { ref: false });
    const others = await Promise.race([backendOf(another), waiting]);
    if (others !== before && (await backendOf(client)) === before) return;
  } finally {
    another.connection.stream.destroy();
  }
  throw new Failure("shared", "it leads to a pooler that gives one session of the server to several clients", {
    connecting: true,
    fix: "Let the pooler keep a session for each client (pool_mode = session), or name the server itself.",
  });
}

async function backendOf(client: Client): Promise<number | undefined> {
  const { rows } = await client.query<{ pid: number }>("SELECT pg_backend_pid() AS pid");
  return rows[0]?.pid;
}
