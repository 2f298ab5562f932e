/**
 * Turns received bytes into blocks, without copying them.
 *
 *   socket ─► arena (8 MiB)  ······ rows ······ commit ··· rows ··· commit ·· rows ·
 *                            └─ block: vectors of offsets ─┴─ block ────────┘   └ the next arena begins with these bytes
 *
 * The session asks for `space` and says what it `received` there. The decoder walks whole frames in place, and for each change
 * appends offsets to the vectors of the present block. It stops where it can't go on by itself:
 *
 *   STOP_BYTES      a frame is not complete: the socket is read on
 *   STOP_TABLE      a relation is unknown: `onTable`; the socket is not read until `resolved`
 *   STOP_BOUNDARY   a transaction ended, and the arena is nearly full: the block is done, the rest moves into the next arena
 *   STOP_NARROW     an update lacks a part of its key: its frame is made longer in place
 *   STOP_ENDED      the server ended the stream
 *
 * `take` gives a block away as soon as somebody waits: up to the last commit, the rows of an open transaction go into a new
 * block over the same arena. Only a transaction that is larger than an arena is cut inside. An arena lives as long as blocks
 * point into it; when sinks keep all arenas, bytes that still arrive are held, and the socket is not read until one is free
 * (invariant 9). So a steady stream allocates nothing per block, and memory has a limit that the slowest reader decides.
 */
import { Block } from "../../../../src/core/model/block.ts";
import { comparePositions, type Position } from "../../../../src/core/model/position.ts";
import {
  Decoder,
  type DecoderOptions,
  STOP_TABLE,
  STOP_NARROW,
  STOP_ENDED,
  STOP_BYTES,
  STOP_BOUNDARY,
  type Ahead,
} from "./pgoutput.ts";
import type { Relation } from "./relations.ts";
import type { TableVersion } from "../../../../src/core/model/schema.ts";
import { invariant } from "../../../../src/core/invariant.ts";

const ARENA_BYTES = 8 * 1024 * 1024;
/** One to read into, and one that the reader has. */
const ARENA_COUNT_MIN = 2;
/** When blocks hold this much, the stream stops reading its socket. */
const BYTE_COUNT_MAX = 3 * ARENA_BYTES;
const FREE_ARENA_COUNT_MAX = 3;
const FREE_BLOCK_COUNT_MAX = 64;
/** Vectors of a block of one large arena are dropped rather than kept for small ones. */
const KEPT_ROW_COUNT_MAX = 512 * 1024;

/** How many arenas may be alive at once. */
function arenaCountMax(byteCountMax = BYTE_COUNT_MAX): number {
  return Math.max(ARENA_COUNT_MIN, Math.floor(byteCountMax / ARENA_BYTES));
}

/** Memory that the socket is read into and that blocks point into; freed with the last block. */
interface Arena {
  readonly bytes: Buffer;
  references: number;
}

/** Arenas and block vectors, reused, so that a steady stream allocates nothing per block. */
class ArenaPool {
  readonly #freeArenas: Arena[] = [];
  readonly #freeBlocks: Block[] = [];
  readonly #arenaOf = new Map<Block, Arena>();
  readonly #onRoom: () => void;
  readonly #countMax: number;
  #liveCount = 0;

  /** `onRoom` is called when an arena was returned. */
  constructor(countMax: number, onRoom: () => void) {
    this.#countMax = countMax;
    this.#onRoom = onRoom;
  }

  get liveCount(): number {
    return this.#liveCount;
  }

