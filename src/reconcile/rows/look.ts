import type { Finding } from "./judge.ts";
import { KeyHashes } from "./key-buckets.ts";
import type { Suspect } from "./suspect.ts";

/** `keys`: a second walk, for keys that the sink may lack and whose rows were not compared in the first. */
export type Purpose = "walk" | "keys" | "settle";

/** What the slices of one place show, kept until it counts. */
export class Look {
  readonly purpose: Purpose;
  /** Of all rows of the source. */
  readonly keys = new KeyHashes();
  compared = 0;
  sourceBytes = 0;
  sinkBytes = 0;
  /** Whether the row is among them up to which another process has compared. */
  isAtResumed = false;
  readonly suspects = new Map<string, Suspect>();
  /** Ids. While suspects are settled: of a whole chunk there would be many. */
  readonly there = new Set<string>();
  readonly equal = new Set<string>();
  /** See `ComparedSlice.isByLog`. */
  readonly equalByLog = new Set<string>();
  readonly judged = new Map<string, Finding>();

  constructor(purpose: Purpose) {
    this.purpose = purpose;
  }

  /** A row with this id follows: what was said of a key that is not there, and has the same id, does not count. */
  thereIs(id: string): void {
    this.there.add(id);
    this.equal.delete(id);
    this.judged.delete(id);
  }
}
