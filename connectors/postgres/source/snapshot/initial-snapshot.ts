/** The initial snapshot: tables as of the slot's beginning, by COPY under its exported snapshot. */
import type { Block } from "../../../../src/core/model/block.ts";
import type { TableVersion } from "../../../../src/core/model/schema.ts";
import type { FirstCopy } from "../../../../src/core/contracts/log-admin.ts";
import type { TableGenerations, TableShape } from "../../../../src/core/contracts/catalog.ts";
import { cellKinds, copyList, type LiveTable } from "./live-table.ts";
import type { SourceContext } from "../wire/context.ts";
import { generationsOf } from "../catalog/unlogged-changes.ts";
import { enterSnapshot, rowsOfCopy } from "./entering.ts";
import { SnapshotRawRows } from "./raw-rows.ts";
import { BLOCK_BYTES, RowBlock } from "./row-blocks.ts";
import type { Selected } from "../catalog/selection.ts";
import type { ReplicationConnection } from "../wire/replication-connection.ts";
import { RowSession } from "../wire/row-session.ts";

/** Blocks that may wait for the reader before the socket is not read any more. */
const QUEUE_COUNT_MAX = 2;

export class SnapshotCopy implements FirstCopy {
  readonly tables: readonly TableShape[];
  readonly generations: TableGenerations;
  readonly raw: SnapshotRawRows;
  readonly #context: SourceContext;
  readonly #connection: ReplicationConnection;
  readonly #snapshot: string;
  readonly #epoch: number;
  readonly #closed = new AbortController();

  /** The snapshot lives as long as `connection`, which belongs to the copy from now on. */
  constructor(
    context: SourceContext,
    connection: ReplicationConnection,
    snapshot: string,
    epoch: number,
    selected: Selected,
  ) {
    this.#context = context;
    this.#connection = connection;
    this.#snapshot = snapshot;
    this.#epoch = epoch;
    this.raw = new SnapshotRawRows(context, snapshot, this.#closed.signal);
    this.tables = selected.captured.map(({ shape }) => shape);
    this.generations = generationsOf(selected.captured, selected.catalog, selected.publication);
  }

  async *read(table: TableVersion, signal: AbortSignal): AsyncGenerator<Block> {
    const until = this.#until(signal);
    using session = await RowSession.open(this.#context.database, until);
    yield* this.#copy(
      session,
      table,
      await enterSnapshot(this.#context, session, { table, snapshot: this.#snapshot }, until),
      until,
    );
  }

  async close(): Promise<void> {
    this.#closed.abort();
    this.#connection.close();
  }

  #until(signal: AbortSignal): AbortSignal {
    return AbortSignal.any([signal, this.#closed.signal]);
  }

  async *#copy(session: RowSession, table: TableVersion, live: LiveTable, signal: AbortSignal): AsyncGenerator<Block> {
    const kinds = cellKinds(table);
    const queue: Block[] = [];
    const until = { epoch: this.#epoch, commit: 0n, index: 0 };
    let filling = new RowBlock(table, kinds, this.#epoch);
    let wake = Promise.withResolvers<void>();
    const onRow = rowsOfCopy((bytes, start, end) => {
      filling.append(bytes, start, end);
      if (filling.byteCount < BLOCK_BYTES) return true;
      queue.push(filling.finish(until));
      filling = new RowBlock(table, kinds, this.#epoch);
      wake.resolve();
      return queue.length < QUEUE_COUNT_MAX;
    });
    let done = false;
    let failure: unknown;
    const sql = `COPY (SELECT ${copyList(live.columns, kinds)} FROM ${live.sql}) TO STDOUT (FORMAT binary)`;
    const running = session
      .run(`copying ${table.id}`, sql, onRow, signal)
      .catch((error: unknown) => {
        failure = error ?? new Error("unknown");
      })
      .finally(() => {
        done = true;
        wake.resolve();
      });
    try {
      for (;;) {
        const block = queue.shift();
        if (block !== undefined) {
          if (queue.length < QUEUE_COUNT_MAX) session.resume();
          yield block;
          continue;
        }
        if (failure !== undefined) throw failure;
        if (done) break;
        await wake.promise;
        wake = Promise.withResolvers<void>();
      }
      await running;
      if (filling.count > 0) yield filling.finish(until);
    } finally {
      for (const block of queue) block.release();
    }
  }
}
