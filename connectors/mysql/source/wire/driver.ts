/**
 * What is used of mysql2 beyond its types: it runs any object with `execute` as a command, and passes it each packet in
 * place in the receive buffer. That is no official interface, so the version is pinned, and each new connection checks the
 * shape.
 */
import { checkServerIdentity, type TLSSocket } from "node:tls";
import { type Connection, createConnection } from "mysql2";
import type { MysqlAddress } from "../../url.ts";
import { aborted, refusedLike, sourceError, unconnected } from "../errors.ts";
import { Cursor } from "./bytes.ts";

/** A packet without its header is between `start` + 4 and `end`; valid until `execute` returns. */
export interface Packet {
  readonly buffer: Buffer;
  readonly start: number;
  readonly end: number;
  isError(): boolean;
  asError(encoding: string): Error;
}

export const PACKET_HEADER_BYTES = 4;
const COM_QUERY = 0x03;
const EOF_MARK = 0xfe;
const EOF_BYTES_MAX = 9;

/** The row's values are between `start` and `end`, one after the other: each a packed length and bytes, or 0xfb for null. */
export type OnRow = (bytes: Buffer, start: number, end: number) => void;

export interface Command {
  /** Called without a packet to send the request, then with each packet; true: the command is finished. */
  execute(packet: Packet | undefined, connection: PacketWriter): boolean;
  /** The connection broke while the command ran. */
  onResult(error: Error): void;
}

export interface PacketWriter {
  _resetSequenceId(): void;
  writePacket(packet: object): void;
  /** Gets what the socket brings; it can be replaced. */
  packetParser: BytesParser;
}

export interface BytesParser {
  execute(chunk: Buffer): void;
}

interface CommandRunner {
  addCommand(command: Command): void;
  pause(): void;
  resume(): void;
  stream: { readonly bytesRead: number; destroy(): void; pause(): void; resume(): void };
}

/** A read takes the process for half a millisecond, then what else waits has its turn. */
const TURN_BYTES = 128 * 1024;

/** One connection to the server: its statements, its commands, its end. */
export class Session {
  readonly #connection: Connection;
  readonly #runner: CommandRunner;
  #broken: Error | undefined;
  #thread: string | undefined;
  #isPaused = false;
  #onBroken: ((error: Error) => void) | undefined;

  private constructor(connection: Connection, runner: CommandRunner) {
    this.#connection = connection;
    this.#runner = runner;
    connection.on("error", (error) => {
      this.#broken ??= error;
      this.#onBroken?.(error);
    });
    connection.on("end", () => {
      this.#broken ??= lost();
      this.#onBroken?.(this.#broken);
    });
  }

  static async open(given: MysqlAddress, signal: AbortSignal): Promise<Session> {
    if (signal.aborted) throw aborted("connecting to the source");
    const { freshPassword } = given;
    const address = freshPassword === undefined ? given : { ...given, password: await freshPassword(signal) };
    if (address.sslMode !== "PREFERRED") return await begin(address, address.sslMode !== "DISABLED", signal);
    try {
      return await begin(address, true, signal);
    } catch (error) {
      if (!isWithoutTls(error)) throw error;
      return await begin(address, false, signal);
    }
  }

  static made(connection: Connection): Session {
    if (!isRunner(connection)) throw new Error("this version of the driver runs no commands");
    return new Session(connection, connection);
  }

  get isBroken(): boolean {
    return this.#broken !== undefined;
  }

  get isPaused(): boolean {
    return this.#isPaused;
  }

