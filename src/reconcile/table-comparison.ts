import { setTimeout as sleep } from "node:timers/promises";
import type { ComparedPlace, ComparedSlice, ComparePort, Inspection, StoredRow } from "../core/comparing.ts";
import { findMillraceError } from "../core/errors.ts";
import type { TableVersion } from "../core/schema.ts";
import type { KeyText } from "../core/source.ts";
import { NotComparableError, SourceAwayError } from "./errors.ts";
import { Findings } from "./findings.ts";
import { type KeptTable, withoutValues } from "./kept.ts";
import { expectedCells, type Finding, isSame, judge, type SourceRow, wantedRows, withValues } from "./judge.ts";
import { KeyBuckets, KeyHashes } from "./key-buckets.ts";
import { partOf } from "./rotation.ts";
import { bytesOf, notEqual, storedRows } from "./stored-rows.ts";

export interface TableComparisonParts {
  readonly port: ComparePort;
  readonly inspection: Inspection;
  readonly table: TableVersion;
  readonly sink: string;
  readonly patienceMs: number;
  /** Whether rows that differ are read again from the source. */
  readonly repairs: boolean;
  readonly sampleMax: number;
  readonly showsValues: boolean;
  /** The part of the rows whose values are compared (rotation.ts); null: all of them. */
  readonly part: number | null;
  /** A walk of another process that is gone on with. */
  readonly resumed: KeptTable | null;
  /** How far a sink is behind, for people. */
  readonly lag: (sink: string) => Promise<string>;
}

/** A key that has to be looked at again. */
interface Suspect {
  readonly key: KeyText;
  /** How it differed when it was looked at last; null: it was not, or it moved. */
  finding: Finding | null;
  looks: number;
  /** Since when the sink waits for it at each look. */
  awaitedSinceMs: number | null;
  readonly isRepaired: boolean;
}

/** What came of a look at a suspect. */
type Verdict = "settled" | "moved" | "repair";

/** `keys`: a second walk, for keys that the sink may lack and whose rows were not compared in the first. */
type Purpose = "walk" | "keys" | "settle";

/** What the slices of one place show, kept until it counts. */
export interface Look {
  readonly purpose: Purpose;
  /** Of all rows of the source. */
  readonly keys: KeyHashes;
  compared: number;
  sourceBytes: number;
  sinkBytes: number;
  /** Whether the row is among them up to which another process has compared. */
  isAtResumed: boolean;
  readonly suspects: Map<string, Suspect>;
  /** While suspects are settled: of a whole chunk there would be many. */
  readonly equal: Set<string>;
  readonly judged: Map<string, Finding>;
}

const KEYS_PER_LOOK = 1_000;
/** Keys that wait for their second look: beyond it they get it before more is read. */
const SUSPECTS_MAX = 20_000;
/** A row that moved each time is given up, and named. */
const LOOKS_MAX = 30;
/** Of more differences than these some may be counted twice. */
const FOUND_MAX = 200_000;
/** With more differences, or rows to look at again, a table is begun again by who resumes. */
const KEPT_MAX = 10_000;
const AGAIN_MS = 100;
const IN_TIME = { reason: "its rows could not be compared in time", isWhole: true } as const;
/** Buckets of a small table, and of one that does not end with its first chunk. */
const BITS_SMALL = 12;
const BITS_LARGE = 20;

/**
 * One table in one sink. The source's rows are walked in key order and compared where they lie in the log; what differs
 * there, or moved, is looked at again at a later place, and counts when it differs the same way at two. Keys that only the
 * sink has are found by buckets and go the same way.
 */
export class TableComparison {
  findings: Findings;
  readonly sink: string;
  readonly #parts: TableComparisonParts;
  readonly #suspects = new Map<string, Suspect>();
  #buckets: KeyBuckets | null = null;
  #cursor: KeyText | null = null;
  #isWalked = false;
  #walksFor: "walk" | "keys" = "walk";
  /** Ids of what was found, so that nothing counts twice. */
  readonly #known = new Set<string>();
  /** Up to this row another process has compared: these rows are met, and not compared again. */
  #resumedAt: string | null = null;
  /** Since when no place counted. */
  #stuckSinceMs: number | null = null;

