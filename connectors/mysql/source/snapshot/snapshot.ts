/**
 * The initial snapshot: every table under its own snapshot, each at or after the position where the stream begins. Changes
 * in between come again through the stream, with higher versions.
 */
import type { Block } from "../../../../src/core/model/block.ts";
import type { TableVersion } from "../../../../src/core/model/schema.ts";
import type { CapturedTables, TableGenerations, TableShape } from "../../../../src/core/contracts/catalog.ts";
import type { FirstCopy } from "../../../../src/core/contracts/log-admin.ts";
import { selectAll } from "./chunks.ts";
import type { SourceContext } from "../context.ts";
import type { Session } from "../driver.ts";
import { aborted, classify } from "../errors.ts";
import { cutColumnOf, cutTable, type Parts } from "./cut-table.ts";
import { FilledBlocks } from "./filled-blocks.ts";
import { beginReadings, checkShape } from "./reading.ts";
import { BLOCK_BYTES, RowBlock } from "./row-blocks.ts";
import type { ServerFacts } from "../server.ts";
import { withHolders } from "../lock-waits.ts";
import { textQuery } from "./text-query.ts";

/** A table, the sessions that read it, and its parts. */
interface Reading {
  readonly table: TableVersion;
  readonly sessions: readonly Session[];
  readonly parts: Parts;
}

export class SnapshotCopy implements FirstCopy {
  readonly tables: readonly TableShape[];
  readonly generations: TableGenerations;
  readonly #context: SourceContext;
  readonly #facts: ServerFacts;
  readonly #epoch: number;
  readonly #closed = new AbortController();

  constructor(context: SourceContext, facts: ServerFacts, epoch: number, selected: CapturedTables) {
    this.#context = context;
    this.#facts = facts;
    this.#epoch = epoch;
    this.tables = selected.tables;
    this.generations = selected.generations;
  }

  async *read(table: TableVersion, signal: AbortSignal): AsyncGenerator<Block> {
    const until = AbortSignal.any([signal, this.#closed.signal]);
    try {
      yield* this.#read(table, until);
    } catch (error) {
      throw await withHolders(error, this.#context, table, until);
    }
  }

  async *#read(table: TableVersion, until: AbortSignal): AsyncGenerator<Block> {
    const at = { context: this.#context, facts: this.#facts };
    const column = await cutColumnOf(at, table, until);
    const sessions = await beginReadings(at, table, column === null ? 1 : this.#context.copySessions, until);
    using blocks = new FilledBlocks(sessions);
    const stop = (): void => blocks.fail(aborted(`copying ${table.id}`));
    until.addEventListener("abort", stop, { once: true });
    try {
      const parts = column === null ? [""] : await cutTable(at, { table, column, sessions }, until);
      if (column !== null) {
        const counts = { sessions: sessions.length, ranges: parts.length };
        this.#context.logger.info({ table: table.id, ...counts }, "the table is read in ranges of its key");
      }
      void this.#fill(blocks, { table, sessions, parts });
      let isChecked = false;
      for (;;) {
        const isMore = await blocks.some();
        // By now each session's transaction locks it.
        if (!isChecked) await checkShape(this.#context, table, until);
        isChecked = true;
        const block = isMore ? blocks.take() : undefined;
        if (block === undefined) break;
        yield block;
      }
    } finally {
      until.removeEventListener("abort", stop);
    }
  }

  /** Each session reads parts until none is left. */
  async #fill(blocks: FilledBlocks, { table, sessions, parts }: Reading): Promise<void> {
    const end = { epoch: this.#epoch, commit: 0n, index: 0 };
    const select = selectAll(table, this.#context);
    const waiting = [...parts];
    const one = async (session: Session): Promise<void> => {
      let filling = new RowBlock(table, this.#epoch, this.#context);
      const onRow = (bytes: Buffer, start: number, stopAt: number): void => {
        filling.append(bytes, start, stopAt);
        if (filling.byteCount < BLOCK_BYTES) return;
        const full = filling;
        filling = new RowBlock(table, this.#epoch, this.#context);
        blocks.push(full.finish(end), session);
      };
      for (let part = waiting.shift(); part !== undefined; part = waiting.shift())
        await textQuery(session, `${select}${part}`, onRow);
      if (filling.count > 0) blocks.push(filling.finish(end), session);
    };
    try {
      await Promise.all(sessions.map(one));
      blocks.complete();
    } catch (error) {
      blocks.fail(classify(error, `copying ${table.id}`));
    }
  }

  async close(): Promise<void> {
    this.#closed.abort();
  }
}
