import type { Completeness } from "../../core/checkpoint.ts";
import { abortOf, type Clock } from "../../core/clock.ts";
import { findMillraceError } from "../../core/errors.ts";
import { failpoint } from "../../core/failpoint.ts";
import type { TableShape } from "../../core/contracts/catalog.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import type { News } from "../../core/waiting.ts";
import type { FirstCopy } from "../../core/contracts/log-admin.ts";
import type { Logger } from "../../core/contracts/telemetry.ts";
import { kindOf } from "../retry.ts";
import type { SinkWorker } from "../sink/sink-worker.ts";
import { giveReceipt, letGo, Receipts, type TableEnd, type Work } from "../stream/sink-queue.ts";
import { bytesFor, OWN_BATCHES } from "../stream/fan-out.ts";
import { copyRaw, type RawEnd } from "./raw-copy.ts";

interface InitialSnapshotParts {
  readonly clock: Clock;
  /** Notified when a sink's queue has room. */
  readonly news: News;
  readonly copy: FirstCopy;
  readonly wants: (worker: SinkWorker, table: TableVersion) => boolean;
  /**
   * Those of these tables whose target holds rows of another program, which are compared beside the stream instead, or of another
   * daemon, which are read there: versions of another log may exceed that of the copied rows.
   */
  readonly othersRows: (
    worker: SinkWorker,
    tables: readonly TableVersion[],
    signal: AbortSignal,
  ) => Promise<readonly TableVersion[]>;
  readonly completeness: (table: TableVersion) => Completeness;
  /** Whether the sink, or a reader of it, may have rows of an earlier life. */
  readonly sweeps: (worker: SinkWorker) => boolean;
  /** The version of the copied rows: those of an earlier life have lower ones. */
  readonly version: bigint;
  readonly logger: Logger;
}

/** Progress of the initial snapshot, for `status`. */
export interface CopyProgress {
  readonly tableIds: readonly string[];
  tablesDone: number;
  rowsRead: number;
  /** In a sink, after every other one that takes them has them or has failed. */
  rowsDurable: number;
}

/** Tables that one reading reads at the same time. */
const PARALLEL_TABLES = 2;
/** A notification tells when a queue has room; this is how often it is checked anyway. */
const FULL_LOOK_MS = 1_000;
/** The same while some sinks have nothing to do because of another one. */
const WAITING_LOOK_MS = 50;
/** Once the first sink has all rows, the stream waits at least this long for the others that share the reading. */
const ENDING_MS_MIN = 1_000;
/** After a long copy it waits longer: this part of the copy's time. */
const ENDING_SHARE = 0.1;

/**
 * A sink that left a reading waits for those that stayed, which need the processors for themselves: at most this part of the
 * time that it needs for the rows they have read so far.
 */
const AFTER_SHARE = 0.2;

/** A sink that is being filled. */
interface Member {
  readonly worker: SinkWorker;
  readonly rate: WriteRate;
  /** Aborted when the sink leaves: what waits for it was dropped, and it takes nothing more. */
  readonly signal: AbortSignal;
  /** Ids of the tables of which it was given all rows, or needs none. */
  readonly given: Set<string>;
  /** Of these tables, that they are durable, or dropped. */
  readonly ends: Promise<void>[];
  /** Resolves when it has everything that it could get. */
  readonly filled: PromiseWithResolvers<void>;
}

/** One pass over the tables, for these sinks. */
interface Reading {
  readonly members: Set<Member>;
  /** Those that left, with the bytes of all rows that were read of their tables. */
  readonly left: Map<Member, number>;
  readonly pace: CopyPace;
  readonly progress: CopyProgress;
}

/**
 * Fills the sinks with all rows as of the position where the stream begins. They share one reading as long as none holds up
 * the others. One that does leaves it, and reads what it lacks by itself, after the others if they are much faster; the stream
 * begins without it, and it catches up behind its last row. A table whose copy failed, or a sink that failed meanwhile, is left to the snapshotter: it reads what a
 * sink does not hold completely.
 */