  /** Its number at the server: behind a proxy the handshake tells another. */
  async thread(): Promise<string> {
    return (this.#thread ??= (await this.query("SELECT CONNECTION_ID()"))[0]?.[0] ?? "0");
  }

  /** What has arrived so far. */
  get byteCount(): number {
    return this.#runner.stream.bytesRead;
  }

  /** Called once when the connection breaks; a later one replaces it. */
  onBroken(handler: ((error: Error) => void) | undefined): void {
    this.#onBroken = handler;
  }

  /** The rows of a statement, with every value as the text that the server sent. */
  query(sql: string): Promise<(string | null)[][]> {
    return new Promise((resolve, reject) => {
      this.#connection.query({ sql, rowsAsArray: true, typeCast: (field) => field.string("utf8") }, (error, rows) => {
        if (error !== null) reject(error);
        else resolve(textRows(rows));
      });
    });
  }

  /** A SELECT whose rows are read in place in the receive buffer: nothing is allocated per cell. */
  async readRows(sql: string, onRow: OnRow): Promise<void> {
    const { stream } = this.#runner;
    let byteCount = 0;
    const giveWay: OnRow = (bytes, start, end) => {
      onRow(bytes, start, end);
      byteCount += end - start;
      if (byteCount < TURN_BYTES) return;
      byteCount = 0;
      // Else up to 32 reads follow each other (uv__read).
      stream.pause();
      setImmediate(() => {
        if (!this.#isPaused) stream.resume();
      });
    };
    await new Promise<void>((resolve, reject) => this.run(new TextQuery(sql, giveWay, resolve, reject)));
  }

  run(command: Command): void {
    if (this.#broken !== undefined) command.onResult(this.#broken);
    else this.#runner.addCommand(command);
  }

  pause(): void {
    this.#isPaused = true;
    this.#runner.pause();
  }

  resume(): void {
    this.#isPaused = false;
    this.#runner.resume();
  }

  /** Ends the connection without waiting for the server. */
  destroy(): void {
    this.#onBroken = undefined;
    this.#broken ??= lost();
    this.#connection.destroy();
    this.#runner.stream.destroy();
  }
}

function lost(): Error {
  return sourceError("MR2001", "retryable", "the server closed the connection");
}

function isRunner(connection: object): connection is CommandRunner {
  return (
    "addCommand" in connection &&
    typeof connection.addCommand === "function" &&
    "pause" in connection &&
    typeof connection.pause === "function" &&
    "resume" in connection &&
    typeof connection.resume === "function" &&
    "packetParser" in connection &&
    "stream" in connection
  );
}

async function begin(address: MysqlAddress, encrypted: boolean, signal: AbortSignal): Promise<Session> {
  const connection = createConnection({
    host: address.host,
    port: address.port,
    user: address.user,
    password: address.password,
    ...(address.database === "" ? {} : { database: address.database }),
    charset: "utf8mb4",
    connectTimeout: address.connectTimeoutMs,
    supportBigNumbers: true,
    bigNumberStrings: true,
    dateStrings: true,
    // Statements are sent unchanged: see `readRows`.
    flags: ["-CLIENT_QUERY_ATTRIBUTES"],
    ...(encrypted ? { ssl: tlsOf(address) } : {}),
    // Tokens of clouds are sent in clear inside of TLS, to a server whose certificate was checked.
    enableCleartextPlugin: encrypted && address.freshPassword !== undefined && address.sslMode.startsWith("VERIFY_"),
  });
  if (encrypted && address.sslMode === "VERIFY_IDENTITY") compareNames(connection, address.host);
  const opened = Promise.withResolvers<void>();
  const stop = (): void => {
    connection.destroy();
    // Otherwise the driver would report packets that still arrive as out of order, on the console.
    if (isRunner(connection)) connection.stream.destroy();
    opened.reject(aborted("connecting to the source"));
  };
  signal.addEventListener("abort", stop, { once: true });
  try {
    connection.once("connect", () => opened.resolve());
    connection.once("error", opened.reject);
    connection.once("end", () => opened.reject(lost()));
    await opened.promise;
    return Session.made(connection);
  } catch (error) {
    connection.on("error", () => {
      // The connection is given up; further errors of it are not interesting.
    });
    connection.destroy();
    if (signal.aborted) throw aborted("connecting to the source");
    const known = unconnected(error, address);
    throw refusedLike(known, { isEncrypted: encrypted, hasCertificate: address.certificate !== undefined });
  } finally {
    signal.removeEventListener("abort", stop);
  }
}

function tlsOf({ sslMode, authority, certificate, key }: MysqlAddress): object {
  const isVerified = sslMode === "VERIFY_CA" || sslMode === "VERIFY_IDENTITY";
  return {
    rejectUnauthorized: isVerified,
    ...(authority === undefined ? {} : { ca: authority }),
    ...(certificate === undefined ? {} : { cert: certificate }),
    ...(key === undefined ? {} : { key }),
  };
}

/**
 * Before anything is sent to the server. The driver has its own check, which accepts `localhost` as the name of every host
 * that is given by its address.
 */
function compareNames(connection: Connection, host: string): void {
  if (!isEncrypting(connection)) throw new Error("this version of the driver begins TLS in another way");
  const startTls = connection.startTLS.bind(connection);
  connection.startTLS = (onSecure) =>
    startTls((error) => onSecure(error ?? checkServerIdentity(host, connection.stream.getPeerCertificate())));
}

interface Encrypting {
  startTLS(onSecure: (error?: Error) => void): void;
  stream: Pick<TLSSocket, "getPeerCertificate">;
}

function isEncrypting(connection: object): connection is Encrypting {
  return "startTLS" in connection && typeof connection.startTLS === "function" && "stream" in connection;
}

/** The server has no TLS, according to its handshake. That is different from TLS that fails. */
function isWithoutTls(error: unknown): boolean {
  const cause = error instanceof Error ? error.cause : undefined;
  return cause instanceof Error && "code" in cause && cause.code === "HANDSHAKE_NO_SSL_SUPPORT";
}

function textRows(rows: unknown): (string | null)[][] {
  if (!Array.isArray(rows)) return [];
  return rows.map((row) =>
    Array.isArray(row) ? row.map((value: unknown) => (typeof value === "string" ? value : null)) : [],
  );
}

class TextQuery implements Command {
  readonly #sql: string;
  readonly #onRow: OnRow;
  readonly #resolve: () => void;
  readonly onResult: (error: Error) => void;
  #state: "header" | "columns" | "rows" = "header";
  #definitionsLeft = 0;

  constructor(sql: string, onRow: OnRow, resolve: () => void, reject: (error: Error) => void) {
    this.#sql = sql;
    this.#onRow = onRow;
    this.#resolve = resolve;
    this.onResult = reject;
  }

  execute(packet: Packet | undefined, writer: PacketWriter): boolean {
    if (packet === undefined) {
      writer._resetSequenceId();
      writer.writePacket(requestPacket(COM_QUERY, Buffer.from(this.#sql, "utf8")));
      return false;
    }
    if (packet.isError()) {
      this.onResult(packet.asError("utf8"));
      return true;
    }
    const first = packet.start + PACKET_HEADER_BYTES;
    if (this.#state === "rows") {
      const isEnd = packet.buffer[first] === EOF_MARK && packet.end - first < EOF_BYTES_MAX;
      if (isEnd) this.#resolve();
      else this.#onRow(packet.buffer, first, packet.end);
      return isEnd;
    }
    if (this.#state === "columns") {
      // The column definitions, then their end packet.
      if (this.#definitionsLeft-- === 0) this.#state = "rows";
      return false;
    }
    this.#definitionsLeft = new Cursor(packet.buffer, first, packet.end).packed();
    this.#state = "columns";
    if (this.#definitionsLeft === 0) this.#resolve();
    return this.#definitionsLeft === 0;
  }
}

/** The driver writes anything with these members as one packet. */
export function requestPacket(command: number, body: Uint8Array): object {
  const buffer = Buffer.alloc(PACKET_HEADER_BYTES + 1 + body.length);
  buffer.writeUInt8(command, PACKET_HEADER_BYTES);
  buffer.set(body, PACKET_HEADER_BYTES + 1);
  return {
    buffer,
    length: () => buffer.length,
    writeHeader(sequenceId: number) {
      buffer.writeUIntLE(buffer.length - PACKET_HEADER_BYTES, 0, 3);
      buffer.writeUInt8(sequenceId, 3);
    },
  };
}
