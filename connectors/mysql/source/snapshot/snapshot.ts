/**
 * The initial snapshot: every table under its own snapshot, each at or after the position where the stream begins. Changes
 * in between come again through the stream, with higher versions.
 */
import type { Block } from "../../../../src/core/model/block.ts";
import type { TableVersion } from "../../../../src/core/model/schema.ts";
import type { CapturedTables, TableGenerations, TableShape } from "../../../../src/core/contracts/catalog.ts";
import type { FirstCopy } from "../../../../src/core/contracts/log-admin.ts";
import { selectAll } from "./chunks.ts";
import type { Session } from "../wire/driver.ts";
import { answered } from "../wire/server.ts";
import { aborted, classify, sourceError } from "../errors.ts";
import { cutColumnOf, cutTable, type Parts } from "./cut-table.ts";
import type { TableReadings } from "./reading.ts";
import { BLOCK_BYTES, RowBlock } from "./selected-rows.ts";
import { withHolders } from "./lock-waits.ts";

/** A table, the sessions that read it, and its parts. */
interface Reading {
  readonly table: TableVersion;
  readonly sessions: readonly Session[];
  readonly parts: Parts;
  readonly until: AbortSignal;
}

export class SnapshotCopy implements FirstCopy {
  readonly tables: readonly TableShape[];
  readonly generations: TableGenerations;
  readonly #readings: TableReadings;
  readonly #epoch: number;
  readonly #closed = new AbortController();

  constructor(readings: TableReadings, epoch: number, selected: CapturedTables) {
    this.#readings = readings;
    this.#epoch = epoch;
    this.tables = selected.tables;
    this.generations = selected.generations;
  }