export class InitialSnapshot {
  readonly #parts: InitialSnapshotParts;
  #tables: readonly TableVersion[] = [];
  #hasBegun = false;
  readonly #members = new Set<Member>();
  /** What uses the copy: sinks that are being filled, and readings. */
  readonly #users = new Set<Promise<void>>();
  /** When the first sink had all rows. */
  #filledMs: number | null = null;
  #ended: Promise<void> | null = null;

  constructor(parts: InitialSnapshotParts) {
    this.#parts = parts;
  }

  get shapes(): readonly TableShape[] {
    return this.#parts.copy.tables;
  }

  /**
   * Resolves when the sink has all rows durably that the copy could give it. Invariant: it is at the position where the stream
   * begins, and gets nothing of the stream meanwhile: the rows are older than any change behind that.
   */
  async fill(worker: SinkWorker, signal: AbortSignal): Promise<void> {
    if (!this.#hasBegun) await this.#using(this.#fill(worker, signal));
  }

  async #fill(worker: SinkWorker, signal: AbortSignal): Promise<void> {
    const filled = Promise.withResolvers<void>();
    const member: Member = { worker, rate: new WriteRate(worker), signal, given: new Set(), ends: [], filled };
    this.#members.add(member);
    try {
      await Promise.race([filled.promise, abortOf(signal)]);
      signal.throwIfAborted();
      this.#filledMs ??= this.#parts.clock.elapsed();
    } finally {
      this.#members.delete(member);
      this.#parts.news.tell();
    }
  }

