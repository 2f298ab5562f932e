const OFFSET_BASIS = 0x811c_9dc5;
const FNV_PRIME = 0x0100_0193;
/** Odd, and unlike the other one: 2^32 times the golden ratio. */
const MULTIPLIER = 0x9e37_79b1;

/** Remembers keys until they count: two hashes of 32 bits each. */
export class KeyHashes {
  count = 0;
  #hashes = new Uint32Array(64);

  add(id: string): void {
    const at = this.count * 2;
    if (at === this.#hashes.length) this.#grow();
    // FNV-1a with two multipliers in one pass over the text; each hash is mixed at the end.
    let low = OFFSET_BASIS;
    let high = ~OFFSET_BASIS;
    for (let i = 0; i < id.length; i++) {
      const unit = id.charCodeAt(i);
      low = Math.imul(low ^ unit, FNV_PRIME);
      high = Math.imul(high ^ unit, MULTIPLIER);
    }
    this.#hashes[at] = mixed(low);
    this.#hashes[at + 1] = mixed(high);
    this.count++;
  }

  addAll(others: KeyHashes): void {
    const at = this.count * 2;
    this.count += others.count;
    while (this.#hashes.length < this.count * 2) this.#grow();
    this.#hashes.set(others.#hashes.subarray(0, others.count * 2), at);
  }

  low(i: number): number {
    return this.#hashes[i * 2]!;
  }

  high(i: number): number {
    return this.#hashes[i * 2 + 1]!;
  }

  clear(): void {
    this.count = 0;
  }

  #grow(): void {
    const grown = new Uint32Array(this.#hashes.length * 2);
    grown.set(this.#hashes);
    this.#hashes = grown;
  }
}

/** For more source keys than this, 2^20 buckets (12 MiB), because the number of further keys is unknown. */
const FEW_MAX = 4_096;
const BITS_MAX = 20;
/** Buckets per key while there are few keys, as a power of 2. */
const ROOM_BITS = 2;

/**
 * Finds keys of a sink that the source may lack, in bounded memory. The source's keys are added to buckets by hash, the
 * sink's keys are subtracted. A bucket that is not zero at the end has keys of one side only, or keys of rows that
 * moved meanwhile; the rows of its keys are then compared one by one. Misses a key with a probability of 1 in 2^64. The
 * source's keys come first.
 */
export class KeyBuckets {
  /** The source's keys, until there are buckets. */
  readonly #few = new KeyHashes();
  #buckets: Buckets | null = null;
  readonly #one = new KeyHashes();

  ofSource(keys: KeyHashes): void {
    if (this.#buckets === null && this.#few.count + keys.count > FEW_MAX) this.#spread(BITS_MAX);
    if (this.#buckets === null) this.#few.addAll(keys);
    else this.#buckets.add(keys);
  }

  ofSink(id: string): void {
    this.#all.takeAway(this.#hash(id));
  }

  /** Whether the bucket of this key has keys of one side only. */
  isUneven(id: string): boolean {
    return this.#all.isUneven(this.#hash(id));
  }

  get allEven(): boolean {
    return this.#all.allEven;
  }

  get #all(): Buckets {
    return this.#buckets ?? this.#spread(Math.ceil(Math.log2(this.#few.count + 1)) + ROOM_BITS);
  }

  #spread(bits: number): Buckets {
    const buckets = new Buckets(bits);
    buckets.add(this.#few);
    this.#few.clear();
    return (this.#buckets = buckets);
  }

  #hash(id: string): KeyHashes {
    this.#one.clear();
    this.#one.add(id);
    return this.#one;
  }
}

class Buckets {
  readonly #mask: number;
  readonly #count: Int32Array;
  readonly #low: Uint32Array;
  readonly #high: Uint32Array;

  /** Allocates 2 to the power of `bits` buckets, of 12 bytes each. */
  constructor(bits: number) {
    this.#mask = 2 ** bits - 1;
    this.#count = new Int32Array(2 ** bits);
    this.#low = new Uint32Array(2 ** bits);
    this.#high = new Uint32Array(2 ** bits);
  }

  add(keys: KeyHashes): void {
    for (let i = 0; i < keys.count; i++) {
      const bucket = this.#at(keys, i);
      this.#count[bucket]!++;
      // Sums wrap around: adding and subtracting the same keys gives zero.
      this.#low[bucket] = this.#low[bucket]! + keys.low(i);
      this.#high[bucket] = this.#high[bucket]! + keys.high(i);
    }
  }

  takeAway(one: KeyHashes): void {
    const bucket = this.#at(one, 0);
    this.#count[bucket]!--;
    this.#low[bucket] = this.#low[bucket]! - one.low(0);
    this.#high[bucket] = this.#high[bucket]! - one.high(0);
  }

  isUneven(one: KeyHashes): boolean {
    const bucket = this.#at(one, 0);
    return this.#count[bucket] !== 0 || this.#low[bucket] !== 0 || this.#high[bucket] !== 0;
  }

  get allEven(): boolean {
    for (let i = 0; i <= this.#mask; i++) {
      if (this.#count[i] !== 0 || this.#low[i] !== 0 || this.#high[i] !== 0) return false;
    }
    return true;
  }

  #at(keys: KeyHashes, i: number): number {
    return (keys.low(i) ^ (keys.high(i) >>> 7)) & this.#mask;
  }
}

/** Mixes the hash so that every bit of the text affects every bit of it. */
function mixed(hash: number): number {
  const half = Math.imul(hash ^ (hash >>> 16), MULTIPLIER);
  return (half ^ (half >>> 15)) >>> 0;
}
