import { Socket, type SocketConstructorOpts } from "node:net";
import { Duplex } from "node:stream";
import type { ConnectionOptions } from "node:tls";
import { Client, type ClientConfig, Connection } from "pg";
import { serverAt } from "../../../src/core/system-errors.ts";
import { requireBinding } from "./channel-binding.ts";
import { Failure, failureOf } from "./failure.ts";
import { NO_TLS } from "./tls-failures.ts";
import type { PostgresAddress } from "./url.ts";

/**
 * The settings of all our sessions, independent of the role's and the database's settings (startup options override
 * them). The first seven fix the text form of values and of type names, also in a walsender, whose output functions use
 * its own session's settings; array_nulls and xmloption fix how texts are parsed. row_security=off makes the server
 * refuse a read that a policy would restrict, instead of hiding rows.
 */
const SESSION_SETTINGS: readonly (readonly [string, string])[] = [
  ["DateStyle", "ISO"],
  ["IntervalStyle", "postgres"],
  ["TimeZone", "UTC"],
  // The server's own types need only 1; extensions' types print that many digits more than the safe number.
  ["extra_float_digits", "3"],
  ["bytea_output", "hex"],
  ["lc_monetary", "C"],
  ["quote_all_identifiers", "off"],
  ["array_nulls", "on"],
  ["xmloption", "content"],
  ["client_encoding", "UTF8"],
  ["standard_conforming_strings", "on"],
  ["search_path", "pg_catalog"],
  ["row_security", "off"],
  ["statement_timeout", "0"],
  ["lock_timeout", "0"],
  ["idle_in_transaction_session_timeout", "0"],
  ["idle_session_timeout", "0"],
  // The server's default; the stream reports every ten seconds at the latest.
  ["wal_sender_timeout", "60s"],
  // A stream whose sinks are all busy is not read, which this one would take for a peer that is gone.
  ["tcp_user_timeout", "0"],
  ["default_transaction_read_only", "off"],
  ["default_transaction_deferrable", "off"],
  // A stricter one ends statements because of what others write, and does not exist on a standby.
  ["default_transaction_isolation", "read\\ committed"],
  // A mark must come back even while a synchronous standby is away.
  ["synchronous_commit", "local"],
  // From Postgres 18 on, a missing publication only causes a warning.
  ["client_min_messages", "warning"],
  ["jit", "off"],
];

/** As a statement after the login: an older server would refuse a login with a setting that it does not know. */
const TRANSACTION_TIMEOUT = "SET transaction_timeout = 0";
const TRANSACTION_TIMEOUT_SINCE = 17;

const KEEP_ALIVE_MS = 30_000;

/** Creates a connected client from a configuration. It must add the caller's error listener before it connects. */
export type ClientMaker = (config: ClientConfig) => Promise<Client>;

export interface ConnectOptions {
  readonly signal: AbortSignal;
  /** Receives the socket's bytes instead of 'data' events: plain connections only; see socket-reads.ts. */
  readonly onread?: SocketConstructorOpts["onread"];
  readonly make?: ClientMaker;
}

export interface Connected {
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
  if (options.signal.aborted) throw stopped();
  const socket = new Socket(ssl === false && options.onread !== undefined ? { onread: options.onread } : {});
  const stop = (): void => void socket.destroy(new Error("Connection terminated"));
  options.signal.addEventListener("abort", stop, { once: true });
  try {
    const { config, majorVersion } = clientConfig(address, ssl, socket);
    const client = await (options.make ?? plainClient)(config);
    if (majorVersion() >= TRANSACTION_TIMEOUT_SINCE) await client.query(TRANSACTION_TIMEOUT);
    return client;
  } catch (error) {
    socket.destroy();
    throw options.signal.aborted ? stopped() : failureOf(error, serverAt(address.host, address.port));
  } finally {
    options.signal.removeEventListener("abort", stop);
  }
}

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

interface Login {
  readonly config: ClientConfig;
  /** Of the server, as it said it at the login. */
  readonly majorVersion: () => number;
}

function clientConfig(address: PostgresAddress, ssl: false | ConnectionOptions, socket: Socket): Login {
  const connection = loginConnection(address, ssl, socket);
  let version = "";
  connection.on("parameterStatus", ({ parameterName, parameterValue }: ParameterStatus) => {
    if (parameterName === "server_version") version = parameterValue;
  });
  const settings = SESSION_SETTINGS.map(([name, value]) => `-c ${name}=${value}`).join(" ");
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
    options: address.options === undefined ? settings : `${address.options} ${settings}`,
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
 * before whoever waits for the login runs again, and an error that nobody listens for would end the process: it waits.
 */
function holdFarewell(connection: Connection): void {
  const emit = connection.emit.bind(connection);
  let isLetIn = false;
  connection.emit = (name, ...given) => {
    if (name === "errorMessage" && isLetIn) {
      queueMicrotask(() => emit(name, ...given));
      return true;
    }
    if (name === "readyForQuery") {
      isLetIn = true;
      queueMicrotask(() => void (connection.emit = emit));
    }
    return emit(name, ...given);
  };
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

/**
 * Takes the connection from the driver, which has nothing more to read: its last answer was ReadyForQuery. From here on
 * bytes go only to `onData` (or to the socket's `onread`).
 */
export function takeOver(client: Client, onData: ((chunk: Buffer) => void) | undefined): Duplex {
  const stream = streamOf(client);
  stream.removeAllListeners("data");
  if (onData !== undefined) stream.on("data", onData);
  return stream;
}
