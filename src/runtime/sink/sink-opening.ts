import type { Checkpoint } from "../../core/model/batch.ts";
import type { Accord } from "../../core/checkpoint/bond.ts";
import { withoutTables } from "../../core/checkpoint/completeness.ts";
import type { Clock } from "../../core/clock.ts";
import { type Login, reasonOf } from "../../core/errors.ts";
import type { Position } from "../../core/model/position.ts";
import type { News } from "../../core/news.ts";
import type { OnLost } from "../../core/contracts/sink.ts";
import type { SinkRecord, StateStore } from "../../core/contracts/state-store.ts";
import type { Logger } from "../../core/contracts/telemetry.ts";
import { rowVersion } from "../../core/model/version.ts";
import type { CatchUpParts } from "../stream/catch-up.ts";
import { historyLost, sinkHoldsLater } from "../errors.ts";
import { applyReset } from "./offset-reset.ts";
import { loseChanges, owedBy, passedOver, targetOf, type Continuation, continuationOf } from "./sink-position.ts";
import type { SinkWorker } from "./sink-worker.ts";
import type { SinkTableAnswers } from "./tables-of-sink.ts";

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
  /** Whether missing tables are read without a request. If not, the tables that a sink loses are listed at the loss. */
  readonly readsByItself: boolean;
  /** Notified when the sink's state changes. */
  readonly news: News;
  /** How long a target that answers may fail in a row before an operator has to act. */
  readonly inVainMsMax: number;
  /** See `withLogin`. */
  readonly login?: Login | null | undefined;
  readonly logger: Logger;
}

/** `isBound`: the state knows the batch of the sink's checkpoint. */
export type Known = Extract<Continuation, { kind: "known" }> & { readonly isBound: boolean };
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
    if (reset !== null) {
      await this.#enter(own, own, accord, signal);
      const wasFilled = own !== null || Object.keys(record?.tables ?? {}).length > 0;
      await applyReset({ worker, state, clock, wasFilled, tables: tables.named, logger }, own, reset, signal);
      return await this.open(signal);
    }
    const found = await this.#continuationOf(own, record, accord, acknowledged());
    if (found.kind === "new") await this.#ask(Object.keys({ ...record?.tables, ...own?.tables }));
    await this.#enter(own, found.kind === "new" ? null : own, accord, signal);
    await this.#readUncompared();
    // The record may just have been removed.
    if (found.kind === "new") return { continuation: found, record: await state.sinks.get(worker.name) };
    return { continuation: { ...found, isBound: accord === "bound" }, record };
  }

  /** Invariant: this is stored before the sink records that it does not hold the tables. */
  async #ask(tableIds: readonly string[]): Promise<void> {
    const { worker, state, readsByItself, tables } = this.#parts;
    if (readsByItself || tableIds.length === 0) return;
    const scope = { kind: "table" } as const;
    const asked = tableIds.map((tableId) => ({ tableId, sink: worker.name, scope, reason: LOST, needed: true }));
    await state.snapshots.addAll(asked);
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
      await state.sinks.remove(worker.name);
      await loseChanges(this.#parts, "what the sink held was gone, or older than the log");
      return { kind: "new", isEmpty: own === null };
    }
  }

  /**
   * Invariant: what a sink owes, if it keeps its rows, is stored before its next checkpoint, because that checkpoint counts
   * it as known.
   */
  async #enter(own: Checkpoint | null, kept: Checkpoint | null, accord: Accord, signal: AbortSignal): Promise<void> {
    const { worker, state, tables, logger } = this.#parts;
    const owed = kept === null ? [] : await owedBy(worker.name, kept, accord, state.bonds);
    const taken = new Set(tables.named.map(({ id }) => id));
    const listed = owed.filter((id) => taken.has(id));
    worker.position.enter(await state.bonds.enter(worker.name, { own: own?.bond, owed: listed, reason: OWED }));
    if (listed.length > 0) {
      logger.warn(
        { sink: worker.name, tables: listed, accord },
        "the sink may lack completed reads: its tables are compared",
      );
      tables.changed();
    }
    if (kept !== null && accord !== "bound") await worker.writer.note(kept, signal);
  }

  /** A sink that can't be compared gets all rows of the tables. Invariant: they are listed for the one or the other. */
  async #readUncompared(): Promise<void> {
    const { worker, state, tables } = this.#parts;
    if (worker.sink.comparison !== undefined) return;
    const own = (await state.snapshots.list()).filter(({ sink }) => sink === worker.name);
    for (const snapshot of own.filter(({ scope }) => scope.kind === "differences")) {
      const { tableId, sink, reason } = snapshot;
      const read = { tableId, sink, scope: { kind: "table" }, reason, needed: true } as const;
      await state.snapshots.again(read, (open) => open.state === "waiting");
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
    const { rows } = worker.sink;
    const isKnown = wasAsked && tables.named.length > 0;
    const highest = isKnown
      ? await worker.ask(tables.named, async (some) => await rows?.highestVersion(some, signal), signal)
      : await rows?.highestVersion(null, signal);
    if (highest === undefined || highest === 0n) return;
    if (highest > rowVersion(main.position.epoch, await source.log.tip(signal))) throw sinkHoldsLater(worker.name);
  }

  /**
   * A table that is missing in the target (dropped or renamed meanwhile, or the sink's options name another target) is not
   * complete, nor is a table of `lost`, nor one whose changes may pass by. Invariant: this is durable before the target can be created again, and before the sink
   * passes such a change.
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
    const found = await worker.ask(there, async (some) => await sink.presence?.missing(some, signal), signal);
    const absent = (found ?? []).map(({ id }) => id);
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
          : "tables are missing in the target, have another form there, or lost rows: they are read again",
      );
      await this.#ask([...missing].filter((id) => checkpoint.tables[id] !== undefined));
      if (!isMoved)
        await loseChanges(
          this.#parts,
          `${[...missing].join(", ")} was missing in the target, had another form there, or lost rows`,
        );
    }
    const suspended = Object.keys(checkpoint.tables).filter((id) => tables.isSuspended(id) && tables.misses(id));
    if (suspended.length > 0) await loseChanges(this.#parts, passedOver(suspended));
    const kept = withoutTables(checkpoint.tables, invalid);
    if (kept === checkpoint.tables && !isMoved) return checkpoint;
    const valid = { ...checkpoint, place: targetOf(sink), tables: kept };
    await worker.writer.note(valid, signal);
    return valid;
  }
}
