import type { Checkpoint } from "../../core/model/batch.ts";
import type { Accord } from "../../core/checkpoint/bond.ts";
import { type Completeness, withoutTables } from "../../core/checkpoint/completeness.ts";
import type { Clock } from "../../core/clock.ts";
import { reasonOf } from "../../core/errors.ts";
import type { Position } from "../../core/model/position.ts";
import type { News } from "../../core/news.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import type { OnLost } from "../../core/contracts/sink.ts";
import type { SinkRecord, StateStore } from "../../core/contracts/state-store.ts";
import type { Logger } from "../../core/contracts/telemetry.ts";
import { rowVersion } from "../../core/model/version.ts";
import type { CatchUpParts } from "../stream/catch-up.ts";
import { historyLost, sinkHoldsLater } from "../errors.ts";
import { applyReset } from "./offset-reset.ts";
import type { SinkWorker } from "./sink-worker.ts";
import { owedBy, placeOf, type Continuation, continuationOf, unreadable } from "./sink-position.ts";

export interface OpeningParts {
  readonly clock: Clock;
  readonly worker: SinkWorker;
  readonly lease: number;
  readonly state: StateStore;
  /** What happens when the sink has lost its data. */
  readonly onLost: OnLost;
  /** The source may have deleted its log before this position. */
  readonly acknowledged: () => Position | null;
  /** Whether missing tables are read without a request. If not, the tables that a sink loses are listed at the loss. */
  readonly readsByItself: boolean;
  /** The tables that this sink takes, as far as they are known now. */
  readonly tables: () => readonly TableVersion[];
  /** Tables of which the sink has a part, from which an unfinished snapshot continues. */
  readonly parts: () => Promise<readonly Copy[]>;
  /**
   * The tables of which changes may pass the sink by unnoticed: their copies were made under other rules than those in
   * force, or the configuration leaves them out.
   */
  readonly passedBy: (copies: readonly Copy[]) => Promise<ReadonlySet<string>>;
  /**
   * The sink continues from the checkpoint of this batch (null: nothing proves what the sink got), without these tables.
   * When this resolves, the parts that the sink lacks do not count any more.
   */
  readonly rejoin: (batch: number | null, invalid: ReadonlySet<string>) => Promise<void>;
  /** What the sink holds, or still needs, has changed. */
  readonly onChange: () => void;
  /** Notified when the sink's state changes. */
  readonly news: News;
  /** How long a target that answers may fail in a row before an operator has to act. */
  readonly inVainMsMax: number;
  /** See `withLogin`. */
  readonly login?: string | null | undefined;
  readonly logger: Logger;
}

/** A table's id, and what the copy of it is a copy of. */
type Copy = readonly [tableId: string, copy: Completeness];

