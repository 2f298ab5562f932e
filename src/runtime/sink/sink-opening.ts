import {
  type Checkpoint,
  type Accord,
  acrossGenerations,
  type CompleteTables,
  inGeneration,
  withoutTables,
} from "../../core/checkpoint.ts";
import type { Clock } from "../../core/clock.ts";
import { type Login, reasonOf } from "../../core/errors.ts";
import { comparePositions, earliest, type Position, rowVersion } from "../../core/model/position.ts";
import type { News } from "../../core/waiting.ts";
import type { OnLost } from "../../core/contracts/sink.ts";
import type {
  SinkCrossing,
  SinkRecord,
  SnapshotRequest,
  StateStore,
  WaitingReset,
} from "../../core/contracts/state-store.ts";
import type { Logger } from "../../core/contracts/telemetry.ts";
import type { CatchUpParts } from "../stream/catch-up.ts";
import { historyLost, sinkAhead, sinkHoldsLater } from "../errors.ts";
import {
  type Continuation,
  continuationOf,
  loseChanges,
  lossFor,
  owedBy,
  passedOver,
  targetOf,
} from "./sink-position.ts";
import type { SinkWorker } from "./sink-worker.ts";
import type { SinkTableAnswers } from "./sink-tables.ts";
import { failpoint } from "../../core/failpoint.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import { askAgain } from "../snapshot/snapshots.ts";

export interface SinkLifeParts {
  readonly clock: Clock;
  readonly worker: SinkWorker;
  readonly lease: number;
  readonly state: StateStore;
  readonly tables: SinkTableAnswers;
  /** What happens when the sink has lost its data. */
  readonly onLost: OnLost;
  /** The source may have deleted its log before this position. */
  readonly acknowledged: () => Position | null;
  /** Notified when the sink's state changes. */
  readonly news: News;
  /** How long a target that answers may fail in a row before an operator has to act. */
  readonly inVainMsMax: number;
  /** See `withLogin`. */
  readonly login?: Login | null | undefined;
  readonly place?: string | undefined;
  readonly logger: Logger;
}

/** `isBound`: the state knows the batch of the sink's checkpoint. */
type Known = Extract<Continuation, { kind: "known" }> & { readonly isBound: boolean };
export type Opened = {
  readonly continuation: Known | Extract<Continuation, { kind: "new" }>;
  readonly record: SinkRecord | null;
};

/** Why tables are compared that the sink's checkpoint calls complete. */
const OWED = "the sink and the state come from different moments";
/** Why tables are read that a sink held. */
const LOST = "what the sink held, or still needed, is not known any more";

/**
 * Opens one sink and finds where it continues, from the sink's checkpoint, the state's record, and the work that follows
 * from the two.
 */
export class SinkOpening {
  readonly #parts: SinkLifeParts;

  constructor(parts: SinkLifeParts) {
    this.#parts = parts;
  }

  async open(signal: AbortSignal): Promise<Opened> {
    const { worker, state, lease, acknowledged, clock, tables, logger } = this.#parts;
    const own = await worker.open(lease, signal);
    const record = await state.sinks.get(worker.name);
    const accord = await state.bonds.accord(worker.name, own?.bond);
    const reset = record?.reset ?? null;
    if (reset !== null && own !== null && wasApplied(reset, own)) {
      logger.warn(
        { accord },
        "the sink has done the reset of its offset that waits in the state: it is not done again",
      );
      // In the state alone: until the sink is entered it is known to be later than an older copy of the state.
      await finishReset(this.#parts, reset, own);
      return await this.open(signal);
    }
    if (reset !== null) {
      await this.#enter(own, own, accord, signal);
      const wasFilled = own !== null || Object.keys(record?.tables ?? {}).length > 0;
      await applyReset({ worker, state, clock, wasFilled, tables: tables.named, logger }, own, reset, signal);
      return await this.open(signal);
    }
    const found = await this.#continuationOf(own, record, accord, acknowledged());
    if (found.kind === "new") await this.#ask(heldBy(record, own));
    const kept = await this.#enter(own, found.kind === "new" ? null : own, accord, signal);
    await this.#readUncompared();
    // The record may just have been removed.
    if (found.kind === "new") return { continuation: found, record: await state.sinks.get(worker.name) };
    return { continuation: { ...found, checkpoint: kept ?? found.checkpoint, isBound: accord === "bound" }, record };
  }

  /** Invariant: this is stored before the sink records that it does not hold the tables. */
  async #ask(tableIds: readonly string[]): Promise<void> {
    const { state, tables } = this.#parts;
    const asked = this.#readsOf(tableIds);
    if (asked.length === 0) return;
    await state.snapshots.addAll(asked);
    tables.changed();
  }

