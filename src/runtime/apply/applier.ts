import type { Clock } from "../../core/clock.ts";
import { findMillraceError, type MillraceError } from "../../core/errors.ts";
import { comparePositions, type Position } from "../../core/model/position.ts";
import type { News } from "../../core/news.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import type { Sink } from "../../core/contracts/sink.ts";
import type { StateStore } from "../../core/contracts/state-store.ts";
import type { Logger, Metrics } from "../../core/contracts/telemetry.ts";
import type { DeadLetterBox } from "./dead-letters.ts";
import { ambiguousKey, internalFailure } from "../errors.ts";
import { FollowedShapes } from "../schema/followed-shapes.ts";
import { IncompleteKeys } from "./incomplete-keys.ts";
import type { Attempted } from "./isolation.ts";
import { measureStep } from "./measured-steps.ts";
import { Lookahead, type NettedAhead } from "./lookahead.ts";
import { type Netted, Netter } from "../netting/netting.ts";
import { type Plan, planOf } from "./plan.ts";
import type { BatchLimits, SinkQueue, Taken, TakenChunks, TakenEnds, TakenRows } from "./sink-queue.ts";
import { SinkSteps } from "./sink-steps.ts";
import { isOfShape } from "../../core/checkpoint/completeness.ts";
import type { CompareWork, CompleteWork, SweepWork, TruncateWork, Work } from "./work.ts";

export interface WorkerParts {
  readonly clock: Clock;
  readonly sink: Sink;
  readonly state: StateStore;
  readonly limits: BatchLimits;
  /** Whether the sink takes this table, and the table is suspended neither here nor everywhere. Asked once per block and table. */
  readonly wants: (table: TableVersion) => boolean;
  /** Whether the table is left out of this sink, by the configuration or suspended here: its changes pass by. */
  readonly leavesOut: (tableId: string) => boolean;
  readonly deadLetters: DeadLetterBox;
  /** Whether a whole copy of the table lies ahead for this sink, with nothing of it read yet. */
  readonly willRead: (tableId: string) => boolean;
  /** Whether nobody reads the table for this sink any more. */
  readonly isVoid: (tableId: string) => boolean;
  readonly onPendingKeys: () => void;
  /** The sink no longer holds the table completely, as its shape has changed. */
  readonly onVoid: (tableId: string) => void;
  /** This sink can't follow or write the table: it is not wanted here any more when this resolves. */
  readonly onRefused: (tableId: string, error: MillraceError, shape: string | undefined) => Promise<void>;
  /** Suspends a table whose rows can't be worked: it is not wanted any more when this resolves. */
  readonly suspend: (tableId: string, error: MillraceError) => Promise<void>;
  /** Told when the sink has come further, or has room. */
  readonly news: News;
  readonly logger: Logger;
  readonly metrics: Metrics;
}

/** What became of a work: a dropped one must be done again some other time. */
export type How = "durable" | "dropped";

/** One sink's works, turned into steps: netted, its targets made ready, applied, and what it owes listed. */
export class Applier {
  readonly #parts: WorkerParts;
  /** They take turns: what one has netted stays while the other nets. */
  readonly #netters: readonly [Netter, Netter];
  #nettings = 0;
  readonly lookahead: Lookahead;
  readonly #incomplete: IncompleteKeys;
  readonly steps: SinkSteps;
  readonly shapes: FollowedShapes;
  /** What the sink was at work on, where that is known: a failure may be of one of these tables alone. */
  attempted: Attempted | null = null;

