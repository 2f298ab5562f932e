/**
 * What an open sink does with its log: adds batches, and makes files of them when it is time.
 *
 * Files are made in three steps, each of which a killed process leaves for the next one to finish: an entry says which entries
 * become files under which number; the files and their manifest are written; another entry says that they are.
 */
import type { Clock } from "../../../src/core/clock.ts";
import { failpoint } from "../../../src/core/failpoint.ts";
import { parsePosition } from "../../../src/core/model/position.ts";
import { filesError } from "../errors.ts";
import { findMillraceError } from "../../../src/core/errors.ts";
import { logKey, manifestKey, MANIFESTS, NUMBER_MAX, numberOf } from "../names.ts";
import { NO_MANIFEST, type Published, readHead } from "../publish/manifest.ts";
import type { Publisher, Withheld } from "../publish/publisher.ts";
import type { Retention } from "../publish/retention.ts";
import type { Store } from "../store/store.ts";
import type { BatchParts, BatchNumbers } from "../text/batch-parts.ts";
import {
  type EntryCheckpoint,
  type Head,
  NO_CHECKPOINT,
  NOTHING_WAITS,
  type RowText,
  type WaitingEntries,
} from "./entry.ts";
import { cameLate, entryNumbers, expectNoNewer, expectOwn, findLog, type FoundLog, LogWriter } from "./log.ts";
import type { ReaderNumbers } from "./reader-numbers.ts";

/** Each batch is an entry: the log stays short also where batches are tiny. */
const ENTRIES_MAX = 512;
/** Each time the sink is opened, so many entries of predecessors may come late. */
const LATE_MAX = 8;

/** When changes that wait in the log become files: as soon as one of these is reached. */
export interface RollLimits {
  readonly rows: number;
  readonly bytes: number;
  readonly ageMs: number;
}

interface Owner {
  readonly lease: number;
  readonly name: Head["owner"];
  readonly writer: string;
  readonly text: RowText;
  readonly roll: RollLimits;
}

interface Tools {
  readonly store: Store;
  readonly publisher: Publisher;
  /** Null: files stay for ever. */
  readonly retention: Retention | null;
  readonly clock: Clock;
  readonly numbers: ReaderNumbers;
  readonly owner: Owner;
  /** Told of tables that files were made without. */
  readonly onWithheld: (withheld: readonly Withheld[]) => void;
}

/** What the newest entry says, and the next one says too unless it changes. */
type State = Omit<Head, "format" | "lease" | "owner" | "writer" | "shapes" | "parts">;

type EntryParts = Pick<BatchParts, "shapes" | "parts" | "bytes">;

const NO_ROWS: EntryParts = { shapes: [], parts: [], bytes: [] };

export class ChangeLog {
  readonly #tools: Tools;
  readonly #log: LogWriter;
  #state: State;

  private constructor(tools: Tools, log: LogWriter, state: State) {
    this.#tools = tools;
    this.#log = log;
    this.#state = state;
  }

  /** Takes over the log, and finishes what a killed process began. */
  static async open(tools: Tools, signal: AbortSignal): Promise<ChangeLog> {
    for (let count = 1; ; count++) {
      try {
        const opened = await ChangeLog.#takenOver(tools, signal);
        await tools.store.settle(signal);
        await opened.#finish(signal);
        return opened;
      } catch (error) {
        if (findMillraceError(error)?.code !== "MR4219" || count === LATE_MAX) throw error;
      }
    }
  }

