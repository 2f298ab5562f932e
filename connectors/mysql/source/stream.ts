/** The change stream: one dump of the log, decoded and given out in blocks. */
import type { Block } from "../../../src/core/model/block.ts";
import { findMillraceError } from "../../../src/core/errors.ts";
import { OneReader } from "../../../src/core/one-reader.ts";
import { tableId } from "../../../src/core/model/schema.ts";
import type { ChangeStream } from "../../../src/core/contracts/change-log.ts";
import { Assembler } from "./rows/assemble.ts";
import { claimLog } from "./claim.ts";
import { Decoder, TOOK_CONTROL, TOOK_END, TOOK_PAYLOAD, TOOK_TABLE_NEEDED } from "./rows/decoder.ts";
import { askedOffset, Dump, type DumpRequest, MovementWatch, SilenceWatch, WATCH_MS } from "./log/dump.ts";
import { aborted, classify, silent, sourceError } from "./errors.ts";
import type { Session } from "./driver.ts";
import type { LargeEvent } from "./log/dump-packets.ts";
import { HEARTBEAT, HEARTBEAT_V2, isStatement, SIZE_AT, TRANSACTION_PAYLOAD, TYPE_AT } from "./log/events.ts";
import { readUint32 } from "./log/little-endian.ts";
import { type LogQuestion, LogReader } from "./log/log-reader.ts";
import type { StreamParts } from "./stream-parts.ts";
import { lookBack } from "./transactions/look-back.ts";
import type { PendingMark } from "./marks.ts";
import { unpackPlace } from "./log/position.ts";
import type { PreparedTransactions } from "./transactions/prepared.ts";
import { SpooledEvent } from "./log/spool.ts";
import type { TableMap } from "./rows/table-map.ts";

/** How long the server may send nothing although its log has more: after a reset, MariaDB waits in a file that is gone. */
const STUCK_MS_MAX = 5_000;
/** Larger events are not held in memory, except those with rows. */
const MEMORY_BYTES_MAX = 8 * 1024 * 1024;
/** The part of a statement that is examined, and the part before the packed bytes of a transaction, are smaller. */
const HEAD_BYTES = 256 * 1024;
const NOTHING = Buffer.alloc(0);

/** The result of an event: it is done; it must be taken again; or the rest of its content must be. */
const DONE = 0;
const AGAIN = 1;
const INSIDE = 2;
type Took = typeof DONE | typeof AGAIN | typeof INSIDE;

interface HeldEvent {
  readonly event: Buffer | SpooledEvent;
  /** Whether the decoder is inside a compressed transaction that this event holds. */
  isOpened: boolean;
}

export class BinlogStream implements ChangeStream {
  readonly #parts: StreamParts;
  readonly #assembler: Assembler;
  readonly #decoder: Decoder;
  readonly #reader: LogReader;
  #dump: Dump | undefined;
  readonly #waiting = new OneReader<Block>();
  /** Events that came while none could be handled; the first one caused the stop. */
  #held: HeldEvent[] = [];
  /** A large event that is being received. */
  #spooled: SpooledEvent | undefined;
  #resolving = false;
  #isPaused = false;
  #isOffering = false;
  #marks: PendingMark[] = [];
  /** Since when there has been a mark that the stream has not reached. */
  #expectedMs = 0;
  #given: PendingMark[] = [];
  readonly #silence = new SilenceWatch(() => this.#dump?.byteCount ?? 0);
  readonly #movement = new MovementWatch(() => this.#dump?.byteCount ?? 0);
  readonly #watch: NodeJS.Timeout;
  #failure: unknown;
  /** For reads beside the stream. */
  readonly #stopping = new AbortController();
  #closed = false;

