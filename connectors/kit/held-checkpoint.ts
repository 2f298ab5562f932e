/** What a sink knows of its checkpoint in the target, and what it says of one that is not its own. */
import { checkpointFromTexts, checkpointTexts, type Checkpoint } from "../../src/core/checkpoint.ts";
import type { MillraceError, Raise } from "../../src/core/errors.ts";
import { comparePositions, parsePosition, type Position } from "../../src/core/model/position.ts";

/** `holder`: its lease, if it is known. */
export function takenOver(raise: Raise, holder: number | string | null, lease: number | string): MillraceError {
  const by = holder === null ? "another process" : `another process under lease ${holder}`;
  return raise("MR3109", "fatal", `${by} holds the sink, ours is lease ${lease}`);
}

interface Stored {
  readonly lease: number;
  /** "" before the first checkpoint. */
  readonly position: string;
}

/** Why `target` does not hold what this process wrote last. `stored`: null where nothing is there. */
export function notHeld(raise: Raise, target: string, stored: Stored | null, ours: Stored): MillraceError {
  if (stored === null) return raise("MR3110", "reopen", `the sink's progress is gone from ${target}`);
  if (stored.lease > ours.lease) return takenOver(raise, stored.lease, ours.lease);
  const message = `${target} does not hold the progress that was written`;
  if (isOlder(stored, ours)) return raise("MR1308", "reopen", `${message}: it was restored, or failed over`);
  // If two processes took turns, that would never end.
  return raise("MR1308", "fatal", `${message}: another process writes to it`);
}

/** Whether the target is an older copy. A checkpoint beyond ours comes from another writer. */
function isOlder(stored: Stored, ours: Stored): boolean {
  if (stored.lease < ours.lease || stored.position === "" || ours.position === "") return true;
  return comparePositions(parsePosition(stored.position), parsePosition(ours.position)) <= 0;
}

/** Of a checkpoint that is a row in a table of the target, written in the transaction of the rows. */
export class HeldCheckpoint {
  readonly #raise: Raise;
  readonly #sink: string;
  /** What this process last wrote or found; null: no progress yet. */
  #held: Checkpoint | null = null;
  /** The text of the complete tables, if the target certainly has it. */
  #storedTables: string | null = null;
  /** The position of the last attempted batch: if the end of its transaction is unknown, the target may hold it. */
  #attempted: Position | null = null;
  #lease = 0;

  constructor(raise: Raise, sink: string) {
    this.#raise = raise;
    this.#sink = sink;
  }

  /** Null: no progress yet. */
  get held(): Checkpoint | null {
    return this.#held;
  }

  get lease(): number {
    return this.#lease;
  }

  /** Where the target may be; null: before the first checkpoint. */
  get places(): readonly (Position | null)[] {
    return [this.#held?.position ?? null, ...(this.#attempted === null ? [] : [this.#attempted])];
  }

  /** `stored`: the lease in the row; 0 if there is none. */
  expectFree(stored: number, lease: number): void {
    if (stored > lease) throw takenOver(this.#raise, stored, lease);
  }

  /** Of a write that did not find the row at one of `places`. */
  lost(): MillraceError {
    const message = `sink ${this.#sink} was taken over by another process, or its progress was changed`;
    return this.#raise("MR3109", "fatal", message);
  }

  taken(held: Checkpoint | null, lease: number): Checkpoint | null {
    this.#held = held;
    this.#lease = lease;
    this.#attempted = null;
    this.#storedTables = null;
    return held;
  }

  /** What a batch writes. `tables`: null if the target has them. Read `places` before. */
  attempt(next: Checkpoint): { readonly tables: string | null; readonly bond: string } {
    this.#attempted = next.position;
    const { tables, bond } = checkpointTexts(next);
    return { tables: tables === this.#storedTables ? null : tables, bond };
  }

  committed(next: Checkpoint): void {
    this.#held = next;
    this.#attempted = null;
    this.#storedTables = checkpointTexts(next).tables;
  }
}

/** Of a row: its columns as texts, or null or "" in one that has only a lease. */
export function checkpointOfRow([epoch, commit, index, tables, bond]: readonly (
  | string
  | number
  | bigint
  | null
  | undefined
)[]): Checkpoint | null {
  if (epoch == null || commit == null || index == null || epoch === "") return null;
  const position = { epoch: Number(epoch), commit: BigInt(commit), index: Number(index) };
  return { position, ...checkpointFromTexts(String(tables), String(bond)) };
}