  constructor(parts: TableComparisonParts) {
    this.#parts = parts;
    this.sink = parts.sink;
    this.findings = new Findings(parts.table, parts.sink, parts.sampleMax);
    const { resumed, table, inspection } = parts;
    if (resumed === null || resumed.fingerprint !== table.fingerprint) return;
    this.#resumedAt = resumed.lastId;
    this.findings.goOn(resumed.counts, resumed.sample);
    for (const id of resumed.known) this.#known.add(id);
    for (const [key, isRepaired] of resumed.suspects)
      this.#suspects.set(inspection.id(table, key), { ...suspectOf(key), isRepaired });
  }

  /** Where another process would go on; null: not here. */
  get kept(): KeptTable | null {
    const { table, sink, inspection } = this.#parts;
    const isKept = this.#walksFor === "walk" && this.#cursor !== null && this.#resumedAt === null;
    if (!isKept || this.#known.size + this.#suspects.size > KEPT_MAX) return null;
    const { counts, sample } = this.findings.kept;
    return {
      table: table.id,
      sink,
      fingerprint: table.fingerprint,
      lastId: inspection.id(table, this.#cursor!),
      counts,
      sample: sample.map(withoutValues),
      suspects: [...this.#suspects.values()].map(({ key, isRepaired }) => [key, isRepaired]),
      known: [...this.#known],
    };
  }

  /** Rows behind it have not been walked yet. */
  get cursor(): KeyText | null {
    return this.#cursor;
  }

  get isWalked(): boolean {
    return this.#isWalked;
  }

  /** Whether rows may be read before those in front of them were compared. */
  get mayReadAhead(): boolean {
    return this.#resumedAt === null && this.#suspects.size < SUSPECTS_MAX;
  }

  /** For one place of the walk. */
  look(): Look {
    return lookFor(this.#walksFor);
  }

  /** Compares a slice at its place. Reads the sink; changes nothing but the look. */
  async compare(look: Look, slice: ComparedSlice, signal: AbortSignal): Promise<void> {
    const { inspection, table } = this.#parts;
    const wanted = wantedRows(inspection, table, slice, (id) => this.#isWanted(look, id));
    if (look.purpose === "keys") {
      for (const { id, key } of wanted) look.suspects.set(id, suspectOf(key));
      return;
    }
    // What differed is looked at by the longer way.
    const { left, byteCount } =
      look.purpose === "walk"
        ? await notEqual(inspection, table, slice, wanted, signal)
        : { left: wanted, byteCount: 0 };
    look.compared += wanted.length - left.length;
    for (const row of wanted) look.sourceBytes += row.byteCount;
    look.sinkBytes += byteCount;
    const there = new Set(left.filter(({ isThere }) => isThere).map(({ id }) => id));
    // A listed key in another spelling of the row's own is the row.
    const judged = left.filter(({ id, isThere }) => isThere || !there.has(id));
    for await (const { rows, stored } of storedRows(inspection, table, judged, signal)) {
      this.#judge(look, slice, rows, stored);
    }
  }

  #judge(look: Look, slice: ComparedSlice, rows: readonly SourceRow[], stored: readonly StoredRow[]): void {
    const { inspection, table, showsValues } = this.#parts;
    look.sinkBytes += bytesOf(stored);
    const byId = new Map(stored.map((row) => [row.id, row]));
    for (const { row, id, key, isThere } of rows) {
      look.compared++;
      const cells = isThere ? expectedCells(inspection, table, slice.block, row) : null;
      const found = byId.get(id);
      const finding = judge(table, { cells }, found, slice.versionMax);
      if (finding === null) {
        if (look.purpose === "settle") look.equal.add(id);
      } else {
        look.judged.set(id, showsValues ? withValues(table, { cells }, found, finding) : finding);
        look.suspects.set(id, { ...suspectOf(key), finding, looks: 1 });
      }
    }
  }

  #isWanted(look: Look, id: string): boolean {
    if (look.purpose === "settle") return true;
    if (look.purpose === "keys") return this.#buckets!.isUneven(id);
    look.keys.add(id);
    if (this.#resumedAt !== null && !look.isAtResumed) {
      look.isAtResumed = id === this.#resumedAt;
      return false;
    }
    return this.#parts.part === null || partOf(id) === this.#parts.part;
  }

  /** A place of the walk has ended: its rows count, if it does. */
  async walked(look: Look, { last, aside, outcomes }: ComparedPlace, signal: AbortSignal): Promise<void> {
    const { inspection, table } = this.#parts;
    if (!(await this.#counts(outcomes.get(this.sink), signal))) return;
    if (look.purpose === "keys") {
      for (const [id, { key }] of look.suspects) this.#suspect(id, key);
    } else {
      this.#buckets ??= new KeyBuckets(last === null ? BITS_SMALL : BITS_LARGE);
      this.#buckets.ofSource(look.keys);
      this.findings.sourceRows += look.keys.count + aside.length;
      this.findings.compared += look.compared;
      this.findings.sourceBytes += look.sourceBytes;
      this.findings.sinkBytes += look.sinkBytes;
      for (const [id, suspect] of look.suspects) this.#suspects.set(id, suspect);
    }
    for (const key of aside) this.#suspect(inspection.id(table, key), key);
    if (look.isAtResumed) this.#resumedAt = null;
    this.#cursor = last;
    this.#isWalked = last === null;
    // The row is gone by now: nobody can tell what lies behind it.
    if (this.#isWalked && this.#resumedAt !== null) this.#beginAgain();
    if (this.#suspects.size >= SUSPECTS_MAX) await this.settle(signal);
  }

  #beginAgain(): void {
    const { table, sink, sampleMax } = this.#parts;
    this.findings = new Findings(table, sink, sampleMax);
    this.#resumedAt = null;
    this.#isWalked = false;
    this.#buckets = null;
    this.#known.clear();
    this.#suspects.clear();
  }

  /** Looks for rows that only the sink has. Behind the walk; where values were not all compared there may be another. */
  async findExtra(signal: AbortSignal): Promise<void> {
    const { inspection, table } = this.#parts;
    const buckets = this.#buckets!;
    for await (const keys of inspection.keys(table, signal)) {
      for (const { id, key } of keys) {
        if (key === null) this.findings.addForeign(id);
        else buckets.ofSink(id);
      }
      this.findings.sinkRows += keys.length;
    }
    if (buckets.allEven) return;
    for await (const keys of inspection.keys(table, signal)) {
      for (const { id, key } of keys) if (key !== null && buckets.isUneven(id)) this.#suspect(id, key);
      if (this.#suspects.size >= SUSPECTS_MAX) await this.settle(signal);
    }
    if (this.#parts.part === null) return;
    this.#walksFor = "keys";
    this.#cursor = null;
    this.#isWalked = false;
  }

  /** Looks at every suspect until it is equal, or has differed in the same way twice. */
  async settle(signal: AbortSignal): Promise<void> {
    const { port, table, sink, patienceMs } = this.#parts;
    while (this.#suspects.size > 0) {
      const batch = [...this.#suspects].slice(0, KEYS_PER_LOOK);
      const keys = batch.map(([, { key }]) => key);
      // Invariant: who awaits a row at either end of the look may lack a part of it in between.
      const before = await port.awaited(sink, table.id, keys);
      const seen = lookFor("settle");
      const compare = (_: string, slice: ComparedSlice, compared: AbortSignal) => this.compare(seen, slice, compared);
      const request = { table, sinks: [sink], rows: { kind: "keys", keys }, patienceMs, compare } as const;
      const place = await port.at(request, signal);
      this.#expectTable();
      if (!(await this.#counts(place.outcomes.get(sink), signal))) continue;
      const after = await port.awaited(sink, table.id, keys);
      const refused = await this.#refusedIds(seen);
      const looked = batch.map(([id, suspect], i) => {
        if (before.has(i) || after.has(i)) return this.#awaited(id, suspect, seen);
        return this.#looked(id, suspect, seen, refused);
      });
      await this.#repair(batch.filter((_, i) => looked[i] === "repair").map(([, { key }]) => key));
      if (looked.every((what) => what === "moved")) await sleep(AGAIN_MS, undefined, { signal });
    }
  }

  /** Ids of rows that wait as dead letters. */
  async #refusedIds({ judged }: Look): Promise<ReadonlySet<string>> {
    const { port, inspection, table, sink } = this.#parts;
    if (judged.size === 0) return new Set();
    return new Set((await port.refused(sink, table.id)).map((key) => inspection.id(table, key)));
  }

  /** The sink waits for the row: what it holds now says nothing, unless it is right already. */
  #awaited(id: string, suspect: Suspect, { equal }: Look): Verdict {
    this.#suspects.delete(id);
    if (equal.has(id)) return this.#mended(suspect);
    suspect.finding = null;
    suspect.awaitedSinceMs ??= performance.now();
    if (performance.now() - suspect.awaitedSinceMs > this.#parts.patienceMs) return this.#givenUp();
    this.#suspects.set(id, suspect);
    return "moved";
  }

  #looked(id: string, suspect: Suspect, seen: Look, refused: ReadonlySet<string>): Verdict {
    // To the end of the line, so that others get their turn.
    this.#suspects.delete(id);
    if (seen.equal.has(id)) return this.#mended(suspect);
    const finding = seen.judged.get(id) ?? null;
    if (finding !== null && refused.has(id)) {
      if (!suspect.isRepaired) this.findings.deadLetters++;
      return "settled";
    }
    if (finding !== null && isSame(suspect.finding, finding)) return this.#found(id, suspect, finding);
    if (++suspect.looks > LOOKS_MAX) return this.#givenUp();
    suspect.finding = finding;
    suspect.awaitedSinceMs = null;
    this.#suspects.set(id, suspect);
    return finding === null ? "moved" : "settled";
  }

  /** It differs the same way at two places. What is repaired is looked at until it is equal, or twice again. */
  #found(id: string, suspect: Suspect, finding: Finding): Verdict {
    if (suspect.isRepaired) return "settled";
    if (this.#known.size < FOUND_MAX) this.#known.add(id);
    this.findings.add(suspect.key, finding);
    if (!this.#parts.repairs) return "settled";
    this.#suspects.set(id, { ...suspectOf(suspect.key), isRepaired: true });
    return "repair";
  }

  #mended({ isRepaired }: Suspect): Verdict {
    if (isRepaired) this.findings.repaired++;
    return "settled";
  }

  #givenUp(): Verdict {
    this.findings.unsettled++;
    return "settled";
  }

  async #repair(keys: readonly KeyText[]): Promise<void> {
    const { port, sink, table } = this.#parts;
    if (keys.length > 0) await port.repair(sink, table, keys);
  }

  #suspect(id: string, key: KeyText): void {
    if (this.#suspects.has(id) || this.#known.has(id)) return;
    this.#suspects.set(id, suspectOf(key));
  }

  #expectTable(): void {
    const { port, table } = this.#parts;
    if (!port.tables.includes(table)) throw new NotComparableError("its shape changed while it was compared");
  }

  /** Whether the place counts. One that has to be repeated waits a moment, for as long as patience lasts. */
  async #counts(outcome: ReturnType<ComparedPlace["outcomes"]["get"]>, signal: AbortSignal): Promise<boolean> {
    const { port, table, sink, patienceMs, lag } = this.#parts;
    if (outcome?.kind === "compared") {
      this.#stuckSinceMs = null;
      return true;
    }
    this.#stuckSinceMs ??= performance.now();
    const isSpent = performance.now() - this.#stuckSinceMs > patienceMs;
    if (isSpent && outcome?.kind === "away") throw new SourceAwayError(messageOf(outcome.error));
    if (isSpent || outcome?.kind === "late") {
      const { reason, isWhole } = port.unready(sink, table) ?? IN_TIME;
      const failed = outcome?.kind === "failed" ? `: ${messageOf(outcome.error)}` : "";
      throw new NotComparableError(`${reason}${failed}; ${await lag(sink)}`, isWhole);
    }
    await sleep(AGAIN_MS, undefined, { signal });
    return false;
  }
}

function lookFor(purpose: Purpose): Look {
  return {
    purpose,
    keys: new KeyHashes(),
    compared: 0,
    sourceBytes: 0,
    sinkBytes: 0,
    isAtResumed: false,
    suspects: new Map(),
    equal: new Set(),
    judged: new Map(),
  };
}

function suspectOf(key: KeyText): Suspect {
  return { key, finding: null, looks: 0, awaitedSinceMs: null, isRepaired: false };
}

function messageOf(error: unknown): string {
  const known = findMillraceError(error);
  if (known !== undefined) return `${known.code} ${known.message}`;
  return error instanceof Error ? error.message : String(error);
}
