import type { Completeness } from "../../core/checkpoint.ts";
import { type Clock, pause } from "../../core/clock.ts";
import type { MillraceError } from "../../core/errors.ts";
import { failpoint } from "../../core/failpoint.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import { News, withTimeout } from "../../core/waiting.ts";
import type { Chunk, KeyText } from "../../core/contracts/row-reads.ts";
import type { Source } from "../../core/contracts/source.ts";
import type { SnapshotProgress, TableSnapshot } from "../../core/contracts/state-store.ts";
import type { ReadHold } from "../stream/kept-log.ts";
import { ChunkReader, type HandedOver, type WantedChunk } from "./chunk-reader.ts";
import type { Ledger } from "./ledger.ts";
import { Patience } from "./first-copy.ts";
import { ReadPlan, type ReadPlanParts, type Turns, type Unfinished } from "./read-plan.ts";
import { kindOf, ReconnectBackoff } from "../retry.ts";
import type { Again } from "./snapshots.ts";
import { fittingKeys, isOfOneTable, type KeyRead, type RangeRead, type ReadLimits, RowReader } from "./row-reader.ts";
import type { SinkWorker } from "../sink/sink-worker.ts";
import type { TableGate } from "../schema/table-gate.ts";
import { Receipts } from "../stream/sink-queue.ts";

interface SnapshotterParts extends ReadPlanParts {
  readonly clock: Clock;
  /** Notified when the stream has made progress, and when the list of reads changes. */
  readonly news: News;
  readonly readHold: ReadHold;
  /** The progress of each incremental snapshot. */
  readonly ledger: Ledger;
  readonly source: Pick<Source, "log" | "rows" | "watermarks">;
  readonly gate: Pick<
    TableGate,
    "table" | "tables" | "columnFacts" | "completeness" | "isGone" | "isShown" | "suspend"
  >;
}

/** How long the snapshotter waits before it looks again for work that was not possible yet. */
const IDLE_MS = 1_000;
/** A look at the list that could wait takes at most a tenth of the time. */
const RESTS = 9;
/** How long the others wait for a sink with its chunk, so that sinks at the same key share the next read too. */
const TOGETHER_MS_MAX = 500;

/** A chunk that was given to sinks, and what is left to do for each sink when it has the chunk durably. */
interface ChunkInFlight {
  /** Null: the chunk must be read again. */
  readonly handed: HandedOver | null;
  readonly done: (worker: SinkWorker, lowVersion: bigint) => Promise<void>;
}

/**
 * Reads rows from the source beside the stream, chunk by chunk, for all reasons, and gives them to the sinks at their
 * position in the stream. The state store keeps the list of work; after a restart, everything is read again that was not
 * durable in a sink. Only one chunk is read at a time, which bounds the load on the source, and only one is on its way to
 * each sink, so that a slow sink delays no other. A table that can't be read delays no other either: it is tried beside the
 * others, also one table at a time. Tables that begin are read together, as many as fit into one chunk.
 */
export class Snapshotter {
  readonly #parts: SnapshotterParts;
  readonly #chunks: ChunkReader;
  /** Ends the wait for work. */
  readonly #wake = new News();
  /** The list in the state is unknown before it was read; it must not count as empty. */
  #openCount = 1;
  #keyCount = 0;
  /** By sink, the tables of open incremental snapshots, and those of listed keys. */
  #openTables: ReadonlyMap<string, readonly string[]> = new Map();
  #keyCounts: Unfinished["keyCounts"] = new Map();
  /** Count events that may change what the sinks lack, and how many of those were looked at. */
  #changes = 1;
  #seen = 0;
  /** The same of keys that were listed. */
  #keysListed = 0;
  #keysSeen = 0;
  /** What the last look has found; null: the next round looks. */
  #turns: Turns | null = null;
  /** When the list was last looked at, and how long that took. */
  #lookedAtMs = 0;
  #lookMs = 0;
  readonly #ledger: Ledger;
  /** Knows what can't be read at the moment. */
  readonly reader: RowReader;
  readonly #plan: ReadPlan;
  /** Sinks with a chunk that is not durable and recorded yet. */
  readonly #busy = new Set<string>();
  /** With sinks for which others wait. */
  readonly #patience: Patience<string>;
  /** An error outside of the rounds: the next round throws it. */
  #failure: unknown = undefined;
  #isIdle = false;

