import { type Clock, scopeOf } from "../core/clock.ts";
import { completeFor } from "../core/checkpoint.ts";
import type { FirstCopy } from "../core/contracts/log-admin.ts";
import type { Source } from "../core/contracts/source.ts";
import type { StateStore, StoredError } from "../core/contracts/state-store.ts";
import type { UnreadableTable } from "../core/contracts/status.ts";
import type { Login, MillraceError } from "../core/errors.ts";
import { type Logger, Repeated } from "../core/contracts/telemetry.ts";
import { baseVersion, latest, type Position } from "../core/model/position.ts";
import type { TableVersion } from "../core/model/schema.ts";
import { type News, withTimeout } from "../core/waiting.ts";
import { lifeOf, type SinkLife } from "./sink/sink-life.ts";
import type { SinkWorker } from "./sink/sink-worker.ts";
import { furthestHeld, heldFrom, loseChanges, passedOver } from "./sink/sink-position.ts";
import { lossOf } from "./stream/sink-queue.ts";
import { Comparisons } from "./comparisons.ts";
import { CatalogWatch } from "./schema/catalog-watch.ts";
import type { Targets } from "./schema/targets.ts";
import { entry, type SuspendedInSink, type SuspendedTables } from "./schema/suspended-tables.ts";
import type { TableGate } from "./schema/table-gate.ts";
import { type CopyProgress, InitialSnapshot } from "./snapshot/first-copy.ts";
import type { Ledger } from "./snapshot/ledger.ts";
import { Snapshotter } from "./snapshot/snapshotter.ts";
import { type FoundLog, OPENING_MS_MAX } from "./start/found-log.ts";
import { Acknowledger } from "./stream/acknowledger.ts";
import {
  type AnswersFor,
  type CatchUpParts,
  GoBack,
  type GoneBack,
  SECOND_STREAM_TRIES_MAX,
} from "./stream/catch-up.ts";
import { bytesFor, encodeMark, FanOut, MAIN_BATCHES } from "./stream/fan-out.ts";
import { detachSlowSinks } from "./stream/detach.ts";
import type { ReadHold } from "./stream/kept-log.ts";
import { SourceFeed } from "./stream/source-feed.ts";
import { forgetVisible, noteEarlierDeliveries } from "./stream/delivered-transactions.ts";
import type { Watermarks } from "../core/contracts/watermarks.ts";

/** How long the snapshotter waits, with sinks that have joined, for those that are still joining. */
const JOINING_MS_MAX = 2_000;
const TRIED_AGAIN = "tried again after the sink could not write the table";
/** How often it checks whether a table that is suspended in a sink can be tried again. */
const SUSPENDED_LOOK_MS = 500;
/** Why a table is read again. */
const UNLOGGED = "rows changed without a trace in the log";

type Phase = "starting" | "snapshot" | "streaming" | "stopped";

/** How the stream is at the moment. */
export interface StreamFacts {
  readonly phase: Phase;
  /** Of the initial snapshot; null: there was none. */
  readonly copyProgress: CopyProgress | null;
  /** Null while it starts. */
  readonly fanOut: FanOut | null;
  /** Everything before it has been read from the source. */
  readonly position: Position | null;
  /** While the sinks share one stream that went back for some of them. */
  readonly goneBack: GoneBack | null;
  /** The last failure of the stream while it is not back yet. */
  readonly error: StoredError | null;
  /** See `SourceFeed`. */
  readonly isSilent: boolean;
  readonly needsPerson: boolean;
  /** Whether the source's tables were read since the start. Before that, it is unknown which tables need a snapshot. */
  readonly hasLooked: boolean;
  /** See `CatalogWatch`. */
  readonly notLooked: StoredError | null;
  /** Ids of tables whose present shape the stream has not reached yet. */
  readonly changingTables: readonly string[];
  /** Ids of tables that can't be read before older transactions at the source have ended. */
  readonly unsettledTables: readonly string[];
  /** Tables with an unfinished snapshot that can't be read at the moment. */
  readonly unreadable: readonly UnreadableTable[];
  /** Chunks, tables and keys still to be read beside the stream. */
  readonly unfinishedSnapshots: number;
}

/** Before the stream. */
export const STARTING: StreamFacts = {
  phase: "starting",
  copyProgress: null,
  fanOut: null,
  position: null,
  goneBack: null,
  error: null,
  isSilent: false,
  needsPerson: false,
  hasLooked: false,
  notLooked: null,
  changingTables: [],
  unsettledTables: [],
  unreadable: [],
  unfinishedSnapshots: 0,
};

