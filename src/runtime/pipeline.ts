import type { Clock } from "../core/clock.ts";
import type { Position } from "../core/model/position.ts";
import type { TableVersion } from "../core/model/schema.ts";
import { DEFAULT_POLICY } from "../core/model/schema-policy.ts";
import type { FirstCopy, Source } from "../core/contracts/source.ts";
import type { Refill, SourceRecord, StateStore, StoredError, SuspendedTable } from "../core/contracts/state-store.ts";
import type { SnapshotStatus, UnreadableTable } from "../core/contracts/status.ts";
import { baseVersion } from "../core/model/version.ts";
import { Acknowledger } from "./stream/acknowledger.ts";
import { CatalogWatch } from "./schema/catalog-watch.ts";
import { type CatchUpParts, SECOND_STREAM_TRIES_MAX } from "./stream/catch-up.ts";
import { Comparisons } from "./comparisons.ts";
import { DeadLetterBox } from "./apply/dead-letters.ts";
import { type CopyProgress, firstCopy } from "./snapshot/first-copy.ts";
import { untilGranted, type Withheld } from "./granted.ts";
import { heartbeat } from "./stream/heartbeat.ts";
import { Lane } from "./stream/lane.ts";
import { letIn } from "./schema/let-in.ts";
import { parkSlowSinks } from "./stream/parking.ts";
import type { PipelineParts, SinkSetup } from "./pipeline-parts.ts";
import { Refiller } from "./snapshot/refiller.ts";
import { IN_VAIN_MS_MAX } from "./retry.ts";
import { type GoneBack, Rewind } from "./stream/rewind.ts";
import { SinkRunner } from "./apply/sink-runner.ts";
import { completeFor } from "../core/checkpoint/completeness.ts";
import { SinkTables } from "./schema/sink-tables.ts";
import { SinkWorker } from "./apply/sink-worker.ts";
import { askAgain, snapshotStatus } from "./snapshot/snapshots.ts";
import { SourceFeed } from "./stream/source-feed.ts";
import { heldFrom, onLostOf } from "./apply/standing.ts";
import { SuspendedTables } from "./schema/suspended-tables.ts";
import { findLog, type FoundLog, OPENING_MS_MAX, startingPoint } from "./start.ts";
import { TableGate } from "./schema/table-gate.ts";
import type { Work } from "./apply/work.ts";
import { forgetVisible, noteEarlierDeliveries } from "./stream/visibility.ts";
import { within } from "./within.ts";

export type Phase = "starting" | "snapshot" | "streaming" | "stopped";

/** How long rows are not read yet beside the stream for sinks that are there, while others are on their way. */
const JOINING_MS_MAX = 2_000;
const TRIED_AGAIN = "tried again, as the sink could not write the table";
/** How often it is looked whether a table that is suspended in a sink is to be tried again. */
const SUSPENDED_LOOK_MS = 500;
/** Share of the byte budget of a stream that serves one sink only. */
const CATCH_UP_BYTES_MAX = 16 * 1024 * 1024;
/** Why a table is read again. */
const UNLOGGED = "rows changed without a word in the log";

/**
 * A running source with its sinks: the composition of the runtime, and the order of its start. Rows move from the stream
 * through the lane into the sinks' queues; everything else here decides where that begins and what may be forgotten.
 */
export class Pipeline {
  readonly source: Source;
  readonly state: StateStore;
  readonly gate: TableGate;
  readonly runners: readonly SinkRunner[];
  readonly #parts: PipelineParts;
  readonly suspended: SuspendedTables;
  readonly #tables: SinkTables;
  #stored: SourceRecord | null = null;
  #lane: Lane | null = null;
  #rewind: Rewind | null = null;
  #refiller: Refiller | null = null;
  #comparisons: Comparisons | null = null;
  #watch: CatalogWatch | null = null;
  #acknowledger: Acknowledger | null = null;
  #feed: SourceFeed | null = null;
  #phase: Phase = "starting";
  /** Before the feed. */
  #withheld: Withheld | null = null;
  /** Until it has ended: it knows all tables. */
  #firstCopy: FirstCopy | null = null;
  #copy: CopyProgress | null = null;