  #readsOf(tableIds: readonly string[]): readonly SnapshotRequest[] {
    const { worker, tables } = this.#parts;
    if (tables.areReadUnasked) return [];
    const scope = { kind: "table" } as const;
    return tableIds.map((tableId) => ({ tableId, sink: worker.name, scope, reason: LOST, needed: true }));
  }

  /**
   * The sink has lost these tables. They are listed at once: it may end before its checkpoint leaves them out, and does not tell
   * a second time. A history can't be read again.
   */
  async listLost(tableIds: readonly string[]): Promise<void> {
    const { worker, state, tables } = this.#parts;
    const { sink, position } = worker;
    if (sink.form === "history") return;
    const parts = new Set((await tables.parts()).map(([id]) => id));
    const held = tableIds.filter((id) => position.holds(id) || parts.has(id));
    await askAgain(state.snapshots, {
      tableIds: held,
      sink: sink.name,
      scope: { kind: "table" },
      reason: LOST,
      needed: true,
    });
    tables.changed();
  }

  async #continuationOf(
    own: Checkpoint | null,
    record: SinkRecord | null,
    accord: Accord,
    acknowledged: Position | null,
  ): Promise<Continuation> {
    const { worker, state, onLost, logger } = this.#parts;
    try {
      const found = continuationOf(worker.name, { own, record, accord }, acknowledged);
      // Invariant: no await in between. The log must be kept from the position that was just found in it.
      if (found.kind === "known") worker.position.begin(found.checkpoint, found.covered);
      else if (own !== null)
        await loseChanges(this.#parts, "the sink was left out of the configuration, or its state is another one");
      return found;
    } catch (error) {
      if (reasonOf(error) !== "behind" || onLost === "fail") throw error;
      logger.warn({ error }, "the sink lost its data: it is filled again");
      const loss = lossFor(this.#parts, "what the sink held was gone, or older than the log");
      await state.sinks.empty(worker.name, loss, this.#readsOf(heldBy(record, own)));
      return { kind: "new", isEmpty: own === null };
    }
  }

  /**
   * Invariant: what a sink owes, if it keeps its rows, is stored before its next checkpoint, because that checkpoint counts
   * it as known. Returns the checkpoint as the sink has it now.
   */
  async #enter(
    own: Checkpoint | null,
    kept: Checkpoint | null,
    accord: Accord,
    signal: AbortSignal,
  ): Promise<Checkpoint | null> {
    const { worker, state, tables, logger } = this.#parts;
    const owed = kept === null ? [] : await owedBy(worker.name, kept, accord, state.bonds);
    const taken = new Set(tables.named.map(({ id }) => id));
    // A table that this state does not know is newer than its copy, and may be complete there in the same shape.
    const listed = owed.filter((id) => taken.has(id) || !tables.isKnown(id));
    const isLeft = worker.sink.delivery === "transactional";
    worker.position.enter(await state.bonds.enter(worker.name, { own: own?.bond, owed: listed, reason: OWED, isLeft }));
    if (listed.length > 0) {
      logger.warn(
        { sink: worker.name, tables: listed, accord },
        "the sink may lack completed reads: its tables are compared",
      );
      tables.changed();
    }
    return kept === null || accord === "bound" ? kept : await worker.writer.note(kept, signal);
  }

  /** A sink that can't be compared gets all rows of the tables. Invariant: they are listed for the one or the other. */
  async #readUncompared(): Promise<void> {
    const { worker, state, tables } = this.#parts;
    if (worker.sink.comparison !== undefined) return;
    const own = (await state.snapshots.differences()).filter(({ sink }) => sink === worker.name);
    for (const snapshot of own) {
      const { tableId, sink, reason } = snapshot;
      const read = { tableId, sink, scope: { kind: "table" }, reason, needed: true } as const;
      await state.snapshots.again([read], (open) => open.state === "waiting");
      await state.snapshots.finish(snapshot);
      tables.changed();
    }
  }

  /**
   * A sink without a checkpoint may have rows of an earlier life. Invariant: everything written from here on has higher
   * versions. `wasAsked`: before the epoch was chosen. Of one that was not, all rows count: its tables are not known yet.
   */
  async expectEarlierRows({ main, source }: CatchUpParts, wasAsked: boolean, signal: AbortSignal): Promise<void> {
    const { worker, tables } = this.#parts;
    const { rows, form } = worker.sink;
    const ask = async (some: readonly TableVersion[]): Promise<bigint | undefined> => {
      const own = form === "mirror" ? await this.#own(some, signal) : some;
      return own.length === 0 ? 0n : await rows?.highestVersion(own, signal);
    };
    const isKnown = wasAsked && tables.named.length > 0;
    const highest = isKnown
      ? await worker.ask(tables.named, ask, signal)
      : await rows?.highestVersion(form === "mirror" ? "own" : "all", signal);
    if (highest === undefined || highest === 0n) return;
    if (highest > rowVersion(main.position.epoch, await source.log.tip(signal))) throw sinkHoldsLater(worker.name);
  }

  /**
   * A table that is missing in the target (dropped or renamed meanwhile, or the sink's options name another target), or that
   * another daemon has taken over there, is not complete, nor is a table of `lost`, nor one whose changes may pass by. Invariant:
   * this is durable before the target can be created again, and before the sink passes such a change.
   */
  async withoutInvalid(
    { checkpoint, isBound }: Known,
    lost: readonly string[],
    signal: AbortSignal,
  ): Promise<Checkpoint> {
    const { worker, tables, logger } = this.#parts;
    const { sink } = worker;
    const copies = [...Object.entries(checkpoint.tables), ...(await tables.parts())];
    const copied = new Set(copies.map(([id]) => id));
    const there = tables.named.filter(({ id }) => copied.has(id));
    // Under other names there may be tables from an earlier time at which those were in force.
    const isMoved = checkpoint.place !== targetOf(sink);
    const absent = isMoved ? [] : (await worker.lost(there, signal)).map(({ id }) => id);
    const missing = new Set([...(isMoved ? copied : absent), ...lost]);
    const histories = sink.form === "history" ? [...missing].filter((id) => checkpoint.tables[id] !== undefined) : [];
    if (histories.length > 0) throw historyLost(sink.name, histories);
    const invalid = new Set([...missing, ...(await tables.passedBy(copies))]);
    await tables.rejoin(isBound ? checkpoint.bond.batch : null, invalid);
    if (missing.size > 0) {
      logger.warn(
        { tables: [...missing] },
        isMoved
          ? "the sink's tables have other names or another schema now: they are read again"
          : "tables are missing in the target, are another daemon's or have another form there, or lost rows: they are read again",
      );
      await this.#ask([...missing].filter((id) => checkpoint.tables[id] !== undefined));
      if (!isMoved)
        await loseChanges(
          this.#parts,
          `${[...missing].join(", ")} was missing in the target, had another form there, or lost rows`,
        );
    }
    await this.#tellReturned(copied);
    const suspended = Object.keys(checkpoint.tables).filter((id) => tables.isSuspended(id) && tables.misses(id));
    if (suspended.length > 0) await loseChanges(this.#parts, passedOver(suspended));
    const kept = withoutTables(checkpoint.tables, invalid);
    if (kept === checkpoint.tables && !isMoved) return checkpoint;
    const valid = { ...checkpoint, place: targetOf(sink), tables: kept };
    return await worker.writer.note(valid, signal);
  }

  /** Those of these tables whose targets have no rows of another sink: a mirror removes such rows when it takes a target over. */
  async #own(some: readonly TableVersion[], signal: AbortSignal): Promise<readonly TableVersion[]> {
    const { presence } = this.#parts.worker.sink;
    const foreign = new Set((await presence?.foreign?.(some, signal))?.map(({ table }) => table));
    return some.filter((table) => !foreign.has(table));
  }

  /** What passes while the sink's `tables` leave out a table that it had is lost to its readers, which counts once it is back. */
  async #tellReturned(copied: ReadonlySet<string>): Promise<void> {
    const { worker, state, tables } = this.#parts;
    if (worker.sink.form === "mirror") return;
    const before = (await state.sinks.get(worker.name))?.leftOut ?? [];
    const returned = before.filter((id) => tables.misses(id));
    const out = [...copied].filter((id) => tables.leavesOut(id) && !tables.isSuspended(id));
    if (returned.length + out.length === 0) return;
    if (returned.length > 0) await loseChanges(this.#parts, passedOver(returned, "which its `tables` left out"));
    const still = before.filter((id) => !returned.includes(id));
    await state.sinks.setLeftOut(worker.name, [...new Set([...still, ...out])]);
  }
}

