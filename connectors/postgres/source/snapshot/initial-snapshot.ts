/** The initial snapshot: tables as of the slot's beginning, by COPY under its exported snapshot. */
import type { Block } from "../../../../src/core/model/block.ts";
import type { TableVersion } from "../../../../src/core/model/schema.ts";
import type { FirstCopy } from "../../../../src/core/contracts/log-admin.ts";
import type { TableGenerations, TableShape } from "../../../../src/core/contracts/catalog.ts";
import { cellKinds, copyList, type LiveTable, oidOf, oids, rowsIn } from "./live-table.ts";
import { KnownLeaves, type SourceContext } from "../wire/context.ts";
import { generationsOf, leavesOf, treesOf } from "../catalog/unlogged-changes.ts";
import { enterSnapshot, rowsOfCopy } from "./entering.ts";
import { BLOCK_BYTES, RowBlock } from "./row-blocks.ts";
import type { Selected } from "../catalog/selection.ts";
import type { ReplicationConnection } from "../wire/replication-connection.ts";
import { RowSession } from "../wire/row-session.ts";
import type { RawColumn, RawReader, RawRows, RawTable, RawTaker } from "../../../../src/core/contracts/raw-copy.ts";
import { CELL_BINARY, CELL_TEXT } from "../../../../src/core/model/tuple.ts";
import { quoteLiteral, quoteTable } from "../../../../src/postgres/quote.ts";
import { RAW_FORM } from "../../raw-form.ts";

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
  /** A SELECT shows those that were attached since too, which rules may hide. */
  readonly #leaves = new KnownLeaves();

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
    this.#leaves.take(leavesOf(selected.captured, selected.catalog), treesOf(selected.captured));
    this.raw = new SnapshotRawRows(context, snapshot, this.#leaves, this.#closed.signal);
    this.tables = selected.captured.map(({ shape }) => shape);
    this.generations = generationsOf(selected.captured, selected.catalog, selected.publication);
  }

  async *read(table: TableVersion, signal: AbortSignal): AsyncGenerator<Block> {
    const until = this.#until(signal);
    using session = await RowSession.open(this.#context.database, until);
    yield* this.#copy(
      session,
      table,
      await enterSnapshot(this.#context, session, { table, snapshot: this.#snapshot, leaves: this.#leaves }, until),
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
    const sql = `COPY (SELECT ${copyList(live.columns, kinds)} FROM ${rowsIn(live, table, this.#leaves)}) TO STDOUT (FORMAT binary)`;
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

// Parts of large tables, as rows of a binary COPY that are not decoded: see core's raw copy.

/** A smaller table shares its sink's batches with other tables. */
const TABLE_BYTES_MIN = 4 * 1024 * 1024;
/** A part costs each side a transaction. */
const PART_BYTES_MIN = 8 * 1024 * 1024;
/** What is lost when a part fails, and how long its transactions last. */
const PART_BYTES_MAX = 64 * 1024 * 1024;
/** So that sessions end at about the same time. */
const PARTS_PER_SESSION = 6;

/** Rows from one page (inclusive) to another (exclusive); null: to the end. */
interface Pages {
  readonly from: number;
  readonly to: number | null;
}

class SnapshotRawRows implements RawRows {
  readonly form = RAW_FORM;
  readonly sessionCountMax: number;
  readonly #context: SourceContext;
  readonly #snapshot: string;
  readonly #leaves: KnownLeaves;
  readonly #closed: AbortSignal;

  /** `closed`: from then on the snapshot does not exist any more. */
  constructor(context: SourceContext, snapshot: string, leaves: KnownLeaves, closed: AbortSignal) {
    this.sessionCountMax = context.copySessions;
    this.#context = context;
    this.#snapshot = snapshot;
    this.#leaves = leaves;
    this.#closed = closed;
  }

  async table(table: TableVersion, signal: AbortSignal): Promise<RawTable | null> {
    const name = quoteLiteral(quoteTable(table.schema, table.table));
    const [size] = await this.#context.database.rows<{ bytes: string; pages: string }>(
      `looking at the size of ${table.id}`,
      sizeSql(name, this.#leaves.isTree(oidOf(table)) ? (this.#leaves.of(oidOf(table)) ?? []) : null),
      [],
      AbortSignal.any([signal, this.#closed]),
    );
    const bytes = Number(size?.bytes ?? 0);
    if (bytes < TABLE_BYTES_MIN) return null;
    const ranges = rangesOf(bytes, Number(size?.pages ?? 0), this.sessionCountMax);
    return {
      partCount: ranges.length,
      reader: async (columns, until) => await this.#reader({ table, ranges, columns }, until),
    };
  }

  async #reader({ table, ranges, columns }: Cut, signal: AbortSignal): Promise<RawReader> {
    const closed = this.#closed;
    const until = AbortSignal.any([signal, closed]);
    const session = await RowSession.open(this.#context.database, until);
    try {
      const initial = { table, snapshot: this.#snapshot, leaves: this.#leaves };
      const live = await enterSnapshot(this.#context, session, initial, until);
      const kinds = Uint8Array.from(columns, (form) => (form === "binary" ? CELL_BINARY : CELL_TEXT));
      const select = `SELECT ${copyList(live.columns, kinds)} FROM ${rowsIn(live, table, this.#leaves)}`;
      return {
        read: async (part, taker, stop) =>
          await copyRows(session, `${select}${within(ranges[part]!)}`, taker, AbortSignal.any([stop, closed])),
        close: () => session[Symbol.dispose](),
      };
    } catch (error) {
      session[Symbol.dispose]();
      throw error;
    }
  }
}

async function copyRows(session: RowSession, select: string, taker: RawTaker, signal: AbortSignal): Promise<void> {
  const refused = new AbortController();
  const onRow = rowsOfCopy((bytes, start, end) => {
    if (taker.take(bytes, start, end)) return true;
    taker.room().then(
      () => session.resume(),
      () => refused.abort(),
    );
    return false;
  });
  const until = AbortSignal.any([signal, refused.signal]);
  await session.run("copying rows", `COPY (${select}) TO STDOUT (FORMAT binary)`, onRow, until);
}

/** A table that is cut into parts. */
interface Cut {
  readonly table: TableVersion;
  readonly ranges: readonly Pages[];
  readonly columns: readonly RawColumn[];
}

/**
 * The size of the table with its partitions, or those of its tree, and large values, and the pages of its file; 0 pages: it has none, or more than one, or its
 * access method keeps rows in another order.
 */
function sizeSql(name: string, tree: readonly number[] | null): string {
  if (tree !== null)
    return `select coalesce(sum(pg_table_size(t.relid)), 0) as bytes, 0 as pages from unnest(${oids(tree)}) t (relid)`;
  return `select (select coalesce(sum(pg_table_size(t.relid)), 0) from (select c.oid as relid union select relid::oid from pg_partition_tree(c.oid)) t) as bytes,
    case when c.relkind = 'r' and m.amname = 'heap' then pg_relation_size(c.oid) / current_setting('block_size')::bigint else 0 end as pages
    from pg_class c left join pg_am m on m.oid = c.relam where c.oid = to_regclass(${name})`;
}

/**
 * A row version stays in its page while a snapshot needs it. The last range has no end: what was appended after this look
 * is not in the snapshot, but nothing must depend on that.
 */
export function rangesOf(bytes: number, pages: number, sessionCount: number): readonly Pages[] {
  const wanted = bytes / (sessionCount * PARTS_PER_SESSION);
  const partBytes = Math.min(PART_BYTES_MAX, Math.max(PART_BYTES_MIN, wanted));
  const count = Math.max(1, Math.min(pages, Math.ceil(bytes / partBytes)));
  const starts = Array.from({ length: count }, (_, i) => Math.floor((i * pages) / count));
  return starts.map((from, i) => ({ from, to: starts[i + 1] ?? null }));
}

function within({ from, to }: Pages): string {
  if (from === 0 && to === null) return "";
  const end = to === null ? "" : ` and ctid < '(${to},0)'::tid`;
  return ` WHERE ctid >= '(${from},0)'::tid${end}`;
}
