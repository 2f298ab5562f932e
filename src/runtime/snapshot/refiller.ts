import type { Completeness } from "../../core/checkpoint/completeness.ts";
import { type Clock, pause } from "../../core/clock.ts";
import { failpoint } from "../../core/failpoint.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import type { News } from "../../core/news.ts";
import type { KeyText } from "../../core/contracts/row-reads.ts";
import type { Source } from "../../core/contracts/source.ts";
import type { Refill, RefillProgress, StateStore } from "../../core/contracts/state-store.ts";
import type { Logger } from "../../core/contracts/telemetry.ts";
import { Backlog } from "./backlog.ts";
import { entry } from "../entry.ts";
import type { FailingReads } from "./failing-reads.ts";
import type { Lane } from "../stream/lane.ts";
import { type Asked, fittingKeys, type KeyReading, type RangeReading, type Reading } from "./readings.ts";
import { ChunkReader } from "./refill-chunks.ts";
import { RefillLedger } from "./refill-ledger.ts";
import { kindOf, ReconnectBackoff } from "../retry.ts";
import { isOfOneTable, RowReader } from "./row-reader.ts";
import type { SinkWorker } from "../apply/sink-worker.ts";
import type { TableGate } from "../schema/table-gate.ts";
import { Receipts } from "../apply/work.ts";
import { Settlements } from "./settlements.ts";

export interface RefillerParts {
  readonly clock: Clock;
  /** Told when the stream has come further, and when what is left to read is another. */
  readonly news: News;
  readonly lane: Lane;
  readonly source: Pick<Source, "log" | "rows" | "watermarks">;
  readonly state: StateStore;
  readonly gate: Pick<TableGate, "table" | "tables" | "columnFacts" | "isGone" | "setAside">;
  /** What the sinks record of a complete copy that begins now; null: a whole copy can't begin yet. */
  readonly completeness: (table: TableVersion) => Completeness | null;
  /** Ids of the tables that this sink must hold and does not hold completely. */
  readonly lacking: (worker: SinkWorker) => readonly string[];
  /** Whether the table's changes pass over this sink: nothing of it is read for it. */
  readonly isSuspended: (sink: string, tableId: string) => boolean;
  readonly logger: Logger;
}

/** How long the refiller waits before it looks again for work that could not be done yet. */
const IDLE_MS = 1_000;
/** Tables that are read between the same two marks. */
const TOGETHER_COUNT_MAX = 64;

/**
 * Reads rows from the source beside the stream, chunk by chunk, whatever asked for them, and hands them to the sinks at
 * their place in the stream. Work is remembered in the state store; what was not durable in a sink at a restart is read
 * again. One chunk is read at a time, so that the load on the source is bounded, and one is on its way to each sink: a slow
 * sink makes nobody else wait for rows. Nor does a table that can't be read: it is tried again beside the others, also one
 * at a time. Of tables that begin, as many as one chunk has room for count as one.
 */
export class Refiller {
  readonly #parts: RefillerParts;
  readonly #chunks: ChunkReader;
  #wake: AbortController = new AbortController();
  /** What the state lists is not known before it was looked at: nobody may take it for nothing. */
  #unfinished = 1;
  /** Counts what may have changed what the sinks lack, and how much of that was looked at. */
  #changes = 1;
  #seen = 0;
  readonly #ledger: RefillLedger;
  readonly #settlements: Settlements;
  /** Ids of refills that this process began because a sink lacks the table: they may end without a read (`#carry`). */
  readonly #carriable = new Set<number>();
  readonly #reader: RowReader;
  readonly #backlog: Backlog;
  #isIdle = false;

  constructor(parts: RefillerParts) {
    this.#parts = parts;
    this.#ledger = new RefillLedger(parts.clock, parts.state.refills);
    this.#chunks = new ChunkReader(parts);
    this.#settlements = new Settlements(parts.clock, () => this.#wake.abort());
    this.#reader = new RowReader({ ...parts, onAttempt: (error) => this.#settlements.failed(error) });
    this.#backlog = new Backlog(parts, this.failing);
  }

  /** How far each refill is. */
  get ledger(): RefillLedger {
    return this.#ledger;
  }

