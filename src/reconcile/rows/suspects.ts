import type { Clock } from "../../core/clock.ts";
import type { DriftCause } from "../../core/contracts/reconciliation.ts";
import type { KeyText } from "../../core/contracts/row-reads.ts";
import type { Findings } from "./findings.ts";
import { type Finding, isSame } from "./judge.ts";
import { KeyHashes } from "./key-buckets.ts";

type Entry = readonly [id: string, suspect: Suspect];

/** The result of one look at a batch of suspects. */
interface SuspectLook {
  readonly look: Look;
  /** See `ComparedPlace.at`. */
  readonly at: string | null;
  /** By index in the batch: the sink waits for the row. */
  readonly isAwaited: (i: number) => boolean;
  /** Ids of rows that wait as dead letters. */
  readonly refused: ReadonlySet<string>;
}

type LookResult = "settled" | "again" | "moved" | "repair";

/**
 * After this many looks a row is reported as undecided: the source never held it still, and it never equalled the log.
 */
const LOOKS_MAX = 30;
/** A row that moves all the time counts as equal after this many looks that matched the log. */
const LOOKS_MOVING = 3;
/** Reading such a row again at the source has no effect. */
const KEPT_OUT: ReadonlySet<DriftCause> = new Set(["beyond-log", "beyond-epochs"]);
/** With more differences than this, some may be counted twice. */
const FOUND_MAX = 200_000;

interface SuspectsParts {
  readonly clock: Clock;
  readonly patienceMs: number;
  readonly repairs: boolean;
}

/**
 * The keys of one table in one sink that get further looks until they are equal, or have differed twice in the same
 * way.
 */
export class Suspects {
  readonly #parts: SuspectsParts;
  readonly #open = new Map<string, Suspect>();
  /** Ids of findings, so that none counts twice. */
  readonly #known = new Set<string>();

  constructor(parts: SuspectsParts) {
    this.#parts = parts;
  }

  get size(): number {
    return this.#open.size;
  }

