import { type Clock, nextTurn, restAfter, timestamp } from "../../core/clock.ts";
import type {
  ComparedPlace,
  ComparedSlice,
  ComparePlace,
  ComparePort,
  Inspection,
  ListedKey,
  SentRows,
  StoredRow,
} from "../../core/contracts/comparing.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import { KeyPace, type KeyText } from "../../core/contracts/row-reads.ts";
import type { ProofLedger, ProofMark } from "../../core/contracts/state-store.ts";
import type { HeldInspection } from "../inspections.ts";
import { NotComparableError, reasonOf, SourceAwayError } from "../errors.ts";
import { Findings, type KeptTable, withoutValues } from "./findings.ts";
import { expectedCells, judge, type SourceRow, wantedRows, withValues } from "./judge.ts";
import { KeyBuckets } from "./key-buckets.ts";
import { Look, suspectOf, Suspects } from "./suspects.ts";
import { partOf } from "./rotation.ts";
import { failedCell, isComputed } from "../../core/model/tuple.ts";
import { isPossibleKey, mayLackKeyDates } from "../../core/model/row-id.ts";

interface TableComparisonParts {
  readonly port: ComparePort;
  readonly inspection: HeldInspection;
  readonly table: TableVersion;
  readonly sink: string;
  readonly clock: Clock;
  readonly patienceMs: number;
  /** Whether differing rows are read again from the source. */
  readonly repairs: boolean;
  readonly sampleMax: number;
  readonly showsValues: boolean;
  /** The part of the rows whose values are compared (rotation.ts); null: all rows. */
  readonly part: number | null;
  /** The unfinished walk of another process, which goes on; null: a new walk. */
  readonly resumed: KeptTable | null;
  /** What the state knew when the comparison began. Default: nobody continues. */
  readonly began?: ProofLedger | undefined;
  /** How far a sink is behind, as text. */
  readonly lag: (sink: string) => Promise<string>;
  /** For one range alone: the key after which it begins; null: the first one. Default: the whole table, range after range. */
  readonly after?: KeyText | null;
  /** Ids of rows whose passing is to be told. */
  readonly marks?: ReadonlySet<string>;
  /** Only keys that the source lacks are differences. Default: whatever differs. */
  readonly isOfKeys?: boolean;
  /** See `ComparePlace`: for looks at suspects. */
  readonly share?: number;
}

/** Limit of keys that wait for a second look: above it they get that look before more rows are read. */
const SUSPECTS_MAX = 20_000;
/** A listing that waits so long for its sink is ended: the sink may wait for what the listing holds open. */
const LISTING_HELD_MS = 30_000;
/** Of a listing beside the stream: the sink may wait for what it holds open. */
const LISTING_RESTS_MS_MAX = 10_000;
/** From batch to batch of a listing, if less was seen of it: the sink may have read ahead. */
const LISTED_MS_MIN = 1;
/** The stream waits for the process while these are counted: most of a millisecond, if their memory is new. */
const KEYS_AT_ONCE = 128;
/** The same of rows. */
const ROWS_PER_TURN = 256;
/** Keys of one look, if the source rests between two. */
const KEYS_PER_LOOK = 256;
/** With more differences or suspects than this, a resumed comparison restarts the table. */
const KEPT_MAX = 10_000;
const AGAIN_MS = 100;
const IN_TIME = { reason: "its rows could not be compared in time", isWhole: true } as const;

/**
 * Compares one table in one sink. It walks through the source's rows in key order, and compares them when the sink has
 * reached their position in the log, beside what the sink applies from there on: a row that is equal then was equal at the
 * position, or has become right since. A row that differs, or moved, gets looks at later positions, at which the sink
 * stands still; it counts if it differs in the same way at two of them. Keys that only the sink has are found by buckets,
 * and get the same looks.
 */