  /** What can't be read at the moment. */
  get failing(): FailingReads {
    return this.#reader.failing;
  }

  /** Refills and listed keys that were waiting or running when last looked at. */
  get unfinished(): number {
    return this.#unfinished + (this.#seen < this.#changes ? 1 : 0);
  }

  /** There may be new work: something is listed, or what is wanted, or held, has changed. */
  notify(): void {
    this.#changes++;
    this.#wake.abort();
    this.#parts.news.tell();
  }

  /**
   * Tables, or a part of each, to read again for one sink; resolves when that is stored. One that is being read begins
   * again: rows that it has passed may be the ones that are asked for. `needed`: without it the sink is short of rows.
   */
  async again(
    sink: string,
    tableIds: readonly string[],
    scope: Refill["scope"],
    reason: string,
    needed = false,
  ): Promise<void> {
    for (const tableId of tableIds) {
      const refill = await this.#ledger.again({ tableId, sink, scope, reason, needed });
      // Who asks for rows gets them read.
      this.#carriable.delete(refill.id);
    }
    this.notify();
  }

  async run(signal: AbortSignal): Promise<never> {
    const { clock } = this.#parts;
    const backoff = new ReconnectBackoff(clock);
    for (;;) {
      signal.throwIfAborted();
      this.#wake = new AbortController();
      try {
        this.#settlements.throwFailure();
        await this.#ledger.storeInTime();
        const worked = await this.#round(signal);
        this.#parts.news.tell();
        backoff.reset();
        const idleMs = Math.min(IDLE_MS, this.#reader.dueInMs);
        this.#isIdle = !worked;
        if (!worked) await pause(clock, idleMs, signal, this.#wake.signal);
      } catch (error) {
        signal.throwIfAborted();
        const waitMs = backoff.next();
        this.#parts.logger.warn(
          { error, kind: kindOf(error), waitMs },
          "reading rows beside the stream failed; it is tried again",
        );
        await pause(clock, waitMs, signal);
      }
    }
  }

  /**
   * Lists what attached sinks lack. Invariant: that a table is to be read follows from what is wanted and what is held, looked
   * at after each change of either, and is no request that can be lost.
   */
  async #listLacking(): Promise<void> {
    const { lane, lacking, state } = this.#parts;
    const open = await this.#ledger.list();
    const isOpen = new Set(open.flatMap((refill) => (isWhole(refill) ? [entry(refill.sink, refill.tableId)] : [])));
    const requests = [...lane.sinks].flatMap((worker) =>
      lacking(worker)
        .filter((tableId) => !isOpen.has(entry(worker.name, tableId)))
        .map((tableId) => ({ tableId, sink: worker.name, scope: WHOLE, reason: LACKING, needed: true })),
    );
    for (const { id } of await state.refills.addAll(requests)) this.#carriable.add(id);
  }

  /** One chunk of the first work that can be done. False: nothing to do now. */
  async #round(signal: AbortSignal): Promise<boolean> {
    const changes = this.#changes;
    if (this.#seen < changes || this.#isIdle) await this.#listLacking();
    const { refills } = this.#parts.state;
    const open = await this.#backlog.withoutVoid(await this.#ledger.list());
    this.#unfinished = (await refills.countKeys()) + open.length;
    // Invariant: not before what has changed is counted, or a `wait` would end between the two.
    this.#seen = changes;
    this.#ledger.noteAhead(open);
    if (!this.failing.isEmpty) this.#reader.tryRefused(await this.#backlog.failing(open), signal);
    return await this.#first(await this.#backlog.inTurn(open, this.#settlements.busy), signal);
  }

