import type { KeyText } from "../../core/contracts/row-reads.ts";
import type { Finding } from "./judge.ts";

/** A key that needs another look. */
export interface Suspect {
  readonly key: KeyText;
  /** Whether a row of the source was met under it that is not counted as compared yet. */
  readonly isMet: boolean;
  readonly isRepaired: boolean;
  /** How it differed at the last look; null: it had no look yet, or it moved. */
  finding: Finding | null;
  looks: number;
  /** The last position at which the sink held what the source's log says. */
  equalAt: string | null;
  /** Since when the sink waits for this row at each look. */
  awaitedSinceMs: number | null;
}

export function suspectOf(
  key: KeyText,
  { isMet = false, isRepaired = false, finding = null, equalAt = null }: Partial<Omit<Suspect, "key">>,
): Suspect {
  const looks = finding === null && equalAt === null ? 0 : 1;
  return { key, isMet, isRepaired, finding, looks, equalAt, awaitedSinceMs: null };
}