  constructor(parts: SnapshotterParts) {
    this.#parts = parts;
    this.#ledger = parts.ledger;
    this.#chunks = new ChunkReader(parts);
    const onAttempt = (error: unknown): void => {
      this.#failure ??= error;
      this.#wake.tell();
    };
    const giveUp = async ({ snapshots }: RangeRead, { code, message }: MillraceError): Promise<void> => {
      const ids = snapshots.map(({ id }) => id);
      await parts.state.snapshots.cancel(ids, false, `${code} ${message}`);
    };
    this.reader = new RowReader({ ...parts, onAttempt, giveUp });
    this.#plan = new ReadPlan(parts, this.reader);
    this.#patience = new Patience(parts.clock);
  }

  /** Incremental snapshots and listed keys that were unfinished at the last look. */
  get unfinished(): number {
    return this.#openCount + this.#keyCount + (this.#hasNews ? 1 : 0);
  }

  /** Whether the sink may lack rows of these tables that are still to be read for it; none: of any. */
  owes(sink: string, tableIds: readonly string[]): boolean {
    if (this.#hasNews) return true;
    const owed = [...(this.#openTables.get(sink) ?? []), ...(this.#keyCounts.get(sink)?.keys() ?? [])];
    const asked = new Set(tableIds);
    return asked.size === 0 ? owed.length > 0 : owed.some((id) => asked.has(id));
  }

  get #hasNews(): boolean {
    return this.#seen < this.#changes || this.#keysSeen < this.#keysListed;
  }

  /** Called when keys were listed. */
  notifyKeys(): void {
    this.#keysListed++;
    this.#wake.tell();
    this.#parts.news.tell();
  }

  /** Called when there may be new work: a read was listed, or the tables that a sink takes or holds have changed. */
  notify(): void {
    this.#changes++;
    this.#wake.tell();
    this.#parts.news.tell();
  }

  /**
   * Requests that tables are read again; resolves when that is stored. An incremental snapshot that is running begins
   * again, because the requested rows may be among those that it has passed.
   */
  async again({ tableIds, ...request }: Again): Promise<void> {
    const asked = tableIds.map((tableId) => ({ ...request, tableId }));
    // A requested read must not end without a read.
    for (const { id } of await this.#ledger.again(asked)) this.#plan.carriable.delete(id);
    this.notify();
  }

  async run(signal: AbortSignal): Promise<never> {
    const { clock } = this.#parts;
    const backoff = new ReconnectBackoff(clock);
    for (;;) {
      signal.throwIfAborted();
      const told = this.#wake.count;
      try {
        this.#throwFailure();
        await this.#ledger.storeInTime();
        const worked = await this.#round(signal);
        this.#parts.news.tell();
        backoff.reset();
        const idleMs = Math.min(IDLE_MS, this.reader.dueInMs);
        this.#isIdle = !worked;
        if (!worked) await this.#wake.after(told, clock, idleMs, signal);
      } catch (error) {
        signal.throwIfAborted();
        const waitMs = backoff.next();
        this.#parts.logger.warn(
          { error, kind: kindOf(error), waitMs },
          "reading rows beside the stream failed; the next attempt follows",
        );
        await pause(clock, waitMs, signal);
      }
    }
  }

  /** Reads one chunk of the first work that is possible. False: nothing to do now. */
  async #round(signal: AbortSignal): Promise<boolean> {
    const turns = this.#mayGoOn ? await this.#withKeys(this.#turns!) : await this.#look(signal);
    // After a failure everything has its turn again.
    this.#turns = null;
    const worked = await this.#first(turns, signal);
    this.#turns = turns;
    return worked;
  }

  /** Whether the last look still says what is to be read. */
  get #mayGoOn(): boolean {
    if (this.#turns === null || this.#seen < this.#changes) return false;
    const sinceMs = this.#parts.clock.elapsed() - this.#lookedAtMs;
    if (this.#turns.isOver(this.#plan.isFree(this.#busy), sinceMs >= this.#lookMs * RESTS)) return false;
    if (this.reader.dueInMs === 0) return false;
    return !this.#isIdle || sinceMs < IDLE_MS;
  }

  async #look(signal: AbortSignal): Promise<Turns> {
    const begunMs = this.#parts.clock.elapsed();
    const busy = new Set(this.#busy);
    const changes = this.#changes;
    const keysListed = this.#keysListed;
    const isToCheck = this.#seen < changes || this.#isIdle;
    const unfinished = await this.#plan.look(isToCheck);
    const { open, keyCounts } = unfinished;
    this.#lookedAtMs = this.#parts.clock.elapsed();
    this.#lookMs = this.#lookedAtMs - begunMs;
    this.#openCount = open.length;
    const bySink = Map.groupBy(open, ({ sink }) => sink);
    this.#openTables = new Map(Array.from(bySink, ([sink, all]) => [sink, all.map(({ tableId }) => tableId)]));
    this.#noteKeys(keyCounts, keysListed);
    // Invariant: before this, the changes are counted; otherwise a `wait` would end in between.
    this.#seen = changes;
    this.#ledger.noteAhead(open);
    if (this.reader.hasRefused) this.reader.tryRefused(await this.#plan.readable(open), signal);
    return await this.#plan.turns(unfinished, busy);
  }

  /** Lists keys anew if there are some, without a look at all that is open. */
  async #withKeys(turns: Turns): Promise<Turns> {
    const busy = new Set(this.#busy);
    const hasKeys = this.#keyCount === 0 || turns.hasKeys(this.#plan.isFree(busy));
    if (this.#keysSeen === this.#keysListed && hasKeys) return turns;
    const keysListed = this.#keysListed;
    const keyCounts = await this.#plan.keyCounts();
    this.#noteKeys(keyCounts, keysListed);
    turns.renewKeys(await this.#plan.keysInTurn(keyCounts, busy));
    return turns;
  }

  #noteKeys(keyCounts: Unfinished["keyCounts"], keysListed: number): void {
    this.#keyCount = 0;
    for (const tables of keyCounts.values()) for (const count of tables.values()) this.#keyCount += count;
    this.#keyCounts = keyCounts;
    this.#keysSeen = keysListed;
  }

  /** Does the first work that is possible. A failure does not stop the others; its error is thrown only if all fail. */
  async #first(turns: Turns, signal: AbortSignal): Promise<boolean> {
    let failure: unknown;
    for (;;) {
      const inTurn = turns.sinks.filter((sink) => !this.#busy.has(sink));
      const group = this.#plan.next(turns, this.#busy, this.#parts.readHold.isOn);
      if (group.length === 0) break;
      try {
        const chunks = await (isOfKeys(group) ? this.#listed(group, signal) : this.#ranged(group, signal));
        if (chunks === null) continue;
        for (const reading of group) this.#plan.took(reading);
        await this.#untilDurable(chunks, inTurn, signal);
        return true;
      } catch (error) {
        if (!isOfOneTable(error)) failure ??= error;
      }
    }
    if (failure !== undefined) throw failure;
    return false;
  }

  #throwFailure(): void {
    const failure = this.#failure;
    this.#failure = undefined;
    if (failure !== undefined) throw failure;
  }

  /**
   * Waits until the chunks are durable in the sinks, then does what is left for each sink. It waits in the background for
   * those that others would wait for too long. `inTurn`: sinks for which there is something to read; others of them wait for
   * the first one too that has its chunk.
   */
  async #untilDurable(chunks: readonly ChunkInFlight[], inTurn: readonly string[], signal: AbortSignal): Promise<void> {
    const { clock } = this.#parts;
    const patience = this.#patience;
    const begunMs = clock.elapsed();
    patience.passedMs();
    const byWorker = Map.groupBy(chunks.flatMap(worksOf), ({ worker }) => worker);
    const given = new Set(Array.from(byWorker.keys(), ({ name }) => name));
    const waitedFor = new Map<SinkWorker, Promise<void>>();
    const endedMs = new Map<SinkWorker, number>();
    for (const [worker, works] of byWorker) {
      const ended = this.#ended(worker, works).then(() => void endedMs.set(worker, clock.elapsed()));
      if (!patience.isSpent(worker.name, inTurn)) waitedFor.set(worker, ended);
    }
    await withTimeout(Promise.all(waitedFor.values()), {
      clock,
      signal,
      timeoutMs: TOGETHER_MS_MAX,
      late: () => undefined,
    });
    const nowMs = clock.elapsed();
    const sinceMs = inTurn.some((sink) => !given.has(sink)) ? begunMs : Math.min(nowMs, ...endedMs.values());
    for (const worker of waitedFor.keys()) patience.waited(worker.name, (endedMs.get(worker) ?? nowMs) - sinceMs);
    this.#throwFailure();
  }

  async #ended(worker: SinkWorker, works: readonly SinkChunk[]): Promise<void> {
    this.#busy.add(worker.name);
    const outcomes = await Promise.allSettled(works.map(({ one }) => one()));
    for (const outcome of outcomes) if (outcome.status === "rejected") this.#failure ??= outcome.reason;
    this.#busy.delete(worker.name);
    this.#wake.tell();
  }

  #attached(name: string): SinkWorker | undefined {
    const { fanOut } = this.#parts;
    return [...fanOut.sinks].find((worker) => worker.name === name && fanOut.has(worker));
  }

  /** The keys' rows, on their way. Null: none can be read now. */
  async #listed(group: readonly KeyRead[], signal: AbortSignal): Promise<readonly ChunkInFlight[] | null> {
    const { snapshots } = this.#parts.state;
    const wanted: WantedChunk[] = [];
    const dones: ChunkInFlight["done"][] = [];
    let isReady = false;
    for (const reading of group) {
      const worker = this.#attached(reading.sinks[0]!);
      const table = this.#parts.gate.table(reading.tableId);
      if (worker === undefined || table === undefined) continue;
      isReady = true;
      // Invariant: if the table's key has changed since, every sink that takes the table gets it again as a whole.
      const { fitting, texts, others } = fittingKeys(reading.keys, table);
      if (others.length > 0) await snapshots.removeKeys(others.map((pending) => pending.id));
      if (fitting.length === 0) continue;
      const read = async (asked: ReadLimits): Promise<Chunk> => {
        const chunk = await this.reader.read(table, reading, asked);
        this.#plan.keyPace(table.id).looked(texts.length, chunk.block?.byteCount ?? 0);
        return chunk;
      };
      wanted.push({ table, workers: [worker], keys: texts, read });
      dones.push(async () => {
        failpoint("snapshot.keys-durable");
        const batch = worker.position.batch ?? 0;
        const ids = fitting.map((pending) => pending.id);
        await snapshots.removeKeys(ids, { sink: worker.name, tableId: table.id, batch });
      });
    }
    if (!isReady) return null;
    if (wanted.length === 0) return [];
    const handed = await this.#chunks.read(wanted, signal);
    return dones.map((done, i) => ({ handed: handed[i]!, done }));
  }