  /** Does the first that is possible. One that fails stands in nobody's way; its error is thrown if nothing else is. */
  async #first(readings: readonly Reading[], signal: AbortSignal): Promise<boolean> {
    let failure: unknown;
    const tried = new Set<Reading>();
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
    const { lane } = this.#parts;
    return [...lane.sinks].find((worker) => worker.name === name && lane.has(worker));
  }

  /** Reads listed keys for one sink. */
  async #listed(reading: KeyReading, signal: AbortSignal): Promise<boolean> {
    const { refills } = this.#parts.state;
    const worker = this.#attached(reading.sinks[0]!);
    const table = this.#parts.gate.table(reading.tableId);
    if (worker === undefined || table === undefined) return false;
    // Invariant: a table whose key has changed since is read again as a whole, in every sink that takes it.
    const { fitting, texts, others } = fittingKeys(reading.keys, table);
    if (others.length > 0) await refills.removeKeys(others.map((pending) => pending.id));
    if (fitting.length === 0) return true;
    const read = (asked: Asked) => this.#reader.read(table, reading, asked);
    const [handed] = await this.#chunks.read([{ table, workers: [worker], keys: texts, read }], signal);
    const done = async (): Promise<void> => {
      failpoint("refill.keys-durable");
      const step = worker.step ?? 0;
      await refills.removeKeys(
        fitting.map((pending) => pending.id),
        { sink: worker.name, tableId: table.id, step },
      );
    };
    await this.#settlements.settle([{ handed: handed ?? null, done }], signal);
    return true;
  }

  /** Reads the next chunk of each table for all the sinks whose refills stand at the same key. */
  async #ranged(group: readonly RangeReading[], signal: AbortSignal): Promise<boolean> {
    const { state } = this.#parts;
    const ready = group.flatMap((reading) => this.#ready(reading) ?? []);
    if (ready.length === 0) return false;
    const carriable = ready.flatMap((one) => {
      const refills = [...one.refills].filter(([, { id, cursor }]) => cursor === null && this.#carriable.has(id));
      return refills.length > 0 ? [{ ...one, refills: new Map(refills) }] : [];
    });
    if (carriable.length > 0) return await this.#carry(carriable, signal);
    const outdated = ready.flatMap(({ completeness, refills }) =>
      [...refills.values()].filter((refill) => refill.completeness !== null && refill.completeness !== completeness),
    );
    for (const { id } of outdated) await state.refills.restart(id);
    if (outdated.length > 0) return true;
    // Invariant: no longer ahead before the first low mark is written.
    for (const { refills } of ready) for (const refill of refills.values()) this.#ledger.begin(refill);
    const chunks = ready.map(({ reading, table, refills }) => {
      const end: { last: KeyText | null; rowCount: number } = { last: null, rowCount: 0 };
      const read = async (asked: Asked) => {
        const chunk = await this.#reader.read(table, reading, asked);
        end.last = chunk.last;
        end.rowCount = chunk.block?.count ?? 0;
        return chunk;
      };
      return { end, wanted: { table, workers: [...refills.keys()], keys: null, read } };
    });
    const handed = await this.#chunks.read(
      chunks.map(({ wanted }) => wanted),
      signal,
    );
    const chunksDone = ready.map(({ table, completeness, refills }, i) => ({
      handed: handed[i]!,
      done: async (worker: SinkWorker, lowVersion: bigint): Promise<void> => {
        failpoint("refill.chunk-durable", table);
        const { last, rowCount } = chunks[i]!.end;
        const refill = refills.get(worker)!;
        const progress = this.#ledger.after(refill, { completeness, lowVersion, last, rowCount, held: worker.step });
        if (last === null) await this.#finish(refill, progress, table, worker);
        else this.#ledger.note(progress);
      },
    }));
    await this.#settlements.settle(chunksDone, signal);
    return true;
  }

  /** Null where the table can't be read now. */
  #ready(reading: RangeReading): Ready | null {
    const table = this.#parts.gate.table(reading.tableId);
    const refills = new Map<SinkWorker, Refill>();
    for (const refill of reading.refills) {
      const worker = this.#attached(refill.sink);
      if (worker !== undefined) refills.set(worker, refill);
    }
    if (table === undefined || refills.size === 0) return null;
    // Invariant: what a copy is complete for is settled before its first row is read, and is the same at each chunk.
    const completeness = this.#parts.completeness(table);
    return completeness === null ? null : { reading, table, completeness, refills };
  }

  /**
   * Before tables are read of which only the shape has changed, the sinks are asked whether their copies went along: at a
   * place of the log behind the change, so that no row of an earlier shape comes after it.
   */
  async #carry(ready: readonly Ready[], signal: AbortSignal): Promise<boolean> {
    const { clock, news, lane, source, gate } = this.#parts;
    const looked = ready.map((one) => ({ ...one, facts: gate.columnFacts(one.table) }));
    // The stream comes to the shape that the catalogue has by now.
    const known = looked.filter(({ facts }) => facts !== undefined);
    if (known.length === 0) return false;
    if (known.some(({ facts }) => facts !== null)) {
      const place = await source.log.tip(signal);
      for (let told = news.count; lane.position.commit <= place; told = news.count) {
        await news.after(told, clock, IDLE_MS, signal);
      }
    }
    const asked = known.map(({ table, completeness, refills, facts }) => {
      const durable = new Map<SinkWorker, Promise<boolean>>();
      const isAsItWas = gate.table(table.id) === table && this.#parts.completeness(table) === completeness;
      for (const [worker, refill] of isAsItWas ? refills : []) {
        // Somebody may have asked for the rows meanwhile.
        if (!this.#carriable.delete(refill.id) || facts == null) continue;
        // Invariant: who asks from here on has the refill begin again, and it does not end with this.
        this.#ledger.begin(refill);
        const receipts = new Receipts(1);
        durable.set(worker, receipts.all);
        lane.push(worker, { kind: "carry", table, completeness, facts, receipt: receipts.one() });
      }
      const sessions = new Map([...durable.keys()].map((worker) => [worker, worker.session]));
      const done = async (worker: SinkWorker): Promise<void> => {
        const { sink, reason } = refills.get(worker)!;
        if (!(await this.#ledger.finish(refills.get(worker)!, undefined))) return;
        this.#parts.logger.info(
          { table: table.id, sink, reason },
          "the table need not be read for its change of shape",
        );
      };
      return { handed: { lowVersion: 0n, durable, sessions }, done };
    });
    await this.#settlements.settle(asked, signal);
    return true;
  }

  /** After the last chunk of a whole table: what was not seen is gone at the source; the sink's copy is complete. */
  async #finish(refill: Refill, progress: RefillProgress, table: TableVersion, worker: SinkWorker): Promise<void> {
    const { lane, logger } = this.#parts;
    const { completeness, sweepBelow } = progress;
    if (refill.scope.kind === "table" && completeness !== null && sweepBelow !== null) {
      const receipts = new Receipts(2);
      lane.push(worker, { kind: "sweep", table, below: sweepBelow, receipt: receipts.one() });
      lane.push(worker, { kind: "complete", table, completeness, receipt: receipts.one() });
      if (!(await receipts.all)) return;
      failpoint("refill.swept", table);
    }
    if (!(await this.#ledger.finish(progress, worker.step ?? undefined))) return;
    // What is wanted may have become another while this was read.
    if (completeness !== this.#parts.completeness(table)) this.notify();
    const { reason } = refill;
    const { rowsDone: rows, chunksDone: chunks, resumedCount: resumed } = progress;
    logger.info({ table: table.id, sink: worker.name, reason, rows, chunks, resumed }, "table read beside the stream");
  }
}

/** A range whose table can be read now, with what its copy is complete for and the attached sinks that it is for. */
interface Ready {
  readonly reading: RangeReading;
  readonly table: TableVersion;
  readonly completeness: Completeness;
  readonly refills: ReadonlyMap<SinkWorker, Refill>;
}

/** With a table that is read from its first key others are that stand there for the same sinks: most are small. */
function together(first: RangeReading, readings: readonly Reading[]): RangeReading[] {
  const isBeginning = ({ cursor, scope }: RangeReading): boolean => cursor === null && scope.kind === "table";
  if (!isBeginning(first)) return [first];
  const sinks = first.sinks.toSorted().join();
  const alike = readings.filter(
    (reading): reading is RangeReading =>
      reading.kind === "range" && isBeginning(reading) && reading.sinks.toSorted().join() === sinks,
  );
  return alike.slice(0, TOGETHER_COUNT_MAX);
}

const WHOLE = { kind: "table" } as const;

/** Why a table is read that nobody has asked for. */
const LACKING = "not complete in this sink";

function isWhole({ scope }: Refill): boolean {
  return scope.kind === "table";
}
