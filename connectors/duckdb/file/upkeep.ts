/**
 * Frees space beside the stream: counts the dead rows of written tables, and rewrites a table that has many, in turns
 * between the batches. One table of a file at a time. If something fails here, the rewriting is abandoned and logged; no
 * batch fails.
 */
import { statfsSync } from "node:fs";
import { dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { EngineConnection } from "../../kit/duckdb-engine/engine.ts";
import type { Layouts } from "../engine-sink.ts";
import { nameOf, targetKey } from "../names.ts";
import type { TableName } from "../../../src/core/contracts/connector.ts";
import { type Batch, tablesOf } from "../../../src/core/model/batch.ts";
import { failpoint } from "../../../src/core/failpoint.ts";
import type { Logger } from "../../../src/core/contracts/telemetry.ts";
import { logBytesOf } from "./copy-file.ts";
import type { Database } from "./database.ts";
import { bytesOf, countRows, type DeadRows, readRoom, type RowCounts, storedRows } from "./dead-rows.ts";
import { FailedUpkeep } from "../failed-upkeep.ts";
import { classify, driverKind, duckdbError, isInvalidated, isOutOfMemory } from "../errors.ts";
import type { TableLayout } from "../write/layout.ts";
import type { CheckpointRow } from "../tables/checkpoint.ts";
import { Shadow, TableChanged, type Turn } from "../tables/shadow.ts";
import { TouchedKeys } from "../write/touched-keys.ts";
import { walBytesMax } from "./wal-size.ts";

/** So many times as many rows are copied as batches write meanwhile: these leave dead rows too. */
const COPIED_SHARE = 4;
/** How long a turn may delay the stream. */
const TURN_MS = 100;
/** A longer turn is stopped, and a shorter one tried. */
const TURN_MS_MAX = 4 * TURN_MS;
/** In live or dead rows. The size of the rows is unknown at first. */
const SPAN_FIRST = 1_024;
const SPAN_GROWTH = 4;
/** Dead rows cost no time, but live ones may follow them. */
export const SPAN_MAX = 50_000;
/** After this many turns in a row that were stopped or ran out of memory, the rewriting is abandoned. */
const FAILURES_MAX = 5;
/** A table with fewer dead rows is small work. */
const LARGE_DEAD_MIN = 50_000;
/**
 * After small work the stream has the file for so many times as long, if it writes: many small tables may have dead rows at the
 * same time.
 */
const STREAM_SHARE = 4;
/** After this long without rows the stream leaves the file alone. */
const IDLE_MS = 1_000;
/** A file is made shorter if its free space is more than so many times the used space. */
const FREE_SHARE = 0.75;
/** How long to wait when the log can't be folded in, or is copied. */
const WAIT_MS = 250;
const CHANGED_WAIT_MS = 1_000;
const FAILED_WAIT_MS = 60 * 60_000;
/** Disk space that must stay free for others. */
const SPARE_BYTES = 64 * 1024 * 1024;

interface UpkeepSettings {
  /** Limit of live or dead rows in one turn. */
  readonly spanMax: number;
}

interface UpkeepParts {
  readonly database: Database;
  readonly checkpoint: CheckpointRow;
  readonly dead: DeadRows;
  readonly layouts: Layouts;
  /** A table has lost its dead rows. Exclusively. */
  readonly rewritten: (layout: TableLayout) => void;
  readonly logger: Logger;
  readonly settings: UpkeepSettings;
}

/** A table that is being rewritten. */
interface Rewriting {
  readonly layout: TableLayout;
  readonly shadow: Shadow;
  readonly touched: TouchedKeys;
  /** Why it must be abandoned: the shadow no longer follows the table, or is in the way. */
  end: Error | null;
  span: number;
  lastMs: number;
  /** Time for one row. */
  msPerRow: number;
  failures: number;
  readonly figures: Figures;
}

/** Figures of one table for the log. */
interface Figures {
  rowCount: number;
  turnCount: number;
  /** Rows that batches wrote meanwhile. */
  touchedCount: number;
  /** All delays of the stream, and the longest one. */
  heldMs: number;
  longestMs: number;
}

export class Upkeep {
  readonly #parts: UpkeepParts;
  readonly #connection: EngineConnection;
  readonly #closing = new AbortController();
  /** By `nameOf`: when to check it again. */
  readonly #postponed = new Map<string, number>();
  #current: Rewriting | null = null;
  #running: Promise<void> | null = null;
  /** When the last batch with rows came. */
  #writtenMs = -Infinity;
  readonly failed = new FailedUpkeep();

  private constructor(parts: UpkeepParts, connection: EngineConnection) {
    this.#parts = parts;
    this.#connection = connection;
  }

  static async start(parts: UpkeepParts): Promise<Upkeep> {
    return new Upkeep(parts, await parts.database.connect());
  }

  /** Removes the leftovers of a killed process. As a writer, exclusively. */
  async clear(): Promise<void> {
    const { database } = this.#parts;
    if (this.#running !== null || !database.claimRewriting(this)) return;
    try {
      await Shadow.clear(this.#connection, database.catalogue);
    } catch (error) {
      this.#failed(error, null);
    } finally {
      database.releaseRewriting(this);
    }
  }

  /** Starts upkeep if there may be something to do. */
  look(): void {
    if (this.#running !== null || this.#closing.signal.aborted) return;
    this.#running = this.#run()
      .catch((error: unknown) => this.#failed(error, null))
      .finally(() => (this.#running = null));
  }

  /** Invariant: called before a batch changes anything. As its writer, exclusively. */
  async applying(batch: Batch): Promise<void> {
    if (batch.kind !== "checkpoint") this.#writtenMs = performance.now();
    const current = this.#current;
    if (current === null || current.end !== null) return;
    if (batch.kind !== "rows") return this.abandon(tablesOf(batch));
    if (batch.truncates !== undefined) this.abandon(batch.truncates.map(({ table }) => table));
    for (const writes of batch.tables) {
      if (!isOf(current, writes.table)) continue;
      // Rows of another shape: the target may not have followed it yet.
      const layout = this.#parts.layouts.of(writes.table);
      const isFollowed = writes.table.id !== current.layout.table.id || layout === current.layout;
      if (layout === undefined || !isFollowed) return this.abandon([writes.table]);
      try {
        await current.touched.add(writes, layout);
        current.figures.touchedCount += writes.count;
      } catch (error) {
        current.end = error instanceof Error ? error : new TableChanged();
      }
      if (current.touched.areTooMany) this.abandon([writes.table]);
    }
  }

  /**
   * Abandons the rewriting of these tables, because something other than rows of a batch changes them. As their writer,
   * exclusively.
   */
  abandon(tables: readonly TableName[]): void {
    const current = this.#current;
    if (current !== null && tables.some((table) => isOf(current, table))) current.end ??= new TableChanged();
  }

  /** Frees memory for a batch that needs it more. As its writer, exclusively. */
  async makeWay(shortage: unknown): Promise<void> {
    const current = this.#current;
    if (current === null) return;
    current.end = shortage instanceof Error ? shortage : new TableChanged();
    await current.shadow.drop().catch(() => undefined);
  }

  async close(): Promise<void> {
    this.#closing.abort();
    this.#connection.interrupt();
    await this.#running;
    this.#connection.disconnectSync();
  }

  async #run(): Promise<void> {
    const { database, dead, layouts } = this.#parts;
    while (!this.#closing.signal.aborted && this.#parts.checkpoint.held !== null) {
      const name = this.#due(layouts.all);
      this.failed.keepOnly([...layouts.all.keys()]);
      if (name === null) return;
      const layout = layouts.all.get(name)!;
      try {
        if (!dead.isCounted(name)) await this.#countSmall();
        if (dead.isCounted(name) && dead.next([name]) === null) {
          this.failed.done(name);
          continue;
        }
        const counts = await countRows(this.#connection, database.catalogue, layout.target);
        dead.counted(name, counts);
        if (!dead.isWorthIt(counts)) {
          this.failed.done(name);
          continue;
        }
        // Another sink of this file is rewriting: a later check comes here again.
        if (!database.claimRewriting(this)) return this.#postpone(name, CHANGED_WAIT_MS);
        await this.#rewrite(name, layout, counts);
      } catch (error) {
        if (this.#closing.signal.aborted) return;
        if (error instanceof TableChanged) return this.#postpone(name, CHANGED_WAIT_MS);
        this.#postpone(name, FAILED_WAIT_MS);
        return this.#failed(error, name);
      } finally {
        database.releaseRewriting(this);
      }
    }
  }

  /** Of thousands of tables most are small: one look finds them all. */
  async #countSmall(): Promise<void> {
    const { database, dead, layouts } = this.#parts;
    const stored = await storedRows(this.#connection, database.catalogue);
    for (const [name, { target }] of layouts.all) {
      const count = stored.get(targetKey(target));
      if (count !== undefined && !dead.isCounted(name) && dead.isSmall(count))
        dead.counted(name, { live: count, dead: 0 });
    }
  }

  #due(known: ReadonlyMap<string, TableLayout>): string | null {
    const nowMs = performance.now();
    const resting: string[] = [];
    for (const [name, untilMs] of this.#postponed) {
      if (untilMs > nowMs) resting.push(name);
      else {
        this.#postponed.delete(name);
        if (known.has(name)) return name;
      }
    }
    return this.#parts.dead.next([...known.keys()].filter((name) => !resting.includes(name)));
  }

  #postpone(name: string, ms: number): void {
    this.#postponed.set(name, performance.now() + ms);
  }

  async #rewrite(name: string, layout: TableLayout, counts: RowCounts): Promise<void> {
    const { database, dead, logger } = this.#parts;
    const table = { table: name };
    const byteCount = await database.exclusively(() => bytesOf(this.#connection, database.catalogue, layout.target));
    logger.info({ ...table, ...counts, byteCount }, "a table has many dead rows: it is rewritten beside the stream");
    const startedMs = performance.now();
    const figures: Figures = { rowCount: 0, turnCount: 0, touchedCount: 0, heldMs: 0, longestMs: 0 };
    const isSmall = counts.dead < LARGE_DEAD_MIN;
    // The last written rows are behind the free space; a second round moves them before it.
    for (let round = 0; round < (isSmall ? 1 : 2); round++) {
      const room = await readRoom(this.#connection, database.catalogue);
      if (round === 1 && room.freeBytes <= FREE_SHARE * room.usedBytes) break;
      this.#expectRoom(counts, byteCount, room.freeBytes);
      if (!(await this.#rewriteOnce(name, layout, figures))) return;
      failpoint("duckdb.rewritten");
    }
    const seconds = (performance.now() - startedMs) / 1000;
    dead.counted(name, await countRows(this.#connection, database.catalogue, layout.target));
    this.failed.done(name);
    logger.info({ ...table, ...figures, seconds }, "a table was rewritten");
    if (isSmall) await this.#giveWay(STREAM_SHARE * figures.heldMs);
  }

  /** False, with nothing left behind: the table can't be rewritten, or Millrace stops. */
  async #rewriteOnce(name: string, layout: TableLayout, figures: Figures): Promise<boolean> {
    const { database } = this.#parts;
    const current = await database.exclusively(() => this.#begin(layout, figures));
    if (current === null) {
      const what = `dead rows of ${name} stay in the file, which grows, because the table has an index or a constraint that Millrace did not make`;
      this.failed.refused(name, what, "drop that index or constraint");
      return false;
    }
    let isDone = false;
    try {
      do {
        await this.#untilCalm(current);
        isDone = await this.#hold(figures, () => this.#turnAndFold(current));
        if (!isDone) failpoint("duckdb.rows-copied");
        // Pause, so that the stream gets its turn and the processor serves others.
        await this.#pause(current.lastMs);
        if (this.#closing.signal.aborted) return false;
      } while (!isDone);
    } finally {
      this.#current = null;
      if (!isDone && !database.broken) {
        // Anything still left is removed before the next shadow is created.
        await this.#hold(figures, () => current.shadow.drop()).catch(() => undefined);
      }
    }
    return true;
  }

  /** Folded in, the old table gives its room back. */
  async #turnAndFold(current: Rewriting): Promise<boolean> {
    const { folding } = this.#parts.database;
    // A copy of the file has begun: nothing can be folded in.
    if (folding.isHeldOff) return false;
    if (!(await this.#turn(current))) return false;
    this.#parts.rewritten(current.layout);
    failpoint("duckdb.took-place");
    // If one of these fails, the file stays longer than necessary.
    await this.#parts.checkpoint.rewriteIndex(this.#connection).catch(() => undefined);
    await folding.now(this.#connection);
    return true;
  }

  async #begin(layout: TableLayout, figures: Figures): Promise<Rewriting | null> {
    const { database, settings } = this.#parts;
    await Shadow.clear(this.#connection, database.catalogue);
    const shadow = await Shadow.make(this.#connection, database.catalogue, layout.target);
    if (shadow === null) return null;
    return (this.#current = {
      layout,
      shadow,
      touched: new TouchedKeys(database.touched, layout),
      end: null,
      span: Math.min(SPAN_FIRST, settings.spanMax),
      msPerRow: 0,
      lastMs: 0,
      failures: 0,
      figures,
    });
  }

  /** True if it was the last turn. */
  async #turn(current: Rewriting): Promise<boolean> {
    const { checkpoint, settings } = this.#parts;
    const { held } = checkpoint;
    if (current.end !== null) throw current.end;
    if (held === null) throw new TableChanged();
    // Invariant: more rows than the batches have written since, so that the rewriting ends.
    const span = Math.max(current.span, COPIED_SHARE * current.touched.count);
    const withinMs = Math.max(TURN_MS_MAX, 4 * span * current.msPerRow);
    const startedMs = performance.now();
    let turn: Turn;
    try {
      turn = await current.shadow.turn({
        begin: () => checkpoint.begin(this.#connection, held),
        touched: current.touched,
        span,
        withinMs,
      });
    } catch (error) {
      if (this.#closing.signal.aborted || isInvalidated(error) || ++current.failures > FAILURES_MAX) throw error;
      if (isOutOfMemory(error)) await this.#parts.database.folding.now(this.#connection);
      else if (driverKind(error) !== "INTERRUPT Error") throw error;
      current.span = Math.max(1, Math.floor(span / SPAN_GROWTH ** 2));
      current.msPerRow = Math.max(current.msPerRow, withinMs / span);
      return false;
    }
    const ms = performance.now() - startedMs;
    current.lastMs = ms;
    current.failures = 0;
    current.figures.rowCount += turn.rowCount;
    current.figures.turnCount++;
    const copyMs = Math.max(1, ms - turn.renewMs);
    current.msPerRow = copyMs / span;
    const fitting = Math.floor((span * TURN_MS) / copyMs);
    current.span = Math.max(1, Math.min(fitting, SPAN_GROWTH * span, settings.spanMax));
    return turn.isLast;
  }

  /** Waits until everything written is folded in and nobody copies the file: DuckDB holds other rows in memory. */
  async #untilCalm(current: Rewriting): Promise<void> {
    const { database } = this.#parts;
    const logBytesMax = 2 * walBytesMax(database.settings.memoryLimit);
    while (database.folding.isHeldOff || logBytesOf(database.path) > logBytesMax) {
      await this.#pause(WAIT_MS);
      if (this.#closing.signal.aborted || current.end !== null) return;
      if (!database.folding.isHeldOff) await this.#hold(current.figures, () => database.folding.now(this.#connection));
    }
    if (diskFreeBytes(database.path) >= SPARE_BYTES) return;
    const { freeBytes } = await readRoom(this.#connection, database.catalogue);
    if (freeBytes < SPARE_BYTES) throw noRoom(SPARE_BYTES);
  }

  /** The stream waits meanwhile. */
  async #hold<T>(figures: Figures, work: () => Promise<T>): Promise<T> {
    return await this.#parts.database.exclusively(async () => {
      const startedMs = performance.now();
      try {
        return await work();
      } finally {
        const ms = Math.round(performance.now() - startedMs);
        figures.heldMs += ms;
        figures.longestMs = Math.max(figures.longestMs, ms);
      }
    });
  }

  #expectRoom({ live, dead }: RowCounts, byteCount: number, freeBytes: number): void {
    const { path, settings } = this.#parts.database;
    const needed = byteCount * (live / (live + dead)) + 2 * walBytesMax(settings.memoryLimit) + SPARE_BYTES;
    if (diskFreeBytes(path) + freeBytes < needed) throw noRoom(needed);
  }

  async #giveWay(ms: number): Promise<void> {
    const endMs = performance.now() + ms;
    for (let nowMs = performance.now(); nowMs < Math.min(endMs, this.#writtenMs + IDLE_MS); nowMs = performance.now()) {
      await this.#pause(Math.min(WAIT_MS, endMs - nowMs));
      if (this.#closing.signal.aborted) return;
    }
  }

  async #pause(ms: number): Promise<void> {
    await sleep(ms, undefined, { signal: this.#closing.signal, ref: false }).catch(() => undefined);
  }

  #failed(error: unknown, table: string | null): void {
    if (this.#closing.signal.aborted) return;
    if (isInvalidated(error)) this.#parts.database.broken = true;
    const known = classify(error, "rewriting a table with dead rows");
    this.#parts.logger.warn({ error: known }, "rewriting a table with dead rows was abandoned; it will be tried again");
    const of = table ?? "the file's tables";
    this.failed.failed(table, `dead rows of ${of} stay in the file, which grows`, known, table === null);
  }
}

/** Whether the table is written to the target that is being rewritten. */
function isOf({ layout }: Rewriting, table: TableName): boolean {
  return nameOf(table) === nameOf(layout.table);
}

function diskFreeBytes(path: string): number {
  const { bavail, bsize } = statfsSync(dirname(path));
  return bavail * bsize;
}

function noRoom(byteCount: number): Error {
  return duckdbError("MR3213", "blocked", "the disk has no room for a second copy of a table with dead rows", {
    hint: `make room for ${Math.ceil(byteCount / 1e6)} MB beside the DuckDB file`,
  });
}