interface StreamingParts {
  readonly clock: Clock;
  /** See `Pipeline`. */
  readonly news: News;
  readonly source: Source;
  readonly state: StateStore;
  readonly snapshot: "initial" | "none";
  readonly heartbeatMs: number;
  readonly secondStreamTriesMax?: number | undefined;
  readonly inVainMsMax: number;
  readonly login?: Login | null | undefined;
  readonly readHold: ReadHold;
  readonly gate: TableGate;
  readonly suspended: SuspendedTables;
  readonly targets: Targets;
  readonly ledger: Ledger;
  readonly lives: readonly SinkLife[];
  readonly log: FoundLog;
  /** Where the stream begins. */
  readonly from: Position;
  /** Up to here the log was read, or looked through, before. */
  readonly read: Position;
  readonly reinstate: (tableIds: readonly string[]) => Promise<void>;
  readonly logger: Logger;
}

/** A source that is being followed, from the first block to the last acknowledgement. All of its parts exist and run. */
export class Streaming {
  readonly #parts: StreamingParts;
  readonly fanOut: FanOut;
  readonly goBack: GoBack;
  readonly snapshotter: Snapshotter;
  readonly comparisons: Comparisons;
  readonly watch: CatalogWatch;
  readonly acknowledger: Acknowledger;
  readonly feed: SourceFeed;
  /** Null: there is none. */
  readonly #snapshot: InitialSnapshot | null;
  #phase: Phase = "starting";
  /** Of the initial snapshot; null: there was none. */
  #copyProgress: CopyProgress | null = null;

  constructor(parts: StreamingParts) {
    this.#parts = parts;
    const { clock, news, source, state, gate, lives, suspended, inVainMsMax, heartbeatMs, logger } = parts;
    const { readHold } = parts;
    const byteBudget = bytesFor(
      MAIN_BATCHES,
      lives.map(({ worker }) => worker.limits),
    );
    const fanOut = (this.fanOut = new FanOut(parts.from, source.watermarks.markPrefix, news, byteBudget));
    const shared = { clock, news, source, state, gate, fanOut, logger };
    const positions = () => lives.map((life) => life.positions);
    this.goBack = new GoBack(clock, fanOut);
    this.snapshotter = new Snapshotter({
      ...shared,
      readHold,
      ledger: parts.ledger,
      lacking: (worker) => this.#lacking(worker),
      isVoid: (sink, tableId) => lifeOf(lives, sink)?.tables.isVoid(tableId) ?? gate.isGone(tableId),
    });
    const onPendingKeys = () => this.snapshotter.notifyKeys();
    this.comparisons = new Comparisons({ ...shared, readHold, lives, suspended, onPendingKeys });
    this.watch = new CatalogWatch({
      ...shared,
      isHeld: (id, generation) => this.#isHeld(id, generation),
      intervalMs: heartbeatMs,
      reinstate: parts.reinstate,
      // Sinks let go at once of tables that are gone: another daemon may wait for them.
      onLooked: () =>
        beat(
          lives.filter(({ worker }) => worker.hasToRelease),
          fanOut,
        ),
      login: parts.login,
    });
    this.acknowledger = new Acknowledger({
      clock,
      news,
      state,
      acknowledged: parts.log.stored.acknowledged,
      sinks: positions,
      reached: () => fanOut.position,
      read: () => latest(parts.read, fanOut.furthest),
      remember: (known) => source.admin.remember?.(known) ?? null,
    });
    this.#snapshot = this.#snapshotOf(parts.log.copy);
    this.feed = new SourceFeed({
      ...shared,
      goBack: this.goBack,
      inVainMsMax,
      login: parts.login,
      answersFor: this.#answersFor,
      held: () => ({ ...heldFrom(fanOut.position, positions()), mayReach: furthestHeld(lives) }),
    });
  }

  get phase(): Phase {
    return this.#phase;
  }

