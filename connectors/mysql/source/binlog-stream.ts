/** The change stream: one dump of the log, decoded and given out in blocks. */
import type { Block } from "../../../src/core/model/block.ts";
import { OneReader } from "../../../src/core/waiting.ts";
import type { MillraceError } from "../../../src/core/errors.ts";
import { tableId, type TableVersion } from "../../../src/core/model/schema.ts";
import type { ChangeStream, StreamOptions } from "../../../src/core/contracts/change-log.ts";
import { Assembler } from "./rows/assembler.ts";
import { Decoder, TOOK_CONTROL, TOOK_END, TOOK_PAYLOAD, TOOK_TABLE_NEEDED } from "./rows/decoder.ts";
import { Dump, type DumpRequest, WATCH_MS } from "./wire/dump.ts";
import { aborted, READ_AGAIN, silent, sourceError } from "./errors.ts";
import type { Session } from "./wire/driver.ts";
import type { LargeEvent } from "./wire/dump-packets.ts";
import { HEARTBEAT, HEARTBEAT_V2, TYPE_AT } from "./wire/event-header.ts";
import { type LogQuestion, LogReader, perhapsExchanged, type UnreadDefinition } from "./transactions/log-reader.ts";
import type { PendingMark } from "./transactions/stream-state.ts";
import { unpackPosition, startOf } from "./wire/position.ts";
import { SpooledEvent } from "./wire/spool.ts";
import type { TableMap } from "./rows/table-map.ts";
import type { Position } from "../../../src/core/model/position.ts";
import type { TableName } from "../../../src/core/contracts/connector.ts";
import { StreamTables } from "./catalog/stream-tables.ts";
import type { SourceParts } from "./source-parts.ts";

/** How long the server may send nothing although its log has more: after a reset, MariaDB waits in a file that is gone. */
const STUCK_MS_MAX = 5_000;
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

/** For looking back: only what is prepared before the position of the stream that looks counts. */
interface LookingStream {
  readonly position: Position;
  readonly versions: StreamTables;
}

export class BinlogStream implements ChangeStream {
  readonly #parts: SourceParts;
  readonly #from: Position;
  readonly #options: StreamOptions;
  readonly #looking: LookingStream | null;
  readonly #versions: StreamTables;
  readonly #isMain: boolean;
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
  readonly #watch: NodeJS.Timeout;
  #failure: unknown;
  /** For reads beside the stream. */
  readonly #stopping = new AbortController();
  #closed = false;

