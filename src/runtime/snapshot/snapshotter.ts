import type { Completeness } from "../../core/checkpoint/completeness.ts";
import { type Clock, pause } from "../../core/clock.ts";
import { failpoint } from "../../core/failpoint.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import { News } from "../../core/news.ts";
import type { Chunk, KeyText } from "../../core/contracts/row-reads.ts";
import type { Source } from "../../core/contracts/source.ts";
import type { TableSnapshot, SnapshotProgress, StateStore } from "../../core/contracts/state-store.ts";
import type { Logger } from "../../core/contracts/telemetry.ts";
import { Backlog } from "./backlog.ts";
import { entry } from "../entry.ts";
import type { FailingReads } from "./failing-reads.ts";
import type { FanOut } from "../stream/fan-out.ts";
import type { ReadHold } from "../stream/kept-log.ts";
import { type ReadLimits, fittingKeys, type KeyRead, type RangeRead, type SnapshotRead } from "./reads.ts";
import { ChunkReader } from "./snapshot-chunks.ts";
import type { SnapshotLedger } from "./snapshot-ledger.ts";
import { kindOf, ReconnectBackoff } from "../retry.ts";
import type { Again } from "./snapshots.ts";
import { isOfOneTable, RowReader } from "./row-reader.ts";
import type { SinkWorker } from "../sink/sink-worker.ts";
import type { TableGate } from "../schema/table-gate.ts";
import { Receipts } from "../stream/work.ts";
import { ChunksInFlight } from "./chunks-in-flight.ts";

export interface SnapshotterParts {
  readonly clock: Clock;
  /** Notified when the stream has made progress, and when the list of reads changes. */
  readonly news: News;
  readonly fanOut: FanOut;
  readonly readHold: ReadHold;
  readonly source: Pick<Source, "log" | "rows" | "watermarks">;
  readonly state: StateStore;
  /** The progress of each incremental snapshot. */
  readonly ledger: SnapshotLedger;
  readonly gate: Pick<TableGate, "table" | "tables" | "columnFacts" | "isGone" | "suspend">;
  /** What the sinks record about a complete copy that begins now; null: a whole copy can't begin yet. */
  readonly completeness: (table: TableVersion) => Completeness | null;
  /** Ids of the tables that this sink must hold and does not hold completely. */
  readonly lacking: (worker: SinkWorker) => readonly string[];
  /** Whether the sink skips the table's changes: then nothing of the table is read for it. */
  readonly isSuspended: (sink: string, tableId: string) => boolean;
  readonly logger: Logger;
}