/** Ids of the tables that the sink or the state's record of it calls complete. */
function heldBy(record: SinkRecord | null, own: Checkpoint | null): readonly string[] {
  return Object.keys({ ...record?.tables, ...own?.tables });
}

interface ResetParts {
  readonly worker: SinkWorker;
  readonly state: StateStore;
  readonly clock: Clock;
  /** The sink has had rows, whether it still has its checkpoint or not. */
  readonly wasFilled: boolean;
  /** The tables that this sink takes. */
  readonly tables: readonly TableVersion[];
  readonly logger: Logger;
}

const RESET_REASON = "offsets were reset";
/** Why tables are compared after a crossing. */
const BEYOND_COMMON = "the sink may hold changes that the new log lacks";

/**
 * Whether the sink has done this reset. An older copy of the state may ask for it again, or cross again into the same epoch: only
 * a reset brings the sink there.
 */
export function wasApplied({ id, to, crossing, keeps }: WaitingReset, { position, bond }: Checkpoint): boolean {
  if (bond.resets.includes(id)) return true;
  const isElsewhere = keeps !== undefined || crossing !== undefined;
  return isElsewhere && position.epoch === to.epoch && comparePositions(position, to) > 0;
}

/**
 * Moves a sink's checkpoint to the position that an operator has chosen. Until the checkpoint is stored, nothing else
 * happens to the sink, so that after a crash anywhere in here the next start repeats it from the beginning. A sink that
 * goes back sees the log again and keeps its rows. The log may bring rows back that have gone since without a delete in the
 * log (deleted while the publication left deletes out), so its tables are compared when it has caught up. A sink that goes
 * forward, or is filled from the beginning, lacks the changes in between: its tables are read again.
 */
