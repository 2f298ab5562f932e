/**
 * Which transactions are before the sinks' positions. Positions mean nothing to another host of the replication set, but
 * names do, so a failover uses names. They are kept for the present positions and stored with the log's identity; for other
 * positions they follow from what the streams read.
 */
import { type GtidName, GtidSet, parseGtid, spellGtid } from "../events/gtid-set.ts";
import type { SeenTransaction } from "../events/log-interpreter.ts";

/**
 * Up to this number, transactions are kept one by one; beyond it only as a sum. No active sink is that far behind its
 * stream.
 */
const ENTRY_COUNT_MAX = 200_000;
const OTHERS_COUNT_MAX = 8;
/** A set is looked for among the newest transactions; of an older one it is enough to know that it was read. */
const LOCATED_COUNT_MAX = 1_000;

/** The transactions before a position. */
export interface ReadBefore {
  readonly set: GtidSet;
  /** Null if none was seen. */
  readonly last: SeenTransaction | null;
}

/** What one stream has read, in order. */
export class Trail {
  /** Everything before `#floor`. */
  #base: ReadBefore;
  #floor: bigint;
  /** For each transaction: where it begins, its name in parts, its time. */
  #starts: bigint[] = [];
  #origins: string[] = [];
  #numbers: number[] = [];
  #times: number[] = [];
  /** One text for each. */
  readonly #originTexts = new Map<string, string>();
  /** Everything that begins before it has been recorded. */
  #reached: bigint;
  #isBroken = false;
  /** Everything that was recorded. */
  #all: GtidSet;

  constructor(from: bigint, base: ReadBefore) {
    this.#all = base.set.clone();
    this.#floor = from;
    this.#reached = from;
    this.#base = base;
  }