/** How long the snapshotter waits before it looks again for work that was not possible yet. */
const IDLE_MS = 1_000;
/** The maximum number of tables that are read between the same two marks. */
const TOGETHER_COUNT_MAX = 64;

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
  #unfinished = 1;
  /** Count events that may change what the sinks lack, and how many of those were looked at. */
  #changes = 1;
  #seen = 0;
  readonly #ledger: SnapshotLedger;
  readonly #inFlight: ChunksInFlight;
  /** Ids of incremental snapshots that this process began because a sink lacks the table. They may end without a read (`#carry`). */
  readonly #carriable = new Set<number>();
  readonly #reader: RowReader;
  readonly #backlog: Backlog;
  #isIdle = false;

  constructor(parts: SnapshotterParts) {
    this.#parts = parts;
    this.#ledger = parts.ledger;
    this.#chunks = new ChunkReader(parts);
    this.#inFlight = new ChunksInFlight(parts.clock, () => this.#wake.tell());
    this.#reader = new RowReader({ ...parts, onAttempt: (error) => this.#inFlight.failed(error) });
    this.#backlog = new Backlog(parts, this.failing);
  }

  /** The progress of each incremental snapshot. */
  get ledger(): SnapshotLedger {
    return this.#ledger;
  }

  /** What can't be read at the moment. */
  get failing(): FailingReads {
    return this.#reader.failing;
  }

  /** Incremental snapshots and listed keys that were unfinished at the last look. */
  get unfinished(): number {
    return this.#unfinished + (this.#seen < this.#changes ? 1 : 0);
  }

  /** Called when there may be new work: something was listed, or the tables that a sink takes or holds have changed. */
  notify(): void {
    this.#changes++;
    this.#wake.tell();
    this.#parts.news.tell();
  }

  /**
   * Requests that tables are read again; resolves when that is stored. An incremental snapshot that is running begins again, because the
   * requested rows may be among those that it has passed.
   */
  async again({ tableIds, ...request }: Again): Promise<void> {
    for (const tableId of tableIds) {
      const snapshot = await this.#ledger.again({ ...request, tableId });
      // A requested read must not end without a read.
      this.#carriable.delete(snapshot.id);
    }
    this.notify();
  }

  async run(signal: AbortSignal): Promise<never> {
    const { clock } = this.#parts;
    const backoff = new ReconnectBackoff(clock);
    for (;;) {
      signal.throwIfAborted();
      const told = this.#wake.count;
      try {
        this.#inFlight.throwFailure();
        await this.#ledger.storeInTime();
        const worked = await this.#round(signal);
        this.#parts.news.tell();
        backoff.reset();
        const idleMs = Math.min(IDLE_MS, this.#reader.dueInMs);
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

  /**
   * Lists what attached sinks lack. Invariant: the list follows from the tables that a sink takes and those that it holds,
   * and is checked after each change of either. So no request can be lost. Returns all open incremental snapshots.
   */
  async #listLacking(): Promise<readonly TableSnapshot[]> {
    const { fanOut, lacking, state } = this.#parts;
    const open = await this.#ledger.list();
    const isOpen = new Set(
      open.flatMap((snapshot) => (isWhole(snapshot) ? [entry(snapshot.sink, snapshot.tableId)] : [])),
    );
    const requests = [...fanOut.sinks].flatMap((worker) =>
      lacking(worker)
        .filter((tableId) => !isOpen.has(entry(worker.name, tableId)))
        .map((tableId) => ({ tableId, sink: worker.name, scope: WHOLE, reason: LACKING, needed: true })),
    );
    if (requests.length === 0) return open;
    for (const { id } of await state.snapshots.addAll(requests)) this.#carriable.add(id);
    return await this.#ledger.list();
  }

  /** Reads one chunk of the first work that is possible. False: nothing to do now. */
  async #round(signal: AbortSignal): Promise<boolean> {
    const changes = this.#changes;
    const isToCheck = this.#seen < changes || this.#isIdle;
    const listed = isToCheck ? await this.#listLacking() : await this.#ledger.list();
    const unfinished = await this.#backlog.withoutVoid(listed);
    const { open, keyCount } = unfinished;
    this.#unfinished = keyCount + open.length;
    // Invariant: before this, the changes are counted; otherwise a `wait` would end in between.
    this.#seen = changes;
    this.#ledger.noteAhead(open);
    const now = this.#parts.readHold.isOn ? { open: [], keyCount } : unfinished;
    if (!this.failing.isEmpty) this.#reader.tryRefused(await this.#backlog.failing(now.open), signal);
    return await this.#first(await this.#backlog.inTurn(now, this.#inFlight.busy), signal);
  }

  /** Does the first work that is possible. A failure does not stop the others; its error is thrown only if all fail. */
  async #first(readings: readonly SnapshotRead[], signal: AbortSignal): Promise<boolean> {
    let failure: unknown;
    const tried = new Set<SnapshotRead>();
    for (const reading of readings) {
      if (tried.has(reading)) continue;
      const group = reading.kind === "keys" ? [] : together(reading, readings);
      for (const one of group) tried.add(one);
      try {
        if (await (reading.kind === "keys" ? this.#listed(reading, signal) : this.#ranged(group, signal))) return true;
      } catch (error) {
        if (!isOfOneTable(error)) failure ??= error;
      }
    }
    if (failure !== undefined) throw failure;
    return false;
  }

  #attached(name: string): SinkWorker | undefined {
    const { fanOut } = this.#parts;
    return [...fanOut.sinks].find((worker) => worker.name === name && fanOut.has(worker));
  }

  /** Reads listed keys for one sink. */
  async #listed(reading: KeyRead, signal: AbortSignal): Promise<boolean> {
    const { snapshots } = this.#parts.state;
    const worker = this.#attached(reading.sinks[0]!);
    const table = this.#parts.gate.table(reading.tableId);
    if (worker === undefined || table === undefined) return false;
    // Invariant: if the table's key has changed since, every sink that takes the table gets it again as a whole.
    const { fitting, texts, others } = fittingKeys(reading.keys, table);
    if (others.length > 0) await snapshots.removeKeys(others.map((pending) => pending.id));
    if (fitting.length === 0) return true;
    const read = async (asked: ReadLimits): Promise<Chunk> => {
      const chunk = await this.#reader.read(table, reading, asked);
      this.#backlog.keyPace(table.id).looked(texts.length, chunk.block?.byteCount ?? 0);
      return chunk;
    };
    const [handed] = await this.#chunks.read([{ table, workers: [worker], keys: texts, read }], signal);
    const done = async (): Promise<void> => {
      failpoint("snapshot.keys-durable");
      const batch = worker.position.batch ?? 0;
      await snapshots.removeKeys(
        fitting.map((pending) => pending.id),
        { sink: worker.name, tableId: table.id, batch },
      );
    };
    await this.#inFlight.untilDurable([{ handed: handed ?? null, done }], signal);
    return true;
  }

  /** Reads the next chunk of each table for all the sinks whose incremental snapshots are at the same key. */
  async #ranged(group: readonly RangeRead[], signal: AbortSignal): Promise<boolean> {
    const { state } = this.#parts;
    const ready = group.flatMap((reading) => this.#ready(reading) ?? []);
    if (ready.length === 0) return false;
    const carriable = ready.flatMap((one) => {
      const snapshots = [...one.snapshots].filter(([, { id, cursor }]) => cursor === null && this.#carriable.has(id));
      return snapshots.length > 0 ? [{ ...one, snapshots: new Map(snapshots) }] : [];
    });
    if (carriable.length > 0) return await this.#carry(carriable, signal);
    const outdated = ready.flatMap(({ completeness, snapshots }) =>
      [...snapshots.values()].filter(
        (snapshot) => snapshot.completeness !== null && snapshot.completeness !== completeness,
      ),
    );
    for (const { id } of outdated) await state.snapshots.restart(id);
    if (outdated.length > 0) return true;
    // Invariant: before the first low mark is written, the incremental snapshot no longer counts as unread.
    for (const { snapshots } of ready) for (const snapshot of snapshots.values()) this.#ledger.begin(snapshot);
    const chunks = ready.map(({ reading, table, snapshots }) => {
      const end: { last: KeyText | null; rowCount: number } = { last: null, rowCount: 0 };
      const read = async (asked: ReadLimits) => {
        const chunk = await this.#reader.read(table, reading, asked);
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
    const chunksDone = ready.map(({ table, completeness, snapshots }, i) => ({
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
    await this.#inFlight.untilDurable(chunksDone, signal);
    return true;
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
    const completeness = this.#parts.completeness(table);
    return completeness === null ? null : { reading, table, completeness, snapshots };
  }

  /**
   * Before tables are read only because their shape has changed, this asks the sinks whether their copies followed the
   * change. It asks at a position of the log behind the change, so that no row of an earlier shape comes after it.
   */
  async #carry(ready: readonly Ready[], signal: AbortSignal): Promise<boolean> {
    const { clock, news, fanOut, source, gate } = this.#parts;
    const looked = ready.map((one) => ({ ...one, facts: gate.columnFacts(one.table) }));
    // The stream will reach the shape that the catalogue has by now.
    const known = looked.filter(({ facts }) => facts !== undefined);
    if (known.length === 0) return false;
    if (known.some(({ facts }) => facts !== null)) {
      const place = await source.log.tip(signal);
      for (let told = news.count; fanOut.position.commit <= place; told = news.count) {
        await news.after(told, clock, IDLE_MS, signal);
      }
    }
    const asked = known.map(({ table, completeness, snapshots, facts }) => {
      const durable = new Map<SinkWorker, Promise<boolean>>();
      const isAsItWas = gate.table(table.id) === table && this.#parts.completeness(table) === completeness;
      for (const [worker, snapshot] of isAsItWas ? snapshots : []) {
        // An operator may have requested the rows meanwhile.
        if (!this.#carriable.delete(snapshot.id) || facts == null) continue;
        // Invariant: a request from here on makes the incremental snapshot begin again, and this does not end it.
        this.#ledger.begin(snapshot);
        const receipts = new Receipts(1);
        durable.set(worker, receipts.all);
        fanOut.push(worker, { kind: "carry", table, completeness, facts, receipt: receipts.one() });
      }
      const sessions = new Map([...durable.keys()].map((worker) => [worker, worker.session]));
      const done = async (worker: SinkWorker): Promise<void> => {
        const { sink, reason } = snapshots.get(worker)!;
        if (!(await this.#ledger.finish(snapshots.get(worker)!, undefined))) return;
        this.#parts.logger.info(
          { table: table.id, sink, reason },
          "the table need not be read for its change of shape",
        );
      };
      return { handed: { lowVersion: 0n, durable, sessions }, done };
    });
    await this.#inFlight.untilDurable(asked, signal);
    return true;
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
    if (completeness !== this.#parts.completeness(table)) this.notify();
    const { reason } = snapshot;
    const { rowsDone: rows, chunksDone: chunks, resumedCount: resumed } = progress;
    logger.info({ table: table.id, sink: worker.name, reason, rows, chunks, resumed }, "table read beside the stream");
  }
}

/** A range whose table can be read now, with the completeness of its copy and its attached sinks. */
interface Ready {
  readonly reading: RangeRead;
  readonly table: TableVersion;
  readonly completeness: Completeness;
  readonly snapshots: ReadonlyMap<SinkWorker, TableSnapshot>;
}

/** Adds to a table that is read from its first key other tables that begin for the same sinks: most are small. */
function together(first: RangeRead, readings: readonly SnapshotRead[]): RangeRead[] {
  const isBeginning = ({ cursor, scope }: RangeRead): boolean => cursor === null && scope.kind === "table";
  if (!isBeginning(first)) return [first];
  const sinks = first.sinks.toSorted().join();
  const alike = readings.filter(
    (reading): reading is RangeRead =>
      reading.kind === "range" && isBeginning(reading) && reading.sinks.toSorted().join() === sinks,
  );
  return alike.slice(0, TOGETHER_COUNT_MAX);
}

const WHOLE = { kind: "table" } as const;

/** Why a table is read without a request. */
const LACKING = "not complete in this sink";

function isWhole({ scope }: TableSnapshot): boolean {
  return scope.kind === "table";
}