async function applyReset(
  parts: ResetParts,
  own: Checkpoint | null,
  reset: WaitingReset,
  signal: AbortSignal,
): Promise<void> {
  const { worker, state, tables, logger } = parts;
  const { id, to, anew, crossing, keeps } = reset;
  if (keeps !== undefined && own !== null) {
    const tables = kept(own.tables, keeps);
    await loseChanges(parts, "the log was lost, and recover began at its end");
    await storeReset(parts, reset, { ...own, position: to, tables }, signal);
    logger.info({ tables: Object.keys(tables).length }, "the sink begins at a new position; its rows are compared");
    return;
  }
  if (crossing !== undefined) {
    await cross(parts, own, { id, to, anew, crossing }, signal);
    return;
  }
  // Rows of a later epoch would win against everything that the log brings.
  const isOfLaterEpoch = own !== null && own.position.epoch > to.epoch;
  if (isOfLaterEpoch && worker.sink.form !== "mirror") throw sinkAhead(worker.name);
  const isReplay = !anew && !isOfLaterEpoch && own !== null && comparePositions(own.position, to) >= 0;
  // Invariant: what has to be read again, or compared, is listed before the sink's checkpoint changes.
  const ids = tables.map(({ id }) => id);
  const request = { sink: worker.name, reason: RESET_REASON, needed: true } as const;
  const goesBack = isReplay && comparePositions(own.position, to) > 0;
  // Readers of a stream take what comes last: the replay, in place of what was read before it.
  if (!isReplay || (goesBack && worker.sink.form === "stream")) {
    await askAgain(state.snapshots, { ...request, tableIds: ids, scope: { kind: "table" } });
  } else if (goesBack) {
    const held = ids.filter((id) => own.tables[id] !== undefined);
    await askAgain(state.snapshots, { ...request, tableIds: held, scope: { kind: "differences" } });
  }
  if (!isReplay && parts.wasFilled) await loseChanges(parts, "its position in the log was moved");
  failpoint("reset.listed");
  // No batch of this sink was beyond `to`, so none of our rows has a later version, unless it is of a later epoch.
  if (anew || isOfLaterEpoch) await worker.expel(tables, rowVersion(to.epoch, to.commit), signal);
  failpoint("reset.expelled");
  const checkpoint = isReplay ? { ...own, position: to } : worker.position.first(to);
  await storeReset(parts, reset, checkpoint, signal);
  logger.info({ anew, isReplay }, "the sink begins where its offset was reset to");
}

