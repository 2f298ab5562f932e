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
const SPREAD_AT_ONCE = 64;
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
  /** What is left of those once there are buckets. */
  #left: Iterator<KeyHashes, unknown> | null = null;
  #buckets: Buckets | null = null;
  readonly #one = new KeyHashes();

  /** The work follows the number of these keys: of earlier ones some are spread too, because new memory is slow at its first use. */
  ofSource(keys: KeyHashes): void {
    if (this.#buckets === null && this.#few.count + keys.count > FEW_MAX) this.#begin(BITS_MAX);
    if (this.#buckets === null) {
      this.#few.addAll(keys);
      return;
    }
    this.#buckets.add(keys);
    for (let count = 0; this.#left !== null && count <= keys.count; count += SPREAD_AT_ONCE)
      this.#spread(this.#buckets);
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
    const buckets = this.#buckets ?? this.#begin(Math.ceil(Math.log2(this.#few.count + 1)) + ROOM_BITS);
    while (this.#left !== null) this.#spread(buckets);
    return buckets;
  }

  #begin(bits: number): Buckets {
    this.#left = this.#few.pieces(SPREAD_AT_ONCE);
    return (this.#buckets = new Buckets(bits));
  }

  #spread(buckets: Buckets): void {
    const { done, value } = this.#left!.next();
    if (done !== true) return buckets.add(value);
    this.#left = null;
    this.#few.clear();
  }

  #hash(id: string): KeyHashes {
    this.#one.clear();
    this.#one.add(id);
    return this.#one;
  }
}

/** Of each bucket: the number of its keys, the sums of both hashes, and that of a third one, which is made of both. */
const [COUNT, LOW, HIGH, CHECK, WORDS] = [0, 1, 2, 3, 4];

class Buckets {
  readonly #mask: number;
  /** Bucket by bucket, so that a key touches one place of the memory. */
  readonly #sums: Int32Array;
  /** Buckets in which a key is left. */
  #leftCount = 0;
  /** Fewer buckets have hardly a second key each, and their number says too little of a hash. */
  readonly #tellsSingle: boolean;

  /** Allocates 2 to the power of `bits` buckets, of 16 bytes each. */
  constructor(bits: number) {
    this.#tellsSingle = bits === BITS_MAX;
    this.#mask = 2 ** bits - 1;
    this.#sums = new Int32Array(WORDS * 2 ** bits);
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
    const wasLeft = this.#isLeft(bucket);
    this.#sums[bucket + COUNT]! += sign;
    this.#sums[bucket + LOW]! += sign * low;
    this.#sums[bucket + HIGH]! += sign * high;
    this.#sums[bucket + CHECK]! += sign * checkOf(low, high);
    const isLeft = this.#isLeft(bucket);
    if (isLeft !== wasLeft) this.#leftCount += isLeft ? 1 : -1;
  }

  isUneven(one: KeyHashes): boolean {
    const [low, high] = [one.low(0), one.high(0)];
    const bucket = this.#at(low, high);
    if (!this.#isLeft(bucket)) return false;
    const single = this.#single(bucket);
    return single === null || (single[0] === low && single[1] === high);
  }

  #isLeft(bucket: number): boolean {
    return this.#sums[bucket + COUNT] !== 0 || this.#sums[bucket + LOW] !== 0 || this.#sums[bucket + HIGH] !== 0;
  }

  /** The hashes of the bucket's only key of one side; null: it has several, or it can't be told. */
  #single(bucket: number): readonly [low: number, high: number] | null {
    const sign = this.#sums[bucket + COUNT]!;
    if (!this.#tellsSingle || Math.abs(sign) !== 1) return null;
    const [low, high] = [(sign * this.#sums[bucket + LOW]!) >>> 0, (sign * this.#sums[bucket + HIGH]!) >>> 0];
    const isSingle =
      this.#at(low, high) === bucket && checkOf(low, high) === (sign * this.#sums[bucket + CHECK]!) >>> 0;
    return isSingle ? [low, high] : null;
  }

  get allEven(): boolean {
    return this.#leftCount === 0;
  }

  /** Where the bucket begins. */
  #at(low: number, high: number): number {
    return ((low ^ (high >>> 7)) & this.#mask) * WORDS;
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
