import type { Clock } from "../core/clock.ts";
import type { OnLost } from "../core/contracts/sink.ts";
import type { OnSkipped, Revise, SkippedLog, Source } from "../core/contracts/source.ts";
import type { TableShape } from "../core/contracts/catalog.ts";
import { type SourceRecord, type StateStore, TABLE_PAUSED } from "../core/contracts/state-store.ts";
import { type SnapshotStatus, snapshotStatus } from "../core/contracts/status.ts";
import type { Logger, Metrics } from "../core/contracts/telemetry.ts";
import { latest, type Position } from "../core/model/position.ts";
import { contextOf } from "../core/model/envelope.ts";
import { News } from "../core/waiting.ts";
import { DEFAULT_POLICY, type SchemaPolicy } from "../core/model/schema-change.ts";
import { DEAD_LETTERS_MAX, DeadLetterBox } from "./sink/dead-letters.ts";
import type { BatchLimits } from "./stream/sink-queue.ts";
import { lifeOf, SinkLife } from "./sink/sink-life.ts";
import { SinkWorker } from "./sink/sink-worker.ts";
import { SinkTables } from "./sink/sink-tables.ts";
import { knownPosition, loseChanges, onLostOf, passedOver } from "./sink/sink-position.ts";
import type { Comparisons } from "./comparisons.ts";
import { untilGranted, type WaitingStart, type StartObstacle, whenAnswered } from "./start/start-waits.ts";
import { IN_VAIN_MS_MAX } from "./retry.ts";
import { Targets, type TableTaker } from "./schema/targets.ts";
import { type SuspendedInSink, SuspendedTables } from "./schema/suspended-tables.ts";
import { TableGate } from "./schema/table-gate.ts";
import { Ledger } from "./snapshot/ledger.ts";
import { type Again, ASKED, askAgain, REINSTATED, RESUMED } from "./snapshot/snapshots.ts";
import type { Login } from "../core/errors.ts";
import { tablePaused } from "./errors.ts";
import { findLog, skippedLog, startingPoint, unknownLog } from "./start/found-log.ts";
import { ReadHold } from "./stream/kept-log.ts";
import { STARTING, type StreamFacts, Streaming } from "./streaming.ts";

export interface SinkSetup extends TableTaker {
  readonly limits: BatchLimits;
  readonly onPoison: "pause" | "deadLetter";
  /** See `withLogin`. */
  readonly login?: Login | null;
  /** Where it writes, as people read it. */
  readonly place?: string | undefined;
  /** How many rows of a table may be refused; absent: the default. */
  readonly deadLettersMax?: number;
  /** Default: the sink's own. A lost history can't be read again. */
  readonly onLost?: OnLost;
}

export interface PipelineParts {
  readonly clock: Clock;
  readonly name: string;
  readonly producer: string;
  readonly source: Source;
  readonly state: StateStore;
  readonly lease: number;
  readonly sinks: readonly SinkSetup[];
  readonly snapshot: "initial" | "none";
  readonly heartbeatMs: number;
  /** How changes of a table's shape are treated. By default targets follow all of them. */
  readonly policyOf?: (table: TableShape) => SchemaPolicy;
  readonly revised: Revise;
  readonly onSkipped: OnSkipped;
  /** How often a lagging sink asks for a second stream before the first stream goes back for it. */
  readonly secondStreamTriesMax?: number;
  /** How long a source or a sink that answers may fail in a row before an operator has to act. */
  readonly inVainMsMax?: number;
  /** Of the source; see `withLogin`. */
  readonly login?: Login | null;
  /** The pipeline ends at the first failure of its start, which otherwise waits. */
  readonly isOnce?: boolean;
  /** See `Pipeline`. Default: of its own. */
  readonly news?: News;
  readonly logger: Logger;
  readonly metrics: Metrics;
}

interface Lacked {
  readonly all: ReadonlySet<string>;
  readonly read: ReadonlySet<string>;
}

/**
 * A running source with its sinks, as the daemon's other parts see it. It starts, which finds the log and the position
 * where the stream begins; then it streams (streaming.ts).
 */