  private constructor(parts: StreamParts) {
    this.#parts = parts;
    const { from, options, context } = parts;
    const assembler = (this.#assembler = new Assembler(from, options.byteCountMax, () => this.#goOn()));
    const decoder = (this.#decoder = new Decoder(assembler.target, context));
    const isMain = !options.temporary;
    const { preparedBefore = null } = parts;
    const trail = preparedBefore === null ? context.read.trail(from.commit, isMain) : undefined;
    this.#reader = new LogReader({ assembler, decoder, from, context, preparedBefore, trail, isMain });
    this.#watch = setInterval(() => this.#lookSilent(), WATCH_MS);
  }

  static async open(parts: StreamParts, signal: AbortSignal): Promise<BinlogStream> {
    const stream = new BinlogStream(parts);
    try {
      await stream.#start(signal);
      return stream;
    } catch (error) {
      await stream[Symbol.asyncDispose]();
      throw error;
    }
  }

  async #start(signal: AbortSignal): Promise<void> {
    const { context, from, serverId } = this.#parts;
    const { file, offset } = unpackPlace(from.commit);
    const prepare = this.#parts.options.temporary
      ? undefined
      : (session: Session): Promise<void> => claimLog(session, context, signal);
    const request: DumpRequest = {
      file: context.names.file(file),
      offset: askedOffset(offset),
      serverId,
      ...(prepare === undefined ? {} : { prepare }),
    };
    const handlers = {
      onEvent: (bytes: Buffer, start: number, end: number) => this.#received(bytes, start, end),
      onLarge: (header: Buffer) => this.#spool(header),
      onEnd: (error: unknown) =>
        this.#fail(error ?? sourceError("MR2110", "retryable", "the server ended the stream of its log")),
    };
    this.#dump = await Dump.start(context, request, handlers, signal);
    if (this.#isPaused) this.#dump.pause();
    if (!this.#parts.options.temporary) context.marks.attach(this);
  }

  expect(mark: PendingMark): void {
    if (this.#marks.length === 0) this.#expectedMs = performance.now();
    this.#marks.push(mark);
    this.#passMarks();
    this.#offer();
  }

  get reached(): bigint {
    return this.#assembler.position.commit;
  }

  overtaken(): void {
    this.#fail(sourceError("MR2121", "retryable", "the source's log ends before what was read of it"));
  }

  next(signal: AbortSignal): Promise<Block> {
    const block = this.#waiting.wait(signal, () => aborted("reading the stream"));
    this.#give();
    return block;
  }

  /** Transactions that were prepared in what has been read, and have no outcome yet. */
  get prepared(): PreparedTransactions {
    return this.#reader.prepared;
  }

  acknowledge(commit: bigint): void {
    this.#parts.context.acknowledged = commit;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    clearInterval(this.#watch);
    this.#parts.context.marks.detach(this);
    this.#fail(aborted("the stream"));
    this.#dump?.close();
    this.#assembler.discard();
    await this.#decoder[Symbol.asyncDispose]();
    this.#spooled?.[Symbol.dispose]();
    for (const { event } of this.#held) if (event instanceof SpooledEvent) event[Symbol.dispose]();
  }

  #received(bytes: Buffer, start: number, end: number): void {
    if (this.#failure !== undefined) return;
    const isHeartbeat = bytes[start + TYPE_AT] === HEARTBEAT || bytes[start + TYPE_AT] === HEARTBEAT_V2;
    if (isHeartbeat) this.#movement.heartbeat(end - start);
    if (this.#isBlocked()) {
      this.#held.push({ event: Buffer.from(bytes.subarray(start, end)), isOpened: false });
    } else {
      const took = this.#take(this.#decoder.take(bytes, start, end));
      const isOpened = took === INSIDE;
      // By then the decoder owns its content.
      if (took !== DONE)
        this.#held.push({ event: isOpened ? NOTHING : Buffer.from(bytes.subarray(start, end)), isOpened });
    }
    if (this.#isBlocked()) this.#pause();
    this.#offer();
  }

  #spool(header: Buffer): LargeEvent | undefined {
    const byteCount = readUint32(header, SIZE_AT);
    const type = header[TYPE_AT]!;
    const isSpooled = type === TRANSACTION_PAYLOAD || isStatement(type);
    if (!isSpooled || byteCount <= MEMORY_BYTES_MAX || this.#failure !== undefined) return undefined;
    const event = new SpooledEvent(byteCount, HEAD_BYTES, type === TRANSACTION_PAYLOAD);
    this.#spooled = event;
    return { append: (bytes) => event.append(bytes), end: () => this.#receivedSpooled(event) };
  }

  #receivedSpooled(event: SpooledEvent): void {
    this.#spooled = undefined;
    this.#held.push({ event, isOpened: false });
    this.#pause();
    this.#goOn();
  }

  #isBlocked(): boolean {
    return this.#resolving || this.#held.length > 0 || this.#assembler.isFull;
  }

  /** `took`: the decoder's answer to an event of the file itself. */
  #take(took: number): Took {
    this.#reader.outer(this.#decoder.header);
    if (took === TOOK_PAYLOAD) return this.#takeInner();
    if (took === TOOK_TABLE_NEEDED) return this.#needTable(AGAIN);
    if (took === TOOK_CONTROL) {
      this.#reader.sighted();
      const asked = this.#reader.control();
      if (asked !== null) {
        this.#resolving = true;
        void this.#answer(asked);
        return DONE;
      }
    }
    this.#ended();
    return DONE;
  }

  /** Handles the rest of a compressed transaction, as far as there is room and its tables are known. */
  #takeInner(): Took {
    for (;;) {
      if (this.#assembler.isFull) return INSIDE;
      const took = this.#decoder.takeInner();
      if (took === TOOK_END) {
        // There may be more of it than was unpacked; the event is done when there is no more.
        this.#resolving = true;
        void this.#unpackMore();
        return INSIDE;
      }
      if (took === TOOK_TABLE_NEEDED) return this.#needTable(INSIDE);
      if (took === TOOK_CONTROL) this.#reader.control();
      this.#reader.cutIfLarge();
    }
  }

  async #unpackMore(): Promise<void> {
    try {
      const more = await this.#decoder.nextPart();
      if (!more) {
        this.#held.shift();
        if (this.#failure === undefined) this.#ended();
      }
    } catch (error) {
      this.#fail(error);
    }
    this.#resolving = false;
    this.#goOn();
  }

  #ended(): void {
    this.#reader.ended();
    this.#passMarks();
  }

  #needTable(took: Took): Took {
    this.#resolving = true;
    void this.#lookUp(this.#decoder.needed!);
    return took;
  }

  async #lookUp(map: TableMap): Promise<void> {
    try {
      const { position } = this.#assembler;
      map.version = await (this.#reader.isWanted ? this.#parts.resolve(map, position) : null);
    } catch (error) {
      this.#fail(error);
    }
    this.#resolving = false;
    this.#goOn();
  }

  async #answer(asked: LogQuestion): Promise<void> {
    try {
      if (asked.kind === "truncate") {
        const table = await this.#parts.named(asked.target, this.#assembler.position);
        if (this.#failure === undefined) this.#reader.truncated(table);
      } else if (asked.kind === "definition") {
        const { onUnloggedRows, onRenamed } = this.#parts.options;
        if (asked.renames.length > 0) await onRenamed?.(asked.renames, asked.at);
        for (const { schema, table } of asked.unlogged) await onUnloggedRows?.(tableId(schema, table));
        if (this.#failure === undefined) this.#reader.defined();
      } else if (asked.kind === "rows") {
        await this.#passStatement(asked);
      } else {
        const { position } = this.#assembler;
        const open = (parts: StreamParts, signal: AbortSignal): Promise<BinlogStream> =>
          BinlogStream.open(parts, signal);
        const { signal } = this.#stopping;
        await lookBack({ open, parts: this.#parts, known: this.#reader.prepared }, position, asked.name, signal);
        if (this.#failure === undefined) this.#reader.found(asked.name);
      }
      this.#ended();
    } catch (error) {
      this.#fail(error);
    }
    this.#resolving = false;
    this.#goOn();
  }

  /** A statement in place of rows: the tables that it may have changed are suspended, except one that it just empties. */
  async #passStatement(asked: Extract<LogQuestion, { readonly kind: "rows" }>): Promise<void> {
    const { changed, named, options } = this.#parts;
    const { empties, place } = asked;
    const emptied = empties === null ? null : await named(empties, this.#assembler.position);
    for (const { schema, table } of await changed(asked)) {
      const id = tableId(schema, table);
      if (id === emptied?.id) continue;
      const error = sourceError("MR2120", "fatal", `the log holds a statement in place of rows of ${id} at ${place}`);
      if (options.onUnreadableRows === undefined) throw error;
      await options.onUnreadableRows(id, error);
    }
    if (this.#failure === undefined) this.#reader.passed(emptied);
  }

  /** Handles the held events, and continues to read when all are done. */
  #goOn(): void {
    if (this.#resolving || this.#failure !== undefined) {
      this.#offer();
      return;
    }
    try {
      for (let held = this.#held[0]; held !== undefined; held = this.#held[0]) {
        const took = held.isOpened ? this.#takeInner() : this.#take(this.#decode(held.event));
        if (took !== DONE) {
          held.isOpened = took === INSIDE;
          break;
        }
        this.#held.shift();
        if (this.#resolving || this.#assembler.isFull) break;
      }
    } catch (error) {
      this.#fail(error);
    }
    if (!this.#isBlocked()) this.#resume();
    this.#offer();
  }

  #decode(event: Buffer | SpooledEvent): number {
    if (event instanceof SpooledEvent) return this.#decoder.takeSpooled(event);
    return this.#decoder.take(event, 0, event.length);
  }

  #passMarks(): void {
    if (this.#marks.length === 0 || this.#assembler.inTransaction) return;
    const { commit } = this.#assembler.position;
    const passed = this.#marks.filter((mark) => mark.at <= commit);
    if (passed.length === 0) return;
    this.#marks = this.#marks.filter((mark) => mark.at > commit);
    for (const mark of passed) {
      if (mark.content === null) {
        this.#decoder.maps.forgetVersions();
        this.#parts.context.marks.given(mark.id);
      } else {
        this.#assembler.message(this.#parts.context.markPrefix, mark.content);
        this.#given.push(mark);
      }
    }
  }

  #pause(): void {
    if (this.#isPaused) return;
    this.#isPaused = true;
    this.#dump?.pause();
  }

  #resume(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    const nowMs = performance.now();
    this.#movement.moved(nowMs);
    this.#silence.heard(nowMs);
    this.#dump?.resume();
  }

  /** Gives the waiting reader a block, once everything received by now is decoded. */
  #offer(): void {
    if (!this.#waiting.waits || this.#isOffering) return;
    if (this.#assembler.hasFull) {
      this.#give();
      return;
    }
    this.#isOffering = true;
    setImmediate(() => {
      this.#isOffering = false;
      this.#give();
    });
  }

  #give(): void {
    if (!this.#waiting.waits) return;
    const block = this.#closed ? undefined : this.#assembler.take();
    if (block !== undefined) {
      // What has been given out need not come again in the next stream.
      for (const { id } of this.#given.splice(0, block.messages.length)) this.#parts.context.marks.given(id);
      this.#waiting.give(block);
    } else if (this.#failure !== undefined) {
      this.#waiting.fail(this.#failure);
    }
  }

  #lookSilent(): void {
    if (this.#isPaused) return;
    const nowMs = performance.now();
    const stillMs = nowMs - Math.max(this.#movement.stillSinceMs(nowMs), this.#expectedMs);
    if (this.#silence.isSilent(nowMs)) {
      this.#fail(silent("reading the log"));
    } else if (this.#marks.length > 0 && stillMs >= STUCK_MS_MAX) {
      this.#fail(sourceError("MR2121", "retryable", "the source does not send what its log has"));
    }
  }

  #fail(error: unknown): void {
    if (this.#failure !== undefined) return;
    this.#failure = findMillraceError(error) ?? classify(error, "reading the log");
    clearInterval(this.#watch);
    this.#stopping.abort();
    this.#dump?.close();
    this.#offer();
  }
}