  static async #takenOver(tools: Tools, signal: AbortSignal): Promise<ChangeLog> {
    const { store, owner } = tools;
    const found = await findLog(store, signal);
    if (found !== null) {
      const { head } = found.entry;
      expectOwn(head, owner.name, store.location);
      expectNoNewer(head, writerOf(tools), store.location);
    }
    const { log, state } = found === null ? await anew(tools, signal) : await continued(tools, found, signal);
    const opened = new ChangeLog(tools, log, state);
    // From here on every other process finds its number taken.
    await opened.#append(opened.#state, NO_ROWS, signal);
    if (found === null) await log.expectAlone(signal);
    failpoint("files.fenced");
    return opened;
  }

  get checkpoint(): EntryCheckpoint {
    return this.#state.checkpoint;
  }

  get withheld(): readonly string[] {
    return this.#state.withheld;
  }

  /** Of these tables nothing is missing any more that counts; stored with the next entry. */
  restore(tableIds: ReadonlySet<string>): void {
    this.#state = { ...this.#state, withheld: this.#state.withheld.filter((id) => !tableIds.has(id)) };
  }

  get published(): Published {
    const { manifest, sequence } = this.#state;
    return { ...manifest, lastSequence: sequence - 1 };
  }

  /** `readsAll`: from this batch on, all rows that the sink will hold completely are read again. */
  async add(
    checkpoint: EntryCheckpoint,
    readsAll: boolean,
    partsOf: (numbers: Pick<BatchNumbers, "sequence" | "begun">) => Promise<BatchParts>,
    signal: AbortSignal,
  ): Promise<void> {
    const { clock, owner } = this.#tools;
    // Changes of one publication have one form.
    if (this.#state.text !== owner.text) await this.publishAll(signal);
    const numbers = this.#numbersFor(readsAll);
    const rows = await partsOf(numbers);
    if (rows.next > Number.MAX_SAFE_INTEGER)
      throw filesError(
        "MR2035",
        "fatal",
        `${this.#tools.store.location}: _millrace_sequence is ${this.#state.sequence}`,
      );
    const waiting = this.#with(rows, clock.now());
    const { begun } = numbers;
    const next = { ...this.#state, checkpoint, waiting, text: owner.text, sequence: rows.next, begun };
    await this.#append(next, rows, signal);
    if (this.#isDue()) await this.publishAll(signal);
    else await this.#log.trim(this.#state.since, signal);
  }

  async verify(signal: AbortSignal): Promise<void> {
    await this.#log.expectUnchanged(signal);
    if (this.#isDue()) await this.publishAll(signal);
  }

  /** What waits becomes files. */
  async publishAll(signal: AbortSignal): Promise<void> {
    if (this.#state.waiting.rows === 0 && !this.#endsPart()) return;
    const publishing = this.#tools.numbers.manifestAfter(this.#state.manifest.number);
    if (publishing > NUMBER_MAX)
      throw filesError("MR2035", "fatal", `${this.#tools.store.location}: ${manifestKey(publishing - 1)}`);
    await this.#append({ ...this.#state, publishing }, NO_ROWS, signal);
    failpoint("files.publication-stored");
    await this.#finish(signal);
  }

  /** Files and manifests stay; the log goes, and with it the checkpoint. */
  async forget(signal: AbortSignal): Promise<void> {
    await this.publishAll(signal);
    await this.#append({ ...this.#state, checkpoint: NO_CHECKPOINT }, NO_ROWS, signal);
    await this.#log.remove(signal);
  }

  async #finish(signal: AbortSignal): Promise<void> {
    const { publisher, retention, clock, onWithheld } = this.#tools;
    const { publishing, since, manifest, checkpoint, text, sequence } = this.#state;
    if (publishing !== null) {
      const madeMs = clock.now();
      const made = { number: publishing, ordinal: manifest.ordinal + 1 };
      const head = { manifest: made, previous: manifest.number, lastSequence: sequence - 1, checkpoint, madeMs };
      const left = await publisher.publish({ since, until: this.#log.newest, head, text }, signal);
      const partial = isInside(checkpoint);
      const withheld = [...new Set([...this.#state.withheld, ...left.map(({ tableId }) => tableId)])];
      const done = { publishing: null, partial, manifest: made, waiting: NOTHING_WAITS, withheld };
      // Before it is stored: an answer may be lost.
      onWithheld(left);
      await this.#append({ ...this.#state, ...done }, NO_ROWS, signal);
      failpoint("files.publication-done");
      await retention?.expire(publishing, madeMs, signal);
    }
    await this.#log.trim(this.#state.since, signal);
  }

  /** Of the next batch. */
  #numbersFor(readsAll: boolean): { readonly sequence: number; readonly begun: number } {
    const { sequence, begun } = this.#state;
    const first = this.#tools.numbers.sequenceAfter(sequence - 1);
    return readsAll ? { sequence: first + 1, begun: first } : { sequence: first, begun };
  }

  #with({ parts }: Pick<BatchParts, "parts">, nowMs: number): WaitingEntries {
    const { rows, bytes, sinceMs } = this.#state.waiting;
    const added = parts.reduce((sum, part) => sum + part.rows, 0);
    if (added === 0) return this.#state.waiting;
    return {
      rows: rows + added,
      bytes: bytes + parts.reduce((sum, part) => sum + part.bytes, 0),
      sinceMs: rows === 0 ? nowMs : sinceMs,
    };
  }

  #isDue(): boolean {
    const { owner, clock } = this.#tools;
    const { waiting, since } = this.#state;
    const { rows, bytes, ageMs } = owner.roll;
    if (waiting.rows === 0) return this.#endsPart();
    if (waiting.rows >= rows || waiting.bytes >= bytes || this.#log.newest - since >= ENTRIES_MAX) return true;
    return clock.now() - waiting.sinceMs >= ageMs;
  }

  /** Readers learn from a manifest without files that a transaction is complete. */
  #endsPart(): boolean {
    return this.#state.partial && !isInside(this.#state.checkpoint);
  }

  async #append(next: State, { shapes, parts, bytes }: EntryParts, signal: AbortSignal): Promise<void> {
    const since = next.waiting.rows === 0 || this.#state.waiting.rows === 0 ? this.#log.newest + 1 : next.since;
    // Invariant: before an entry has numbers, no later log begins at or below them.
    await this.#tools.numbers.reserve(next.sequence, next.publishing ?? 0);
    await this.#log.append({ ...next, since, shapes: [...shapes], parts: [...parts] }, bytes, signal);
    this.#state = { ...next, since };
  }
}

/** Whether the position lies inside a transaction. */
function isInside({ position }: EntryCheckpoint): boolean {
  return position !== "" && parsePosition(position).index > 0;
}

interface Begun {
  readonly log: LogWriter;
  readonly state: State;
}

async function continued(tools: Tools, { numbers, newest, entry }: FoundLog, signal: AbortSignal): Promise<Begun> {
  const { format: _, lease: __, owner: ___, writer: ____, shapes: _____, parts: ______, ...state } = entry.head;
  const log = new LogWriter(tools.store, writerOf(tools), numbers, newest);
  // A log that was put back from an older copy may lie beside manifests that are newer.
  const known = Math.max(state.manifest.number, state.publishing ?? 0);
  const manifest = await newestManifest(tools.store, known, signal);
  if (manifest === null) return { log, state };
  const publishing = state.publishing === null ? null : tools.numbers.manifestAfter(manifest.number);
  return { log, state: { ...behind(state, manifest), publishing } };
}

/** What is there stays: manifests, sequences and the numbers of entries go on above all earlier ones. */
async function anew(tools: Tools, signal: AbortSignal): Promise<Begun> {
  const { store, owner, numbers } = tools;
  const leftOver = await entryNumbers(store, signal);
  // What is removed was looked at twice: one answer may have been wrong.
  if (leftOver.length > 0 && (await findLog(store, signal)) !== null) throw cameLate(leftOver.at(-1)!, store.location);
  for (const number of leftOver) await store.remove(logKey(number), signal);
  const manifest = await newestManifest(store, 0, signal);
  const newest = numbers.manifestAfter(leftOver.at(-1) ?? 0) - 1;
  const fresh = {
    checkpoint: NO_CHECKPOINT,
    since: newest + 1,
    waiting: NOTHING_WAITS,
    sequence: 1,
    begun: 0,
    manifest: NO_MANIFEST,
    publishing: null,
    partial: false,
    withheld: [],
    text: owner.text,
  };
  const state = manifest === null ? fresh : behind(fresh, manifest);
  const begun = numbers.sequenceAfter(state.sequence - 1);
  return { log: new LogWriter(store, writerOf(tools), [], newest), state: { ...state, begun, sequence: begun + 1 } };
}

function behind(state: State, { lastSequence, ...manifest }: Published): State {
  return { ...state, manifest, sequence: Math.max(state.sequence, lastSequence + 1) };
}

function writerOf({ owner: { lease, name, writer } }: Tools): Pick<Head, "lease" | "owner" | "writer"> {
  return { lease, owner: name, writer };
}

/** Above the number `known`; null: there is none. */
async function newestManifest(store: Store, known: number, signal: AbortSignal): Promise<Published | null> {
  const keys = await store.list(MANIFESTS, signal, manifestKey(known));
  const number = keys.flatMap((key) => numberOf(key, MANIFESTS) ?? []).at(-1);
  return number === undefined ? null : await readHead(store, number, signal);
}
