import { Block } from "../../../../src/core/model/block.ts";
import { invariant } from "../../../../src/core/invariant.ts";

export const ARENA_BYTES = 8 * 1024 * 1024;
/** One to read into, and one that the reader has. */
const ARENA_COUNT_MIN = 2;
/** When blocks hold this much, the stream stops reading its socket. */
const BYTE_COUNT_MAX = 3 * ARENA_BYTES;
const FREE_ARENA_COUNT_MAX = 3;
const FREE_BLOCK_COUNT_MAX = 64;
/** Vectors of a block of one large arena are dropped rather than kept for small ones. */
const KEPT_ROW_COUNT_MAX = 512 * 1024;

/** How many arenas may be alive at once. */
export function arenaCountMax(byteCountMax = BYTE_COUNT_MAX): number {
  return Math.max(ARENA_COUNT_MIN, Math.floor(byteCountMax / ARENA_BYTES));
}

/** Memory that the socket is read into and that blocks point into; freed with the last block. */
export interface Arena {
  readonly bytes: Buffer;
  references: number;
}

/** Arenas and block vectors, reused, so that a steady stream allocates nothing per block. */
export class ArenaPool {
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
