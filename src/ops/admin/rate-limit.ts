import type { Clock } from "../../core/clock.ts";

/** A page that asks every two seconds takes two of them. */
export const REQUESTS_PER_SECOND = 20;
/** What an address may send at once. */
export const REQUESTS_AT_ONCE = 400;
/** So many addresses are remembered; the one that was first seen is forgotten first. */
const ADDRESSES_MAX = 10_000;

interface Bucket {
  left: number;
  atMs: number;
}

/** How many requests an address may send: a bucket of tokens for each, filled again all the time. */
export class RateLimit {
  readonly #clock: Pick<Clock, "elapsed">;
  readonly #buckets = new Map<string, Bucket>();

  constructor(clock: Pick<Clock, "elapsed">) {
    this.#clock = clock;
  }

  /** Takes one request: 0 if it may pass, else the seconds until the next one may. */
  waitSeconds(address: string): number {
    const bucket = this.#bucketOf(address);
    if (bucket.left < 1) return Math.ceil((1 - bucket.left) / REQUESTS_PER_SECOND);
    bucket.left--;
    return 0;
  }

  /** Makes the address pay for more than one request. */
  charge(address: string, requests: number): void {
    this.#bucketOf(address).left -= requests;
  }

  #bucketOf(address: string): Bucket {
    const nowMs = this.#clock.elapsed();
    const known = this.#buckets.get(address);
    if (known !== undefined) {
      const gained = ((nowMs - known.atMs) / 1000) * REQUESTS_PER_SECOND;
      known.left = Math.min(REQUESTS_AT_ONCE, known.left + gained);
      known.atMs = nowMs;
      return known;
    }
    const first = this.#buckets.keys().next();
    if (this.#buckets.size >= ADDRESSES_MAX && first.done !== true) this.#buckets.delete(first.value);
    const fresh: Bucket = { left: REQUESTS_AT_ONCE, atMs: nowMs };
    this.#buckets.set(address, fresh);
    return fresh;
  }
}