  constructor(parts: WorkerParts, queue: SinkQueue) {
    const { sink, state, deadLetters, willRead } = parts;
    this.#parts = parts;
    this.#netters = [new Netter(sink.form), new Netter(sink.form)];
    this.lookahead = new Lookahead({
      ...parts,
      queue,
      isComplete: ({ id }) => this.#isComplete(id),
      net: (plan, wants, isComplete) => this.#netted(plan, wants, isComplete),
      stage: (tables) => sink.prefetch?.stage(tables),
    });
    this.steps = new SinkSteps({
      ...parts,
      bonds: state.bonds,
      outcome: {
        incomplete: (writes, entries) => this.#incomplete.listEntries(writes, entries),
        poison: (writes, entry, error) => deadLetters.add(writes, entry, error),
      },
      onAttempt: () => deadLetters.beginAttempt(),
    });
    this.shapes = new FollowedShapes({
      ...parts,
      schemas: state.schemas,
      steps: this.steps,
      onWork: (tableId) => (this.attempted = tableId === null ? null : { kind: "table", tableId }),
    });
    this.#incomplete = new IncompleteKeys({
      ...parts,
      // Invariant: what a copy lacks that may yet count as complete, without being read, is listed.
      willRead: (tableId) => !this.shapes.mayCarry(tableId) && willRead(tableId),
      sink: sink.name,
      refills: state.refills,
      isComplete: (tableId) => this.#isComplete(tableId),
    });
  }

  /** `passed`: works of `taken` that were dropped although the others are done. */
  async perform(taken: Taken, ahead: NettedAhead | null, passed: Set<Work>, signal: AbortSignal): Promise<How> {
    this.attempted = "table" in taken ? { kind: "table", tableId: taken.table.id } : null;
    switch (taken.kind) {
      case "rows":
        await this.#rows(taken, ahead, passed, signal);
        break;
      case "chunks":
        await this.#chunks(taken, passed, signal);
        break;
      case "compare":
        return await this.#compare(taken, signal);
      case "truncate":
        await this.#truncate(taken, signal);
        break;
      case "ends":
        await this.#ends(taken, passed, signal);
        break;
      case "carry":
        if (!this.#takes(taken.table)) return "dropped";
        return (await this.shapes.carry(taken, signal)) ? "durable" : "dropped";
      case "heartbeat":
        await this.steps.retrying(signal, () => this.#parts.sink.verify(signal));
        if (comparePositions(this.steps.reached, this.steps.held.position) > 0) {
          await this.steps.store({ position: this.steps.reached }, signal);
        }
        break;
      default:
        taken satisfies never;
    }
    return "durable";
  }

  /**
   * Invariant 7: a sink that is further than the chunk's place, since it joined its lane there, may have deleted rows
   * that the chunk still shows. Invariant: with each chunk the sink's position grows, so that an older copy of the sink is
   * known by it.
   */
  async #chunks({ works }: TakenChunks, passed: Set<Work>, signal: AbortSignal): Promise<void> {
    passed.clear();
    const { until } = works[0]!;
    const isLate = comparePositions(this.steps.reached, until) > 0;
    const fitting = works.filter((work) => {
      const fits = !isLate && work.block.tables.every((table) => this.#takes(table));
      if (!fits) passed.add(work);
      return fits;
    });
    const { position } = this.steps.held;
    const reached = comparePositions(until, position) > 0 ? until : position;
    const slices = fitting.map(({ block }) => ({ block, from: 0, to: block.count }));
    await this.#net({ slices, since: null, until: null }, null, reached, signal);
  }

  /** All tables in one step; what fails so, and is no word of any of them, is done table by table. */
  async #ends({ works }: TakenEnds, passed: Set<Work>, signal: AbortSignal): Promise<void> {
    passed.clear();
    const ends = works.filter((work) => this.#isWanted(work, passed));
    const byTable = Map.groupBy(ends, ({ table }) => table.id);
    if (byTable.size > 1) {
      try {
        return await this.#end(ends, signal);
      } catch (error) {
        const known = findMillraceError(error);
        if (signal.aborted || known?.kind !== "fatal" || known.table !== undefined) throw error;
        this.shapes.reopen();
        await this.steps.reopen(signal);
      }
    }
    for (const [tableId, own] of byTable) {
      this.attempted = { kind: "table", tableId };
      await this.#end(own, signal);
    }
  }

  /** What was not seen any more is removed, and the tables are complete. */
  async #end(works: readonly (SweepWork | CompleteWork)[], signal: AbortSignal): Promise<void> {
    const tables = new Set(works.map(({ table }) => table));
    await this.#prepare([...tables], signal);
    const sweeps = works.filter((work) => work.kind === "sweep");
    const complete = works.filter((work) => work.kind === "complete");
    if (sweeps.length === 0) return await this.shapes.complete(complete, signal);
    const progress = this.shapes.completed(this.steps.held, complete);
    await this.steps.apply({ kind: "sweep", sweeps, progress }, signal);
    this.shapes.noteComplete(complete);
  }

  /** Invariant 7: at no other place may the sink be expected to hold just these rows. */
  async #compare({ table, until, compare }: CompareWork, signal: AbortSignal): Promise<How> {
    const held = this.steps.held.tables[table.id];
    if (comparePositions(this.steps.reached, until) > 0 || this.shapes.isOutdated(table)) return "dropped";
    if (held === undefined || !isOfShape(held, table) || !this.#parts.wants(table)) return "dropped";
    await this.shapes.prepare(table, signal);
    await compare(signal);
    return "durable";
  }

  async #truncate({ table, version, record, until }: TruncateWork, signal: AbortSignal): Promise<void> {
    if (comparePositions(until, this.steps.reached) <= 0) return;
    if (this.#parts.wants(table)) {
      await this.shapes.prepare(table, signal);
      const progress = { ...this.steps.held, position: until };
      await this.steps.apply({ kind: "truncate", table, version, record, progress }, signal);
      this.#parts.metrics.rowsApplied(this.#parts.sink.name, table.id, "truncate", 1);
    }
    this.steps.cover(until);
  }

  async #rows(taken: TakenRows, ahead: NettedAhead | null, passed: Set<Work>, signal: AbortSignal): Promise<void> {
    const { reached, held } = this.steps;
    const plan = planOf(taken.works, reached);
    if (plan === null) return;
    passed.clear();
    await this.#net(plan, ahead, plan.until ?? held.position, signal, async () => {
      const complete = taken.complete.filter((work) => this.#isWanted(work, passed));
      // A table without rows is made too.
      await this.#prepare(
        complete.map(({ table }) => table),
        signal,
      );
      return complete;
    });
    if (plan.until !== null) this.steps.cover(plan.until);
  }

  async #prepare(tables: readonly TableVersion[], signal: AbortSignal): Promise<void> {
    const attempted = this.attempted;
    await this.shapes.prepareAll(tables, signal);
    this.attempted = attempted;
  }

  /** Passes over a table of which there is a later shape, or that is suspended by now. */
  #isWanted(work: SweepWork | CompleteWork, passed: Set<Work>): boolean {
    const isWanted = this.#takes(work.table);
    if (!isWanted) passed.add(work);
    return isWanted;
  }

  #takes(table: TableVersion): boolean {
    return !this.shapes.isOutdated(table) && this.#parts.wants(table);
  }

  /**
   * Nets the rows, unless that was done ahead, and applies what comes out, after which the sink stands at `position` and holds
   * what is `complete` by then; a batch with neither for this sink writes nothing.
   */
  async #net(
    plan: Plan,
    ahead: NettedAhead | null,
    position: Position,
    signal: AbortSignal,
    complete: () => Promise<readonly CompleteWork[]> = async () => [],
  ): Promise<void> {
    if (plan.slices.length === 0) return await this.shapes.complete(await complete(), signal);
    const known = ahead?.stands(this.steps.reached) === true ? ahead.netted : null;
    const netted = known ?? this.#netted(plan, this.#parts.wants, ({ id }) => this.#isComplete(id));
    if (await this.#suspended(netted)) return await this.#net(plan, null, position, signal, complete);
    // Invariant: a key is listed durably before the progress that passes its change is.
    if (netted.untold.length > 0) await this.#incomplete.list(netted.untold);
    for (const row of netted.unplaced) await this.#parts.deadLetters.settle(row);
    const { tables, order } = netted;
    if (tables.length === 0) {
      netted.release();
      return await this.shapes.complete(await complete(), signal);
    }
    await this.#incomplete.listDoubtful(tables);
    this.attempted = tables.length === 1 ? { kind: "table", tableId: tables[0]!.table.id } : null;
    await this.#prepare(
      tables.map(({ table }) => table),
      signal,
    );
    const ended = await complete();
    this.attempted = { kind: "rows", tables };
    const { reached, held } = this.steps;
    const step = {
      kind: "rows",
      tables,
      order,
      progress: { ...this.shapes.completed(held, ended), position },
    } as const;
    const end = comparePositions(position, reached) > 0 ? position : reached;
    await this.lookahead.during(end, (onWaiting) => this.steps.apply(step, signal, onWaiting));
    this.attempted = null;
    this.shapes.noteComplete(ended);
    measureStep(this.#parts.metrics, this.#parts.sink.name, tables);
    await this.#parts.deadLetters.supersede(tables);
    netted.release();
  }

  /** Whether tables had to be suspended: the others are netted again. */
  async #suspended({ unkeyed, failed }: Netted): Promise<boolean> {
    const { suspend, logger } = this.#parts;
    for (const { id } of unkeyed) await suspend(id, ambiguousKey(id, "null"));
    for (const [{ id }, error] of failed) {
      logger.error({ table: id, error }, "a table's changes could not be worked: it is suspended");
      await suspend(id, internalFailure(id, error));
    }
    return unkeyed.length > 0 || failed.size > 0;
  }

  #netted(
    { slices, since }: Plan,
    wants: (table: TableVersion) => boolean,
    isComplete: (table: TableVersion) => boolean,
  ): Netted {
    return this.#netters[this.#nettings++ % 2]!.net(slices, wants, since, isComplete);
  }

  #isComplete(tableId: string): boolean {
    return this.steps.held.tables[tableId] !== undefined;
  }
}
