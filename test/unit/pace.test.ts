/** How much of what was left is listed before a change of another document: by what sinks take, and not by a number. */
import { expect, test } from "vitest";
import { Pace } from "../../connectors/nest/pace.ts";

class Sinks {
  readonly pace = new Pace();
  #passed = 0n;
  #atMs = 0;

  constructor() {
    this.pace.seen(this.#passed, this.#atMs);
  }

  /** So many pieces, at so many entries a second. Returns the count of the next one. */
  take(pieces: number, perSecond: number): number {
    for (let i = 0; i < pieces; i++) {
      this.#passed += BigInt(this.pace.count);
      this.#atMs += (this.pace.count * 1000) / perSecond;
      this.pace.seen(this.#passed, this.#atMs);
    }
    return this.pace.count;
  }

  /** Nothing is passed for so long. */
  wait(ms: number): number {
    return this.pace.seen(this.#passed, (this.#atMs += ms));
  }
}

test("what sinks take in a quarter of a second, within bounds", () => {
  expect(new Sinks().take(50, 20_000)).toBe(1_000);
  expect(new Sinks().take(50, 2_000)).toBe(500);
  expect(new Sinks().take(50, 100)).toBe(200);
});

test("sinks that become faster get more again, and one moment tells nothing", () => {
  const sinks = new Sinks();
  expect(sinks.take(3, 100)).toBe(200);
  expect(sinks.take(100, 20_000)).toBe(1_000);
  expect(sinks.wait(10_000)).toBe(1_000);
  expect(new Pace().seen(null, 0)).toBe(1_000);
});
