import { isLongForm } from "./service-suffixes.ts";

/** A small seeded generator (mulberry32), so that a failing run can be repeated by its printed seed. */
export class Random {
  readonly seed: number;
  #state: number;

  constructor(seed: number) {
    this.seed = seed;
    this.#state = seed >>> 0;
  }

  /** In [0, 1). */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  }

  /** An integer in [0, below). */
  below(limit: number): number {
    return Math.floor(this.next() * limit);
  }

  chance(probability: number): boolean {
    return this.next() < probability;
  }

  pick<T>(items: readonly T[]): T {
    const item = items[this.below(items.length)];
    if (item === undefined) throw new Error("nothing to pick from");
    return item;
  }

  /** A third of them in the short form of a run, so that every few runs have tried each; all in the long form. */
  some<T>(items: readonly T[]): readonly T[] {
    const left = [...items];
    const count = isLongForm() ? items.length : Math.ceil(items.length / 3);
    while (left.length > count) left.splice(this.below(left.length), 1);
    return left;
  }

  /** Text that does not compress, so that long ones are stored out of line. */
  text(length: number): string {
    const alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 äöü€\n\t'\"\\";
    let result = "";
    for (let i = 0; i < length; i++) result += alphabet[this.below(alphabet.length)];
    return result;
  }
}

export const SEED_VARIABLE = "MILLRACE_TEST_SEED";

/** The seed of this run, printed: another one each time unless the environment gives it, as the default suite does. */
export function testSeed(): number {
  const given = process.env[SEED_VARIABLE];
  const seed = given === undefined || given === "" ? Math.floor(Math.random() * 1_000_000) : Number(given);
  process.stdout.write(`seed ${seed}; the same again: ${SEED_VARIABLE}=${seed}\n`);
  return seed;
}
