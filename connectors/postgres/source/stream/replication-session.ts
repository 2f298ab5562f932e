/** One run of the replication stream over one connection: reads, decodes, returns blocks, reports back. */
import { setTimeout as delay } from "node:timers/promises";
import type { Block } from "../../../../src/core/model/block.ts";
import { atServer, findMillraceError } from "../../../../src/core/errors.ts";
import { OneReader } from "../../../../src/core/one-reader.ts";
import type { Position } from "../../../../src/core/model/position.ts";
import type { ChangeStream } from "../../../../src/core/contracts/change-log.ts";
import { BEGIN_ANEW, aborted, classify, sourceError } from "../errors.ts";
import { failureOf } from "../../../../src/postgres/failure.ts";
import { Assembler } from "./assembler.ts";
import { answered } from "../wire/database.ts";
import { queryFrame, readServerError } from "../../../../src/postgres/frames.ts";
import { type DecoderOptions, PUBLICATION_ROUTINE } from "./pgoutput.ts";
import type { TableLookups } from "./table-lookups.ts";
import { nap, Pace } from "./pace.ts";
import type { Relation } from "./relations.ts";
import { StatusReporter } from "./status.ts";
import type { InletSocket } from "../../../../src/postgres/inlet.ts";
import type { ReplicationConnection } from "../wire/replication-connection.ts";
import type { Transcoder } from "./transcoder.ts";

/** How long a dense stream gets to fill a block, counted from when a block was available … */
const FILL_MS = 50;
/** … and how long it may bring nothing in that time: then the burst is over, and the block goes out. */
const QUIET_MS = 5;
const CLOSE_MS = 1_000;

export interface SessionOptions extends DecoderOptions {
  readonly connection: ReplicationConnection;
  readonly from: Position;
  /** Bytes that blocks may hold before the socket is not read any more. */
  readonly byteCountMax: number | undefined;
  /** The prefix of messages after which tables are looked up again. */
  readonly renewPrefix: string;
  readonly transcoder: Transcoder | undefined;
  /** START_REPLICATION … */
  readonly command: string;
  readonly tables: TableLookups;
}

export class ReplicationSession implements ChangeStream {
  readonly #assembler: Assembler;
  readonly #socket: InletSocket;
  readonly #status: StatusReporter;
  readonly #pace: Pace;
  readonly #tables: TableLookups;
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
        onEnd: (message) => this.#fail(endOf(message)),
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
function endOf(message: Buffer | undefined): Error {
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
  return classify(error, "streaming changes");
}
