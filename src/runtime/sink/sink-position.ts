import {
  type Accord,
  type Bond,
  type CompleteTables,
  isSameBond,
  type Checkpoint,
  withReset,
} from "../../core/checkpoint.ts";
import { invariant } from "../../core/invariant.ts";
import { comparePositions, EPOCH_MAX, epochOf, latest, type Position } from "../../core/model/position.ts";
import type { OnLost, Sink, SinkForm } from "../../core/contracts/sink.ts";
import type { HeldPositions } from "../../core/contracts/log-admin.ts";
import type {
  Loss,
  BondStore,
  SinkEntry,
  SinkRecord,
  StateStore,
  WaitingReset,
} from "../../core/contracts/state-store.ts";
import { sinkAhead, sinkBehind, sinkEmptied, sinkForeign } from "../errors.ts";
import { type Clock, timestamp } from "../../core/clock.ts";
import type { Logger } from "../../core/contracts/telemetry.ts";

/*
 * Checkpoints and bonds
 *
 * How far a sink is, is known in two stores that can be lost, emptied or restored separately: the sink and the state. And it
 * is not one position but up to four in the same log:
 *
 *      the log ──┬──────────────┬──────────────────┬──────────────────┬───▶
 *           checkpoint       covered          mayHoldUntil        the queue's end
 *           durable in       the log has      rows of a batch     given to the worker,
 *           the sink, with   nothing for      that did not end    in memory alone
 *           its rows         it in between
 *
 * 1. The sink's own checkpoint counts. The state has a copy of it (`SinkRecord.checkpoint`), which is never ahead of it.
 *    Only the state knows `covered`, so it moves no acknowledgement: the source keeps its log from the lowest checkpoint on.
 * 2. A checkpoint says which tables are complete. That is true only together with what the state owes for them: listed keys,
 *    dead letters, unfinished reads. The bond in the checkpoint says which state, which opening of the sink (session), which
 *    batch, and how many obligations of the state it counts:
 *
 *         batch ──▶ obligations stored ──▶ bond counts them ──▶ rows and checkpoint durable ──▶ the state's copy
 *                        ▲                                               │
 *                        └── the sink finds a new one: the batch ends, and begins again from here
 *
 * 3. At an opening the two are compared (`continuationOf`, `owedBy`). A sink behind the state's copy was emptied or restored:
 *    it goes on from its own checkpoint if the source still has the log, and is filled again otherwise. A checkpoint with
 *    obligations that this state does not know has its tables compared. A checkpoint of another state is refused, or filled
 *    again in a higher epoch.
 * 4. A sink may hold rows beyond its checkpoint: one that is no transaction, and any after its tables were tried one by one.
 *    `mayHoldUntil` bounds them, so that a crossing to
 *    another log knows whether the sink may have what that log lacks.
 *
 * Before bonds, a state that was restored from a backup trusted "complete" although the keys that it owed were in the lost
 * part of it, and rows stayed stale for good (decision 15). Before `mayHoldUntil`, a failover could keep rows of a batch that
 * never was in the new log.
 */

/** Beyond every position. */
export const ANYWHERE: Position = { epoch: Infinity, commit: 0n, index: 0 };

/** The position of one open sink: what it has stored, what is done for it, what it may hold beyond. */
export class SinkPosition {
  readonly #sink: Pick<Sink, "name" | "target" | "delivery">;
  readonly #bonds: Pick<BondStore, "obligation" | "exceed">;
  #entry: SinkEntry | null = null;
  #checkpoint: Checkpoint | null = null;
  #isStored = false;
  #covered: Position | null = null;
  /** See `mayHoldUntil`; undefined until the sink was entered. */
  #mayHoldUntil: Position | null | undefined;
  /** Of earlier processes: whether the state says that all they wrote belongs to a checkpoint. */
  #wasLeft = true;
  /** The highest position of a batch that was begun. */
  #attempted: Position | null = null;