  constructor(parts: PipelineParts) {
    this.#parts = parts;
    this.source = parts.source;
    this.state = parts.state;
    this.gate = new TableGate({
      clock: parts.clock,
      state: parts.state,
      events: {
        changed: (table) => this.#tableChanged(table),
        renewed: () => this.#refiller?.notify(),
        setAside: (tableId) => {
          this.#lane?.spoil(tableId);
          // What was lost may be there again by now.
          this.#watch?.wake();
        },
        obstacle: (table) => this.#tables.meetsAnother(table),
      },
      policyOf: parts.policyOf ?? (() => DEFAULT_POLICY),
      logger: parts.logger,
    });
    this.suspended = new SuspendedTables(parts.clock, parts.state.suspensions, parts.logger);
    this.#tables = new SinkTables(this.gate, parts.sinks, this.suspended);
    this.runners = parts.sinks.map((setup) => this.#runnerFor(setup));
  }

  get clock(): Clock {
    return this.#parts.clock;
  }

  get phase(): Phase {
    return this.#phase;
  }

  get copyProgress(): CopyProgress | null {
    return this.#copy;
  }

  /** Everything before it has been read from the source. */
  get position(): Position | null {
    return this.#lane?.position ?? null;
  }

  get acknowledged(): Position | null {
    return this.#acknowledger?.acknowledged ?? this.#stored?.acknowledged ?? this.#stored?.origin ?? null;
  }

  /** The last failure of the stream while it is not back yet. */
  get sourceError(): StoredError | null {
    return this.#feed?.error ?? this.#withheld?.error ?? null;
  }

  get sourceNeedsPerson(): boolean {
    return this.#feed?.needsPerson ?? this.#withheld?.needsPerson ?? false;
  }

  /** While the sinks share one stream that went back for some of them. */
  get goneBack(): GoneBack | null {
    return this.#rewind?.goneBack ?? null;
  }

  /** Whether the source's tables were looked at since the start: until then nobody knows what is to be read. */
  get hasLooked(): boolean {
    return this.#watch?.hasLooked ?? false;
  }

  /** Ids of tables whose present shape the stream has not come to yet. */
  get changingTables(): readonly string[] {
    return [...new Set([...(this.#watch?.changing ?? []), ...this.gate.changing])];
  }

  /** Ids of tables that can't be read before older transactions at the source have ended. */
  get unsettledTables(): readonly string[] {
    return this.#watch?.unsettled ?? [];
  }

  /** What sinks hold, beside what the source has; null while the pipeline does not stream. */
  get comparisons(): Comparisons | null {
    return this.#phase === "streaming" ? this.#comparisons : null;
  }

  /** Resolves when tables that are there at the call are known; false while the pipeline does not stream yet. */
  async look(signal: AbortSignal): Promise<boolean> {
    if (this.#phase !== "streaming" || this.#watch === null) return false;
    await this.#watch.look(signal);
    return true;
  }

  /** Chunks, tables and keys still to be read beside the stream. */
  get unfinishedRefills(): number {
    return this.#refiller?.unfinished ?? 0;
  }

  runner(name: string): SinkRunner | undefined {
    return this.runners.find((runner) => runner.name === name);
  }

  /** Reads tables, or a part of each, again for one sink, beside the stream. */
  async refill(sink: string, tableIds: readonly string[], where: string | null, reason: string): Promise<void> {
    const scope = where === null ? ({ kind: "table" } as const) : ({ kind: "where", where } as const);
    const taken = tableIds.filter((id) => {
      const table = this.gate.table(id);
      return table !== undefined && this.#tables.fills(sink, table);
    });
    if (this.#refiller === null) await askAgain(this.state.refills, sink, taken, scope, reason);
    else await this.#refiller.again(sink, taken, scope, reason);
  }

  /** Tables that a sink can't follow; of one that is gone at the source nobody waits for anything. */
  get suspendedTables(): readonly SuspendedTable[] {
    return this.suspended.all.filter(({ sink, tableId }) => {
      const table = this.gate.newest(tableId);
      return table !== undefined && !this.gate.isGone(tableId) && this.#tables.takes(sink, table);
    });
  }

  /** Sinks take the tables again that were suspended there, and have them read. */
  async reinstate(sinks: readonly string[], tableIds: readonly string[]): Promise<void> {
    for (const sink of sinks) await this.suspended.reinstate(sink, tableIds);
    this.#refiller?.notify();
  }

  /** What is to be read beside the stream, oldest first; with `all` what was, too. */
  async snapshots(all: boolean): Promise<readonly SnapshotStatus[]> {
    const refills = await (this.#refiller?.ledger ?? this.state.refills).list(all);
    return refills.map((refill) => snapshotStatus(refill, this.#refiller?.failing.errorOf(refill)));
  }

  /** Tables of which something is to be read beside the stream, and can't be at the moment. */
  get unreadable(): readonly UnreadableTable[] {
    return this.#refiller?.failing.tables ?? [];
  }

  /** Runs until aborted (then everything in flight has ended) or until the source fails for good. */
  async run(signal: AbortSignal): Promise<void> {
    try {
      await this.#run(signal);
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }

  async #run(signal: AbortSignal): Promise<void> {
    await this.gate.load();
    await this.suspended.load();
    await this.#dropUnwanted();
    const stored = await this.#findLog(signal);
    if (this.#firstCopy === null) await this.#granted(signal);
    const from = await startingPoint({ clock: this.clock, runners: this.runners }, stored, signal);
    await this.#flow(from, stored, signal);
  }

  async #findLog(signal: AbortSignal): Promise<FoundLog["stored"]> {
    const { clock, source, state, snapshot } = this.#parts;
    const { stored, copy } = await findLog({ clock, source, state, runners: this.runners, snapshot }, signal);
    this.#firstCopy = copy;
    this.#stored = stored;
    return stored;
  }

  get #inVainMsMax(): number {
    return this.#parts.inVainMsMax ?? IN_VAIN_MS_MAX;
  }

  async #granted(signal: AbortSignal): Promise<void> {
    const { clock, source, state, sinks, logger } = this.#parts;
    const parts = {
      clock,
      source,
      state,
      sinks: sinks.map(({ sink }) => sink),
      inVainMsMax: this.#inVainMsMax,
      logger,
    };
    await untilGranted(parts, (withheld) => (this.#withheld = withheld), signal);
  }

  /**
   * A table that its sink does not take any more. Invariant: before its changes pass by, so that nothing goes on later from
   * where it was read before.
   */
  async #dropUnwanted(): Promise<void> {
    for (const { id, tableId, sink } of await this.state.refills.list()) {
      const table = this.gate.newest(tableId);
      if (table !== undefined && !this.#tables.takes(sink, table)) await this.state.refills.cancel(id, true);
    }
  }

  async #flow(from: Position, stored: SourceRecord, signal: AbortSignal): Promise<void> {
    const { clock, source, state, logger } = this.#parts;
    const lane = (this.#lane = new Lane(from, source.markPrefix));
    const rewind = (this.#rewind = new Rewind(clock, lane));
    const refiller = (this.#refiller = new Refiller({
      clock,
      lane,
      source,
      state,
      gate: this.gate,
      completeness: (table) => this.#tables.completeness(table),
      lacking: (worker) => this.#lacking(worker),
      isSuspended: (sink, tableId) => this.suspended.has(sink, tableId),
      logger,
    }));
    const { gate, runners } = this;
    const standings = () => runners.map(({ standing }) => standing);
    const onPendingKeys = () => refiller.notify();
    const comparing = {
      clock,
      lane,
      source,
      state,
      gate,
      takers: this.#tables,
      runners,
      suspended: this.suspended,
      onPendingKeys,
      logger,
    };
    this.#comparisons = new Comparisons(comparing);
    const watch = (this.#watch = new CatalogWatch({
      clock,
      source,
      state,
      gate: this.gate,
      lane,
      isHeld: (id, generation) => this.#tables.isHeld(id, generation, standings()),
      intervalMs: this.#parts.heartbeatMs,
      letIn: (tableIds) => letIn(this, tableIds),
      logger,
    }));
    const acknowledger = (this.#acknowledger = new Acknowledger({
      clock,
      state,
      acknowledged: stored.acknowledged,
      standings,
      reached: () => lane.position,
      remember: (places) => source.remember?.(places) ?? null,
    }));
    const ending = new AbortController();
    const until = AbortSignal.any([signal, ending.signal]);
    const resolve = this.gate.resolve;
    const isKnown = (id: string) => this.gate.newest(id) !== undefined;
    const held = () => heldFrom(lane.position, standings());
    const revise = () => this.gate.revise((table) => source.revised?.(table) ?? null, lane.position);
    const onUnloggedRows = (id: string, sink?: string) => this.#readUnlogged(id, sink ?? null, refiller);
    const inVainMsMax = this.#inVainMsMax;
    const calls = { resolve, isKnown, revise, held, onUnloggedRows };
    const feeding = { clock, source, state, lane, rewind, inVainMsMax, ...calls, logger };
    const feed = (this.#feed = new SourceFeed(feeding));
    const { secondStreamTriesMax = SECOND_STREAM_TRIES_MAX } = this.#parts;
    const shared = { clock, source, main: lane, rewind, resolve, isKnown, onUnloggedRows };
    const main: CatchUpParts = { ...shared, secondStreamTriesMax, byteCountMax: CATCH_UP_BYTES_MAX };
    const sinks = this.runners.map((runner) => runner.run(main, until));
    try {
      // A runner ends before it is told to only where the state store fails it.
      await Promise.race([this.#copyFirst(until), ...sinks]);
      await Promise.race([
        feed.run(until),
        noteEarlierDeliveries({ clock, source, lane, logger }, until)
          .then(() => this.#joinedTogether(until))
          .then(() => refiller.run(until)),
        forgetVisible({ clock, source, lane, logger }, until),
        acknowledger.run(
          () => feed.stream,
          (error) => logger.warn({ error }, "positions could not be stored; it is tried again"),
          until,
        ),
        this.#trySuspended(refiller, until),
        heartbeat({ clock, source, lane, intervalMs: this.#parts.heartbeatMs, logger }, until),
        watch.run(until),
        parkSlowSinks(
          { clock, lane },
          (worker) => rewind.isCatchingUp(worker),
          (worker) => this.runner(worker.name)?.park(),
          until,
        ),
        ...sinks,
      ]);
    } finally {
      ending.abort();
      await Promise.allSettled(sinks);
      await this.#storeLast(acknowledger, refiller);
      await feed[Symbol.asyncDispose]();
      this.#phase = "stopped";
    }
  }

  /** Level-triggered: what is suspended in a sink, and may be written by now, is taken again and read. */
  async #trySuspended(refiller: Refiller, signal: AbortSignal): Promise<never> {
    const shapeOf = (sink: string, tableId: string): string | null => {
      const table = this.gate.table(tableId);
      const isReady =
        this.runner(sink)?.state === "streaming" && table !== undefined && this.#tables.takes(sink, table);
      return isReady ? table.fingerprint : null;
    };
    for (;;) {
      await this.clock.sleep(SUSPENDED_LOOK_MS, signal);
      const { tried } = this.suspended;
      const open = tried.length === 0 ? [] : await this.state.refills.list();
      for (const one of tried) if (this.#isRead(one, open)) this.suspended.settle(one);
      for (const one of this.suspended.due(shapeOf)) {
        await this.suspended.tryAgain(one, () =>
          refiller.again(one.sink, [one.tableId], { kind: "table" }, TRIED_AGAIN, true),
        );
      }
    }
  }

  #isRead({ sink, tableId }: SuspendedTable, open: readonly Refill[]): boolean {
    if (open.some((refill) => refill.sink === sink && refill.tableId === tableId)) return false;
    return this.#parts.snapshot === "none" || this.runner(sink)?.worker.progress?.tables[tableId] !== undefined;
  }

  /** Sinks that stand at the same key share what is read: the first of them waits for the others for a moment. */
  async #joinedTogether(signal: AbortSignal): Promise<void> {
    await within(this.clock, JOINING_MS_MAX, Promise.all(this.runners.map(({ joined }) => joined)), signal);
  }

  /** What is not stored now is read again at the next start: never a reason to hide why this one ended. */
  async #storeLast(acknowledger: Acknowledger, refiller: Refiller): Promise<void> {
    const storing = [refiller.ledger.store(), acknowledger.once(this.#feed?.stream ?? null)];
    for (const result of await Promise.allSettled(storing)) {
      if (result.status === "fulfilled") continue;
      this.#parts.logger.warn({ error: result.reason as unknown }, "the last positions could not be stored");
    }
  }

  async #copyFirst(signal: AbortSignal): Promise<void> {
    try {
      if (this.#firstCopy !== null) await this.#copyTables(this.#firstCopy, signal);
    } finally {
      await this.#firstCopy?.close();
      this.#firstCopy = null;
    }
    // From here on it is looked at what the sinks lack.
    this.#phase = "streaming";
    this.#refiller?.notify();
  }

  async #copyTables(copy: FirstCopy, signal: AbortSignal): Promise<void> {
    this.#phase = "snapshot";
    const lane = this.#lane!;
    const tables: TableVersion[] = [];
    for (const shape of copy.tables) {
      const table = await this.gate.resolve(shape, lane.position);
      if (this.gate.flows(table)) tables.push(table);
    }
    this.#copy = { tableCount: tables.length, tablesDone: 0, rowsRead: 0 };
    await within(this.clock, OPENING_MS_MAX, Promise.all(this.runners.map((runner) => runner.joined)), signal);
    const parts = {
      clock: this.clock,
      copy,
      tables,
      workers: [...lane.sinks].filter(({ name }) => this.runner(name)?.takesFirstCopy),
      push: (worker: SinkWorker, work: Work) => lane.push(worker, work),
      wants: (worker: SinkWorker, table: TableVersion) => this.#tables.fills(worker.name, table),
      // A sink without a checkpoint may have rows of earlier epochs, too: of a first one nothing is below the base.
      sweepBelow: lane.position.epoch > 1 ? baseVersion(lane.position.epoch) : null,
      completeness: (table: TableVersion) => completeFor(table, copy.generations.get(table.id) ?? ""),
      logger: this.#parts.logger,
    };
    await firstCopy(parts, this.#copy, signal);
  }

  #tableChanged(table: TableVersion): void {
    this.#lane?.spoil(table.id);
    if (this.#phase !== "streaming") return;
    this.#watch?.wake();
    this.#refiller?.notify();
  }

  /**
   * `only`: the sink whose own stream it is. Invariants: that the table is to be read is stored before the stream passes the
   * place, and what its copy is complete for is looked at after it.
   */
  async #readUnlogged(tableId: string, only: string | null, refiller: Refiller): Promise<void> {
    const table = this.gate.table(tableId);
    if (table === undefined || this.#parts.snapshot === "none") return;
    this.#lane?.spoil(tableId);
    this.gate.doubt(tableId);
    this.#watch?.wake();
    const takers = this.runners.map(({ name }) => name).filter((name) => this.#tables.fills(name, table));
    const sinks = only === null ? takers : takers.filter((name) => name === only);
    await Promise.all(sinks.map((sink) => refiller.again(sink, [tableId], { kind: "table" }, UNLOGGED, true)));
  }

  /** Ids of the tables that this sink must hold and does not hold completely. */
  #lacking({ name, progress }: SinkWorker): readonly string[] {
    if (this.#parts.snapshot === "none" || this.#phase !== "streaming") return [];
    return this.#tables.lacking(name, progress?.tables ?? {});
  }

  #runnerFor(setup: SinkSetup): SinkRunner {
    const { sink, limits, onPoison, takes } = setup;
    const { clock, name, producer, source, state, lease, logger: parent, metrics } = this.#parts;
    const logger = parent.child({ sink: sink.name });
    const context = {
      name,
      producer,
      sourceKind: source.kind,
      database: source.database,
      formatPosition: (commit: bigint) => source.formatPosition(commit),
    };
    const worker = new SinkWorker({
      clock,
      sink,
      state,
      limits,
      wants: (table) => this.#tables.fills(sink.name, table) && this.gate.flows(table),
      leavesOut: (tableId) => {
        const table = this.gate.newest(tableId);
        return this.suspended.has(sink.name, tableId) || (table !== undefined && !takes(table));
      },
      deadLetters: new DeadLetterBox(sink.name, state.deadLetters, onPoison, context, logger),
      willRead: (tableId) => this.#refiller?.ledger.willRead(sink.name, tableId) ?? false,
      isVoid: (tableId) => this.gate.isGone(tableId) || this.suspended.has(sink.name, tableId),
      onPendingKeys: () => this.#refiller?.notify(),
      onRefused: async (tableId, error, shape) =>
        await this.suspended.suspend(sink.name, tableId, error, shape ?? this.gate.newest(tableId)?.fingerprint),
      suspend: async (tableId, error) => await this.gate.setAside(tableId, error),
      onVoid: () => this.#refiller?.notify(),
      logger,
      metrics,
    });
    return new SinkRunner({
      clock,
      worker,
      lease,
      state,
      onLost: onLostOf(sink, setup.onLost),
      readsByItself: this.#parts.snapshot === "initial",
      acknowledged: () => this.#acknowledger?.givenUp ?? this.acknowledged,
      tables: () => this.gate.tables.filter((table) => this.#tables.fills(sink.name, table)),
      parts: async () => (await this.#refiller?.ledger.partsOf(sink.name)) ?? new Set(),
      rejoin: async (step, missing) => await this.#refiller?.ledger.rejoin(sink.name, step, missing),
      onChange: () => this.#refiller?.notify(),
      inVainMsMax: this.#inVainMsMax,
      logger,
    });
  }
}