  /** An arena of at least `byteCount`, with one reference; undefined while too many are alive. */
  acquire(byteCount: number): Arena | undefined {
    if (this.#liveCount >= this.#countMax) return undefined;
    this.#liveCount++;
    const free = byteCount <= ARENA_BYTES ? this.#freeArenas.pop() : undefined;
    if (free !== undefined) {
      free.references = 1;
      return free;
    }
    return { bytes: Buffer.allocUnsafeSlow(Math.max(byteCount, ARENA_BYTES)), references: 1 };
  }

  release(arena: Arena): void {
    invariant(arena.references > 0, "an arena is not released twice");
    if (--arena.references > 0) return;
    this.#liveCount--;
    // An arena that was made for a large row is left to the garbage collector.
    if (arena.bytes.length === ARENA_BYTES && this.#freeArenas.length < FREE_ARENA_COUNT_MAX)
      this.#freeArenas.push(arena);
    this.#onRoom();
  }

  /** An empty block over `arena`, which lives at least as long. */
  block(arena: Arena): Block {
    arena.references++;
    const block = this.#freeBlocks.pop() ?? new Block(arena.bytes, 64, (done) => this.#released(done));
    block.reset(arena.bytes);
    this.#arenaOf.set(block, arena);
    return block;
  }

  /** Points an empty block with a single owner at another arena. */
  move(block: Block, arena: Arena): void {
    invariant(block.count === 0, "only an empty block changes its arena");
    const old = this.#arenaOf.get(block);
    arena.references++;
    this.#arenaOf.set(block, arena);
    block.reset(arena.bytes);
    if (old !== undefined) this.release(old);
  }

  #released(block: Block): void {
    const arena = this.#arenaOf.get(block);
    this.#arenaOf.delete(block);
    if (this.#freeBlocks.length < FREE_BLOCK_COUNT_MAX && block.op.length <= KEPT_ROW_COUNT_MAX)
      this.#freeBlocks.push(block);
    if (arena !== undefined) this.release(arena);
  }
}

/** The largest read. An arena with less than READ_BYTES_MIN left is replaced by the next. */
const READ_BYTES_MAX = 1024 * 1024;
const READ_BYTES_MIN = 64 * 1024;
/** Smaller reads are copied from one lasting buffer: creating a view of the arena for each would cost more than the copy. */
const SMALL_READ_BYTES = 16 * 1024;
/** An arena this full is replaced at the next commit, so that transactions below an eighth of it are not cut. */
const FULL_BYTES = ARENA_BYTES - ARENA_BYTES / 8;

interface AssemblerEvents {
  /** A row refers to a relation that must be looked up; answer with `resolved`. Nothing is decoded meanwhile. */
  readonly onTable: (relation: Relation, position: Position) => void;
  /** The server ended the stream. */
  readonly onEnd: (message: Buffer | undefined) => void;
  /** After `blocked` there is room again: the held bytes are decoded, and reading may continue. */
  readonly onRoom: () => void;
}

export class Assembler {
  readonly decoder: Decoder;
  readonly #pool: ArenaPool;
  readonly #events: AssemblerEvents;
  readonly #ready: Block[] = [];
  /** What `space` returns while reads are small, or if the arena has no room. */
  readonly #spare = Buffer.allocUnsafeSlow(READ_BYTES_MIN);
  #arena: Arena;
  #block: Block;
  #writeAt = 0;
  /** Where the current block's bytes begin in the arena. */
  #blockStart = 0;
  #offered: Uint8Array | undefined;
  #offeredAt = -1;
  #lastCount = 0;
  /** Received bytes for which there was no room. */
  #held: Buffer | undefined;
  #resolving = false;
  /** What is being looked up is looked up again. */
  #renewing = false;
  #outOfRoom = false;
  #ended = false;
  #given: Position;

  constructor(
    from: Position,
    byteCountMax: number | undefined,
    renewPrefix: string,
    events: AssemblerEvents,
    options: DecoderOptions = {},
  ) {
    this.#pool = new ArenaPool(arenaCountMax(byteCountMax), () => this.#retry());
    this.#events = events;
    // A new pool always has an arena.
    this.#arena = this.#pool.acquire(ARENA_BYTES)!;
    this.#block = this.#pool.block(this.#arena);
    this.#given = from;
    this.decoder = new Decoder(from, this.#block, this.#arena.bytes, FULL_BYTES, renewPrefix, options);
  }

  /** True while the socket must not be read. */
  get blocked(): boolean {
    return this.#resolving || this.#outOfRoom;
  }

  /** True while blocks that were given away, or wait to be, hold all arenas. */
  get outOfRoom(): boolean {
    return this.#outOfRoom;
  }

  get liveArenaCount(): number {
    return this.#pool.liveCount;
  }

  /** Where the next bytes can be written. Valid until the next call of `received` or `space`. */
  space(): Uint8Array {
    const { bytes } = this.#arena;
    const free = bytes.length - this.#writeAt;
    const small = this.#lastCount < SMALL_READ_BYTES;
    if (small || this.blocked || this.#held !== undefined || free === 0) {
      this.#offered = undefined;
      return this.#spare;
    }
    this.#offeredAt = this.#writeAt;
    this.#offered = bytes.subarray(this.#writeAt, this.#writeAt + Math.min(free, READ_BYTES_MAX));
    return this.#offered;
  }

  /** `count` bytes were received at the start of `buffer`; false: read no more until `onRoom`, or until `resolved`. */
  received(buffer: Uint8Array, count: number): boolean {
    if (buffer === this.#offered && this.#offeredAt === this.#writeAt) this.#writeAt += count;
    else if (!this.#copyIn(buffer, count)) this.#hold(buffer.subarray(0, count));
    this.#offered = undefined;
    this.#lastCount = count;
    if (!this.#resolving) this.#decode();
    return !this.blocked;
  }

  /** The relations that the waiting bytes refer to. */
  ahead(): Ahead {
    return this.decoder.ahead(this.#writeAt);
  }

  /** Tables of rows that are not decoded yet are looked up again. */
  renew(): void {
    if (this.#resolving) this.#renewing = true;
    else this.decoder.renew();
  }

  /** The relation that `onTable` asked for is known now. */
  resolved(relation: Relation, table: TableVersion | null): void {
    relation.table = table;
    if (this.#renewing) this.decoder.renew();
    this.#renewing = false;
    this.#resolving = false;
    this.decoder.needed = undefined;
    this.#decode();
    if (!this.blocked) this.#events.onRoom();
  }

  /** True if a block is full, so that waiting for more is useless. */
  get hasFull(): boolean {
    return this.#ready.length > 0;
  }

  /** True if `take` would return a block. */
  get hasSome(): boolean {
    if (this.#ready.length > 0) return true;
    const { decoder } = this;
    if (decoder.boundaryRows > 0 || decoder.boundaryMessages > 0) return true;
    return !decoder.inTransaction && comparePositions(decoder.position, this.#given) > 0;
  }

  /** The next block, which the caller has to release; undefined if no new one is complete. */
  take(): Block | undefined {
    if (!this.hasSome) return undefined;
    const block = this.#ready.shift() ?? this.#cutAtBoundary();
    this.#given = block.until;
    return block;
  }

  /** Everything decoded, also inside a transaction: for a stream that continues elsewhere from exactly this position. */
  takeAll(): Block | undefined {
    if (this.#ready.length === 0 && (this.#block.count > 0 || this.#block.messages.length > 0)) this.#seal();
    return this.#ready.length > 0 || this.hasSome ? this.take() : undefined;
  }

  /** False if there is no room, or earlier bytes wait. */
  #copyIn(buffer: Uint8Array, count: number): boolean {
    const { bytes } = this.#arena;
    if (this.#held !== undefined || bytes.length - this.#writeAt < count) return false;
    if (buffer === this.#spare) this.#spare.copy(bytes, this.#writeAt, 0, count);
    else bytes.set(buffer.subarray(0, count), this.#writeAt);
    this.#writeAt += count;
    return true;
  }

  #hold(bytes: Uint8Array): void {
    // The caller reuses its buffer, so these bytes are copied. This happens when room ran out, not in a steady stream.
    this.#held = this.#held === undefined ? Buffer.from(bytes) : Buffer.concat([this.#held, bytes]);
  }

  #retry(): void {
    if (!this.#outOfRoom || this.#resolving) return;
    this.#outOfRoom = false;
    this.#decode();
    if (!this.blocked) this.#events.onRoom();
  }

  #decode(): void {
    while (!this.#ended) {
      const stop = this.decoder.run(this.#writeAt);
      if (stop === STOP_TABLE) {
        this.#resolving = true;
        const relation = this.decoder.needed!;
        this.#events.onTable(relation, this.decoder.position);
        return;
      }
      if (stop === STOP_ENDED) {
        this.#ended = true;
        this.#events.onEnd(this.decoder.serverMessage);
        return;
      }
      if (stop === STOP_NARROW) {
        if (!this.#widen()) return;
        continue;
      }
      if (stop === STOP_BOUNDARY || (stop === STOP_BYTES && this.#needsRoom())) {
        if (!this.#nextArena()) return;
        continue;
      }
      if (!this.#admitHeld()) return;
    }
  }

  /** Lengthens the next frame as the decoder requests; false: there is no room for it yet. */
  #widen(): boolean {
    const { decoder } = this;
    const free = this.#arena.bytes.length - this.#writeAt;
    if (free < decoder.missingBytes && !this.#nextArena(decoder.missingBytes)) return false;
    this.#writeAt = decoder.widen(this.#writeAt);
    return true;
  }

  #needsRoom(): boolean {
    const { bytes } = this.#arena;
    const frameEnd = this.decoder.at + this.decoder.frameLength(this.#writeAt);
    return frameEnd > bytes.length || bytes.length - this.#writeAt < READ_BYTES_MIN;
  }

  /** Moves held bytes into the arena; false: there were none. */
  #admitHeld(): boolean {
    const held = this.#held;
    if (held === undefined) return false;
    const { bytes } = this.#arena;
    const count = Math.min(held.length, bytes.length - this.#writeAt);
    bytes.set(held.subarray(0, count), this.#writeAt);
    this.#writeAt += count;
    this.#held = count === held.length ? undefined : held.subarray(count);
    return true;
  }

  /** Continues in another arena, with the bytes that are not decoded yet; false: there is none, and reading has to stop. */
  #nextArena(extraBytes = 0): boolean {
    const { decoder } = this;
    const tail = this.#writeAt - decoder.at;
    const wanted = Math.max(tail, decoder.frameLength(this.#writeAt)) + extraBytes + READ_BYTES_MIN;
    const arena = this.#pool.acquire(wanted);
    if (arena === undefined) {
      this.#outOfRoom = true;
      return false;
    }
    this.#outOfRoom = false;
    const old = this.#arena;
    old.bytes.copy(arena.bytes, 0, decoder.at, this.#writeAt);
    const kept = this.#block;
    if (kept.count > 0 || kept.messages.length > 0) {
      this.#close(kept, decoder.position, decoder.at);
      this.#ready.push(kept);
      this.#block = this.#pool.block(arena);
    } else {
      this.#pool.move(kept, arena);
    }
    this.#arena = arena;
    this.#pool.release(old);
    this.#writeAt = tail;
    this.#blockStart = 0;
    decoder.adopt(this.#block, arena.bytes, 0, Math.max(FULL_BYTES, arena.bytes.length - ARENA_BYTES / 8));
    return true;
  }

  #close(block: Block, until: Position, endsAt: number): void {
    block.until = until;
    block.byteCount = endsAt - this.#blockStart;
    this.#blockStart = endsAt;
  }

  /** Ends the current block at the decoder's position. */
  #seal(): void {
    const { decoder } = this;
    const block = this.#block;
    this.#close(block, decoder.position, decoder.at);
    this.#ready.push(block);
    this.#block = this.#pool.block(this.#arena);
    decoder.adopt(this.#block, this.#arena.bytes, decoder.at, decoder.boundaryAfter);
  }

  /** Ends the current block after its last whole transaction; rows of an open one go into the next block. */
  #cutAtBoundary(): Block {
    const { decoder } = this;
    const block = this.#block;
    if (!decoder.inTransaction) {
      this.#seal();
      return this.#ready.pop()!;
    }
    const next = this.#pool.block(this.#arena);
    const { boundaryRows, boundaryTransactions, boundaryMessages } = decoder;
    next.tables.push(...block.tables);
    if (block.transactions.count > boundaryTransactions) {
      const t = block.transactions;
      const i = boundaryTransactions;
      next.transactions.add(t.commit[i]!, t.version[i]!, t.commitTimeUs[i]!, t.xid[i]!);
    }
    for (let i = boundaryRows; i < block.count; i++) {
      next.append(
        block.op[i]!,
        block.table[i]!,
        block.after[i]!,
        block.before[i]!,
        block.beforeKind[i]!,
        0,
        block.index[i]!,
      );
    }
    for (const message of block.messages.slice(boundaryMessages)) {
      next.messages.push({ ...message, at: message.at - boundaryRows });
    }
    for (const { row, recordPosition } of block.truncates) {
      if (row >= boundaryRows) next.truncates.push({ row: row - boundaryRows, recordPosition });
    }
    block.truncates.splice(0, block.truncates.length, ...block.truncates.filter(({ row }) => row < boundaryRows));
    block.count = boundaryRows;
    block.transactions.count = boundaryTransactions;
    block.messages.length = boundaryMessages;
    this.#close(block, { epoch: decoder.epoch, commit: decoder.boundary, index: 0 }, decoder.boundaryAt);
    this.#block = next;
    decoder.adoptTail(next);
    return block;
  }
}