export class Pipeline {
  readonly clock: Clock;
  readonly source: Source;
  /** Of the source; see `withLogin`. */
  readonly login: Login | null;
  readonly state: StateStore;
  readonly gate: TableGate;
  readonly lives: readonly SinkLife[];
  /** Notified when something changes that a `wait` may wait for: a sink has made progress, or its state has changed. */
  readonly news: News;
  readonly #parts: PipelineParts;
  /** On while the source keeps more log than it may. */
  readonly readHold = new ReadHold();
  readonly suspended: SuspendedTables;
  readonly #targets: Targets;
  readonly #ledger: Ledger;
  #stored: SourceRecord | null = null;
  /** Set while the source does not let this daemon continue. */
  #withheld: StartObstacle | null = null;
  /** Null while it starts. */
  #streaming: Streaming | null = null;

  constructor(parts: PipelineParts) {
    this.#parts = parts;
    this.clock = parts.clock;
    this.news = parts.news ?? new News();
    this.source = parts.source;
    this.login = parts.login ?? null;
    this.state = parts.state;
    this.gate = new TableGate({
      clock: parts.clock,
      state: parts.state,
      events: {
        changed: (table) => this.#streaming?.tableChanged(table),
        renewed: () => this.#notify(),
        suspended: (tableId) => this.#streaming?.tableSuspended(tableId),
        found: async (table) => await this.#targets.keepApart(table),
      },
      policyOf: parts.policyOf ?? (() => DEFAULT_POLICY),
      logger: parts.logger,
    });
    this.suspended = new SuspendedTables(parts.clock, parts.state.suspensions, parts.logger);
    this.#targets = new Targets(this.gate, parts.sinks, this.suspended);
    this.#ledger = new Ledger(parts.clock, parts.state.snapshots);
    this.lives = parts.sinks.map((setup) => this.#lifeFor(setup));
  }

  /** How the stream is at the moment. */
  get facts(): StreamFacts {
    if (this.#streaming !== null) return this.#streaming.facts;
    const { error = null, needsPerson = false } = this.#withheld ?? {};
    return { ...STARTING, error, needsPerson, changingTables: this.gate.changing };
  }

  get acknowledged(): Position | null {
    return this.#streaming?.acknowledger.acknowledged ?? this.#stored?.acknowledged ?? this.#stored?.origin ?? null;
  }

  /** What sinks hold, beside what the source has; null while the pipeline does not stream. */
  get comparisons(): Comparisons | null {
    return this.#streaming?.phase === "streaming" ? this.#streaming.comparisons : null;
  }

  /** Resolves true when all tables that exist at the call are known; false while the pipeline does not stream yet. */
  async look(signal: AbortSignal): Promise<boolean> {
    if (this.#streaming?.phase !== "streaming") return false;
    await this.#streaming.watch.look(signal);
    return true;
  }

  life(name: string): SinkLife | undefined {
    return lifeOf(this.lives, name);
  }

  /**
   * Of which of these tables the sink has no complete copy, or one that will be read again, and which of them are being read; null:
   * that is not known.
   */
  lackedBy(sink: string, tableIds: readonly string[]): Lacked | null {
    const life = this.life(sink);
    const { phase, hasLooked, changingTables, unsettledTables } = this.facts;
    if (life?.state !== "streaming" || phase !== "streaming" || !hasLooked) return null;
    const { position } = life.worker;
    const read = new Set(life.tables.lacking(position.tables));
    const uncertain = new Set([...read, ...changingTables, ...unsettledTables]);
    return { all: new Set(tableIds.filter((id) => uncertain.has(id) || !position.holds(id))), read };
  }

  /** Whether the sink may lack rows of these tables that are still to be read for it beside the stream; none: of any. */
  owesReads(sink: string, tableIds: readonly string[] = []): boolean {
    return this.#streaming?.snapshotter.owes(sink, tableIds) ?? true;
  }

  /** Reads tables, or a part of each, again for one sink, beside the stream. */
  async snapshot(sink: string, tableIds: readonly string[], where: string | null, reason: string): Promise<void> {
    const scope = where === null ? ({ kind: "table" } as const) : ({ kind: "where", where } as const);
    const taken = tableIds.filter((id) => {
      const table = this.gate.table(id);
      return table !== undefined && this.life(sink)?.tables.fills(table) === true;
    });
    const request = { sink, tableIds: taken, scope, reason, needed: false };
    await this.#ask(request);
  }

  async #ask(request: Again): Promise<void> {
    if (this.#streaming === null) await askAgain(this.state.snapshots, request);
    else await this.#streaming.snapshotter.again(request);
  }

  /** Keys were listed by somebody else than a sink. */
  readListedKeys(): void {
    this.#streaming?.snapshotter.notifyKeys();
  }

  /** Every sink lacks changes of a suspended table: all of them read it again before it flows. */
  async reinstate(tableIds: readonly string[]): Promise<void> {
    const { gate, state, lives } = this;
    const ids = tableIds.filter((id) => gate.suspended.has(id));
    for (const tableId of ids) {
      const table = gate.newest(tableId);
      const takers = lives.filter(({ tables }) => table !== undefined && tables.fills(table));
      const request = { tableId, scope: { kind: "table" }, reason: REINSTATED, needed: true } as const;
      await state.snapshots.addAll(takers.map(({ name: sink }) => ({ ...request, sink })));
      await gate.reinstate(tableId);
    }
    for (const { name } of lives) await this.snapshot(name, ids, null, REINSTATED);
  }

  /** Tables that a sink can't follow. A table that is gone at the source is left out: nothing waits for it. */
  get suspendedTables(): readonly SuspendedInSink[] {
    return this.suspended.all.filter(({ sink, tableId }) => {
      const table = this.gate.newest(tableId);
      return table !== undefined && !this.gate.isGone(tableId) && this.life(sink)?.tables.takes(table) === true;
    });
  }

  /** Of the log that it follows; 0 before it has found that. */
  get epoch(): number {
    return this.#stored?.epoch ?? 0;
  }

  tablesOf(sink: string): readonly string[] {
    return this.gate.tables.filter((table) => this.life(sink)?.tables.takes(table)).map(({ id }) => id);
  }

  /** Those of these tables that the sink takes, also of those that are suspended in all sinks. */
  takenOf(sink: string, tableIds: readonly string[]): readonly string[] {
    const asked = new Set(tableIds);
    const { tables } = this.life(sink) ?? {};
    return this.gate.every.flatMap((table) => (asked.has(table.id) && tables?.takes(table) === true ? [table.id] : []));
  }

  /** An operator has asked: the sinks take tables again that were suspended there, and read them. */
  async reinstateIn(sinks: readonly string[], tableIds: readonly string[]): Promise<void> {
    for (const sink of sinks) await this.#takeAgain(sink, tableIds, ASKED);
  }

  async #takeAgain(sink: string, tableIds: readonly string[], reason: string): Promise<void> {
    const apart = await this.#apart(sink, tableIds);
    await this.suspended.reinstate(sink, apart, async (suspended) => {
      const lacked = suspended.filter((id) => this.#lacks(sink, id));
      await this.#ask({ sink, tableIds: lacked, scope: { kind: "table" }, reason, needed: true });
    });
    this.#notify();
  }

  /** Whether somebody must list what the sink lacks of the table. What a sink lacks that has not begun is found when it begins. */
  #lacks(sink: string, tableId: string): boolean {
    const position = this.life(sink)?.worker.position;
    if (this.#parts.snapshot === "none") return true;
    return position != null && position.covered !== null && !position.holds(tableId);
  }

  /** Refuses tables that the sink would write into the target of another one. */
  expectApart(sink: string, tableIds: readonly string[]): void {
    for (const id of tableIds) {
      const table = this.gate.table(id);
      const meeting = table === undefined ? null : this.#targets.meetsAnother(sink, table);
      if (meeting !== null) throw meeting;
    }
  }

  /** Those of these tables that the sink may take again: meanwhile another one may have got the target. */
  async #apart(sink: string, tableIds: readonly string[]): Promise<readonly string[]> {
    const apart: string[] = [];
    for (const id of tableIds) {
      const table = this.suspended.has(sink, id) ? this.gate.newest(id) : undefined;
      if (table === undefined || !(await this.#targets.refuseMeeting(sink, table))) apart.push(id);
    }
    return apart;
  }

  /**
   * The sink skips the changes of these tables until somebody lets them go on: also of those that are suspended, which would
   * else flow by themselves once they can. Of two tables that meet in one target, the same one keeps it.
   */
  async pauseIn(sink: string, tableIds: readonly string[]): Promise<void> {
    await this.suspended.suspend(
      sink,
      this.takenOf(sink, tableIds).map((tableId) => ({ tableId, failure: tablePaused(tableId) })),
    );
    this.#notify();
  }

  /** Those of these tables that an operator has paused. */
  async resumeIn(sink: string, tableIds: readonly string[]): Promise<void> {
    const ids = tableIds.filter((id) => this.suspended.errorOf(sink, id)?.code === TABLE_PAUSED);
    await this.#takeAgain(sink, ids, RESUMED);
  }

  /** The snapshots that are not finished, oldest first; with `all` the finished ones too. */
  async snapshots(all: boolean): Promise<readonly SnapshotStatus[]> {
    const snapshots = await this.#ledger.list(all);
    return snapshots.map((snapshot) => snapshotStatus(snapshot, this.#streaming?.snapshotter.reader.errorOf(snapshot)));
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
    await this.#targets.keepFromNeighbours();
    const { clock, source, state, snapshot } = this.#parts;
    const { lives } = this;
    for (const { name, worker } of lives) worker.position.know({ wasLeft: await state.bonds.isLeft(name) });
    const tablesOf = (sink: string) => this.tablesOf(sink);
    const waiting = this.#waiting;
    const log = await findLog({ clock, admin: source.admin, state, lives, snapshot, tablesOf, waiting }, signal);
    this.#stored = log.stored;
    if (log.copy === null) await this.#granted(signal);
    const { gate, suspended } = this;
    const { onSkipped, revised } = this.#parts;
    const records = await state.sinks.all();
    const passOver = async (skipped: SkippedLog | null): Promise<void> => {
      if (skipped !== null) await whenAnswered(waiting, () => onSkipped(skipped, signal), signal);
    };
    // Invariant: before a sink moves; the next process could not tell.
    await passOver(skippedLog(log.stored, records));
    const from = await startingPoint({ clock, lives }, log.stored, signal);
    const known = latest(log.stored.acknowledged ?? log.stored.origin, ...records.map(knownPosition));
    const read = latest(known, ...lives.map(({ worker }) => worker.position.covered));
    // Invariant: before the state knows how far the sinks are.
    await passOver(unknownLog(known, read));
    await gate.revise(await whenAnswered(waiting, () => revised(gate.every, from, signal), signal), from);
    const reinstate = (tableIds: readonly string[]): Promise<void> => this.reinstate(tableIds);
    this.#streaming = new Streaming({
      ...this.#parts,
      news: this.news,
      readHold: this.readHold,
      gate,
      suspended,
      targets: this.#targets,
      ledger: this.#ledger,
      lives,
      inVainMsMax: this.#inVainMsMax,
      log,
      from,
      read,
      reinstate,
    });
    await this.#streaming.run(signal);
  }

  #notify(): void {
    this.#streaming?.snapshotter.notify();
  }

  get #inVainMsMax(): number {
    return this.#parts.inVainMsMax ?? IN_VAIN_MS_MAX;
  }

  get #waiting(): WaitingStart {
    const onWithheld = (withheld: StartObstacle | null): void => void (this.#withheld = withheld);
    return { ...this.#parts, inVainMsMax: this.#inVainMsMax, onWithheld };
  }

  async #granted(signal: AbortSignal): Promise<void> {
    const sinks = this.#parts.sinks.map(({ sink }) => sink);
    await untilGranted({ ...this.#parts, ...this.#waiting, sinks }, signal);
  }

  #lifeFor(setup: SinkSetup): SinkLife {
    const { sink, limits, onPoison, deadLettersMax = DEAD_LETTERS_MAX } = setup;
    const { clock, name, producer, source, state, lease, logger: parent, metrics } = this.#parts;
    const logger = parent.child({ sink: sink.name });
    const context = contextOf({ name, producer }, source);
    const losing = { worker: { sink }, state, clock, logger };
    const lose = async (id: string): Promise<void> => loseChanges(losing, passedOver([id], "which the target refused"));
    const refusals = { policy: onPoison, countMax: deadLettersMax, isHistory: sink.form === "history", lose };
    const { gate, suspended, news } = this;
    const areReadUnasked = this.#parts.snapshot === "initial";
    const onChange = (): void => this.#notify();
    const onPendingKeys = (): void => this.#streaming?.snapshotter.notifyKeys();
    const tables = new SinkTables(setup, {
      gate,
      suspended,
      ledger: this.#ledger,
      areReadUnasked,
      onChange,
      onPendingKeys,
    });
    const worker = new SinkWorker({
      clock,
      sink,
      state,
      limits,
      tables,
      deadLetters: new DeadLetterBox(sink.name, state.deadLetters, refusals, context, logger),
      news,
      logger,
      metrics,
    });
    return new SinkLife({
      clock,
      worker,
      lease,
      state,
      tables,
      onLost: onLostOf(sink, setup.onLost),
      acknowledged: () => this.#streaming?.acknowledger.givenUp ?? this.acknowledged,
      news,
      inVainMsMax: this.#inVainMsMax,
      login: setup.login,
      place: setup.place,
      logger,
    });
  }
}