/** `isBound`: the state knows the batch of the sink's checkpoint. */
export type Known = Extract<Continuation, { kind: "known" }> & { readonly isBound: boolean };
export type Opened = {
  readonly standing: Known | Extract<Continuation, { kind: "new" }>;
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
  readonly #parts: OpeningParts;

  constructor(parts: OpeningParts) {
    this.#parts = parts;
  }

  async open(signal: AbortSignal): Promise<Opened> {
    const { worker, state, lease, acknowledged, tables, logger } = this.#parts;
    const own = await worker.open(lease, signal);
    const record = await state.sinks.get(worker.name);
    const accord = await state.bonds.accord(worker.name, own?.bond);
    const reset = record?.reset ?? null;
    const standing = reset === null ? await this.#continuationOf(own, record, accord, acknowledged()) : null;
    if (standing?.kind === "new") await this.#ask(Object.keys({ ...record?.tables, ...own?.tables }));
    await this.#enter(own, standing?.kind === "new" ? null : own, accord, signal);
    if (reset === null) await this.#readUncompared();
    // The record may just have been removed.
    if (standing?.kind === "new") return { standing, record: await state.sinks.get(worker.name) };
    if (standing !== null) return { standing: { ...standing, isBound: accord === "bound" }, record };
    await applyReset({ worker, state, tables: tables(), logger }, own, reset!, signal);
    return await this.open(signal);
  }

  /** Invariant: this is stored before the sink records that it does not hold the tables. */
  async #ask(tableIds: readonly string[]): Promise<void> {
    const { worker, state, readsByItself, onChange } = this.#parts;
    if (readsByItself || tableIds.length === 0) return;
    const scope = { kind: "table" } as const;
    const asked = tableIds.map((tableId) => ({ tableId, sink: worker.name, scope, reason: LOST, needed: true }));
    await state.snapshots.addAll(asked);
    onChange();
  }

  async #continuationOf(
    own: Checkpoint | null,
    record: SinkRecord | null,
    accord: Accord,
    acknowledged: Position | null,
  ): Promise<Continuation> {
    const { worker, state, onLost, logger } = this.#parts;
    try {
      const standing = continuationOf(worker.name, { own, record, accord }, acknowledged);
      // Invariant: no await in between. The log must be kept from the position that was just found in it.
      if (standing.kind === "known") worker.stand(standing.checkpoint, standing.covered);
      return standing;
    } catch (error) {
      if (reasonOf(error) !== "behind" || onLost === "fail") throw error;
      const lost = unreadable(worker.sink.form);
      logger.warn({ error, ...(lost === null ? {} : { lost }) }, "the sink lost its data: it is filled again");
      await state.sinks.remove(worker.name);
      return { kind: "new", isEmpty: own === null };
    }
  }

  /**
   * Invariant: what a sink owes, if it keeps its rows, is stored before its next checkpoint, because that checkpoint counts
   * it as known.
   */
  async #enter(own: Checkpoint | null, held: Checkpoint | null, accord: Accord, signal: AbortSignal): Promise<void> {
    const { worker, state, tables, logger, onChange } = this.#parts;
    const owed = held === null ? [] : await owedBy(worker.name, held, accord, state.bonds);
    const taken = new Set(tables().map(({ id }) => id));
    const listed = owed.filter((id) => taken.has(id));
    worker.enter(await state.bonds.enter(worker.name, { own: own?.bond, owed: listed, reason: OWED }));
    if (listed.length > 0) {
      logger.warn(
        { sink: worker.name, tables: listed, accord },
        "the sink may lack completed reads: its tables are compared",
      );
      onChange();
    }
    if (held !== null && accord !== "bound") await worker.note(held, signal);
  }

  /** A sink that can't be compared gets all rows of the tables. Invariant: they are listed for the one or the other. */
  async #readUncompared(): Promise<void> {
    const { worker, state, onChange } = this.#parts;
    if (worker.sink.comparison !== undefined) return;
    const own = (await state.snapshots.list()).filter(({ sink }) => sink === worker.name);
    for (const snapshot of own.filter(({ scope }) => scope.kind === "differences")) {
      const { tableId, sink, reason } = snapshot;
      const read = { tableId, sink, scope: { kind: "table" }, reason, needed: true } as const;
      await state.snapshots.again(read, (open) => open.state === "waiting");
      await state.snapshots.finish(snapshot);
      onChange();
    }
  }

  /**
   * A sink without a checkpoint may have rows of an earlier life. Invariant: everything written from here on has higher
   * versions.
   */
  async expectEarlierRows({ main, source }: CatchUpParts, signal: AbortSignal): Promise<void> {
    const { worker, tables } = this.#parts;
    const { rows } = worker.sink;
    const highest = await worker.ask(tables(), async (some) => await rows?.highestVersion(some, signal), signal);
    if (highest === undefined || highest === 0n) return;
    if (highest > rowVersion(main.position.epoch, await source.log.tip(signal))) throw sinkHoldsLater(worker.name);
  }

  /**
   * A table that is missing in the target (dropped or renamed meanwhile, or the sink's options name another place) is not complete, nor is a table of `lost`, nor one
   * whose changes may pass by. Invariant: this is durable before the target can be created again, and before the sink
   * passes such a change.
   */
  async withoutInvalid(
    { checkpoint, isBound }: Known,
    lost: readonly string[],
    signal: AbortSignal,
  ): Promise<Checkpoint> {
    const { worker, parts, passedBy, tables, rejoin, logger } = this.#parts;
    const { sink } = worker;
    const copies = [...Object.entries(checkpoint.tables), ...(await parts())];
    const copied = new Set(copies.map(([id]) => id));
    const there = tables().filter(({ id }) => copied.has(id));
    // Under another place there may be tables from an earlier time at which that one was in force.
    const isMoved = checkpoint.place !== placeOf(sink);
    const found = await worker.ask(there, async (some) => await sink.presence?.missing(some, signal), signal);
    const absent = (found ?? []).map(({ id }) => id);
    const missing = new Set([...(isMoved ? copied : absent), ...lost]);
    const histories = sink.form === "history" ? [...missing].filter((id) => checkpoint.tables[id] !== undefined) : [];
    if (histories.length > 0) throw historyLost(sink.name, histories);
    const invalid = new Set([...missing, ...(await passedBy(copies))]);
    await rejoin(isBound ? checkpoint.bond.step : null, invalid);
    if (missing.size > 0) {
      logger.warn(
        { sink: sink.name, tables: [...missing] },
        isMoved
          ? "the sink's tables have other names or another schema now: they are read again"
          : "tables are missing in the target, or lost rows there: they are read again",
      );
      await this.#ask([...missing].filter((id) => checkpoint.tables[id] !== undefined));
    }
    const kept = withoutTables(checkpoint.tables, invalid);
    if (kept === checkpoint.tables && !isMoved) return checkpoint;
    const held = { ...checkpoint, place: placeOf(sink), tables: kept };
    await worker.note(held, signal);
    return held;
  }
}
