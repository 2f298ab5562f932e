import type { KeyText } from "../../core/contracts/row-reads.ts";
import type { Finding } from "./judge.ts";

/** A key that has to be looked at again. */
export interface Suspect {
  readonly key: KeyText;
  /** A row of the source that was met, and is not counted as compared yet. */
  readonly isMet: boolean;
  readonly isRepaired: boolean;
  /** How it differed when it was looked at last; null: it was not, or it moved. */
  finding: Finding | null;
  looks: number;
  /** Where the sink held last what the source's log says. */
  equalAt: string | null;
  /** Since when the sink waits for it at each look. */
  awaitedSinceMs: number | null;
}

export function suspectOf(
  key: KeyText,
  { isMet = false, isRepaired = false, finding = null, equalAt = null }: Partial<Omit<Suspect, "key">>,
): Suspect {
  const looks = finding === null && equalAt === null ? 0 : 1;
  return { key, isMet, isRepaired, finding, looks, equalAt, awaitedSinceMs: null };
}