  /** Reads the tables, under their versions, for the sinks that are here. Resolves when the stream may begin. */
  async run(tables: readonly TableVersion[], progress: CopyProgress, signal: AbortSignal): Promise<void> {
    const { clock, news } = this.#parts;
    this.#hasBegun = true;
    this.#tables = tables;
    const begunMs = clock.elapsed();
    await Promise.all(Array.from(this.#members, (member) => this.#leaveOut(member, signal)));
    const together = new Set(this.#members);
    await this.#using(this.#read(together, progress, signal));
    // A sink that reads by itself is not waited for: it catches up once it has its last row.
    while (together.intersection(this.#members).size > 0) {
      const told = news.count;
      const nowMs = clock.elapsed();
      const filledMs = this.#filledMs ?? nowMs;
      const dueMs = filledMs + Math.max(ENDING_MS_MIN, (filledMs - begunMs) * ENDING_SHARE);
      if (nowMs >= dueMs) return;
      await news.after(told, clock, Math.min(FULL_LOOK_MS, dueMs - nowMs), signal);
    }
  }

  /** Nothing waits for the sink yet, so it can be asked. What it can't tell now is found out beside the stream. */
  async #leaveOut({ worker, given }: Member, signal: AbortSignal): Promise<void> {
    let left = this.#tables;
    try {
      left = await this.#parts.othersRows(worker, this.#tables, signal);
    } catch (error) {
      signal.throwIfAborted();
      this.#parts.logger.warn({ sink: worker.name, error }, "the sink did not tell what others have filled");
    }
    for (const { id } of left) given.add(id);
  }

  /** Closes the copy when no sink needs it any more. */
  async end(): Promise<void> {
    await (this.#ended ??= this.#end());
  }

  async #end(): Promise<void> {
    while (this.#users.size > 0) await Promise.allSettled(this.#users);
    const { copy, logger } = this.#parts;
    // The rows are where they are to be: what fails now changes nothing.
    await copy.close().catch((error: unknown) => logger.warn({ error }, "the initial snapshot could not be closed"));
  }

  async #using(work: Promise<void>): Promise<void> {
    this.#users.add(work);
    try {
      await work;
    } finally {
      this.#users.delete(work);
    }
  }

  async #read(members: Set<Member>, progress: CopyProgress, signal: AbortSignal): Promise<void> {
    const pace = new CopyPace(this.#parts.clock, (member) => {
      members.delete(member);
      reading.left.set(member, member.rate.givenBytes);
      this.#using(this.#readAlone(member, reading, signal)).catch((error: unknown) => member.filled.reject(error));
    });
    const reading: Reading = { members, left: new Map(), pace, progress };
    const waiting = [...this.#tables];
    const one = async () => {
      for (let table = waiting.shift(); table !== undefined; table = waiting.shift()) {
        const ends = await this.#copyTable(table, reading, signal);
        // The next table is read meanwhile: this way small tables reach the sinks together.
        void Promise.all(ends).then(() => void progress.tablesDone++);
      }
    };
    await Promise.all(Array.from({ length: PARALLEL_TABLES }, one));
    for (const { ends, filled } of members) void Promise.all(ends).then(() => filled.resolve());
  }

  async #readAlone(member: Member, left: Reading, signal: AbortSignal): Promise<void> {
    const { worker, given } = member;
    const { bytesPerMs } = member.rate;
    // They come once more.
    worker.queue.dropThose((work) => work.kind === "rows" && work.block.tables.every(({ id }) => !given.has(id)));
    this.#parts.logger.info({ sink: worker.name }, "the others would wait for the sink: it reads the tables by itself");
    await this.#afterOthers(member, left, bytesPerMs, signal);
    const progress = { tableIds: [], tablesDone: 0, rowsRead: 0, rowsDurable: 0 };
    await this.#read(new Set([member]), progress, signal);
  }

  /** The more they have read, the more the sink has to write, and the longer it may wait. So it waits for much faster ones. */
  async #afterOthers(
    member: Member,
    { members, left }: Reading,
    bytesPerMs: number,
    signal: AbortSignal,
  ): Promise<void> {
    const { clock, news } = this.#parts;
    const begunMs = clock.elapsed();
    while (!member.signal.aborted && !members.isDisjointFrom(this.#members)) {
      const told = news.count;
      const leftMs = begunMs + (AFTER_SHARE * left.get(member)!) / bytesPerMs - clock.elapsed();
      if (leftMs <= 0) return;
      await news.after(told, clock, Math.min(FULL_LOOK_MS, leftMs), signal);
    }
  }

  /** Resolves when the table was read, with promises that end when the sinks have it. */
  async #copyTable(table: TableVersion, reading: Reading, signal: AbortSignal): Promise<readonly Promise<void>[]> {
    const { members, progress } = reading;
    const taking = [...members, ...reading.left.keys()].filter(
      ({ worker, given, signal: staying }) =>
        !staying.aborted && !given.has(table.id) && this.#parts.wants(worker, table),
    );
    const takers = taking.filter((member) => members.has(member));
    if (takers.length === 0) return [];
    // The copy itself would not notice two rows with the same key.
    if (table.unenforcedKey === true) return [];
    const failed = new Set<Member>();
    try {
      if ((await this.#copyRaw(table, takers, progress, signal)) !== "decode") return [];
      await this.#readTable(table, { taking, takers, failed }, reading, signal);
    } catch (error) {
      signal.throwIfAborted();
      // If more than this table is affected, the stream fails too. Otherwise it is a defect.
      if (kindOf(error) !== "retryable" && findMillraceError(error) === undefined) throw error;
      this.#parts.logger.warn(
        { table: table.id, error },
        "the copy of the table failed; the table is read beside the stream",
      );
      return [];
    }
    return takers.filter((member) => !failed.has(member)).map((member) => this.#complete(member, table));
  }

  /** A table that only one sink takes, in the source's own form. */
  async #copyRaw(
    table: TableVersion,
    [member, ...others]: readonly Member[],
    progress: CopyProgress,
    signal: AbortSignal,
  ): Promise<RawEnd> {
    if (member === undefined || others.length > 0) return "decode";
    const push = (work: Work): void => give(member, work);
    const ends = this.#endsOf(member.worker, table);
    const copied = await copyRaw({ ...this.#parts, table, worker: member.worker, push, progress, ends }, signal);
    if (copied === "copied") member.given.add(table.id);
    return copied;
  }

  /** Gives every row to every sink that has neither failed nor left meanwhile. */
  async #readTable(
    table: TableVersion,
    { taking, takers, failed }: Takers,
    { members, left, pace, progress }: Reading,
    signal: AbortSignal,
  ): Promise<void> {
    const { clock, news, copy, logger } = this.#parts;
    let rowCount = 0;
    for await (const block of copy.read(table, signal)) {
      rowCount += block.count;
      progress.rowsRead += block.count;
      for (const member of taking) if (left.has(member)) left.set(member, left.get(member)! + block.byteCount);
      for (const member of takers) if (!members.has(member)) failed.add(member);
      const given = takers.filter((member) => !failed.has(member));
      const { count } = block;
      const ended = countedOnce(given.length, () => void (progress.rowsDurable += count));
      for (const member of given) {
        const dropped = (): void => {
          failed.add(member);
          ended(false);
        };
        const receipt = { durable: () => ended(true), dropped };
        member.rate.givenBytes += block.byteCount;
        give(member, { kind: "rows", block: block.retain(), from: 0, to: block.count, receipt });
      }
      block.release();
      failpoint("copy.block-queued");
      if (failed.size === takers.length) return;
      for (;;) {
        const told = news.count;
        const staying = takers.filter((member) => members.has(member) && !failed.has(member));
        const isFull = staying.some(({ worker }) => !hasRoom(worker));
        const isAnyIdle = pace.look(table, isFull ? staying : []);
        if (!isFull) break;
        await news.after(told, clock, isAnyIdle ? WAITING_LOOK_MS : FULL_LOOK_MS, signal);
      }
    }
    for (const member of takers) if (!members.has(member)) failed.add(member);
    logger.info({ table: table.id, rows: rowCount }, "table read");
  }

  /**
   * Invariant: works are done in order, and a failure drops all works behind it. So this work is durable only if all of the
   * table's rows are.
   */
  async #complete(member: Member, table: TableVersion): Promise<void> {
    const ends = this.#endsOf(member.worker, table);
    const receipts = new Receipts(ends.length);
    const done = receipts.all.then(() => failpoint("copy.table-complete"));
    member.given.add(table.id);
    member.ends.push(done);
    for (const end of ends) give(member, { ...end, receipt: receipts.one() });
    await done;
  }

  /** What follows the last row of a table in a sink. */
  #endsOf(worker: SinkWorker, table: TableVersion): readonly TableEnd[] {
    const { sweeps, version, completeness } = this.#parts;
    const complete: TableEnd = { kind: "complete", table, completeness: completeness(table) };
    return sweeps(worker) ? [{ kind: "sweep", table, below: version }, complete] : [complete];
  }
}

