/**
 * What an open sink does with its log: adds steps, and makes files of them when it is time.
 *
 * Files are made in three steps, each of which a killed process leaves for the next one to finish: an entry says which entries
 * become files under which number; the files and their manifest are written; another entry says that they are.
 */
import type { Clock } from "../../../src/core/clock.ts";
import { failpoint } from "../../../src/core/failpoint.ts";
import { parsePosition } from "../../../src/core/model/position.ts";
import { filesError } from "../errors.ts";
import { logKey, MANIFESTS, numberOf } from "../names.ts";
import type { Published } from "../publish/holes.ts";
import { lastEntryOf } from "../publish/manifest.ts";
import type { Publisher } from "../publish/publisher.ts";
import type { Retention } from "../publish/retention.ts";
import type { RollLimits } from "../settings.ts";
import type { Store } from "../store/store.ts";
import type { StepParts } from "../text/step-parts.ts";
import { type Checkpoint, type Head, NO_CHECKPOINT, NOTHING_WAITS, type RowText, type Waiting } from "./entry.ts";
import { entryNumbers, findLog, type FoundLog, LogWriter } from "./log.ts";

/** Each step is an entry: the log stays short also where steps are tiny. */
const ENTRIES_MAX = 512;

interface Owner {
  readonly lease: number;
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
  readonly owner: Owner;
}

/** What the newest entry says, and the next one says too unless it changes. */
type State = Pick<Head, "checkpoint" | "since" | "waiting" | "manifest" | "publishing" | "partial" | "text">;

const NO_ROWS: StepParts = { shapes: [], parts: [], bytes: [] };

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
    const { store, owner } = tools;
    const found = await findLog(store, signal);
    if (found !== null && found.entry.head.lease > owner.lease) {
      const { lease } = found.entry.head;
      throw filesError(
        "MR4202",
        "fatal",
        `another process holds ${store.place} under lease ${lease}, ours is ${owner.lease}`,
      );
    }
    const { log, state } = found === null ? await anew(tools, signal) : continued(tools, found);
    const opened = new ChangeLog(tools, log, state);
    // From here on every other process finds its number taken.
    await opened.#append(opened.#state, NO_ROWS, signal);
    failpoint("files.fenced");
    await store.settle(signal);
    await opened.#finish(signal);
    return opened;
  }

  get checkpoint(): Checkpoint {
    return this.#state.checkpoint;
  }

  get published(): Published {
    return { next: this.#state.manifest, lastEntry: this.#state.since - 1 };
  }

  /** `partsOf` is told the number of the entry. */
  async add(checkpoint: Checkpoint, partsOf: (entry: number) => StepParts, signal: AbortSignal): Promise<void> {
    const { clock, owner } = this.#tools;
    // Changes of one publication have one form.
    if (this.#state.text !== owner.text) await this.publishAll(signal);
    const rows = partsOf(this.#log.newest + 1);
    const waiting = this.#with(rows, clock.now());
    await this.#append({ ...this.#state, checkpoint, waiting, text: owner.text }, rows, signal);
    if (this.#isDue()) await this.publishAll(signal);
    else await this.#log.trim(this.#state.since, signal);
  }

  async verify(signal: AbortSignal): Promise<void> {
    await this.#log.expectUnchanged(this.#tools.owner.lease, signal);
    if (this.#isDue()) await this.publishAll(signal);
  }

  /** What waits becomes files. */
  async publishAll(signal: AbortSignal): Promise<void> {
    if (this.#state.waiting.rows === 0 && !this.#endsPart()) return;
    await this.#append({ ...this.#state, publishing: true }, NO_ROWS, signal);
    failpoint("files.publication-stored");
    await this.#finish(signal);
  }

  /** Files and manifests stay; the log goes, and with it the checkpoint. */
  async forget(signal: AbortSignal): Promise<void> {
    await this.publishAll(signal);
    await this.#append({ ...this.#state, checkpoint: NO_CHECKPOINT }, NO_ROWS, signal);
    await removeEntries(this.#tools.store, signal);
  }

  async #finish(signal: AbortSignal): Promise<void> {
    const { publisher, retention, clock } = this.#tools;
    const { publishing, since, manifest, checkpoint, text } = this.#state;
    if (publishing) {
      const madeMs = clock.now();
      await publisher.publish({ since, until: this.#log.newest, manifest, checkpoint, madeMs, text }, signal);
      const partial = isInside(checkpoint);
      const done = { publishing: false, partial, manifest: manifest + 1, waiting: NOTHING_WAITS };
      await this.#append({ ...this.#state, ...done }, NO_ROWS, signal);
      failpoint("files.publication-done");
      await retention?.expire(manifest, madeMs, signal);
    }
    await this.#log.trim(this.#state.since, signal);
  }

  #with({ parts }: StepParts, nowMs: number): Waiting {
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

  async #append(next: State, { shapes, parts, bytes }: StepParts, signal: AbortSignal): Promise<void> {
    const { lease, writer } = this.#tools.owner;
    const since = next.waiting.rows === 0 || this.#state.waiting.rows === 0 ? this.#log.newest + 1 : next.since;
    await this.#log.append({ lease, writer, ...next, since, shapes: [...shapes], parts: [...parts] }, bytes, signal);
    this.#state = { ...next, since };
  }
}

/** Whether the position lies inside a transaction. */
function isInside({ position }: Checkpoint): boolean {
  return position !== "" && parsePosition(position).index > 0;
}

interface Begun {
  readonly log: LogWriter;
  readonly state: State;
}

function continued({ store }: Tools, { newest, oldest, entry }: FoundLog): Begun {
  const { checkpoint, since, waiting, manifest, publishing, partial, text } = entry.head;
  return {
    log: new LogWriter(store, newest, oldest),
    state: { checkpoint, since, waiting, manifest, publishing, partial, text },
  };
}

/** Manifests that are there stay, and the new ones follow them; so do the numbers of entries, which order the changes. */
async function anew({ store, owner }: Tools, signal: AbortSignal): Promise<Begun> {
  const leftOver = await entryNumbers(store, signal);
  await removeEntries(store, signal);
  const numbers = (await store.list(MANIFESTS, signal)).flatMap((key) => numberOf(key, MANIFESTS) ?? []);
  const last = numbers.at(-1) ?? 0;
  const newest = Math.max(leftOver.at(-1) ?? 0, last === 0 ? 0 : await lastEntryOf(store, last, signal));
  const manifest = last + 1;
  const fresh = {
    checkpoint: NO_CHECKPOINT,
    waiting: NOTHING_WAITS,
    publishing: false,
    partial: false,
    text: owner.text,
  };
  return { log: new LogWriter(store, newest, null), state: { ...fresh, since: newest + 1, manifest } };
}

async function removeEntries(store: Store, signal: AbortSignal): Promise<void> {
  for (const number of await entryNumbers(store, signal)) await store.remove(logKey(number), signal);
}
