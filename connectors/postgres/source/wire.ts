/**
 * An ordinary session whose socket is ours once the driver has logged in: statements go out as simple queries, rows come
 * back as bytes that a reader takes from the frames. For copies and chunks, where an object per row and per cell would
 * cost more than the read.
 */
import type { Duplex } from "node:stream";
import { readInt32 } from "../../../src/core/tuple.ts";
import { connect, takeOver } from "../connection.ts";
import { aborted, classify, sourceError } from "../errors.ts";
import type { Database } from "./database.ts";
import { queryFrame, readServerError } from "./frames.ts";

const SILENCE_MS = 20_000;

/** Takes one row: the payload of a DataRow or CopyData frame. Returns false when no more should be read for now. */
export type RowReader = (bytes: Buffer, start: number, end: number) => boolean;

/** The server's answer to `query`, row by row; texts are null where the value is. */
export type TextRow = readonly (string | null)[];

interface Running {
  readonly doing: string;
  readonly onRow: RowReader;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
  failure: unknown;
}

export class Wire implements Disposable {
  readonly #stream: Duplex;
  readonly #database: Database;
  readonly #pid: number;
  #heardAtMs = 0;
  #running: Running | undefined;
  /** Bytes of a frame that is not whole yet. */
  #pieces: Buffer[] = [];
  #pieceBytes = 0;
  #neededBytes = 0;
  #lost: unknown;

  private constructor(stream: Duplex, database: Database, pid: number) {
    this.#stream = stream;
    this.#database = database;
    this.#pid = pid;
  }

  /** A session of its own beside `database`, which is asked whether the session lives when it is silent. */
  static async open(database: Database, signal: AbortSignal): Promise<Wire> {
    const { client } = await connect(database.address, { signal });
    const { rows } = await client.query<{ pid: number }>("select pg_backend_pid() as pid");
    const stream = takeOver(client, undefined);
    const wire = new Wire(stream, database, rows[0]?.pid ?? 0);
    stream.on("data", (chunk: Buffer) => wire.#received(chunk));
    stream.on("error", (error) => wire.#end(error));
    stream.on("close", () => wire.#end(new Error("Connection terminated")));
    return wire;
  }

  /** Runs statements; rows of all of them go to `onRow`. An abort ends the session. */
  async run(doing: string, sql: string, onRow: RowReader, signal: AbortSignal): Promise<void> {
    if (this.#running !== undefined) throw new Error("one query at a time");
    if (signal.aborted) throw aborted(doing);
    if (this.#lost !== undefined) throw classify(this.#lost, doing);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#running = { doing, onRow, resolve, reject, failure: undefined };
    const stop = (): void => {
      this.#end(aborted(doing));
    };
    signal.addEventListener("abort", stop, { once: true });
    this.#heardAtMs = performance.now();
    const watch = setInterval(() => void this.#checkAlive(), SILENCE_MS / 2);
    this.#stream.write(queryFrame(sql));
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

  /** Reads on after a reader said no. */
  resume(): void {
    this.#stream.resume();
  }

  [Symbol.dispose](): void {
    this.#end(aborted("a session"));
  }

  /** A statement may take its time; a session that the server does not have, or that can't be asked after, is lost. */
  async #checkAlive(): Promise<void> {
    if (this.#stream.isPaused() || performance.now() - this.#heardAtMs < SILENCE_MS) return;
    const askedAtMs = performance.now();
    this.#heardAtMs = askedAtMs;
    const doing = "looking for a silent session";
    const sql = "select 1 from pg_stat_activity where pid = $1 and state = 'active'";
    try {
      const found = await this.#database.rows(doing, sql, [this.#pid], AbortSignal.timeout(SILENCE_MS));
      // Its answer may have come while it was asked after.
      if (found.length === 0 && this.#heardAtMs === askedAtMs)
        this.#end(sourceError("MR2022", "retryable", "a session of the source fell silent"));
    } catch (error) {
      this.#end(sourceError("MR2022", "retryable", "the source does not answer", undefined, error));
    }
  }

  #received(chunk: Buffer): void {
    this.#heardAtMs = performance.now();
    let bytes = chunk;
    if (this.#pieceBytes > 0) {
      this.#pieces.push(chunk);
      this.#pieceBytes += chunk.length;
      // A large row is put together once, when all of it is there.
      if (this.#pieceBytes < this.#neededBytes) return;
      bytes = Buffer.concat(this.#pieces);
    }
    const rest = this.#frames(bytes);
    const left = bytes.length - rest;
    this.#pieces = left === 0 ? [] : [bytes.subarray(rest)];
    this.#pieceBytes = left;
    this.#neededBytes = left < 5 ? 5 : 1 + readInt32(bytes, rest + 1);
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
      // DataRow, CopyData. After a reader failed the rest is read and dropped.
      if (running.failure === undefined) this.#give(running, bytes, start, end);
    } else if (kind === 0x45) {
      running.failure ??= readServerError(bytes.subarray(start, end));
    } else if (kind === 0x5a) {
      this.#running = undefined;
      if (running.failure === undefined) running.resolve();
      else running.reject(classify(running.failure, running.doing));
    }
  }

  #give(running: Running, bytes: Buffer, start: number, end: number): void {
    try {
      if (!running.onRow(bytes, start, end)) this.#stream.pause();
    } catch (error) {
      running.failure = error;
    }
  }

  #end(error: unknown): void {
    this.#lost ??= error;
    const running = this.#running;
    this.#running = undefined;
    this.#stream.destroy();
    running?.reject(classify(error, running.doing));
  }
}

/** The cells of a DataRow as text. */
export function textRow(bytes: Buffer, start: number): TextRow {
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
