/** One run of the replication stream over one connection: reads, decodes, returns blocks, reports back. */
import { setTimeout as delay } from "node:timers/promises";
import type { Block } from "../../../../src/core/model/block.ts";
import { atServer, findMillraceError } from "../../../../src/core/errors.ts";
import { OneReader } from "../../../../src/core/waiting.ts";
import type { Position } from "../../../../src/core/model/position.ts";
import type { ChangeStream } from "../../../../src/core/contracts/change-log.ts";
import { BEGIN_ANEW, aborted, classify, sourceError } from "../errors.ts";
import { failureOf } from "../../../../src/postgres/failure.ts";
import type { PostgresAddress } from "../../../../src/postgres/url.ts";
import { Assembler } from "./assembler.ts";
import { answered } from "../wire/database.ts";
import { queryFrame, readServerError } from "../../../../src/postgres/frames.ts";
import { type DecoderOptions, PUBLICATION_ROUTINE } from "./pgoutput.ts";
import type { TableLookups } from "./table-lookups.ts";
import type { Relation } from "./relations.ts";
import type { Landmark } from "../log/landmark.ts";
import type { InletSocket } from "../../../../src/postgres/inlet.ts";
import type { ReplicationConnection } from "../wire/replication-connection.ts";
import type { Transcoder } from "./transcoder.ts";
import type { Duplex } from "node:stream";

/** How long a dense stream gets to fill a block, counted from when a block was available … */
const FILL_MS = 50;
/** … and how long it may bring nothing in that time: then the burst is over, and the block goes out. */
const QUIET_MS = 5;
const CLOSE_MS = 1_000;

export interface SessionOptions extends DecoderOptions {
  readonly connection: ReplicationConnection;
  readonly address: PostgresAddress;
  readonly from: Position;
  /** Bytes that blocks may hold before the socket is not read any more. */
  readonly byteCountMax: number | undefined;
  /** The prefix of messages after which tables are looked up again. */
  readonly renewPrefix: string;
  readonly transcoder: Transcoder | undefined;
  /** START_REPLICATION … */
  readonly command: string;
  readonly tables: Pick<TableLookups, "table">;
}

export class ReplicationSession implements ChangeStream {
  readonly #assembler: Assembler;
  readonly #socket: InletSocket;
  readonly #status: StatusReporter;
  readonly #pace: Pace;
  readonly #tables: SessionOptions["tables"];
  readonly #transcoder: Transcoder | undefined;
  #isTranscoding = false;
  readonly #reader = new OneReader<Block>();
  #fillTimer: NodeJS.Timeout | undefined;
  #fillUntilMs = 0;
  /** When bytes last came, or when a later read of the socket brought nothing. */
  #readableSinceMs = 0;
  #pauseTimer: NodeJS.Timeout | undefined;
  readonly #started = Promise.withResolvers<void>();
  #failure: unknown;
  #closed = false;