  get facts(): StreamFacts {
    const { fanOut, goBack, feed, watch, snapshotter } = this;
    return {
      phase: this.#phase,
      copyProgress: this.#copyProgress,
      fanOut,
      position: fanOut.position,
      goneBack: goBack.goneBack,
      error: feed.error,
      isSilent: feed.isSilent,
      needsPerson: feed.needsPerson,
      hasLooked: watch.hasLooked,
      notLooked: watch.notLooked,
      changingTables: [...new Set([...watch.changing, ...this.#parts.gate.changing])],
      unsettledTables: watch.unsettled,
      unreadable: snapshotter.reader.unreadable,
      unfinishedSnapshots: snapshotter.unfinished,
    };
  }

  /** What each stream asks about the tables that it shows. */
  readonly #answersFor: AnswersFor = (fanOut, sink) => {
    const { gate } = this.#parts;
    return {
      resolve: gate.resolve,
      isKnown: (id) => gate.newest(id) !== undefined,
      isFlowing: (id) => gate.table(id) !== undefined,
      onUnloggedRows: (id, passedBy) => this.#readUnlogged(id, sink, passedBy !== undefined),
      onUnreadableRows: (id, error) => this.#passBy(id, error, sink),
      onRenamed: async (renames, position) => fanOut.rename(renames, position),
    };
  };

  /** Runs until aborted, or until a part fails for good. When it ends, everything in flight has ended. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, news, source, lives, heartbeatMs, logger } = this.#parts;
    const { watermarks } = source;
    const { acknowledger, feed, fanOut, snapshotter, goBack, watch } = this;
    const { signal: until, end } = scopeOf(signal);
    const main: CatchUpParts = {
      clock,
      source,
      snapshot: this.#snapshot,
      main: fanOut,
      goBack,
      answersFor: this.#answersFor,
      secondStreamTriesMax: this.#parts.secondStreamTriesMax ?? SECOND_STREAM_TRIES_MAX,
    };
    const tip = async (untilTold: AbortSignal): Promise<bigint | null> =>
      feed.stream === null ? null : await source.log.tip(untilTold);
    const sinks = lives.map((life) => life.run(main, until));
    try {
      // A life ends before it is told to only if the state store fails.
      await Promise.race([this.#copyFirst(until), ...sinks]);
      await Promise.race([
        feed.run(until),
        noteEarlierDeliveries({ clock, watermarks, fanOut, logger }, until)
          .then(() => this.#joinedTogether(until))
          .then(() => snapshotter.run(until)),
        forgetVisible({ clock, watermarks, fanOut, logger }, until),
        acknowledger.run(
          () => feed.stream,
          (error) => logger.warn({ error }, "positions could not be stored; the next attempt follows"),
          until,
        ),
        this.#trySuspended(until),
        heartbeat({ clock, watermarks, fanOut, lives, tip, intervalMs: heartbeatMs, logger }, until),
        watch.run(until),
        detachSlowSinks({ clock, news, fanOut, goBack, lives }, until),
        ...sinks,
      ]);
    } finally {
      end();
      await Promise.allSettled(sinks);
      await this.#snapshot?.end();
      await this.#storeLast();
      await feed[Symbol.asyncDispose]();
      this.#phase = "stopped";
    }
  }

  /** The table has another shape, or is new. */
  tableChanged(table: TableVersion): void {
    this.fanOut.spoil(table.id);
    if (this.#phase !== "streaming") return;
    this.watch.wake();
    this.snapshotter.notify();
  }

  tableSuspended(tableId: string): void {
    this.fanOut.spoil(tableId);
    // What the tables had lost may be back by now.
    this.watch.wake();
  }

  /**
   * Tries tables again that are suspended in a sink and may be writable now, and reads them. Level-triggered: it looks at
   * the present state, not at events.
   */
  async #trySuspended(signal: AbortSignal): Promise<never> {
    const { clock, gate, state, suspended, targets } = this.#parts;
    const shapeOf = (tableId: string): string | null => gate.table(tableId)?.fingerprint ?? null;
    const isPossible = (sink: string, tableId: string): boolean => {
      const table = gate.table(tableId);
      const life = lifeOf(this.#parts.lives, sink);
      if (life?.state !== "streaming" || table === undefined || !life.tables.takes(table)) return false;
      return targets.meetsAnother(sink, table) === null;
    };
    const request = { scope: { kind: "table" }, reason: TRIED_AGAIN, needed: true } as const;
    for (;;) {
      await clock.sleep(SUSPENDED_LOOK_MS, signal);
      const { tried } = suspended;
      const open = tried.length === 0 ? [] : await state.snapshots.list();
      const isOpen = new Set(open.map(({ sink, tableId }) => entry(sink, tableId)));
      suspended.finishTrials(tried.filter((one) => this.#isRead(one, isOpen)));
      for (const [sink, tableIds] of suspended.due(shapeOf, isPossible))
        await suspended.tryAgain(sink, tableIds, (ids) => this.snapshotter.again({ sink, tableIds: ids, ...request }));
    }
  }

  #isRead({ sink, tableId }: SuspendedInSink, isOpen: ReadonlySet<string>): boolean {
    if (isOpen.has(entry(sink, tableId))) return false;
    return this.#parts.snapshot === "none" || lifeOf(this.#parts.lives, sink)?.worker.position.holds(tableId) === true;
  }

  /** Sinks that are at the same key share a read, so the first of them waits a moment for the others. */
  async #joinedTogether(signal: AbortSignal): Promise<void> {
    const { clock, lives } = this.#parts;
    const joined = Promise.all(lives.map((life) => life.joined));
    await withTimeout(joined, { clock, signal, timeoutMs: JOINING_MS_MAX, late: () => null });
  }

  /** What can't be stored now is read again at the next start. A failure here must not hide why this run ended. */
  async #storeLast(): Promise<void> {
    const { lives, state } = this.#parts;
    const left = lives.filter(({ worker }) => worker.position.isAtCheckpoint);
    const storing = [
      this.#parts.ledger.store(),
      this.acknowledger.once(this.feed.stream),
      ...left.map(({ name }) => state.bonds.leave(name)),
    ];
    for (const result of await Promise.allSettled(storing)) {
      if (result.status === "fulfilled") continue;
      this.#parts.logger.warn({ error: result.reason as unknown }, "the last positions could not be stored");
    }
  }

  #snapshotOf(copy: FirstCopy | null): InitialSnapshot | null {
    if (copy === null) return null;
    const { lives, from } = this.#parts;
    return new InitialSnapshot({
      ...this.#parts,
      copy,
      wants: (worker, table) => lifeOf(lives, worker.name)?.tables.fills(table) === true,
      othersRows: async (worker, all, signal) => {
        const { presence } = worker.sink;
        const taken = all.filter((table) => lifeOf(lives, worker.name)?.tables.fills(table) === true);
        const ask = async (some: readonly TableVersion[]) => [
          ...((await presence?.adoptable?.(some, signal)) ?? []),
          ...((await presence?.foreign?.(some, signal)) ?? []).map(({ table }) => table),
        ];
        return await worker.ask(taken, ask, signal);
      },
      completeness: (table) => completeFor(table, copy.generations.get(table.id) ?? ""),
      // A sink without a checkpoint may also have rows of earlier epochs, or those of another program, which are below all.
      sweeps: ({ sink }) => from.epoch > 1 || sink.isLoadedElsewhere === true || sink.presence?.adoptable !== undefined,
      version: baseVersion(from.epoch),
    });
  }

  async #copyFirst(signal: AbortSignal): Promise<void> {
    if (this.#snapshot !== null) await this.#copyTables(this.#snapshot, signal);
    // From here on the snapshotter looks for tables that the sinks lack.
    this.#phase = "streaming";
    this.snapshotter.notify();
    void this.#snapshot?.end();
  }

  async #copyTables(snapshot: InitialSnapshot, signal: AbortSignal): Promise<void> {
    this.#phase = "snapshot";
    const { clock, gate, lives } = this.#parts;
    const tables = (await gate.resolveAll(snapshot.shapes, this.fanOut.position)).filter((table) => gate.flows(table));
    const tableIds = tables.map(({ id }) => id);
    const progress = (this.#copyProgress = { tableIds, tablesDone: 0, rowsRead: 0, rowsDurable: 0 });
    const joined = Promise.all(lives.map((life) => life.joined));
    await withTimeout(joined, { clock, signal, timeoutMs: OPENING_MS_MAX, late: () => null });
    await snapshot.run(tables, progress, signal);
  }

  /**
   * `only`: the sink whose own stream shows it. Invariants: the request to read the table is stored before the stream
   * passes that position, and the completeness of its copy is determined after that.
   */
  async #readUnlogged(tableId: string, only: string | null, isPassedBy: boolean): Promise<void> {
    const { gate, lives, state, clock, logger } = this.#parts;
    // A table that is gone may come back as it was: the configuration that left it out was another process's.
    const table = gate.known.find(({ id }) => id === tableId);
    if (table !== undefined) this.#passLoss(tableId, only);
    if (table === undefined) return;
    // What an operator has asked to be read may be another table's rows, whether or not anything is read unasked.
    this.fanOut.spoil(tableId);
    if (!gate.isGone(tableId)) gate.doubt(tableId);
    this.watch.wake();
    if (this.#parts.snapshot === "none") return;
    const takers = lives.filter(({ name, tables }) => (only ?? name) === name && tables.fills(table));
    for (const { worker } of isPassedBy && !gate.isGone(tableId) ? takers : [])
      await loseChanges({ worker, state, clock, logger }, passedOver([tableId]));
    const request = { tableIds: [tableId], scope: { kind: "table" }, reason: UNLOGGED, needed: true } as const;
    await Promise.all(takers.map(({ name: sink }) => this.snapshotter.again({ ...request, sink })));
  }

  /**
   * Suspends the table in all sinks. Invariant: a sink forgets that it holds the table before it passes a change that it does
   * not get. One that is behind meets again what was passed by, and then reads the table.
   */
  async #passBy(tableId: string, error: MillraceError, only: string | null): Promise<void> {
    const { gate, lives } = this.#parts;
    const behind = only === null ? undefined : lifeOf(lives, only)?.worker;
    if (only === null) this.fanOut.lose(tableId, true);
    else behind?.queue.push(lossOf(tableId));
    if (only === null && !gate.suspended.has(tableId)) await gate.suspend(tableId, error);
  }