export class TableComparison {
  findings: Findings;
  /** Of `TableComparisonParts.marks`. */
  readonly met = new Set<string>();
  readonly sink: string;
  readonly #parts: TableComparisonParts;
  readonly #suspects: Suspects;
  readonly #keyPace = new KeyPace();
  #buckets = new KeyBuckets();
  #cursor: KeyText | null = null;
  #isWalked = false;
  #walksFor: "walk" | "keys" = "walk";
  /** Another process has compared the rows up to this one: the walk passes them without comparing. */
  #resumedAt: string | null = null;
  /** Since when no position counted. */
  #stuckSinceMs: number | null = null;
  /** The last batch of the sink at which it was read, if somebody may continue. */
  #step = 0;

  constructor(parts: TableComparisonParts) {
    this.#parts = parts;
    this.sink = parts.sink;
    this.findings = new Findings(parts.table, parts.sink, parts.sampleMax);
    this.#suspects = new Suspects(parts);
    this.#cursor = parts.after ?? null;
    const { resumed, table, inspection } = parts;
    this.#noteBatch();
    if (resumed === null) return;
    this.#step = Math.max(this.#step, resumed.mark.step);
    this.#resumedAt = resumed.lastId;
    this.findings.goOn(resumed);
    this.#suspects.markKnown(resumed.known);
    for (const [key, isRepaired, isMet] of resumed.suspects)
      this.#suspects.put(inspection.id(table, key), suspectOf(key, { isRepaired, isMet }));
  }

  /** Undefined: nobody continues. */
  get mark(): ProofMark | undefined {
    const { began } = this.#parts;
    if (began === undefined) return undefined;
    const { since, voided, opening } = began;
    return { since, voided, opening, step: this.#step };
  }

  #noteBatch(): void {
    const { began, port, sink } = this.#parts;
    if (began !== undefined) this.#step = Math.max(this.#step, port.batch(sink) ?? 0);
  }

