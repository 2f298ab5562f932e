import { acrossGenerations, type CompleteTables, inGeneration } from "../../core/checkpoint/completeness.ts";
import type { Checkpoint } from "../../core/model/batch.ts";
import type { Clock } from "../../core/clock.ts";
import { failpoint } from "../../core/failpoint.ts";
import { comparePositions, type Position } from "../../core/model/position.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import type { SinkCrossing, SinkReset, StateStore } from "../../core/contracts/state-store.ts";
import type { Logger } from "../../core/contracts/telemetry.ts";
import { rowVersion } from "../../core/model/version.ts";
import { sinkAhead } from "../errors.ts";
import { loseChanges } from "./sink-position.ts";
import type { SinkWorker } from "./sink-worker.ts";
import { askAgain } from "../snapshot/snapshots.ts";

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
 * Moves a sink's checkpoint to the position that an operator has chosen. Until the checkpoint is stored, nothing else
 * happens to the sink, so that after a crash anywhere in here the next start repeats it from the beginning. A sink that
 * goes back sees the log again and keeps its rows. The log may bring rows back that have gone since without a delete in the
 * log (deleted while the publication left deletes out), so its tables are compared when it has caught up. A sink that goes
 * forward, or is filled from the beginning, lacks the changes in between: its tables are read again.
 */
export async function applyReset(
  parts: ResetParts,
  own: Checkpoint | null,
  { to, anew, crossing, keeps }: SinkReset,
  signal: AbortSignal,
): Promise<void> {
  const { worker, state, tables, logger } = parts;
  const isElsewhere = keeps !== undefined || crossing !== undefined;
  // An older copy of the state may ask again for the same reset. Only this reset brings the sink into its epoch, so the
  // sink has done it already.
  if (isElsewhere && own?.position.epoch === to.epoch && comparePositions(own.position, to) > 0) {
    await storeReset({ worker, state }, own, signal);
    return;
  }
  if (keeps !== undefined && own !== null) {
    const tables = kept(own.tables, keeps);
    await loseChanges(parts, "the log was lost, and recover began at its end");
    await storeReset({ worker, state }, { ...own, position: to, tables }, signal);
    logger.info({ tables: Object.keys(tables).length }, "the sink begins at a new position; its rows are compared");
    return;
  }
  if (crossing !== undefined) {
    await cross(parts, own, { to, anew, crossing }, signal);
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
  await storeReset({ worker, state }, checkpoint, signal);
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
  { to, anew, crossing }: Required<Pick<SinkReset, "to" | "anew" | "crossing">>,
  signal: AbortSignal,
): Promise<void> {
  const { logger, state, worker } = parts;
  const position = own === null || anew ? null : continuedAt(own.position, to, crossing);
  if (own === null || position === null) {
    await applyReset(parts, own, { to: crossing.otherwise, anew }, signal);
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
  await storeReset({ worker, state }, { ...own, position, tables }, signal);
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
  { worker, state }: Pick<ResetParts, "worker" | "state">,
  checkpoint: Checkpoint,
  signal: AbortSignal,
): Promise<void> {
  await worker.writer.note(checkpoint, signal);
  failpoint("reset.noted");
  await state.sinks.finishReset(worker.name, checkpoint.position, checkpoint.tables);
  failpoint("reset.settled");
}

/** The tables that exist now, as complete as they were. A table whose shape has changed since is read as a whole. */
function kept(tables: CompleteTables, generations: Readonly<Record<string, string>>): CompleteTables {
  const held = Object.entries(tables).filter(([id]) => generations[id] !== undefined);
  return Object.fromEntries(held.map(([id, complete]) => [id, inGeneration(complete, generations[id]!)]));
}

/** The complete tables whose names certainly mean the same tables as before. */
function carried(
  tables: CompleteTables,
  generations: NonNullable<SinkReset["crossing"]>["generations"],
): CompleteTables {
  const kept = Object.entries(tables).flatMap(([id, held]) => {
    const pair = generations[id];
    const now = pair === undefined ? null : acrossGenerations(held, pair);
    return now === null ? [] : [[id, now] as const];
  });
  return Object.fromEntries(kept);
}