  constructor(sink: Pick<Sink, "name" | "target" | "delivery">, bonds: Pick<BondStore, "obligation" | "exceed">) {
    this.#sink = sink;
    this.#bonds = bonds;
  }

  /** As the state has it before this process enters the sink, which may be away for long. */
  know({ wasLeft }: Pick<SinkEntry, "wasLeft">): void {
    this.#wasLeft = wasLeft;
  }

  /** The state knows the opening of the sink: its checkpoints name this entry from here on. Before anything is stored. */
  enter(entry: SinkEntry): void {
    this.#entry = entry;
    // Later entries are this process's own.
    if (this.#mayHoldUntil === undefined) this.#mayHoldUntil = entry.wasLeft ? null : ANYWHERE;
  }

  /** The next checkpoint says that this reset is done. */
  finish({ id }: Pick<WaitingReset, "id">): void {
    this.#entry = { ...this.#entered, resets: withReset(this.#entered.resets, id) };
  }

  /** `covered` is at or behind the checkpoint's position. `isStored`: the sink itself holds this checkpoint. */
  begin(checkpoint: Checkpoint, covered: Position, isStored = true): void {
    this.#checkpoint = checkpoint;
    this.#isStored = isStored;
    this.#covered = covered;
  }

  /** What counts for the sink; only after `begin`. */
  get checkpoint(): Checkpoint {
    invariant(this.#checkpoint !== null, "a sink's queue is worked only after begin");
    return this.#checkpoint;
  }

  /** What the sink itself has made durable; null before `begin`, and for a new sink until its first batch. */
  get stored(): Checkpoint | null {
    return this.#isStored ? this.#checkpoint : null;
  }

  /** The batch of the sink's last checkpoint; null if there is none. */
  get batch(): number | null {
    return this.stored?.bond.batch ?? null;
  }

  /** The complete tables; none before `begin`. */
  get tables(): CompleteTables {
    return this.#checkpoint?.tables ?? {};
  }

  /** Whether the sink holds the table completely. */
  holds(tableId: string): boolean {
    return this.tables[tableId] !== undefined;
  }

  /** Everything before it is done for this sink; null until `begin`. */
  get covered(): Position | null {
    return this.#covered;
  }

  /** The same; only after `begin`. */
  get reached(): Position {
    invariant(this.#covered !== null, "a sink's queue is worked only after begin");
    return this.#covered;
  }

  /** Whether something was covered since the last checkpoint. */
  get isBeyondCheckpoint(): boolean {
    return comparePositions(this.reached, this.checkpoint.position) > 0;
  }

  /**
   * The sink may hold rows of what precedes this position, beyond its checkpoint: of a batch that did not end, here or in an
   * earlier process. Null: it holds none.
   */
  get mayHoldUntil(): Position | null {
    return this.#mayHoldUntil ?? null;
  }

  /** The same, also while nobody has entered the sink: what an earlier process has written there is not known. */
  get mayHold(): Position | null {
    if (this.#mayHoldUntil !== undefined) return this.#mayHoldUntil;
    return this.#wasLeft && this.#sink.delivery === "transactional" ? null : ANYWHERE;
  }

  /** What an earlier process may have written of the log lies anywhere. */
  get holdsUnknown(): boolean {
    return this.#mayHoldUntil === ANYWHERE;
  }

  /** This process has entered the sink, and what the sink holds is what its checkpoint says. */
  get isAtCheckpoint(): boolean {
    return this.#mayHoldUntil === null;
  }

  /** No earlier process has read the log beyond `position`. */
  knowEarlier(position: Position): void {
    if (!this.holdsUnknown) return;
    this.#mayHoldUntil = latest(position, this.#attempted);
    this.#forgetHeld();
  }

  /** A checkpoint of no table: the sink has not stored it yet. */
  first(position: Position): Checkpoint {
    return { position, tables: {}, place: targetOf(this.#sink), bond: bondOf(this.#entered, 0) };
  }

  /** The same checkpoint with the bond that it is stored with. Invariant: it counts every obligation from before its position. */
  async next(checkpoint: Checkpoint): Promise<Checkpoint> {
    const { batch } = this.#entered;
    return { ...checkpoint, bond: bondOf({ ...this.#entered, batch: batch + 1 }, await this.#obligation()) };
  }

  /** Whether the sink owes more by now than the checkpoint counts. */
  async isOutdated({ bond }: Checkpoint): Promise<boolean> {
    return (await this.#obligation()) > bond.obligation;
  }

  /** A batch with this checkpoint begins: if it does not end, the sink may hold a part of it. */
  attempt({ position }: Checkpoint): void {
    if (this.#sink.delivery === "transactional") return;
    this.#hold(position);
  }

  /** Rows from before this position go to the sink, and its checkpoint does not. Invariant: the state knows of it before. */
  async exceed(position: Position): Promise<void> {
    await this.#bonds.exceed(this.#sink.name);
    this.#hold(position);
  }

  #hold(position: Position): void {
    this.#attempted = latest(position, this.#attempted);
    this.#mayHoldUntil = latest(position, this.#mayHoldUntil ?? null);
  }

  /** The batch with this checkpoint is durable. */
  store(checkpoint: Checkpoint): void {
    this.note(checkpoint);
    this.#checkpoint = checkpoint;
    this.#isStored = true;
    this.cover(checkpoint.position);
  }

  /** The sink has stored this checkpoint before it begins: the next one is of a later batch. */
  note({ bond }: Checkpoint): void {
    this.#entry = { ...this.#entered, batch: bond.batch };
  }

  /** Everything before `position` is done. */
  cover(position: Position): void {
    this.#covered = latest(position, this.#covered);
    this.#forgetHeld();
  }

  /**
   * Whether a checkpoint that is found in the sink is this process's own: the last one, or that of a batch that may have been
   * done. Any other is of a copy that was put in the sink's place.
   */
  isOwn(found: Checkpoint | null, attempted?: Checkpoint): boolean {
    if (this.stored === null) return true;
    return found !== null && (isSame(found, this.stored) || (attempted !== undefined && isSame(found, attempted)));
  }

  #forgetHeld(): void {
    if (this.#mayHoldUntil == null || this.#covered === null) return;
    if (comparePositions(this.#covered, this.#mayHoldUntil) >= 0) this.#mayHoldUntil = null;
  }

  get #entered(): SinkEntry {
    invariant(this.#entry !== null, "the state knows the opening of a sink before its checkpoints");
    return this.#entry;
  }

  async #obligation(): Promise<number> {
    return await this.#bonds.obligation(this.#sink.name);
  }
}

/** A sweep, and what completes a table, stand at the position of the batch before: a copy that lacks them has another bond. */
export function isSame(a: Checkpoint, b: Checkpoint): boolean {
  return comparePositions(a.position, b.position) === 0 && isSameBond(a.bond, b.bond);
}

/** Of what the sink stores next. */
export function bondOf({ state, session, batch, resets }: SinkEntry, obligation: number): Bond {
  return { state, session, batch, obligation, resets };
}

/** The positions of one configured sink, attached or not. */
export interface SinkPositions {
  readonly name: string;
  /** Of the sink's own checkpoint. */
  readonly checkpoint: Position | null;
  readonly tables: CompleteTables;
  /** Everything before it is done for the sink; null for a sink that never took part. */
  readonly covered: Position | null;
}

/**
 * Where a sink continues: from a position of the log, or, if it is new, from the stream's present position. A new one with
 * `isEmpty` holds no rows of an earlier life.
 */
export type Continuation =
  | { readonly kind: "new"; readonly isEmpty: boolean }
  | { readonly kind: "known"; readonly checkpoint: Checkpoint; readonly covered: Position };

/** The sink's own checkpoint, the state's record of it, and how the two go together. */
interface Meeting {
  readonly own: Checkpoint | null;
  readonly record: SinkRecord | null;
  readonly accord: Accord;
}

/**
 * Compares the sink's own checkpoint with the state store's copy of it. The sink's own counts. If it is behind the copy,
 * the sink was emptied, restored or rolled back; it continues only if the source still has the log from there.
 */
export function continuationOf(
  sink: string,
  { own, record, accord }: Meeting,
  acknowledged: Position | null,
): Continuation {
  const copy = record?.checkpoint ?? null;
  if (own === null) {
    if (copy !== null) throw sinkEmptied(sink);
    return { kind: "new", isEmpty: true };
  }
  // Invariant: a position that this log does not have never makes changes count as done.
  if (acknowledged !== null && own.position.epoch > acknowledged.epoch) throw sinkAhead(sink);
  if (accord === "foreign") {
    // Rows of the same epoch may have higher versions than anything in this log.
    if (own.position.epoch === acknowledged?.epoch) throw sinkForeign(sink);
    return { kind: "new", isEmpty: false };
  }
  const difference = copy === null ? 1 : comparePositions(own.position, copy);
  if (difference === 0) {
    const covered = latest(own.position, record?.covered ?? null);
    return { kind: "known", checkpoint: own, covered };
  }
  const reachable = acknowledged === null || comparePositions(own.position, acknowledged) >= 0;
  // A sink without a record (it was removed from the configuration and added again) is filled again, over the rows that it
  // holds.
  if (!reachable && copy === null) return { kind: "new", isEmpty: false };
  if (!reachable) throw sinkBehind(sink);
  return { kind: "known", checkpoint: own, covered: own.position };
}

/**
 * Ids of the tables that may be incomplete although the sink's checkpoint calls them complete. These are tables for which a
 * read was finished after the checkpoint's position, or all tables if the state does not know every obligation that the
 * checkpoint counts.
 */
export async function owedBy(
  sink: string,
  { tables, bond }: Checkpoint,
  accord: Accord,
  bonds: Pick<BondStore, "undone">,
): Promise<readonly string[]> {
  const complete = Object.keys(tables);
  if (accord !== "bound") return complete;
  const undone = new Set(await bonds.undone(sink, bond.batch));
  return complete.filter((id) => undone.has(id));
}

/**
 * What the sink's options call a certain table. With another target all of its tables lie elsewhere, and what the checkpoint
 * says of them does not hold there.
 */
export function targetOf(sink: Pick<Sink, "target" | "routes">): string {
  return `${sink.target({ schema: "schema", table: "table" })}${sink.routes ?? ""}`;
}

/** What a sink of this form lacks for good if tables are read in place of the changes in between; null: nothing. */
export function unreadable(form: SinkForm): string | null {
  switch (form) {
    case "mirror":
      return null;
    case "history":
      return "the changes in between are lost to its history: the present rows are appended in their place";
    case "stream":
      return "the changes in between are lost to its readers: they get the present rows in their place";
    case "log":
      return "the changes in between are lost to the daemons that follow it";
    default:
      return form satisfies never;
  }
}

/** What happens to a sink that has lost its data. A history can't be read again. */
export function onLostOf({ form, onLost }: Pick<Sink, "form" | "onLost">, configured: OnLost | undefined): OnLost {
  return form === "history" ? "fail" : (configured ?? onLost);
}

/** Whether the position is beyond a log of this epoch that ends at `tip`. */
export function isBeyondLog(position: Position, epoch: number, tip: bigint): boolean {
  return position.epoch > epoch || (position.epoch === epoch && position.commit > tip);
}

/** Everything before it is done for the sink, as far as the state knows. */
export function knownPosition(record: Pick<SinkRecord, "covered" | "checkpoint"> | null): Position | null {
  return record?.covered ?? record?.checkpoint ?? null;
}

/** What one of the sinks may hold: see `SinkPosition.mayHold`. */
export function furthestHeld(
  lives: readonly { readonly worker: { readonly position: SinkPosition } }[],
): Position | null {
  let furthest: Position | null = null;
  for (const { worker } of lives) {
    const { mayHold } = worker.position;
    if (mayHold !== null) furthest = latest(mayHold, furthest);
  }
  return furthest;
}

/** Whether a sink may have rows of a batch whose end the state does not know. */
export async function mayHoldMore(
  sinks: readonly Pick<Sink, "name">[],
  bonds: Pick<BondStore, "isLeft">,
): Promise<boolean> {
  for (const { name } of sinks) if (!(await bonds.isLeft(name))) return true;
  return false;
}

/** What a stream that starts at `from` has to reach: the furthest position of a sink in that epoch. */
export function heldFrom(from: Position, sinks: readonly Pick<SinkRecord, "covered" | "checkpoint">[]): HeldPositions {
  let reached = from;
  for (const { covered, checkpoint } of sinks) {
    for (const position of [covered, checkpoint]) {
      if (position?.epoch === from.epoch) reached = latest(position, reached);
    }
  }
  return { from, reached };
}

/**
 * The highest epoch that an opened sink shows: that of its checkpoint or, without a checkpoint, of its rows. 0: the sink is
 * empty. Invariant: a new epoch is higher, because a row of this epoch would win against all changes of a lower one.
 */
export async function epochHeld(sink: Sink, own: Checkpoint | null, signal: AbortSignal): Promise<number> {
  return own === null ? await epochOfRows(sink, signal) : own.position.epoch;
}

/**
 * The same, but it also reads the rows of a sink that has a checkpoint. An epoch there that no other can exceed does not
 * count.
 */
export async function epochHeldAtAll(sink: Sink, own: Checkpoint | null, signal: AbortSignal): Promise<number> {
  const ofRows = await epochOfRows(sink, signal);
  if (own === null) return ofRows;
  return Math.max(own.position.epoch, ofRows < EPOCH_MAX ? ofRows : 0);
}

/** Rows of other sinks count, for the sink may take over their targets; unless no epoch exceeds them. */
async function epochOfRows(sink: Sink, signal: AbortSignal): Promise<number> {
  const { rows } = sink;
  if (rows === undefined) return 0;
  const epoch = epochOf(await rows.highestVersion("all", signal));
  return epoch < EPOCH_MAX ? epoch : epochOf(await rows.highestVersion("own", signal));
}

/** Why a sink lacks changes of these tables. */
export function passedOver(tableIds: readonly string[], why = "which were suspended, paused or unreadable"): string {
  const some = tableIds.length > TABLES_NAMED_MAX ? ` and ${tableIds.length - TABLES_NAMED_MAX} more` : "";
  return `changes of ${tableIds.slice(0, TABLES_NAMED_MAX).join(", ")}${some} passed by, ${why}`;
}

const TABLES_NAMED_MAX = 5;

interface LostChangesParts {
  readonly worker: { readonly sink: Pick<Sink, "name" | "form"> };
  readonly state: Pick<StateStore, "sinks">;
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * Tables are read for the sink in place of changes. A mirror lacks nothing then; others do for good, which the state keeps until
 * somebody has told their readers. Invariant: stored before the sink goes on without the changes.
 */
export async function loseChanges(parts: LostChangesParts, why: string): Promise<void> {
  const loss = lossFor(parts, why);
  if (loss !== null) await parts.state.sinks.setLost(parts.worker.sink.name, loss);
}

/** The same, for the caller to store. */
export function lossFor({ worker, clock, logger }: Omit<LostChangesParts, "state">, why: string): Loss | null {
  const { name, form } = worker.sink;
  const means = unreadable(form);
  if (means === null) return null;
  logger.warn({ sink: name, why }, means);
  return { why, means, at: timestamp(clock) };
}
