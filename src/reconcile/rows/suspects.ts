import type { Clock } from "../../core/clock.ts";
import type { DriftCause } from "../../core/contracts/reconciliation.ts";
import type { KeyText } from "../../core/contracts/row-reads.ts";
import type { Findings } from "./findings.ts";
import { type Finding, isSame } from "./judge.ts";
import type { Look } from "./look.ts";
import { type Suspect, suspectOf } from "./suspect.ts";

type Entry = readonly [id: string, suspect: Suspect];

/** What one look at a batch of suspects has shown. */
export interface Looked {
  readonly look: Look;
  /** See `ComparedPlace.at`. */
  readonly at: string | null;
  /** Of the batch, by place: the sink waits for the row. */
  readonly isAwaited: (i: number) => boolean;
  /** Ids of rows that wait as dead letters. */
  readonly refused: ReadonlySet<string>;
}

/** What came of a look at a suspect. */
type Verdict = "settled" | "again" | "moved" | "repair";

/** A row that the source never told, and that never was as its log says, is given up, and named. */
const LOOKS_MAX = 30;
/** So often a row that moves all the time is looked at, each time equal to what the log says, until that is taken for it. */
const LOOKS_MOVING = 3;
/** What is read of such a row at the source has no effect. */
const KEPT_OUT: ReadonlySet<DriftCause> = new Set(["beyond-log", "beyond-epochs"]);
/** Of more differences than these some may be counted twice. */
const FOUND_MAX = 200_000;

export interface SuspectsParts {
  readonly clock: Clock;
  readonly patienceMs: number;
  readonly repairs: boolean;
}

/** The keys of one table in one sink that are looked at until they are equal, or have differed in the same way twice. */
export class Suspects {
  readonly #clock: Clock;
  readonly #patienceMs: number;
  readonly #repairs: boolean;
  readonly #open = new Map<string, Suspect>();
  /** Ids of what was found, so that nothing counts twice. */
  readonly #known = new Set<string>();

  constructor({ clock, patienceMs, repairs }: SuspectsParts) {
    this.#clock = clock;
    this.#patienceMs = patienceMs;
    this.#repairs = repairs;
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

  /** What a look has found, or another process. */
  put(id: string, suspect: Suspect): void {
    this.#open.set(id, suspect);
  }

  /** Nothing changes for a key that is one, or was found. */
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

  /** Counts what is settled. Returns the keys to repair, and whether any of the batch rests. */
  looked(batch: readonly Entry[], looked: Looked, findings: Findings): { repair: readonly KeyText[]; rested: boolean } {
    const verdicts = batch.map(([id, suspect], i) => {
      // To the end of the line, so that others get their turn.
      this.#open.delete(id);
      const verdict = looked.isAwaited(i)
        ? this.#awaited(id, suspect, looked.look, findings)
        : this.#verdict(id, suspect, looked, findings);
      if (verdict === "again" || verdict === "moved") this.#open.set(id, suspect);
      return verdict;
    });
    const repair = batch.filter((_, i) => verdicts[i] === "repair").map(([, { key }]) => key);
    return { repair, rested: verdicts.some((verdict) => verdict !== "moved") };
  }

  /** The sink waits for the row: what it holds now says nothing, unless it is right already. */
  #awaited(id: string, suspect: Suspect, { equal }: Look, findings: Findings): Verdict {
    if (equal.has(id)) return settled(suspect, findings);
    suspect.finding = null;
    suspect.awaitedSinceMs ??= this.#clock.elapsed();
    if (this.#clock.elapsed() - suspect.awaitedSinceMs <= this.#patienceMs) return "moved";
    findings.unsettled++;
    return "settled";
  }

  #verdict(id: string, suspect: Suspect, { look, at, refused }: Looked, findings: Findings): Verdict {
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
      if (!suspect.isRepaired) findings.deadLetters++;
      if (suspect.isMet) findings.compared++;
      return "settled";
    }
    if (finding !== null && isSame(suspect.finding, finding)) return this.#found(id, suspect, finding, findings);
    if (suspect.looks >= LOOKS_MAX) return givenUp(suspect, findings);
    suspect.finding = finding;
    return finding === null ? "moved" : "again";
  }

  /** It differs the same way at two places. What is repaired is looked at until it is equal, or twice again. */
  #found(id: string, { key, isMet, isRepaired }: Suspect, finding: Finding, findings: Findings): Verdict {
    if (isRepaired) {
      findings.addKeptOut();
      return "settled";
    }
    if (this.#known.size < FOUND_MAX) this.#known.add(id);
    if (isMet) findings.compared++;
    findings.add(key, finding);
    if (!this.#repairs || KEPT_OUT.has(finding.why)) return "settled";
    this.#open.set(id, suspectOf(key, { isRepaired: true }));
    return "repair";
  }
}

function settled({ isRepaired, isMet }: Suspect, findings: Findings): Verdict {
  if (isRepaired) findings.repaired++;
  else if (isMet) findings.compared++;
  return "settled";
}

function givenUp({ key, equalAt }: Suspect, findings: Findings): Verdict {
  if (equalAt === null) findings.unsettled++;
  else findings.addMoving(key, equalAt);
  return "settled";
}