  /** The next chunk of each table, on its way to all the sinks whose snapshots are at the same key. Null: none can be read now. */
  async #ranged(group: readonly RangeRead[], signal: AbortSignal): Promise<readonly ChunkInFlight[] | null> {
    const { state } = this.#parts;
    const ready = group.flatMap((reading) => this.#ready(reading) ?? []);
    if (ready.length === 0) return null;
    const carriable = ready.flatMap((one) => {
      const snapshots = [...one.snapshots].filter(
        ([worker, snapshot]) =>
          (snapshot.cursor === null && this.#plan.carriable.has(snapshot.id)) || this.#mayAdopt(worker, snapshot),
      );
      return snapshots.length > 0 ? [{ ...one, snapshots: new Map(snapshots) }] : [];
    });
    if (carriable.length > 0) return await this.#carry(carriable, signal);
    const outdated = ready.flatMap(({ completeness, snapshots }) =>
      [...snapshots.values()].filter(
        (snapshot) => snapshot.completeness !== null && snapshot.completeness !== completeness,
      ),
    );
    await state.snapshots.restart(outdated.map(({ id }) => id));
    if (outdated.length > 0) return [];
    // Invariant: before the first low mark is written, the incremental snapshot no longer counts as unread.
    for (const { snapshots } of ready) for (const snapshot of snapshots.values()) this.#ledger.begin(snapshot);
    const chunks = ready.map(({ reading, table, snapshots }) => {
      const end: { last: KeyText | null; rowCount: number } = { last: null, rowCount: 0 };
      const read = async (asked: ReadLimits) => {
        const chunk = await this.reader.read(table, reading, asked);
        end.last = chunk.last;
        end.rowCount = chunk.block?.count ?? 0;
        return chunk;
      };
      return { end, wanted: { table, workers: [...snapshots.keys()], keys: null, read } };
    });
    const handed = await this.#chunks.read(
      chunks.map(({ wanted }) => wanted),
      signal,
    );
    return ready.map(({ table, completeness, snapshots }, i) => ({
      handed: handed[i]!,
      done: async (worker: SinkWorker, lowVersion: bigint): Promise<void> => {
        failpoint("snapshot.chunk-durable", table);
        const { last, rowCount } = chunks[i]!.end;
        const snapshot = snapshots.get(worker)!;
        const progress = this.#ledger.after(snapshot, {
          completeness,
          lowVersion,
          last,
          rowCount,
          held: worker.position.batch,
        });
        if (last === null) await this.#finish(snapshot, progress, table, worker);
        else this.#ledger.note(progress);
      },
    }));
  }

  /** Null if the table can't be read now. */
  #ready(reading: RangeRead): Ready | null {
    const table = this.#parts.gate.table(reading.tableId);
    const snapshots = new Map<SinkWorker, TableSnapshot>();
    for (const snapshot of reading.snapshots) {
      const worker = this.#attached(snapshot.sink);
      if (worker !== undefined) snapshots.set(worker, snapshot);
    }
    if (table === undefined || snapshots.size === 0) return null;
    // Invariant: the completeness of a copy is determined before its first row is read, and is the same for each chunk.
    const completeness = this.#parts.gate.completeness(table);
    return completeness === null ? null : { reading, table, completeness, snapshots };
  }

  /** Whether another program may have filled the target, so that its rows are compared instead of read. */
  #mayAdopt({ sink }: SinkWorker, snapshot: TableSnapshot): boolean {
    return sink.presence?.adoptable !== undefined && snapshot.scope.kind === "table" && this.#ledger.isAhead(snapshot);
  }

  /**
   * Before tables are read only because their shape has changed, this asks the sinks whether their copies followed the
   * change. It asks at a position of the log behind the change, so that no row of an earlier shape comes after it. Rows of
   * another program are compared anyway: an earlier shape that comes then makes the sink lack the table again.
   */
  async #carry(ready: readonly Ready[], signal: AbortSignal): Promise<readonly ChunkInFlight[] | null> {
    const { clock, news, fanOut, source, gate } = this.#parts;
    const looked = ready.map((one) => ({ ...one, facts: gate.columnFacts(one.table) }));
    // The stream will reach the shape that the catalogue has by now.
    const known = looked.filter(({ facts }) => facts !== undefined);
    if (known.length === 0) return null;
    if (known.some(({ facts }) => facts !== null)) {
      const tip = await source.log.tip(signal);
      for (let told = news.count; fanOut.position.commit <= tip; told = news.count) {
        await news.after(told, clock, IDLE_MS, signal);
      }
    }
    return known.map(({ table, completeness, snapshots, facts }) => {
      const durable = new Map<SinkWorker, Promise<boolean>>();
      const isAsItWas = gate.table(table.id) === table && gate.completeness(table) === completeness;
      for (const [worker, snapshot] of isAsItWas ? snapshots : []) {
        // An operator may have requested the rows meanwhile.
        const carried = this.#plan.carriable.delete(snapshot.id) ? (facts ?? null) : null;
        if (carried === null && !this.#mayAdopt(worker, snapshot)) continue;
        // Invariant: a request from here on makes the incremental snapshot begin again, and this does not end it.
        this.#ledger.begin(snapshot);
        const receipts = new Receipts(1);
        durable.set(worker, receipts.all);
        fanOut.push(worker, { kind: "carry", table, completeness, facts: carried, receipt: receipts.one() });
      }
      const sessions = new Map([...durable.keys()].map((worker) => [worker, worker.session]));
      const done = async (worker: SinkWorker): Promise<void> => {
        const { sink, reason } = snapshots.get(worker)!;
        if (!(await this.#ledger.finish(snapshots.get(worker)!, undefined))) return;
        this.#parts.logger.info({ table: table.id, sink, reason }, "the table need not be read: the sink has its rows");
      };
      return { handed: { lowVersion: 0n, durable, sessions }, done };
    });
  }

  /**
   * After the last chunk of a whole table: rows that were not seen are gone at the source, and the sink's copy is complete.
   */
  async #finish(
    snapshot: TableSnapshot,
    progress: SnapshotProgress,
    table: TableVersion,
    worker: SinkWorker,
  ): Promise<void> {
    const { fanOut, logger } = this.#parts;
    const { completeness, sweepBelow } = progress;
    if (snapshot.scope.kind === "table" && completeness !== null && sweepBelow !== null) {
      const receipts = new Receipts(2);
      fanOut.push(worker, { kind: "sweep", table, below: sweepBelow, receipt: receipts.one() });
      fanOut.push(worker, { kind: "complete", table, completeness, receipt: receipts.one() });
      if (!(await receipts.all)) return;
      failpoint("snapshot.swept", table);
    }
    if (!(await this.#ledger.finish(progress, worker.position.batch ?? undefined))) return;
    // The tables that the sink takes may have changed during the read.
    if (completeness !== this.#parts.gate.completeness(table)) this.notify();
    const { reason } = snapshot;
    const { rowsDone: rows, chunksDone: chunks, resumedCount: resumed } = progress;
    logger.info({ table: table.id, sink: worker.name, reason, rows, chunks, resumed }, "table read beside the stream");
  }
}

function isOfKeys(group: readonly RangeRead[] | readonly KeyRead[]): group is readonly KeyRead[] {
  return group[0]!.kind === "keys";
}

/** A range whose table can be read now, with the completeness of its copy and its attached sinks. */
interface Ready {
  readonly reading: RangeRead;
  readonly table: TableVersion;
  readonly completeness: Completeness;
  readonly snapshots: ReadonlyMap<SinkWorker, TableSnapshot>;
}

interface SinkChunk {
  readonly worker: SinkWorker;
  readonly one: () => Promise<void>;
}

function worksOf({ handed, done }: ChunkInFlight): SinkChunk[] {
  if (handed === null) return [];
  const { lowVersion, durable, sessions } = handed;
  return Array.from(durable, ([worker, isDurable]) => {
    const one = async (): Promise<void> => {
      // Invariant: a sink that has left since may come back with less.
      if ((await isDurable) && worker.session === sessions.get(worker)) await done(worker, lowVersion);
    };
    return { worker, one };
  });
}