  /** Where another process would continue; null: this walk can't be continued. */
  get kept(): KeptTable | null {
    const { table, sink, inspection } = this.#parts;
    const { mark } = this;
    const isKept = this.#walksFor === "walk" && this.#cursor !== null && this.#resumedAt === null;
    if (!isKept || mark === undefined || this.#suspects.knownCount + this.#suspects.size > KEPT_MAX) return null;
    const { sample, ...kept } = this.findings.kept;
    return {
      table: table.id,
      sink,
      fingerprint: table.fingerprint,
      mark,
      lastId: inspection.id(table, this.#cursor!),
      ...kept,
      sample: sample.map(withoutValues),
      suspects: this.#suspects.all.map(({ key, isRepaired, isMet }) => [key, isRepaired, isMet]),
      known: this.#suspects.known,
    };
  }

  /** The walk has not reached the rows after it. */
  get cursor(): KeyText | null {
    return this.#cursor;
  }

  get isWalked(): boolean {
    return this.#isWalked;
  }

  /** Whether to read further rows before the earlier ones are compared. */
  get mayReadAhead(): boolean {
    return this.#resumedAt === null && this.#suspects.size < SUSPECTS_MAX;
  }

  look(): Look {
    return new Look(this.#walksFor, timestamp(this.#parts.clock));
  }

  /** Compares a slice at its position. Reads the sink; changes only the look. */
  async compare(look: Look, slice: ComparedSlice, signal: AbortSignal): Promise<void> {
    const { inspection, table, clock } = this.#parts;
    const wanted: SourceRow[] = [];
    for (let from = slice.from; from < slice.to; from += ROWS_PER_TURN) {
      if (from > slice.from) await nextTurn(clock);
      const some = { ...slice, from, to: Math.min(slice.to, from + ROWS_PER_TURN) };
      wanted.push(...wantedRows(inspection, table, some, (id) => this.#isWanted(look, slice, id)));
    }
    if (wanted.length > ROWS_PER_TURN) await nextTurn(clock);
    if (look.purpose === "keys") {
      for (const { id, key } of wanted) look.suspects.set(id, suspectOf(key, {}));
      return;
    }
    // Rows that differ or moved take the exact comparison.
    const { left, byteCount } =
      look.purpose === "walk" && !slice.isByLog
        ? await notEqual(inspection, table, slice, wanted, signal)
        : { left: wanted, byteCount: 0 };
    look.compared += wanted.length - left.length;
    for (const row of wanted) look.sourceBytes += row.byteCount;
    look.sinkBytes += byteCount;
    for (const { id, isThere } of left) if (isThere && look.purpose === "settle") look.thereIs(id);
    // Under a key of which nothing else is asked, the sink is read only for rows that the source lacks. A requested key that
    // is another spelling of an existing row's key means that row.
    const { isOfKeys = false } = this.#parts;
    const judged = left.filter(({ id, isThere }) => (isThere ? !isOfKeys : !look.there.has(id)));
    if (isOfKeys) for (const { id, isThere } of left) if (isThere) look.equal.add(id);
    for await (const { rows, stored } of storedRows(inspection, table, judged, signal)) {
      this.#judge(look, slice, rows, stored);
    }
    this.#noteBatch();
  }

  #judge(look: Look, slice: ComparedSlice, rows: readonly SourceRow[], stored: readonly StoredRow[]): void {
    const { inspection, table, showsValues } = this.#parts;
    look.sinkBytes += bytesOf(stored);
    const byId = new Map(stored.map((row) => [row.id, row]));
    for (const { row, id, key, isThere } of rows) {
      const isMet = slice.isByLog && look.purpose === "walk";
      if (!isMet) look.compared++;
      const cells = isThere ? expectedCells(inspection, table, slice.block, row) : null;
      const found = byId.get(id);
      const finding = judge(table, { cells }, found, slice.versionMax);
      if (finding !== null && look.purpose === "settle") {
        look.judged.set(id, showsValues ? withValues(table, { cells }, found, finding) : finding);
      } else if (finding !== null) {
        look.suspects.set(id, suspectOf(key, { isMet }));
      } else if (look.purpose === "settle") {
        (slice.isByLog ? look.equalByLog : look.equal).add(id);
      } else if (isMet) {
        // The position is filled in when it counts.
        look.equalByLog.add(id);
        look.suspects.set(id, suspectOf(key, { isMet }));
      }
    }
  }

  #isWanted(look: Look, { isByLog }: ComparedSlice, id: string): boolean {
    if (look.purpose === "settle") return true;
    if (look.purpose === "keys") return this.#buckets.isUneven(id);
    look.keys.add(id);
    // Rows that moved come after the others, wherever their keys are.
    if (!isByLog && this.#parts.marks?.has(id) === true) look.met.add(id);
    if (this.#resumedAt !== null && !look.isAtResumed) {
      // Rows that moved come after the others, so their order says nothing about what is left.
      look.isAtResumed = !isByLog && id === this.#resumedAt;
      look.passed++;
      return false;
    }
    return this.#isCompared(id);
  }

  /** Whether to compare the row's values. */
  #isCompared(id: string): boolean {
    return this.#parts.part === null || partOf(id) === this.#parts.part;
  }

  /** A position of the walk has ended: if it counts, its rows do. */
  async walked(look: Look, { last, at, unsettled, outcomes }: ComparedPlace, signal: AbortSignal): Promise<void> {
    const { inspection, table } = this.#parts;
    if (!(await this.#counts(outcomes.get(this.sink), signal))) return;
    if (look.purpose === "keys") {
      for (const [id, { key }] of look.suspects) this.#suspects.add(id, key, false);
    } else {
      if (at !== null) this.findings.comparedAt(at);
      // Rows that only the sink has are looked for among all keys: a range that is not the whole table tells nothing of them.
      const { after, clock } = this.#parts;
      const isOfRange = after !== undefined && (after !== null || last !== null);
      if (!isOfRange) {
        for (const some of look.keys.pieces(KEYS_AT_ONCE)) {
          this.#buckets.ofSource(some);
          await nextTurn(clock);
        }
      }
      for (const id of look.met) this.met.add(id);
      const rows = look.keys.count + unsettled.length;
      this.findings.sourceRows += rows;
      // What another process was through, it has told.
      if (this.#resumedAt === null || look.isAtResumed)
        this.findings.covered(last, { rows: rows - look.passed, at: look.at, position: at });
      this.findings.counts.compared += look.compared;
      this.findings.counts.sourceBytes += look.sourceBytes;
      this.findings.counts.sinkBytes += look.sinkBytes;
      for (const [id, suspect] of look.suspects)
        this.#suspects.put(id, look.equalByLog.has(id) ? { ...suspect, looks: 1, equalAt: at } : suspect);
    }
    for (const key of unsettled) {
      const id = inspection.id(table, key);
      this.#suspects.add(id, key, look.purpose === "walk" && this.#isCompared(id));
    }
    if (look.isAtResumed) this.#resumedAt = null;
    this.#cursor = last;
    this.#isWalked = last === null;
    // The row has been deleted meanwhile, so the walk can't tell which rows come after it.
    if (this.#isWalked && this.#resumedAt !== null) this.#beginAgain();
    if (this.#suspects.size >= SUSPECTS_MAX) await this.settle(signal);
  }

  #beginAgain(): void {
    const { table, sink, sampleMax } = this.#parts;
    this.findings = new Findings(table, sink, sampleMax);
    this.#resumedAt = null;
    this.#isWalked = false;
    this.#buckets = new KeyBuckets();
    this.#suspects.clear();
  }

  /**
   * Looks for rows that only the sink has, after the walk. If not all values were compared, a second walk may be
   * needed.
   */
  async findExtra(signal: AbortSignal): Promise<void> {
    const { clock, inspection, table, share = 1 } = this.#parts;
    const buckets = this.#buckets;
    let restsMs = 0;
    let sinceMs = clock.elapsed();
    for await (const keys of inspection.keys(table, signal)) {
      for (const [i, { id }] of keys.entries()) {
        if (i > 0 && i % ROWS_PER_TURN === 0) await nextTurn(clock);
        buckets.ofSink(id);
      }
      this.findings.sinkRows += keys.length;
      if (share < 1 && restsMs < LISTING_RESTS_MS_MAX) {
        const restMs = restAfter(Math.max(LISTED_MS_MIN, clock.elapsed() - sinceMs), share);
        restsMs += restMs;
        await clock.sleep(restMs, signal);
      }
      sinceMs = clock.elapsed();
    }
    this.#noteBatch();
    if (buckets.allEven) return;
    await this.#lookForListed((id) => buckets.isUneven(id), SUSPECTS_MAX, signal);
    if (this.#parts.part === null) return;
    this.#walksFor = "keys";
    this.#cursor = null;
    this.#isWalked = false;
  }

  /** Looks for those of these keys that the source lacks. */
  async lookFor(keys: readonly ListedKey[], signal: AbortSignal): Promise<void> {
    this.#suspect(keys);
    await this.settle(signal);
  }

  /** The same for all keys of the sink. */
  async lookForAll(signal: AbortSignal): Promise<void> {
    await this.#lookForListed(() => true, 1, signal);
  }

  /** Once there are so many suspects they are looked at before the listing goes on; the last ones may be left. */
  async #lookForListed(isWanted: (id: string) => boolean, suspectsMax: number, signal: AbortSignal): Promise<void> {
    // What was found is known, and counts once.
    while (!(await this.#listed(isWanted, suspectsMax, signal))) await this.settle(signal);
  }

  /** False: the listing was ended, because the sink may wait for what it holds open. */
  async #listed(isWanted: (id: string) => boolean, suspectsMax: number, signal: AbortSignal): Promise<boolean> {
    const { inspection, table } = this.#parts;
    for await (const keys of inspection.keys(table, signal)) {
      this.#suspect(keys.filter(({ id }) => isWanted(id)));
      if (this.#suspects.size >= suspectsMax && !(await this.settle(signal, "in a listing"))) return false;
    }
    return true;
  }

  #suspect(keys: readonly ListedKey[]): void {
    for (const { id, key } of keys) {
      if (key === null) this.findings.addForeign(id);
      else this.#suspects.add(id, key, false);
    }
  }

  /**
   * Looks at every suspect until it is equal, has differed twice in the same way, or never comes to rest. False: in a listing,
   * too long no position has counted.
   */
  async settle(signal: AbortSignal, where: "in a listing" | "at rest" = "at rest"): Promise<boolean> {
    const { clock, port, table, sink, patienceMs, share = 1 } = this.#parts;
    while (this.#suspects.size > 0) {
      const batch = this.#suspects.next(Math.min(this.#keyPace.count, share < 1 ? KEYS_PER_LOOK : Infinity));
      const keys = batch.map(([, { key }]) => key);
      // Invariant: a sink that awaits a row before or after the look may lack a part of it during the look.
      const before = await port.awaited(sink, table.id, keys);
      const look = new Look("settle", timestamp(clock));
      const compare = (_: string, slice: ComparedSlice, compared: AbortSignal) => this.compare(look, slice, compared);
      const request = { table, sinks: [sink], rows: { kind: "keys", keys }, patienceMs, share, compare } as const;
      const { at, byteCount, outcomes } = await port.at(request, signal);
      this.#expectTable();
      if (!(await this.#counts(outcomes.get(sink), signal))) {
        const stuckMs = this.#stuckSinceMs === null ? 0 : clock.elapsed() - this.#stuckSinceMs;
        if (where === "in a listing" && stuckMs > Math.min(patienceMs / 2, LISTING_HELD_MS)) return false;
        continue;
      }
      this.#keyPace.looked(keys.length, byteCount);
      if (at !== null) this.findings.comparedAt(at);
      const after = await port.awaited(sink, table.id, keys);
      const refused = await this.#refusedIds(look);
      const isAwaited = (i: number): boolean => before.has(i) || after.has(i);
      const { repair, rested } = this.#suspects.looked(batch, { look, at, isAwaited, refused }, this.findings);
      if (repair.length > 0) await port.repair(sink, table, repair);
      if (!rested) await clock.sleep(AGAIN_MS, signal);
    }
    return true;
  }

  /** Ids of rows that wait as dead letters. */
  async #refusedIds({ judged }: Look): Promise<ReadonlySet<string>> {
    const { port, inspection, table, sink } = this.#parts;
    if (judged.size === 0) return new Set();
    return new Set((await port.refused(sink, table.id)).map((key) => inspection.id(table, key)));
  }

  #expectTable(): void {
    const { port, table } = this.#parts;
    if (!port.tables.includes(table)) throw new NotComparableError("its shape changed while it was compared");
  }

  /** Whether the position counts. If it must be repeated, waits a moment, for as long as the patience lasts. */
  async #counts(outcome: ReturnType<ComparedPlace["outcomes"]["get"]>, signal: AbortSignal): Promise<boolean> {
    const { clock, port, inspection, table, sink, patienceMs, lag } = this.#parts;
    const unready = await port.unready(sink, table);
    // The sink may wait for that.
    if (unready?.isWhole === true) await inspection.letGo();
    // A sink that lacks rows of the table proves nothing by what it shows.
    if (outcome?.kind === "compared" && unready?.isWhole !== false) {
      this.#stuckSinceMs = null;
      return true;
    }
    this.#stuckSinceMs ??= clock.elapsed();
    const isSpent = clock.elapsed() - this.#stuckSinceMs > patienceMs;
    if (isSpent && outcome?.kind === "away") throw new SourceAwayError(reasonOf(outcome.error));
    if (isSpent || outcome?.kind === "late" || unready?.isFinal === true) {
      const { reason, isWhole } = unready ?? IN_TIME;
      const failed = outcome?.kind === "failed" ? `: ${reasonOf(outcome.error)}` : "";
      throw new NotComparableError(`${reason}${failed}; ${await lag(sink)}`, isWhole);
    }
    await clock.sleep(AGAIN_MS, signal);
    return false;
  }
}

/** Asks a sink for the rows that it must hold. */

/** How many rows this process holds as text at a time, at most twice. */
const ROWS_PER_PIECE = 1_000;

/** The rows that the sink's cheap comparison can't prove equal, and the number of bytes read for it. */
async function notEqual(
  inspection: Inspection,
  table: TableVersion,
  { block, from, to, versionMax }: ComparedSlice,
  wanted: readonly SourceRow[],
  signal: AbortSignal,
): Promise<{ readonly left: readonly SourceRow[]; readonly byteCount: number }> {
  const all = { left: wanted, byteCount: 0 };
  // If few rows of the range are wanted, they are requested one by one.
  if (wanted.length * 2 < to - from || !wanted.every(({ isThere }) => isThere)) return all;
  if (askable(table, wanted).length < wanted.length) return all;
  const rows = wanted.map(({ row }) => row);
  if (isComputed(table) && rows.some((row) => failedCell(table, block.bytes, block.after[row]!) !== null)) return all;
  const keys = wanted.map(({ key }) => key);
  const ids = wanted.map(({ id }) => id);
  const cells = (i: number): readonly (string | null)[] => expectedCells(inspection, table, block, rows[i]!);
  const equal = await inspection.equal?.(table, { block, rows, keys, ids, cells, versionMax }, signal);
  if (equal == null) return all;
  return { left: wanted.filter((_, i) => equal.isEqual[i] === 0), byteCount: equal.byteCount };
}

interface Piece {
  readonly rows: readonly SourceRow[];
  readonly stored: readonly StoredRow[];
}

/** The sink's rows, piece by piece; the next piece is read while one is judged. */
async function* storedRows(
  inspection: Inspection,
  table: TableVersion,
  rows: readonly SourceRow[],
  signal: AbortSignal,
): AsyncGenerator<Piece> {
  const ask = (from: number): Promise<Piece> | null => {
    const piece = rows.slice(from, from + ROWS_PER_PIECE);
    if (piece.length === 0) return null;
    const keys = askable(table, piece).map(({ key }) => key);
    return inspection.rows(table, keys, signal).then((stored) => ({ rows: piece, stored }));
  };
  let next = ask(0);
  for (let from = ROWS_PER_PIECE; next !== null; from += ROWS_PER_PIECE) {
    const piece = await next;
    next = ask(from);
    // The failure surfaces where the piece is awaited.
    next?.catch(() => undefined);
    yield piece;
  }
}

function bytesOf(stored: readonly StoredRow[]): number {
  let sum = 0;
  for (const { cells } of stored) for (const cell of cells) sum += cell === null ? 0 : Buffer.byteLength(cell);
  return sum;
}

/** No target could hold, or even read, the other keys. */
function askable(table: TableVersion, rows: readonly SourceRow[]): readonly SourceRow[] {
  return mayLackKeyDates(table) ? rows.filter(({ key }) => isPossibleKey(table, key)) : rows;
}

/** One chunk of the walk, on its way through the sinks that are at its start. */
export interface Stretch {
  readonly after: KeyText | null;
  readonly looks: ReadonlyMap<TableComparison, Look>;
  /** Resolves when the rows are in all queues; null: they never got there. */
  readonly sent: Promise<SentRows | null>;
  readonly place: Promise<ComparedPlace>;
}

interface StretchParts extends Pick<ComparePlace, "patienceMs" | "share"> {
  readonly port: ComparePort;
  readonly table: TableVersion;
}

export function readStretch(
  { port, table, ...pace }: StretchParts,
  comparisons: readonly TableComparison[],
  after: KeyText | null,
  signal: AbortSignal,
): Stretch {
  const looks = new Map(comparisons.map((comparison) => [comparison, comparison.look()]));
  const bySink = new Map(comparisons.map((comparison) => [comparison.sink, comparison]));
  const sent = Promise.withResolvers<SentRows | null>();
  const request = {
    table,
    sinks: [...bySink.keys()],
    rows: { kind: "range", after },
    ...pace,
    onSent: sent.resolve,
    compare: async (sink: string, slice: ComparedSlice, compared: AbortSignal) => {
      const comparison = bySink.get(sink)!;
      await comparison.compare(looks.get(comparison)!, slice, compared);
    },
  } as const;
  const place = port.at(request, signal);
  // The error is reported where the place itself is awaited.
  const ended = () => sent.resolve(null);
  place.then(ended, ended);
  return { after, looks, sent: sent.promise, place };
}

export function isAt(cursor: KeyText | null, after: KeyText | null): boolean {
  return JSON.stringify(cursor) === JSON.stringify(after);
}
