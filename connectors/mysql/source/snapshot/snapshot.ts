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
import { aborted, classify } from "../errors.ts";
import { beginReading, checkShape } from "./reading.ts";
import { BLOCK_BYTES, RowBlock } from "./row-blocks.ts";
import type { ServerFacts } from "../server.ts";
import { textQuery } from "./text-query.ts";

/** Blocks that may wait for the reader before the socket is not read any more. */
const QUEUE_COUNT_MAX = 2;

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
    const until = this.#until(signal);
    const session = await beginReading(this.#context, this.#facts, table, until);
    const end = { epoch: this.#epoch, commit: 0n, index: 0 };
    const queue: Block[] = [];
    let filling = new RowBlock(table, this.#epoch, this.#context);
    let wake = Promise.withResolvers<void>();
    let isDone = false;
    let failure: unknown;
    const stop = (): void => {
      failure ??= aborted(`copying ${table.id}`);
      session.destroy();
      wake.resolve();
    };
    until.addEventListener("abort", stop, { once: true });
    const onRow = (bytes: Buffer, start: number, stopAt: number): void => {
      filling.append(bytes, start, stopAt);
      if (filling.byteCount < BLOCK_BYTES) return;
      queue.push(filling.finish(end));
      filling = new RowBlock(table, this.#epoch, this.#context);
      if (queue.length >= QUEUE_COUNT_MAX) session.pause();
      wake.resolve();
    };
    const running = textQuery(session, selectAll(table, this.#context), onRow)
      .catch((error: unknown) => {
        failure ??= classify(error, `copying ${table.id}`);
      })
      .finally(() => {
        isDone = true;
        wake.resolve();
      });
    try {
      let isChecked = false;
      for (;;) {
        const block = queue.shift();
        if (block !== undefined) {
          if (!isChecked) await checkShape(this.#context, table, until);
          isChecked = true;
          if (queue.length < QUEUE_COUNT_MAX) session.resume();
          yield block;
          continue;
        }
        if (failure !== undefined) throw failure;
        if (isDone) break;
        await wake.promise;
        wake = Promise.withResolvers<void>();
      }
      await running;
      if (!isChecked) await checkShape(this.#context, table, until);
      if (filling.count > 0) yield filling.finish(end);
    } finally {
      until.removeEventListener("abort", stop);
      session.destroy();
      for (const block of queue) block.release();
    }
  }

  async close(): Promise<void> {
    this.#closed.abort();
  }

  #until(signal: AbortSignal): AbortSignal {
    return AbortSignal.any([signal, this.#closed.signal]);
  }
}