  get known(): readonly string[] {
    return [...this.#known];
  }

  get knownCount(): number {
    return this.#known.size;
  }

  get all(): readonly Suspect[] {
    return [...this.#open.values()];
  }

  next(count: number): readonly Entry[] {
    return [...this.#open].slice(0, count);
  }

  /** Adds a suspect that a look, or another process, has found. */
  put(id: string, suspect: Suspect): void {
    this.#open.set(id, suspect);
  }

  /** Adds a key, unless it is a suspect or a finding already. */
  add(id: string, key: KeyText, isMet: boolean): void {
    if (!this.#open.has(id) && !this.#known.has(id)) this.#open.set(id, suspectOf(key, { isMet }));
  }

  markKnown(ids: Iterable<string>): void {
    for (const id of ids) this.#known.add(id);
  }

  clear(): void {
    this.#open.clear();
    this.#known.clear();
  }

  /** Counts settled suspects. Returns the keys to repair, and whether any suspect of the batch came to rest. */
  looked(
    batch: readonly Entry[],
    looked: SuspectLook,
    findings: Findings,
  ): { repair: readonly KeyText[]; rested: boolean } {
    const verdicts = batch.map(([id, suspect], i) => {
      // Moves it to the end of the line, so that others get their turn.
      this.#open.delete(id);
      const verdict = looked.isAwaited(i)
        ? this.#awaited(id, suspect, looked.look, findings)
        : this.#lookResult(id, suspect, looked, findings);
      if (verdict === "again" || verdict === "moved") this.#open.set(id, suspect);
      return verdict;
    });
    const repair = batch.filter((_, i) => verdicts[i] === "repair").map(([, { key }]) => key);
    return { repair, rested: verdicts.some((verdict) => verdict !== "moved") };
  }

  /** The sink waits for the row, so what it holds now proves nothing, unless it is already right. */
  #awaited(id: string, suspect: Suspect, { equal }: Look, findings: Findings): LookResult {
    if (equal.has(id)) return settled(suspect, findings);
    suspect.finding = null;
    suspect.awaitedSinceMs ??= this.#parts.clock.elapsed();
    if (this.#parts.clock.elapsed() - suspect.awaitedSinceMs <= this.#parts.patienceMs) return "moved";
    findings.counts.unsettled++;
    return "settled";
  }

  #lookResult(id: string, suspect: Suspect, { look, at, refused }: SuspectLook, findings: Findings): LookResult {
    suspect.awaitedSinceMs = null;
    suspect.looks++;
    if (look.equal.has(id)) return settled(suspect, findings);
    if (look.equalByLog.has(id)) {
      suspect.equalAt = at;
      suspect.finding = null;
      if (suspect.isRepaired) return settled(suspect, findings);
      return suspect.looks < LOOKS_MOVING ? "again" : givenUp(suspect, findings);
    }
    const finding = look.judged.get(id) ?? null;
    if (finding !== null && refused.has(id)) {
      if (!suspect.isRepaired) findings.counts.deadLetters++;
      if (suspect.isMet) findings.counts.compared++;
      return "settled";
    }
    if (finding !== null && isSame(suspect.finding, finding)) return this.#found(id, suspect, finding, findings);
    if (suspect.looks >= LOOKS_MAX) return givenUp(suspect, findings);
    suspect.finding = finding;
    return finding === null ? "moved" : "again";
  }

  /**
   * The row differs the same way at two positions. A repaired row gets further looks until it is equal, or differs
   * twice again.
   */
  #found(id: string, { key, isMet, isRepaired }: Suspect, finding: Finding, findings: Findings): LookResult {
    if (isRepaired) {
      findings.addKeptOut();
      return "settled";
    }
    if (this.#known.size < FOUND_MAX) this.#known.add(id);
    if (isMet) findings.counts.compared++;
    findings.add(key, finding);
    if (!this.#parts.repairs || KEPT_OUT.has(finding.why)) return "settled";
    this.#open.set(id, suspectOf(key, { isRepaired: true }));
    return "repair";
  }
}

function settled({ isRepaired, isMet }: Suspect, findings: Findings): LookResult {
  if (isRepaired) findings.counts.repaired++;
  else if (isMet) findings.counts.compared++;
  return "settled";
}

function givenUp({ key, equalAt }: Suspect, findings: Findings): LookResult {
  if (equalAt === null) findings.counts.unsettled++;
  else findings.addMoving(key, equalAt);
  return "settled";
}

/** A key that needs another look. */
interface Suspect {
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
  { isMet = false, isRepaired = false }: Partial<Pick<Suspect, "isMet" | "isRepaired">>,
): Suspect {
  return { key, isMet, isRepaired, finding: null, looks: 0, equalAt: null, awaitedSinceMs: null };
}

/** `keys`: a second walk, for keys that the sink may lack and whose rows the first walk did not compare. */
type Purpose = "walk" | "keys" | "settle";

/** The findings of the slices at one position, kept until the position counts. */
export class Look {
  readonly purpose: Purpose;
  /** When it began. */
  readonly at: string;
  /** The keys of all rows of the source. */
  readonly keys = new KeyHashes();
  compared = 0;
  sourceBytes = 0;
  sinkBytes = 0;
  /** Whether it contains the last row that another process compared. */
  isAtResumed = false;
  /** Rows that another process compared. */
  passed = 0;
  /** Of `TableComparisonParts.marks`: those that the walk has come by. */
  readonly met = new Set<string>();
  readonly suspects = new Map<string, Suspect>();
  /** Ids that exist; only while suspects are checked, because a whole chunk would have many. */
  readonly there = new Set<string>();
  readonly equal = new Set<string>();
  /** See `ComparedSlice.isByLog`. */
  readonly equalByLog = new Set<string>();
  readonly judged = new Map<string, Finding>();

  constructor(purpose: Purpose, at: string) {
    this.purpose = purpose;
    this.at = at;
  }

  /** A row with this id follows. It replaces what was said about a missing key with the same id. */
  thereIs(id: string): void {
    this.there.add(id);
    this.equal.delete(id);
    this.judged.delete(id);
  }
}