  /** Tells it the sinks that get the log itself, in the stream that shows it. */
  #passLoss(tableId: string, only: string | null): void {
    if (only === null) return this.fanOut.lose(tableId);
    const worker = lifeOf(this.#parts.lives, only)?.worker;
    if (worker?.sink.form === "log") worker.queue.push(lossOf(tableId));
  }

  /** Whether one of the sinks that take the table holds a complete copy of this generation; also true if no sink takes it. */
  #isHeld(tableId: string, generation: string): boolean {
    const { gate, lives } = this.#parts;
    const table = gate.table(tableId);
    if (table === undefined) return false;
    const completeness = completeFor(table, generation);
    const takers = lives.filter((life) => life.tables.fills(table));
    return takers.length === 0 || takers.some(({ positions }) => positions.tables[tableId] === completeness);
  }

  /** Ids of the tables that this sink must hold and does not hold completely. */
  #lacking({ name, position }: SinkWorker): readonly string[] {
    if (this.#parts.snapshot === "none" || this.#phase !== "streaming") return [];
    return lifeOf(this.#parts.lives, name)?.tables.lacking(position.tables) ?? [];
  }
}

interface HeartbeatParts {
  readonly clock: Clock;
  readonly watermarks: Watermarks;
  readonly fanOut: FanOut;
  readonly lives: readonly SinkLife[];
  /** The end of the log; null: whether this is still the log that was read is not known at the moment. */
  readonly tip: (signal: AbortSignal) => Promise<bigint | null>;
  readonly intervalMs: number;
  readonly logger: Logger;
}

