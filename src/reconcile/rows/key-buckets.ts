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

  /** The same hashes, in pieces of at most `size`. */
  *pieces(size: number): Generator<KeyHashes> {
    for (let from = 0; from < this.count; from += size) {
      const piece = new KeyHashes();
      piece.count = Math.min(size, this.count - from);
      piece.#hashes = this.#hashes.subarray(from * 2);
      yield piece;
    }
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

/** For more source keys than this, 2^20 buckets (16 MiB), because the number of further keys is unknown. */
const FEW_MAX = 4_096;
const BITS_MAX = 20;
/** Buckets per key while there are few keys, as a power of 2. */
const ROOM_BITS = 2;

/**
 * Finds keys that one side alone may have, in bounded memory. The source's keys are added to buckets by hash, the sink's
 * keys are subtracted. A bucket that is not zero at the end has keys of one side only, or keys of rows that moved
 * meanwhile; these are then compared one by one. What is left of a single key is its hash: the others of its bucket, of
 * which a large table has many, are on both sides. Misses a key with a probability of 1 in 2^64, beside several others
 * in its bucket 1 in 2^52. The source's keys come first.
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

  /** Whether one side alone may have this key. */
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
  /** Of a third hash, which is made of both: it tells whether the sums are those of a single key. */
  readonly #check: Uint32Array;
  /** Fewer buckets have hardly a second key each, and their number says too little of a hash. */
  readonly #tellsSingle: boolean;

  /** Allocates 2 to the power of `bits` buckets, of 16 bytes each. */
  constructor(bits: number) {
    this.#tellsSingle = bits === BITS_MAX;
    this.#mask = 2 ** bits - 1;
    this.#count = new Int32Array(2 ** bits);
    this.#low = new Uint32Array(2 ** bits);
    this.#high = new Uint32Array(2 ** bits);
    this.#check = new Uint32Array(2 ** bits);
  }

  add(keys: KeyHashes): void {
    for (let i = 0; i < keys.count; i++) this.#change(keys.low(i), keys.high(i), 1);
  }

  takeAway(one: KeyHashes): void {
    this.#change(one.low(0), one.high(0), -1);
  }

  /** Sums wrap around: adding and subtracting the same keys gives zero. */
  #change(low: number, high: number, sign: 1 | -1): void {
    const bucket = this.#at(low, high);
    this.#count[bucket]! += sign;
    this.#low[bucket]! += sign * low;
    this.#high[bucket]! += sign * high;
    this.#check[bucket]! += sign * checkOf(low, high);
  }

  isUneven(one: KeyHashes): boolean {
    const [low, high] = [one.low(0), one.high(0)];
    const bucket = this.#at(low, high);
    if (!this.#isLeft(bucket)) return false;
    const single = this.#single(bucket);
    return single === null || (single[0] === low && single[1] === high);
  }

  #isLeft(bucket: number): boolean {
    return this.#count[bucket] !== 0 || this.#low[bucket] !== 0 || this.#high[bucket] !== 0;
  }

  /** The hashes of the bucket's only key of one side; null: it has several, or it can't be told. */
  #single(bucket: number): readonly [low: number, high: number] | null {
    const sign = this.#count[bucket]!;
    if (!this.#tellsSingle || Math.abs(sign) !== 1) return null;
    const [low, high] = [(sign * this.#low[bucket]!) >>> 0, (sign * this.#high[bucket]!) >>> 0];
    const isSingle = this.#at(low, high) === bucket && checkOf(low, high) === (sign * this.#check[bucket]!) >>> 0;
    return isSingle ? [low, high] : null;
  }

  get allEven(): boolean {
    for (let i = 0; i <= this.#mask; i++) if (this.#isLeft(i)) return false;
    return true;
  }

  #at(low: number, high: number): number {
    return (low ^ (high >>> 7)) & this.#mask;
  }
}

/** Not a sum of both: that of several keys would fit as well. */
function checkOf(low: number, high: number): number {
  return mixed(Math.imul(low, FNV_PRIME) ^ mixed(high));
}

/** Mixes the hash so that every bit of the text affects every bit of it. */
function mixed(hash: number): number {
  const half = Math.imul(hash ^ (hash >>> 16), MULTIPLIER);
  return (half ^ (half >>> 15)) >>> 0;
}