  async *read(table: TableVersion, signal: AbortSignal): AsyncGenerator<Block> {
    const until = AbortSignal.any([signal, this.#closed.signal]);
    try {
      yield* this.#read(table, until);
    } catch (error) {
      this.#readings.server.dropKept();
      throw await withHolders(error, this.#readings.server, table, until);
    }
  }

  async *#read(table: TableVersion, until: AbortSignal): AsyncGenerator<Block> {
    const readings = this.#readings;
    const { flavour } = await readings.server.facts(until);
    const column = await cutColumnOf(readings, table, until);
    const sessions = await readings.beginSeveral(table, column === null ? 1 : readings.sessionCount, until);
    using blocks = new FilledBlocks(sessions);
    const stop = (): void => blocks.fail(aborted(`copying ${table.id}`));
    until.addEventListener("abort", stop, { once: true });
    try {
      const parts = column === null ? [""] : await cutTable(flavour, { table, column, sessions }, until);
      if (column !== null) {
        const counts = { sessions: sessions.length, ranges: parts.length };
        readings.tables.logger.info({ table: table.id, ...counts }, "the table is read in ranges of its key");
      }
      void this.#fill(blocks, { table, sessions, parts, until });
      let isChecked = false;
      for (;;) {
        const isMore = await blocks.some();
        // By now each session's transaction locks it.
        if (!isChecked) await readings.checkShape(table, until);
        isChecked = true;
        const block = isMore ? blocks.take() : undefined;
        if (block === undefined) break;
        yield block;
      }
      for (const session of blocks.idle()) readings.end(session);
    } finally {
      until.removeEventListener("abort", stop);
    }
  }

  /** Each session reads parts until none is left. */
  async #fill(blocks: FilledBlocks, { table, sessions, parts, until }: Reading): Promise<void> {
    const { rules } = this.#readings.tables;
    const end = { epoch: this.#epoch, commit: 0n, index: 0 };
    const select = selectAll(table, rules);
    const waiting = [...parts];
    const one = async (session: Session): Promise<void> => {
      let filling = new RowBlock(table, this.#epoch, rules);
      const onRow = (bytes: Buffer, start: number, stopAt: number): void => {
        filling.append(bytes, start, stopAt);
        if (filling.byteCount < BLOCK_BYTES) return;
        const full = filling;
        filling = new RowBlock(table, this.#epoch, rules);
        blocks.push(full.finish(end), session);
      };
      using _watch = await this.#watch(blocks, session, table, until);
      for (let part = waiting.shift(); part !== undefined; part = waiting.shift())
        await session.readRows(`${select}${part}`, onRow);
      if (filling.count > 0) blocks.push(filling.finish(end), session);
    };
    try {
      await Promise.all(sessions.map(one));
      blocks.complete();
    } catch (error) {
      blocks.fail(classify(error, `copying ${table.id}`));
    }
  }

  /**
   * A session from which nothing comes while it is read must still be at work at the server: what was cut without a word (a
   * host without power, an entry of a gateway that is gone) would be waited for as long as the system likes. Dispose of the
   * watch when the session has read its last part: from there on it has no work.
   */
  async #watch(blocks: FilledBlocks, session: Session, table: TableVersion, until: AbortSignal): Promise<Disposable> {
    const { server } = this.#readings;
    const thread = await answered(session.thread(), `copying ${table.id}`, until);
    const sql = `SELECT 1 FROM information_schema.processlist WHERE id = ${thread} AND command <> 'Sleep'`;
    let seen = session.byteCount;
    let isWatched = true;
    let unansweredCount = 0;
    const isSilent = (): boolean =>
      isWatched && session.byteCount === seen && !session.isPaused && !session.isBroken && !blocks.hasEnded;
    const look = async (): Promise<void> => {
      try {
        const found = isSilent() ? await server.rows("looking for a silent session", sql, until) : [[]];
        unansweredCount = 0;
        // Its answer may have come in the meantime.
        if (found.length === 0 && isSilent())
          blocks.fail(sourceError("MR2022", "retryable", "a session of the source became silent"));
      } catch (error) {
        // The look has another connection: what is wrong there tells little of the session.
        if (++unansweredCount >= UNANSWERED_COUNT_MAX && isSilent()) blocks.fail(error);
      }
      seen = session.byteCount;
      if (isWatched && !blocks.hasEnded) timer = later();
    };
    const later = (): NodeJS.Timeout => setTimeout(() => void look(), SILENCE_MS).unref();
    let timer = later();
    return {
      [Symbol.dispose]: () => {
        isWatched = false;
        clearTimeout(timer);
      },
    };
  }

  async close(): Promise<void> {
    this.#closed.abort();
  }
}

/** From a session that is read nothing came for so long: it is looked for. */
const SILENCE_MS = 10_000;

/** So often in a row a look may get no answer. */
const UNANSWERED_COUNT_MAX = 6;

/** Blocks that may wait for the reader before no socket is read any more; each session may be about to add one. */
const QUEUE_COUNT_MAX = 2;

/** Blocks that sessions fill and one reader takes, in whatever order they become full. */
class FilledBlocks {
  readonly #sessions: Session[];
  readonly #queue: Block[] = [];
  readonly #paused = new Set<Session>();
  #wake = Promise.withResolvers<void>();
  #failure: unknown;
  #isComplete = false;

  constructor(sessions: readonly Session[]) {
    this.#sessions = [...sessions];
  }

  /** After the last block: the sessions, which are the caller's from here on. */
  idle(): readonly Session[] {
    return this.#sessions.splice(0);
  }

  /** Called while the session's rows come in. */
  push(block: Block, session: Session): void {
    this.#queue.push(block);
    if (this.#queue.length >= QUEUE_COUNT_MAX) {
      session.pause();
      this.#paused.add(session);
    }
    this.#wake.resolve();
  }

  /** Nothing follows. */
  complete(): void {
    this.#isComplete = true;
    this.#wake.resolve();
  }

  get hasEnded(): boolean {
    return this.#isComplete || this.#failure !== undefined;
  }

  /** The first failure counts. All sessions end. */
  fail(error: unknown): void {
    this.#failure ??= error;
    for (const session of this.#sessions) session.destroy();
    this.#wake.resolve();
  }

  /** Resolves when there is a block to take; false: there will be none. */
  async some(): Promise<boolean> {
    for (;;) {
      if (this.#failure !== undefined) throw this.#failure;
      if (this.#queue.length > 0) return true;
      if (this.#isComplete) return false;
      await this.#wake.promise;
      this.#wake = Promise.withResolvers<void>();
    }
  }

  take(): Block | undefined {
    const block = this.#queue.shift();
    if (this.#queue.length < QUEUE_COUNT_MAX) {
      const paused = [...this.#paused];
      this.#paused.clear();
      // Rows that have already arrived come in now.
      for (const session of paused) session.resume();
    }
    return block;
  }

  /** Ends the sessions and gives back what nobody took. */
  [Symbol.dispose](): void {
    for (const session of this.#sessions) session.destroy();
    for (const block of this.#queue.splice(0)) block.release();
  }
}
