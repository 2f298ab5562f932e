import type { Finding } from "./judge.ts";
import { KeyHashes } from "./key-buckets.ts";
import type { Suspect } from "./suspect.ts";

/** `keys`: a second walk, for keys that the sink may lack and whose rows the first walk did not compare. */
type Purpose = "walk" | "keys" | "settle";

/** The findings of the slices at one position, kept until the position counts. */
export class Look {
  readonly purpose: Purpose;
  /** The keys of all rows of the source. */
  readonly keys = new KeyHashes();
  compared = 0;
  sourceBytes = 0;
  sinkBytes = 0;
  /** Whether it contains the last row that another process compared. */
  isAtResumed = false;
  /** Of `TableComparisonParts.marks`: those that the walk has come by. */
  readonly met = new Set<string>();
  readonly suspects = new Map<string, Suspect>();
  /** Ids that exist; only while suspects are checked, because a whole chunk would have many. */
  readonly there = new Set<string>();
  readonly equal = new Set<string>();
  /** See `ComparedSlice.isByLog`. */
  readonly equalByLog = new Set<string>();
  readonly judged = new Map<string, Finding>();

  constructor(purpose: Purpose) {
    this.purpose = purpose;
  }

  /** A row with this id follows. It replaces what was said about a missing key with the same id. */
  thereIs(id: string): void {
    this.there.add(id);
    this.equal.delete(id);
    this.judged.delete(id);
  }
}