interface Takers {
  /** Those that want the table's rows, also from another reading. */
  readonly taking: readonly Member[];
  readonly takers: readonly Member[];
  readonly failed: Set<Member>;
}

/** Tells once, when so many have ended, that at least one of them is durable. */
function countedOnce(count: number, tell: () => void): (isDurable: boolean) => void {
  let open = count;
  let isAny = false;
  return (isDurable) => {
    isAny ||= isDurable;
    if (--open === 0 && isAny) tell();
  };
}

function give({ worker, signal }: Member, work: Work): void {
  if (!signal.aborted) return worker.queue.push(work);
  letGo(work);
  giveReceipt(work, "dropped");
}

/** How fast a sink writes what it was given. The time in which it has nothing to write, or prepares tables, does not count. */
export class WriteRate {
  readonly #worker: Pick<SinkWorker, "queue" | "limits" | "writer">;
  givenBytes = 0;

  constructor(worker: Pick<SinkWorker, "queue" | "limits" | "writer">) {
    this.#worker = worker;
  }

  get #durableBytes(): number {
    return Math.max(0, this.givenBytes - this.#worker.queue.heldBytes);
  }

  /** At most this, as far as it is known. A batch that takes long counts before it is done. Infinity: it has just begun. */
  get bytesPerMs(): number {
    const { writer, limits } = this.#worker;
    const { doneMs, presentMs } = writer.ofRows;
    const withPresent = (this.#durableBytes + limits.byteCountMax) / (doneMs + presentMs);
    return doneMs === 0 ? withPresent : Math.min(this.#durableBytes / doneMs, withPresent);
  }

  /** Whether this sink is known to be much slower than the other one. */
  isBelow(other: WriteRate): boolean {
    return other.#worker.writer.ofRows.doneMs > 0 && this.bytesPerMs < other.bytesPerMs * SLOWER;
  }
}

/** Of two sinks below this part of the other's rate, one is much slower: together the faster one needs 1.5 times as long. */
const SLOWER = 2 / 3;

/**
 * Who goes along in a reading. All sinks get each block at about the same time, so the slowest one sets the pace; one that the
 * others wait for leaves: soon if it is known to be much slower, else if they go on waiting for it.
 */
class CopyPace {
  readonly #patience: Patience<Member>;
  readonly #onLeft: (member: Member) => void;
  /** By table that is being read: those for which others waited at the last look. */
  readonly #waitedFor = new Map<TableVersion, readonly Member[]>();

  constructor(clock: Clock, onLeft: (member: Member) => void) {
    this.#patience = new Patience(clock);
    this.#onLeft = onLeft;
  }

  /** From now on the table's reading waits for one of these sinks. None: it goes on. Returns whether others are idle then. */
  look(table: TableVersion, members: readonly Member[]): boolean {
    const passedMs = this.#patience.passedMs();
    const idleBeside = new Map(members.map((member) => [member, idleAt(member, members)]));
    const waitedFor = members.filter((member) => idleBeside.get(member)!.length > 0);
    for (const member of new Set([...this.#waitedFor.values()].flat())) {
      this.#patience.waited(member, passedMs);
      if (!waitedFor.includes(member)) continue;
      const isMuchSlower = idleBeside.get(member)!.some(({ rate }) => member.rate.isBelow(rate));
      if (this.#patience.isSpent(member, members, isMuchSlower)) this.#onLeft(member);
    }
    if (waitedFor.length === 0) this.#waitedFor.delete(table);
    else this.#waitedFor.set(table, waitedFor);
    return waitedFor.length > 0;
  }
}

/** Those that have little or nothing to do while the reading waits for this one. */
function idleAt(member: Member, members: readonly Member[]): readonly Member[] {
  if (hasRoom(member.worker)) return [];
  const { heldBytes } = member.worker.queue;
  return members.filter(
    (other) => other !== member && (other.worker.idle || other.worker.queue.heldBytes < heldBytes / 4),
  );
}

function hasRoom({ queue, limits }: SinkWorker): boolean {
  return queue.heldBytes <= bytesFor(OWN_BATCHES, [limits]);
}

/** Others have waited for a sink this long, */
const WAITED_MS_MIN = 2_000;
/** or this long for one that is known to be much slower, */
const WAITED_MS_MIN_IF_SLOWER = 200;
/**
 * and for this part of the time: without it they need five sixths. What they were waited for themselves does not count: sinks
 * of about the same pace wait for each other by turns, and one that goes on alone has the source read twice.
 */
const WAITED_SHARE = 1 / 6;
/** Half of what was measured counts as past after this time: a sink may become slow late. */
const MEASURED_MS = 20_000;

/** How long sinks that get the same rows have waited for one of them, of late. */
export class Patience<S> {
  readonly #clock: Clock;
  readonly #waitedMs = new Map<S, number>();
  #measuredMs = 0;
  #lookedMs: number;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#lookedMs = clock.elapsed();
  }

  /** The time since this was last called. */
  passedMs(): number {
    const nowMs = this.#clock.elapsed();
    const passedMs = nowMs - this.#lookedMs;
    this.#lookedMs = nowMs;
    this.#measuredMs += passedMs;
    for (; this.#measuredMs >= MEASURED_MS; this.#measuredMs /= 2)
      for (const [sink, waitedMs] of this.#waitedMs) this.#waitedMs.set(sink, waitedMs / 2);
    return passedMs;
  }

  /** Others have waited for the sink meanwhile. */
  waited(sink: S, ms: number): void {
    this.#waitedMs.set(sink, (this.#waitedMs.get(sink) ?? 0) + ms);
  }

  /** Whether the others go on without the sink. `together`: all that get the same rows. */
  isSpent(sink: S, together: readonly S[], isMuchSlower = false): boolean {
    const of = (one: S): number => this.#waitedMs.get(one) ?? 0;
    const others = together.filter((one) => one !== sink).map(of);
    const waitedMs = of(sink) - (others.length === 0 ? 0 : Math.min(...others));
    const waitedMsMin = isMuchSlower ? WAITED_MS_MIN_IF_SLOWER : WAITED_MS_MIN;
    return waitedMs >= waitedMsMin && waitedMs > this.#measuredMs * WAITED_SHARE;
  }
}