/**
 * Continues in another log. Invariant 4: a sink keeps its rows only if it is exactly at the position whose counterpart in
 * the new log is known. At any other position it may hold more or less, and is filled again above everything that it can
 * hold. A sink at that position may still have a part of a batch, or of a transaction, that follows it: unless the new log
 * certainly brings that again, the sink's tables are compared, and those that were being read are read from the beginning.
 */
async function cross(
  parts: ResetParts,
  own: Checkpoint | null,
  reset: Required<Omit<WaitingReset, "keeps">>,
  signal: AbortSignal,
): Promise<void> {
  const { logger, state, worker } = parts;
  const { id, to, anew, crossing } = reset;
  const position = own === null || anew ? null : continuedAt(own.position, to, crossing);
  if (own === null || position === null) {
    await applyReset(parts, own, { id, to: crossing.otherwise, anew }, signal);
    return;
  }
  const isThere = comparePositions(own.position, to) === 0;
  const isSame = isThere || crossing.isContinued === true;
  const tables = isSame ? own.tables : carried(own.tables, crossing.generations);
  const beyond = [own.position, worker.position.mayHoldUntil].some(
    (held) => held !== null && comparePositions(held, crossing.common) > 0,
  );
  if (beyond && !isThere) {
    const ids = Object.keys(tables);
    const request = { sink: worker.name, reason: BEYOND_COMMON } as const;
    await askAgain(state.snapshots, { ...request, tableIds: ids, scope: { kind: "differences" }, needed: true });
    const unfinished = (await state.snapshots.list()).filter(({ sink }) => sink === worker.name);
    for (const { tableId, scope, needed } of unfinished) {
      await askAgain(state.snapshots, { ...request, tableIds: [tableId], scope, needed });
    }
    logger.warn({ tables: ids.length }, `${BEYOND_COMMON}: its tables are compared`);
  }
  failpoint("reset.listed");
  await storeReset(parts, reset, { ...own, position, tables }, signal);
  logger.info({ tables: Object.keys(tables).length }, "the sink continues in another log and keeps its rows");
}

/** Where a sink continues in the new log with what it holds; null: that is not known. */
function continuedAt(own: Position, to: Position, { from, common, isContinued }: SinkCrossing): Position | null {
  // The sink has it already: stored before a crash.
  if (comparePositions(own, to) === 0) return to;
  if (from === null || comparePositions(own, from) < 0) return null;
  if (isContinued !== true) return comparePositions(own, from) === 0 ? to : null;
  // Inside a transaction `commit` is where its commit begins, which must be there too.
  const isLost = own.index > 0 ? own.commit >= common.commit : own.commit > common.commit;
  if (isLost) return null;
  return comparePositions(own, from) === 0 ? to : { ...own, epoch: to.epoch };
}

/** The sink first: the state may say that it is done only when it is. */
async function storeReset(
  parts: Pick<ResetParts, "worker" | "state">,
  reset: Pick<WaitingReset, "id" | "to">,
  checkpoint: Checkpoint,
  signal: AbortSignal,
): Promise<void> {
  const { worker } = parts;
  worker.position.finish(reset);
  await worker.writer.note(checkpoint, signal);
  failpoint("reset.noted");
  await finishReset(parts, reset, checkpoint);
  failpoint("reset.settled");
}

/** Invariant: no further than the reset goes: nobody may have read the log behind it under this state. */
async function finishReset(
  { worker, state }: Pick<ResetParts, "worker" | "state">,
  { to }: Pick<WaitingReset, "to">,
  { position, tables }: Checkpoint,
): Promise<void> {
  await state.sinks.finishReset(worker.name, earliest([position, to])!, tables);
}

/** The tables that exist now, as complete as they were. A table whose shape has changed since is read as a whole. */
function kept(tables: CompleteTables, generations: Readonly<Record<string, string>>): CompleteTables {
  const held = Object.entries(tables).filter(([id]) => generations[id] !== undefined);
  return Object.fromEntries(held.map(([id, complete]) => [id, inGeneration(complete, generations[id]!)]));
}

/** The complete tables whose names certainly mean the same tables as before. */
function carried(tables: CompleteTables, generations: SinkCrossing["generations"]): CompleteTables {
  const kept = Object.entries(tables).flatMap(([id, held]) => {
    const pair = generations[id];
    const now = pair === undefined ? null : acrossGenerations(held, pair);
    return now === null ? [] : [[id, now] as const];
  });
  return Object.fromEntries(kept);
}