  /** Begins the stream; `started` shows whether the server agreed. */
  constructor(options: SessionOptions) {
    this.#tables = options.tables;
    this.#transcoder = options.transcoder;
    this.#assembler = new Assembler(
      options.from,
      options.byteCountMax,
      options.renewPrefix,
      {
        onTable: (relation, position) => void this.#lookUp(relation, position),
        onEnd: (message) => this.#fail(endOf(message, options.address)),
        onRoom: () => {
          if (this.#pauseTimer === undefined) this.#resume();
          this.#offer();
        },
      },
      options,
    );
    this.#socket = options.connection.handOver({
      space: () => this.#assembler.space(),
      received: (buffer, count) => this.#received(buffer, count),
    });
    this.#pace = new Pace(this.#socket.tcp);
    this.#status = new StatusReporter({
      socket: this.#socket.stream,
      reading: () => !this.#assembler.blocked && !this.#isTranscoding,
      onSilent: (error) => this.#fail(error),
    });
    // A caller that waits for the start has its own handler; `next` reports a later failure.
    this.#started.promise.catch(() => {});
    const { stream } = this.#socket;
    stream.on("error", (error) => this.#fail(classify(error, "reading the replication stream")));
    stream.on("end", () => this.#fail(lost()));
    stream.on("close", () => this.#fail(lost()));
    stream.write(queryFrame(options.command));
  }

  /** Resolves when the server has begun to stream; rejects with its refusal. */
  started(signal: AbortSignal): Promise<void> {
    return answered(this.#started.promise, "starting the stream", signal);
  }

  /** End of the server's log, as it last reported. */
  get walEnd(): bigint {
    return this.#assembler.decoder.walEnd;
  }

  /** The last whole transaction that was decoded; null: there was none yet. */
  get last(): Landmark | null {
    const { lastCommit: commit, lastTimeUs: timeUs } = this.#assembler.decoder;
    return commit === 0n ? null : { commit, timeUs };
  }

  /** Whether the stream begins with this transaction; known when a block was returned. */
  beginsWith({ timeUs }: Landmark): boolean {
    return this.#assembler.decoder.firstTimeUs === timeUs;
  }

  get liveArenaCount(): number {
    return this.#assembler.liveArenaCount;
  }

  next(signal: AbortSignal): Promise<Block> {
    const block = this.#reader.wait(signal, () => aborted("reading the stream"));
    this.#offer();
    return block;
  }

  /** Tables are looked up again. */
  renew(): void {
    this.#assembler.renew();
  }

  /** The schemas in which it has tables. */
  get schemas(): readonly (readonly [oid: number, schema: string])[] {
    return this.#assembler.decoder.schemas;
  }

  acknowledge(commit: bigint): void {
    this.#status.acknowledge(commit);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#status.report();
    this.#status[Symbol.dispose]();
    this.#stopTimers();
    const { stream } = this.#socket;
    this.#fail(aborted("the stream"));
    if (stream.destroyed) return;
    // Terminate, so that the server releases the slot at once, and not when it next tries to send.
    const gone = new Promise<void>((resolve) => stream.once("close", () => resolve()));
    stream.end(Buffer.from([0x58, 0, 0, 0, 4]), () => stream.destroy());
    await Promise.race([gone, delay(CLOSE_MS, undefined, { ref: false })]);
    stream.destroy();
  }

  #received(buffer: Uint8Array, count: number): boolean {
    if (this.#closed || this.#failure !== undefined) return false;
    this.#status.heard();
    let mayRead: boolean;
    try {
      mayRead =
        this.#transcoder === undefined
          ? this.#assembler.received(buffer, count)
          : this.#transcode(this.#transcoder, buffer.subarray(0, count));
    } catch (error) {
      this.#fail(error);
      return false;
    }
    this.#answer();
    const nowMs = performance.now();
    this.#readableSinceMs = nowMs;
    const pauseMs = this.#pace.read(count, count < buffer.length, nowMs);
    this.#offer();
    if (!mayRead) return false;
    if (pauseMs === 0) return true;
    if (pauseMs < 1) {
      nap(pauseMs);
      return true;
    }
    this.#pauseTimer = setTimeout(() => {
      this.#pauseTimer = undefined;
      if (!this.#assembler.blocked && !this.#closed) this.#resume();
    }, pauseMs);
    return false;
  }

  #transcode(transcoder: Transcoder, bytes: Uint8Array): boolean {
    const taken = transcoder.take(bytes);
    if (!(taken instanceof Promise)) return this.#assembler.received(taken, taken.length);
    this.#isTranscoding = true;
    void this.#transcoded(taken);
    return false;
  }

  /** The socket is not read meanwhile. */
  async #transcoded(taken: Promise<Buffer>): Promise<void> {
    try {
      const bytes = await taken;
      this.#isTranscoding = false;
      if (this.#closed || this.#failure !== undefined) return;
      const mayRead = this.#assembler.received(bytes, bytes.length);
      this.#answer();
      if (mayRead) this.#resume();
      this.#offer();
    } catch (error) {
      this.#fail(error);
    }
  }

  /** Does what the decoded messages of the server ask for. */
  #answer(): void {
    const { decoder } = this.#assembler;
    if (decoder.started) this.#started.resolve();
    if (!decoder.replyRequested) return;
    decoder.replyRequested = false;
    this.#status.report();
  }

  /** Gives the waiting reader its block: at once, or, while the stream is dense, when the block is full or has waited. */
  #offer(): void {
    if (!this.#reader.waits) return;
    const assembler = this.#assembler;
    if (!assembler.hasSome) {
      if (this.#failure !== undefined) this.#giveFailure();
      return;
    }
    if (assembler.hasFull || !this.#pace.dense || assembler.outOfRoom || this.#failure !== undefined) {
      this.#give();
      return;
    }
    if (this.#fillTimer !== undefined) return;
    this.#fillUntilMs = performance.now() + FILL_MS;
    // Checked after the loop's reads: if other work blocked the loop, what came meanwhile has been read by then.
    this.#fillTimer = setTimeout(() => setImmediate(() => this.#fill()), QUIET_MS);
  }

  /** Checks whether the stream has had its time, or brings nothing more. */
  #fill(): void {
    if (this.#fillTimer === undefined) return;
    const nowMs = performance.now();
    const quiet = this.#pauseTimer === undefined && nowMs - this.#readableSinceMs >= QUIET_MS;
    if (quiet) this.#pace.quiet(nowMs);
    if (!quiet && nowMs < this.#fillUntilMs) {
      this.#fillTimer.refresh();
      return;
    }
    this.#stopFilling();
    this.#give();
  }

  #resume(): void {
    if (this.#isTranscoding) return;
    this.#readableSinceMs = performance.now();
    this.#socket.resume();
  }

  #give(): void {
    if (!this.#reader.waits) return;
    const block = this.#assembler.take();
    if (block === undefined) return;
    this.#stopFilling();
    this.#reader.give(block);
  }

  /** After a failure, the decoded rest comes first, including part of a transaction. */
  #giveFailure(): void {
    if (!this.#reader.waits) return;
    const block = this.#closed ? undefined : this.#assembler.takeAll();
    if (block === undefined) this.#reader.fail(this.#failure);
    else this.#reader.give(block);
  }

  async #lookUp(relation: Relation, position: Position): Promise<void> {
    try {
      const table = await this.#tables.table(relation, position, this.#assembler);
      if (this.#failure === undefined) this.#assembler.resolved(relation, table);
    } catch (error) {
      this.#fail(error);
    }
    this.#offer();
  }

  #fail(error: unknown): void {
    if (this.#failure !== undefined) return;
    const known = findMillraceError(error);
    this.#failure = known === undefined ? error : atServer(known, this.#socket.server);
    this.#started.reject(this.#failure);
    this.#status[Symbol.dispose]();
    this.#stopTimers();
    if (!this.#closed) this.#socket.stream.destroy();
    this.#offer();
  }

  #stopTimers(): void {
    this.#stopFilling();
    clearTimeout(this.#pauseTimer);
  }

  #stopFilling(): void {
    clearTimeout(this.#fillTimer);
    this.#fillTimer = undefined;
  }
}

function lost(): Error {
  return sourceError("MR2001", "retryable", "the server closed the replication connection");
}

/** The error for the fields of an ErrorResponse, or for an end without one. */
function endOf(message: Buffer | undefined, address: PostgresAddress): Error {
  if (message === undefined) return lost();
  const error = readServerError(message);
  const isMissing = failureOf(error).reason === "no-object";
  if (error.routine === PUBLICATION_ROUTINE || (isMissing && /publication/i.test(error.routine))) {
    return sourceError("MR2017", "fatal", "the publication was dropped, or did not exist at this position in the log", {
      hint: `Millrace makes the publication if it is not there. ${BEGIN_ANEW}`,
      cause: error,
    });
  }
  if (isMissing) return sourceError("MR2010", "fatal", "the slot does not exist", { hint: BEGIN_ANEW, cause: error });
  return classify(error, "streaming changes", address);
}

/**
 * Decides when not to read the socket. A walsender sends every row separately, and eager reading makes both sides pay for
 * each row. If the stream is dense and the receive window may fill, the server's kernel gathers rows into large segments,
 * and the same server delivers twice as much. So while the stream is dense: drain until a short read, then pause, for 1, 2,
 * 4, 8, 16 ms in turn (a fixed short pause never fills the window and is bistable). Sparse traffic is never paused.
 *
 * A Unix socket gathers nothing, and is full after about 180 rows of 165 bytes (naps of 0.5 ms found that many, and the
 * server was usually waiting), so a pause by timer starves the stream. There, naps that are shorter than any timer save one
 * read for every two rows: 13,000 reads per million rows instead of 500,000, half the processor time, and a few per cent
 * more rows. A nap blocks the whole event loop for a tenth of a millisecond, once per turn of the loop, and only while the
 * stream is dense and the socket was empty.
 */
const WINDOW_MS = 10;
const DENSE_BYTES_PER_MS = (64 * 1024) / WINDOW_MS;
const PAUSE_MS_MAX = 16;
const NAP_MS = 0.1;

export class Pace {
  readonly #tcp: boolean;
  #windowStart = 0;
  #windowBytes = 0;
  #pauseMs = 1;
  #dense = false;

  constructor(tcp: boolean) {
    this.#tcp = tcp;
  }

  get dense(): boolean {
    return this.#dense;
  }

  /**
   * How long not to read the socket after a read of `count` bytes at `nowMs`; 0: read on. `drained`: the read took
   * everything there was. Less than a millisecond is a nap.
   */
  read(count: number, drained: boolean, nowMs: number): number {
    this.#windowBytes += count;
    const elapsedMs = nowMs - this.#windowStart;
    if (elapsedMs >= WINDOW_MS) {
      this.#dense = this.#windowBytes >= DENSE_BYTES_PER_MS * elapsedMs;
      this.#windowStart = nowMs;
      this.#windowBytes = 0;
      if (!this.#dense) this.#pauseMs = 1;
    } else if (this.#windowBytes >= DENSE_BYTES_PER_MS * WINDOW_MS) {
      this.#dense = true;
    }
    if (!this.#dense || !drained) return 0;
    if (!this.#tcp) return NAP_MS;
    const pauseMs = this.#pauseMs;
    this.#pauseMs = Math.min(pauseMs * 2, PAUSE_MS_MAX);
    return pauseMs;
  }

  /** The socket was read and brought nothing: the dense phase is over, and its bytes do not count any more. */
  quiet(nowMs: number): void {
    this.#dense = false;
    this.#pauseMs = 1;
    this.#windowStart = nowMs;
    this.#windowBytes = 0;
  }
}

const never = new Int32Array(new SharedArrayBuffer(4));

/** Stops this thread, and so the whole event loop, for part of a millisecond. */
function nap(ms: number): void {
  Atomics.wait(never, 0, 0, ms);
}

// What the source tells the server, and when. It reports how far the server may forget, at most a second late. It reports
// that it lives, every ten seconds, or every second while it does not read the socket and so can't see requests
// (wal_sender_timeout counts from the last report). When the server is silent, it asks whether the server lives.

const TICK_MS = 1_000;
const REPORT_MS = 10_000;
/** After this silence the server is asked for a reply; then the time that it has to answer. */
const SILENCE_MS = 10_000;
const REPLY_MS = 20_000;
/** A tick this late means that this process was stopped (SIGSTOP, a suspended machine): the silence was not the server's. */
const TICK_LATE_MS = 5_000;
const FRAME_BYTES = 1 + 4 + 34;
/** Milliseconds from 1970 to 2000. */
const POSTGRES_EPOCH_MS = 946_684_800_000n;

interface StatusOptions {
  readonly socket: Duplex;
  /** True while the socket is intentionally not read: then silence means nothing. */
  readonly reading: () => boolean;
  readonly onSilent: (error: Error) => void;
}

class StatusReporter implements Disposable {
  readonly #options: StatusOptions;
  readonly #timer: NodeJS.Timeout;
  #acknowledged = 0n;
  #reported = 0n;
  #reportedAtMs = performance.now();
  #heardAtMs = performance.now();
  #askedAtMs: number | undefined;
  #tickedAtMs = performance.now();

  constructor(options: StatusOptions) {
    this.#options = options;
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
  }

  /** Never moves back. The value is sent as it is: the next commit record may begin exactly there. */
  acknowledge(commit: bigint): void {
    if (commit > this.#acknowledged) this.#acknowledged = commit;
  }

  /** Bytes were received. */
  heard(): void {
    this.#heardAtMs = performance.now();
    this.#askedAtMs = undefined;
  }

  report(replyRequested = false): void {
    const { socket } = this.#options;
    this.#reported = this.#acknowledged;
    this.#reportedAtMs = performance.now();
    if (socket.writable) socket.write(statusFrame(this.#acknowledged, replyRequested));
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }

  #tick(): void {
    const now = performance.now();
    const late = now - this.#tickedAtMs > TICK_LATE_MS;
    this.#tickedAtMs = now;
    const reading = this.#options.reading();
    if (late || !reading) this.heard();
    if (this.#askedAtMs !== undefined && now - this.#askedAtMs >= REPLY_MS) {
      const seconds = Math.round((now - this.#heardAtMs) / 1000);
      const message = `the server has been silent for ${seconds} s and did not answer when asked`;
      this.#options.onSilent(sourceError("MR2022", "retryable", message, { reason: "silent" }));
      return;
    }
    if (this.#askedAtMs === undefined && now - this.#heardAtMs >= SILENCE_MS) {
      this.#askedAtMs = now;
      this.report(true);
    } else if (this.#acknowledged > this.#reported || !reading || now - this.#reportedAtMs >= REPORT_MS) {
      this.report();
    }
  }
}

/** CopyData with a Standby status update: written, flushed and applied are the same, because sinks only know durable. */
export function statusFrame(position: bigint, replyRequested: boolean): Buffer {
  const frame = Buffer.allocUnsafe(FRAME_BYTES);
  frame[0] = 0x64;
  frame.writeInt32BE(FRAME_BYTES - 1, 1);
  frame[5] = 0x72;
  frame.writeBigUInt64BE(position, 6);
  frame.writeBigUInt64BE(position, 14);
  frame.writeBigUInt64BE(position, 22);
  frame.writeBigInt64BE((BigInt(Date.now()) - POSTGRES_EPOCH_MS) * 1000n, 30);
  frame[38] = replyRequested ? 1 : 0;
  return frame;
}