  private constructor(parts: SourceParts, from: Position, options: StreamOptions, looking: LookingStream | null) {
    this.#parts = parts;
    this.#from = from;
    this.#options = options;
    this.#looking = looking;
    this.#isMain = !options.temporary;
    const { server, state, tables } = parts;
    const isMain = this.#isMain;
    this.#versions = looking?.versions ?? new StreamTables(tables, options);
    const assembler = (this.#assembler = new Assembler(from, options.byteCountMax, () => this.#goOn()));
    const decoder = (this.#decoder = new Decoder(assembler.target, tables.rules, options.isFlowing));
    const preparedBefore = looking?.position.commit ?? null;
    const trail = preparedBefore === null ? state.read.trail(from.commit, isMain) : undefined;
    const { names } = server;
    this.#reader = new LogReader({ assembler, decoder, from, names, tables, state, preparedBefore, trail, isMain });
    this.#watch = setInterval(() => this.#lookSilent(), WATCH_MS);
  }

  static async open(
    parts: SourceParts,
    from: Position,
    options: StreamOptions,
    signal: AbortSignal,
    looking: LookingStream | null = null,
  ): Promise<BinlogStream> {
    const stream = new BinlogStream(parts, from, options, looking);
    try {
      await stream.#start(signal);
      return stream;
    } catch (error) {
      await stream[Symbol.asyncDispose]();
      throw error;
    }
  }

  async #start(signal: AbortSignal): Promise<void> {
    const { claim, server, state } = this.#parts;
    const prepare = (session: Session): Promise<void> => claim.take(session, signal);
    const from = this.#from.commit;
    const request: DumpRequest = this.#isMain ? { from, readerId: server.readerId, prepare } : { from };
    const handlers = {
      onEvent: (bytes: Buffer, start: number, end: number) => this.#received(bytes, start, end),
      onLarge: (header: Buffer) => this.#spool(header),
      onEnd: (error: unknown) =>
        this.#fail(error ?? sourceError("MR2001", "retryable", "the server ended the stream of its log")),
    };
    this.#dump = await Dump.start(server, request, handlers, signal);
    if (this.#isPaused) this.#dump.pause();
    if (this.#isMain) state.attach(this);
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
    this.#fail(sourceError("MR2022", "retryable", "the source's log ends before what was read of it"));
  }

  next(signal: AbortSignal): Promise<Block> {
    const block = this.#waiting.wait(signal, () => aborted("reading the stream"));
    this.#give();
    return block;
  }

  acknowledge(commit: bigint): void {
    this.#parts.state.acknowledged = commit;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    clearInterval(this.#watch);
    this.#parts.state.detach(this);
    this.#fail(aborted("the stream"));
    this.#dump?.close();
    this.#assembler.discard();
    await this.#decoder.events[Symbol.asyncDispose]();
    this.#spooled?.[Symbol.dispose]();
    for (const { event } of this.#held) if (event instanceof SpooledEvent) event[Symbol.dispose]();
  }

  #received(bytes: Buffer, start: number, end: number): void {
    if (this.#failure !== undefined) return;
    const isHeartbeat = bytes[start + TYPE_AT] === HEARTBEAT || bytes[start + TYPE_AT] === HEARTBEAT_V2;
    if (isHeartbeat) this.#dump?.heartbeat(end - start);
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
    const event = this.#failure === undefined ? SpooledEvent.of(header) : undefined;
    if (event === undefined) return undefined;
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
    this.#reader.outer();
    if (took === TOOK_PAYLOAD) return this.#takeInner();
    if (took === TOOK_TABLE_NEEDED) return this.#needTable(AGAIN);
    if (took === TOOK_CONTROL) {
      this.#reader.sighted();
      const asked = this.#reader.control();
      if (asked !== null) {
        void this.#resolve(() => this.#answer(asked));
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
        void this.#resolve(() => this.#unpackMore());
        return INSIDE;
      }
      if (took === TOOK_TABLE_NEEDED) return this.#needTable(INSIDE);
      if (took === TOOK_CONTROL) this.#reader.control();
      this.#reader.cutIfLarge();
    }
  }

  /** Events that come meanwhile are held. */
  async #resolve(work: () => Promise<void>): Promise<void> {
    this.#resolving = true;
    try {
      await work();
    } catch (error) {
      this.#fail(error);
    }
    this.#resolving = false;
    this.#goOn();
  }

  async #unpackMore(): Promise<void> {
    if (await this.#decoder.events.nextPart()) return;
    this.#held.shift();
    if (this.#failure === undefined) this.#ended();
  }

  #ended(): void {
    this.#reader.ended();
    this.#passMarks();
  }

  #needTable(took: Took): Took {
    const map = this.#decoder.needed!;
    void this.#resolve(() => this.#lookUp(map));
    return took;
  }

  async #lookUp(map: TableMap): Promise<void> {
    const { position } = this.#assembler;
    // No session can alter a table while changes of it are prepared.
    const at = this.#looking?.position ?? position;
    const { timestamp } = this.#decoder.events.header;
    map.version = await (this.#reader.isWanted ? this.#versions.ofRows(map, at, timestamp) : null);
  }

  async #answer(asked: LogQuestion): Promise<void> {
    if (asked.kind === "truncate") {
      const table = await this.#named(asked.target);
      if (this.#failure === undefined) this.#reader.truncated(table);
    } else if (asked.kind === "definition") {
      const { onUnloggedRows, onRenamed } = this.#options;
      if (asked.renames.length > 0) await onRenamed?.(asked.renames, asked.at);
      for (const { schema, table } of asked.unlogged) await onUnloggedRows?.(tableId(schema, table));
      if (this.#failure === undefined) this.#reader.defined();
    } else if (asked.kind === "rows") {
      await this.#passStatement(asked);
    } else if (asked.kind === "unread definition") {
      await this.#passUnread(asked);
    } else if (asked.kind === "lost") {
      for (const id of asked.tables)
        await this.#suspend(
          id,
          sourceError("MR2123", "fatal", `rows of ${id} can't be followed: ${asked.what}`, { hint: READ_AGAIN }),
        );
      if (this.#failure === undefined) this.#reader.lost(asked.end);
    } else {
      await this.#lookBack(asked.name);
      const more = this.#failure === undefined ? this.#reader.found(asked.name) : null;
      if (more !== null) await this.#answer(more);
    }
    this.#ended();
  }

  /** A statement in place of rows: the tables that it may have changed are suspended, except one that it just empties. */
  async #passStatement(asked: Extract<LogQuestion, { readonly kind: "rows" }>): Promise<void> {
    const { empties, position } = asked;
    const emptied = empties === null ? null : await this.#named(empties);
    for (const { schema, table } of await this.#versions.changed(asked)) {
      const id = tableId(schema, table);
      if (id === emptied?.id) continue;
      const what = `the log holds a statement in place of rows of ${id} at ${position}`;
      await this.#suspend(id, sourceError("MR2120", "fatal", what));
    }
    if (this.#failure === undefined) this.#reader.passed(emptied);
  }

  /** A definition that can't be read whole: the tables that it may name are suspended. */
  async #passUnread({ at, by, position, why }: UnreadDefinition): Promise<void> {
    const tables = await this.#versions.altered(by);
    const renames = perhapsExchanged(tables);
    if (renames.length > 0) await this.#options.onRenamed?.(renames, at);
    for (const { schema, table } of tables) {
      const id = tableId(schema, table);
      const what = `what became of ${id} is unknown: ${why}, at ${position}`;
      await this.#suspend(id, sourceError("MR2120", "fatal", what, { hint: READ_AGAIN }));
    }
    if (this.#failure === undefined) this.#reader.defined();
  }

  async #suspend(id: string, error: MillraceError): Promise<void> {
    const { onUnreadableRows } = this.#options;
    if (onUnreadableRows === undefined) throw error;
    await onUnreadableRows(id, error);
  }

  /** The version in force of a table that a statement names; null: not captured, or looking back. */
  async #named(target: TableName): Promise<TableVersion | null> {
    return this.#looking === null ? await this.#versions.named(target, this.#assembler.position) : null;
  }

  /**
   * Finds the rows of a transaction that was prepared before this stream began and is committed after that position: after a
   * restart, or after an initial snapshot, which could not see them. It searches the log itself, file by file backwards, so
   * that no position ever has to wait for the outcome of a prepared transaction. Everything that is prepared and undecided
   * here is kept, back to `name` or to the beginning of the log.
   */
  async #lookBack(name: string): Promise<void> {
    const { position } = this.#assembler;
    const { files } = this.#parts;
    const known = this.#reader.prepared;
    const { signal } = this.#stopping;
    const { file } = unpackPosition(position.commit);
    const oldest = (await files.read(signal)).at(0)?.file ?? file;
    for (let fileCount = 1; ; fileCount *= 2) {
      const first = Math.max(oldest, file - fileCount + 1);
      const from = { epoch: position.epoch, commit: startOf(first), index: 0 };
      const options = { ...this.#options, temporary: true };
      const looking = { position, versions: this.#versions };
      await using stream = await BinlogStream.open(this.#parts, from, options, signal, looking);
      await readUntil(stream, position.commit, signal);
      known.takeAll(stream.#reader.prepared);
      if (known.has(name) || first === oldest) return;
    }
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
        this.#parts.state.given(mark.id);
      } else {
        this.#assembler.message(this.#parts.markPrefix, mark.content);
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
      for (const { id } of this.#given.splice(0, block.messages.length)) this.#parts.state.given(id);
      this.#waiting.give(block);
    } else if (this.#failure !== undefined) {
      this.#waiting.fail(this.#failure);
    }
  }

  #lookSilent(): void {
    if (this.#isPaused || this.#dump === undefined) return;
    const nowMs = performance.now();
    const { isSilent, stillSinceMs } = this.#dump.look(nowMs);
    const stillMs = nowMs - Math.max(stillSinceMs, this.#expectedMs);
    if (isSilent) {
      this.#fail(silent("reading the log"));
    } else if (this.#marks.length > 0 && stillMs >= STUCK_MS_MAX) {
      this.#fail(sourceError("MR2022", "retryable", "the source does not send what its log has"));
    }
  }

  #fail(error: unknown): void {
    if (this.#failure !== undefined) return;
    this.#failure = this.#parts.server.failed(error, "reading the log");
    clearInterval(this.#watch);
    this.#stopping.abort();
    this.#dump?.close();
    this.#offer();
  }
}

async function readUntil(stream: ChangeStream, commit: bigint, signal: AbortSignal): Promise<void> {
  for (;;) {
    const block = await stream.next(signal);
    block.release();
    if (block.until.commit > commit) return;
  }
}
