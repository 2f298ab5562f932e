/**
 * An ordinary session whose socket is ours once the driver has logged in. Statements go out as simple queries, and rows
 * come back as bytes that a reader takes from the frames. It is for copies and chunks, where an object per row and per cell
 * would cost more than the read.
 */
import type { PostgresAddress } from "../../../../src/postgres/url.ts";
import { readInt32 } from "../../../../src/core/model/tuple.ts";
import type { MillraceError } from "../../../../src/core/errors.ts";
import { aborted, classify, failedAt, sourceError } from "../errors.ts";
import { queryFrame, readServerError, statementFrames } from "../../../../src/postgres/frames.ts";
import { connectInlet, type Inlet, type InletConnection, type InletSocket } from "../../../../src/postgres/inlet.ts";

const SILENCE_MS = 20_000;
/** A session that takes longer to end its transaction is closed. */
const LEAVE_MS = 2_000;
/** The size of one read. A larger row gets as much memory as it needs. */
const RECEIVE_BYTES = 128 * 1024;

/** Takes one row: the payload of a DataRow or CopyData frame. Returns false if no more should be read for now. */
export type RowReader = (bytes: Buffer, start: number, end: number) => boolean;

/** The server's answer to `query`, row by row; a text is null if the value is. */
type TextRow = readonly (string | null)[];

interface Running {
  readonly doing: string;
  readonly onRow: RowReader;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
  failure: unknown;
}

/** The ordinary connection to the same server. */
interface Beside {
  readonly address: PostgresAddress;
  readonly sessions: KeptSessions;
  rows(doing: string, sql: string, values: readonly unknown[], signal: AbortSignal): Promise<readonly unknown[]>;
}

export class RowSession implements Disposable, Inlet {
  readonly #socket: InletSocket;
  readonly #database: Beside;
  readonly #pid: number;
  #life = 0;
  #heardAtMs = 0;
  #running: Running | undefined;
  #bytes = Buffer.allocUnsafeSlow(RECEIVE_BYTES);
  /** At the start of `#bytes`: bytes of a frame that is not complete yet. */
  #heldBytes = 0;
  #paused = false;
  #lost: unknown;