  /** A transaction begins there. */
  note(start: bigint, { gtid, time }: SeenTransaction): void {
    if (this.#isBroken || start < this.#reached) return;
    const name = parseGtid(gtid);
    // Without a name nothing from here on is known.
    if (name === undefined) {
      this.#isBroken = true;
      return;
    }
    const origin = this.#originTexts.get(name.origin) ?? name.origin;
    this.#originTexts.set(origin, origin);
    this.#starts.push(start);
    this.#origins.push(origin);
    this.#numbers.push(name.number);
    this.#times.push(time);
    this.#all.addRead(name);
    this.#reached = start;
    if (this.#starts.length > ENTRY_COUNT_MAX) this.fold(this.#starts[ENTRY_COUNT_MAX / 2]!);
  }

  /** The stream has reached this position; no transaction begins in between. */
  moveTo(position: bigint): void {
    if (!this.#isBroken && position > this.#reached) this.#reached = position;
  }

  /** Undefined if this trail does not know. */
  at(position: bigint): ReadBefore | undefined {
    if (position < this.#floor || position > this.#reached) return undefined;
    const set = this.#base.set.clone();
    const count = this.#countBefore(position);
    for (let i = 0; i < count; i++) set.addRead(this.#name(i));
    const last = { gtid: count === 0 ? "" : spellGtid(this.#name(count - 1)), time: this.#times[count - 1] ?? 0 };
    return { set, last: count === 0 ? this.#base.last : last };
  }

  /** Positions before this one are not needed any more. */
  fold(position: bigint): void {
    const base = position <= this.#floor ? undefined : this.at(position);
    if (base === undefined) return;
    const count = this.#countBefore(position);
    this.#starts = this.#starts.slice(count);
    this.#origins = this.#origins.slice(count);
    this.#numbers = this.#numbers.slice(count);
    this.#times = this.#times.slice(count);
    this.#base = base;
    this.#floor = position;
  }

  /** Continues from a position that it knows; false if it does not know it. */
  resume(from: bigint): boolean {
    if (from < this.#floor || from > this.#reached) return false;
    const count = this.#countBefore(from);
    for (const list of [this.#starts, this.#origins, this.#numbers, this.#times]) list.length = count;
    this.#reached = from;
    this.#isBroken = false;
    this.#all = this.#base.set.clone();
    for (let i = 0; i < count; i++) this.#all.addRead(this.#name(i));
    return true;
  }

  /** A position that every transaction of the set is before; undefined if not all of them have been read. */
  locate(set: GtidSet): bigint | undefined {
    if (!set.isWithin(this.#all)) return undefined;
    const oldest = Math.max(0, this.#starts.length - LOCATED_COUNT_MAX);
    for (let i = this.#starts.length - 1; i >= oldest; i--) {
      if (!set.has(this.#name(i))) continue;
      const next = this.#starts[i + 1] ?? this.#reached;
      return next > this.#starts[i]! ? next : undefined;
    }
    return this.#starts[oldest] ?? this.#floor;
  }

  #name(i: number): GtidName {
    return { origin: this.#origins[i]!, number: this.#numbers[i]! };
  }

  #countBefore(position: bigint): number {
    const count = this.#starts.findIndex((start) => start >= position);
    return count < 0 ? this.#starts.length : count;
  }
}

/** By table id, the generation of each name at the last look at the catalogue. */
type KnownGenerations = Readonly<Record<string, string>>;

type StoredPosition = readonly [position: string, set: string, last: SeenTransaction | null];

interface Stored {
  readonly places: readonly StoredPosition[];
  readonly generations: KnownGenerations | null;
}

export class ReadTransactions {
  #known = new Map<bigint, ReadBefore>();
  #main: Trail | undefined;
  /** Trails of streams beside the main one, the newest last. */
  #others: Trail[] = [];
  #generations: KnownGenerations | null = null;
  /** The end of the log before the catalogue was read. */
  #lookedAt = 0n;

  /** Loads what is stored with the log's identity. */
  load(text: string | undefined): void {
    if (text === undefined || this.#known.size > 0) return;
    // Our own text.
    const { generations, places: positions }: Stored = JSON.parse(text);
    this.#generations = generations;
    this.know(
      positions.map(([position, set, last]) => [BigInt(position), { set: GtidSet.parse(set) ?? new GtidSet(), last }]),
    );
  }

  get text(): string {
    const positions = [...this.#known].map(([position, { last, set }]): StoredPosition => [
      String(position),
      set.toString(),
      last,
    ]);
    return JSON.stringify({ places: positions, generations: this.#generations } satisfies Stored);
  }

  get isEmpty(): boolean {
    return this.#known.size === 0 && this.#main === undefined;
  }

  get positions(): Iterable<bigint> {
    return this.#known.keys();
  }

  get generations(): KnownGenerations | null {
    return this.#generations;
  }

  /** Replaces everything that was known: another log begins. */
  begin(positions: Iterable<readonly [bigint, ReadBefore]>, generations: KnownGenerations): void {
    this.#known.clear();
    this.#others = [];
    this.#main = undefined;
    this.#generations = generations;
    this.know(positions);
  }

  know(positions: Iterable<readonly [bigint, ReadBefore]>): void {
    for (const [position, read] of positions) this.#known.set(position, read);
  }

  at(position: bigint): ReadBefore | undefined {
    const known = this.#known.get(position);
    if (known !== undefined) return known;
    for (const trail of [this.#main, ...this.#others.toReversed()]) {
      const read = trail?.at(position);
      if (read !== undefined) return read;
    }
    return undefined;
  }

  /** See `Trail.locate`; of the stream that all sinks share. */
  locate(set: GtidSet): bigint | undefined {
    return this.#main?.locate(set);
  }

  /** The highest known position at or before this one. */
  before(position: bigint): readonly [bigint, ReadBefore] | undefined {
    const exact = this.at(position);
    if (exact !== undefined) return [position, exact];
    return [...this.#known].filter(([known]) => known < position).toSorted(([a], [b]) => Number(b - a))[0];
  }

  /** For a stream that begins there; undefined if what is before it is unknown. */
  trail(from: bigint, isMain: boolean): Trail | undefined {
    if (isMain && this.#main?.resume(from) === true) return this.#main;
    const base = this.at(from);
    if (base === undefined) return undefined;
    const trail = new Trail(from, base);
    if (isMain) this.#main = trail;
    else this.#others = [...this.#others.slice(1 - OTHERS_COUNT_MAX), trail];
    return trail;
  }

  /** From here on these positions are known, and those of the previous call. */
  keep(positions: readonly bigint[], before: readonly bigint[]): void {
    // Before anything is read nothing new is known, and nothing is forgotten.
    if (this.#main === undefined) return;
    const known = new Map<bigint, ReadBefore>();
    for (const position of [...before, ...positions]) {
      const read = this.at(position);
      if (read !== undefined) known.set(position, read);
    }
    const moving = positions.filter((position) => !this.#known.has(position)).toSorted((a, b) => Number(a - b));
    this.#known = known;
    if (moving[0] !== undefined) for (const trail of [this.#main, ...this.#others]) trail.fold(moving[0]);
  }

  /** The catalogue was read; before that, the log had reached `tip`. */
  looked(generations: ReadonlyMap<string, string>, tip: bigint): void {
    this.#generations = Object.fromEntries(generations);
    this.#lookedAt = tip;
  }

  /** A statement that creates, alters or drops something: what was seen of the catalogue before is no longer certain. */
  defined(position: bigint): void {
    if (position >= this.#lookedAt) this.#generations = null;
  }
}