function beat(lives: readonly SinkLife[], fanOut: FanOut): void {
  for (const { worker } of lives) {
    if (worker.idle) fanOut.push(worker, { kind: "heartbeat" });
    else worker.beat();
  }
}

/**
 * Each beat writes a mark into the log, so that an idle source's position moves, checks the sinks, and tells those that an
 * earlier process may have left in the middle of a batch where all that it can have read ends.
 */
async function heartbeat(parts: HeartbeatParts, signal: AbortSignal): Promise<never> {
  const { clock, watermarks, fanOut, lives, tip, intervalMs, logger } = parts;
  const told = new Repeated(logger);
  for (;;) {
    try {
      try {
        await watermarks.mark(encodeMark({ edge: null }), signal);
      } finally {
        // Whether the source takes the mark or not.
        beat(lives, fanOut);
      }
      const unknown = [...fanOut.sinks].filter((worker) => worker.position.holdsUnknown);
      const commit = unknown.length === 0 ? null : await tip(signal);
      const { epoch } = fanOut.position;
      if (commit !== null) for (const worker of unknown) worker.position.knowEarlier({ epoch, commit, index: 0 });
      told.passed();
    } catch (error) {
      signal.throwIfAborted();
      told.failed(error, "a heartbeat failed; the next one tries again");
    }
    await clock.sleep(intervalMs, signal);
  }
}