  private constructor(connection: InletConnection, database: Beside, pid: number) {
    this.#database = database;
    this.#pid = pid;
    this.#socket = connection.handOver(this);
    const { stream } = this.#socket;
    stream.on("error", (error) => this.#end(error));
    stream.on("close", () => this.#end(new Error("Connection terminated")));
  }

  /**
   * A separate session beside `database`. When the session is silent, `database` is asked whether it still lives. A session
   * that was left in order is used again.
   */
  static async open(database: Beside, signal: AbortSignal): Promise<RowSession> {
    const { life } = database.sessions;
    const session = database.sessions.take() ?? (await RowSession.#connect(database, signal));
    session.#life = life;
    return session;
  }

  static async #connect(database: Beside, signal: AbortSignal): Promise<RowSession> {
    try {
      const connection = await connectInlet(database.address, signal);
      const { rows } = await connection.client.query<{ pid: number }>("select pg_backend_pid() as pid");
      return new RowSession(connection, database, rows[0]?.pid ?? 0);
    } catch (error) {
      throw classify(error, "connecting to the server");
    }
  }

  /** Runs statements; the rows of all of them go to `onRow`. An abort ends the session. */
  async run(doing: string, sql: string, onRow: RowReader, signal: AbortSignal): Promise<void> {
    await this.#send(doing, queryFrame(sql), onRow, signal);
  }

  /** Runs one statement without rows that contains SQL from an operator: the server refuses several statements in it. */
  async single(doing: string, sql: string, signal: AbortSignal): Promise<void> {
    await this.#send(doing, statementFrames(sql), () => true, signal);
  }

  async #send(doing: string, frames: Buffer, onRow: RowReader, signal: AbortSignal): Promise<void> {
    if (this.#running !== undefined) throw new Error("one query at a time");
    if (signal.aborted) throw aborted(doing);
    if (this.#lost !== undefined) throw this.#failed(this.#lost, doing);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#running = { doing, onRow, resolve, reject, failure: undefined };
    const stop = (): void => {
      this.#end(aborted(doing));
    };
    signal.addEventListener("abort", stop, { once: true });
    this.#heardAtMs = performance.now();
    const watch = setInterval(() => void this.#checkAlive(), SILENCE_MS / 2);
    this.#socket.stream.write(frames);
    try {
      await promise;
    } finally {
      clearInterval(watch);
      signal.removeEventListener("abort", stop);
    }
  }

  /** Runs statements with few and small rows. */
  async rows(doing: string, sql: string, signal: AbortSignal): Promise<TextRow[]> {
    const rows: TextRow[] = [];
    const collect = (bytes: Buffer, start: number): boolean => {
      rows.push(textRow(bytes, start));
      return true;
    };
    await this.run(doing, sql, collect, signal);
    return rows;
  }

  /** Continues to read after a reader returned false. */
  resume(): void {
    this.#paused = false;
    this.#socket.resume();
  }

  /** Ends its transaction. A session that was left in the middle of an answer is closed. */
  [Symbol.dispose](): void {
    if (this.#running !== undefined || this.isLost || this.#paused) this.end();
    else void this.#leave();
  }

  end(): void {
    this.#end(aborted("a session"));
  }

  /** It can't be used any more. */
  get isLost(): boolean {
    return this.#lost !== undefined;
  }

  async #leave(): Promise<void> {
    try {
      await this.run("ending a read", "ROLLBACK", () => true, AbortSignal.timeout(LEAVE_MS));
      this.#database.sessions.keep(this, this.#life);
    } catch {
      this.end();
    }
  }

  /** A statement may take its time. The session is lost if the server does not have it, or does not answer about it. */
  async #checkAlive(): Promise<void> {
    if (this.#paused || performance.now() - this.#heardAtMs < SILENCE_MS) return;
    const askedAtMs = performance.now();
    this.#heardAtMs = askedAtMs;
    const doing = "looking for a silent session";
    const sql = "select 1 from pg_stat_activity where pid = $1 and state = 'active'";
    try {
      const found = await this.#database.rows(doing, sql, [this.#pid], AbortSignal.timeout(SILENCE_MS));
      // The session's answer may have come in the meantime.
      if (found.length === 0 && this.#heardAtMs === askedAtMs)
        this.#end(sourceError("MR2022", "retryable", "a session of the source became silent"));
    } catch (error) {
      this.#end(sourceError("MR2022", "retryable", "the source does not answer", { cause: error }));
    }
  }

  space(): Uint8Array {
    return this.#bytes.subarray(this.#heldBytes);
  }

  received(buffer: Uint8Array, count: number): boolean {
    this.#heardAtMs = performance.now();
    // The first bytes go into memory that was provided before the hand-over.
    if (buffer.buffer !== this.#bytes.buffer) this.#bytes.set(buffer.subarray(0, count), this.#heldBytes);
    const end = this.#heldBytes + count;
    const isFull = end === this.#bytes.length;
    const rest = this.#frames(this.#bytes.subarray(0, end));
    this.#hold(rest, end);
    // More is waiting, and would be read up to 32 times in a row (uv__read): the stream has its turn in between.
    if (isFull && !this.#paused) setImmediate(() => this.#goOn());
    return !isFull && !this.#paused;
  }

  #goOn(): void {
    if (!this.#paused && !this.isLost) this.#socket.resume();
  }

  /** Keeps an incomplete frame, with room for all of it. */
  #hold(start: number, end: number): void {
    const from = this.#bytes;
    const frameBytes = end - start < 5 ? 0 : 1 + readInt32(from, start + 1);
    const size = Math.max(RECEIVE_BYTES, frameBytes);
    if (from.length !== size) this.#bytes = Buffer.allocUnsafeSlow(size);
    if (start > 0 || this.#bytes !== from) from.copy(this.#bytes, 0, start, end);
    this.#heldBytes = end - start;
  }

  /** Handles whole frames and returns where they end. */
  #frames(bytes: Buffer): number {
    let at = 0;
    while (bytes.length - at >= 5) {
      const next = at + 1 + readInt32(bytes, at + 1);
      if (next > bytes.length) break;
      this.#frame(bytes[at]!, bytes, at + 5, next);
      at = next;
    }
    return at;
  }

  #frame(kind: number, bytes: Buffer, start: number, end: number): void {
    const running = this.#running;
    if (running === undefined) return;
    if (kind === 0x44 || kind === 0x64) {
      // DataRow, CopyData. After a reader failed, the rest is read and dropped.
      if (running.failure === undefined) this.#give(running, bytes, start, end);
    } else if (kind === 0x45) {
      running.failure ??= readServerError(bytes.subarray(start, end));
    } else if (kind === 0x5a) {
      this.#running = undefined;
      if (running.failure === undefined) running.resolve();
      else running.reject(this.#failed(running.failure, running.doing));
    }
  }

  #give(running: Running, bytes: Buffer, start: number, end: number): void {
    try {
      if (!running.onRow(bytes, start, end)) this.#paused = true;
    } catch (error) {
      running.failure = error;
    }
  }

  #end(error: unknown): void {
    this.#lost ??= error;
    const running = this.#running;
    this.#running = undefined;
    this.#socket.stream.destroy();
    running?.reject(this.#failed(error, running.doing));
  }

  #failed(error: unknown, doing: string): MillraceError {
    return failedAt(error, doing, this.#database.address);
  }
}

function textRow(bytes: Buffer, start: number): TextRow {
  const cells: (string | null)[] = [];
  let at = start + 2;
  for (let left = bytes.readUInt16BE(start); left > 0; left--) {
    const length = readInt32(bytes, at);
    at += 4;
    if (length < 0) {
      cells.push(null);
      continue;
    }
    cells.push(bytes.toString("utf8", at, at + length));
    at += length;
  }
  return cells;
}

export function onlyCell(rows: readonly TextRow[], doing: string): string {
  const cell = rows[0]?.[0];
  if (cell === undefined || cell === null)
    throw sourceError("MR2027", "fatal", `the server answered nothing while ${doing}`);
  return cell;
}

/**
 * Creating a session costs the server a process and a look at its catalogue: reads of many small tables share a few
 * sessions.
 */
const KEPT_COUNT_MAX = 2;
const KEPT_MS = 2_000;

/** Sessions of one server that were just used. */
export class KeptSessions {
  readonly #kept: RowSession[] = [];
  #life = 0;
  #timer: NodeJS.Timeout | undefined;

  /** `clear` changes it: sessions that were taken before are not kept again. */
  get life(): number {
    return this.#life;
  }

  take(): RowSession | undefined {
    let session = this.#kept.pop();
    while (session?.isLost === true) session = this.#kept.pop();
    return session;
  }

  keep(session: RowSession, life: number): void {
    if (life !== this.#life || this.#kept.length >= KEPT_COUNT_MAX) session.end();
    else {
      this.#kept.push(session);
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#endAll(), KEPT_MS).unref();
    }
  }

  /** Connections from here on may lead to another server. */
  clear(): void {
    this.#life++;
    this.#endAll();
  }

  #endAll(): void {
    clearTimeout(this.#timer);
    for (const session of this.#kept.splice(0)) session.end();
  }
}
