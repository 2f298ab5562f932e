/** The initial snapshot: tables as of the slot's beginning, by COPY under its exported snapshot. */
import type { Block } from "../../../../src/core/model/block.ts";
import type { TableVersion } from "../../../../src/core/model/schema.ts";
import type { FirstCopy } from "../../../../src/core/contracts/log-admin.ts";
import type { TableGenerations, TableShape } from "../../../../src/core/contracts/catalog.ts";
import { type ErrorReason, reasonOf } from "../../../../src/core/errors.ts";
import { sourceError } from "../errors.ts";
import { quoteLiteral, quoteTable } from "../../quote.ts";
import { cellKinds, copyList, findTable, type LiveTable } from "../catalog/columns.ts";
import type { SourceContext } from "../context.ts";
import { generationsOf } from "../catalog/generations.ts";
import { BLOCK_BYTES, RowBlock } from "./row-blocks.ts";
import type { Selected } from "../catalog/selection.ts";
import type { ReplicationConnection } from "../stream/transport.ts";
import { Wire } from "./wire.ts";

/** Blocks that may wait for the reader before the socket is not read any more. */
const QUEUE_COUNT_MAX = 2;
const LOCK_TIMEOUT = "10s";

export class SnapshotCopy implements FirstCopy {
  readonly tables: readonly TableShape[];
  readonly generations: TableGenerations;
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
    this.tables = selected.captured.map(({ shape }) => shape);
    this.generations = generationsOf(selected.captured, selected.catalog, selected.publication);
  }

  async *read(table: TableVersion, signal: AbortSignal): AsyncGenerator<Block> {
    const until = this.#until(signal);
    using wire = await Wire.open(this.#context.database, until);
    yield* this.#copy(wire, table, await this.#begin(wire, table, until), until);
  }

  async close(): Promise<void> {
    this.#closed.abort();
    this.#connection.close();
  }

  #until(signal: AbortSignal): AbortSignal {
    return AbortSignal.any([signal, this.#closed.signal]);
  }

  /**
   * Enters the snapshot, with the table locked against a rewrite. Fails if the table was rewritten, or its columns changed,
   * since then: under an older snapshot a rewritten table is empty.
   */
  async #begin(wire: Wire, table: TableVersion, signal: AbortSignal): Promise<LiveTable> {
    const name = quoteTable(table.schema, table.table);
    try {
      const enter = `BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT ${quoteLiteral(this.#snapshot)}; SET LOCAL lock_timeout = '${LOCK_TIMEOUT}'; LOCK TABLE ${name} IN ACCESS SHARE MODE`;
      await wire.rows(`locking ${table.id}`, enter, signal);
      const files = await wire.rows(`looking at the files of ${table.id}`, sameFilesSql(name), signal);
      if (files[0]?.[0] === "t") return await findTable(wire, table, signal);
    } catch (error) {
      const reason = reasonOf(error);
      throw reason !== undefined && ALTERED.has(reason) ? altered(table, error) : error;
    }
    throw altered(table);
  }

  async *#copy(wire: Wire, table: TableVersion, live: LiveTable, signal: AbortSignal): AsyncGenerator<Block> {
    const kinds = cellKinds(table);
    const queue: Block[] = [];
    const until = { epoch: this.#epoch, commit: 0n, index: 0 };
    let filling = new RowBlock(table, kinds, this.#epoch);
    let first = true;
    let wake = Promise.withResolvers<void>();
    const onRow = (bytes: Buffer, start: number, end: number): boolean => {
      // The header comes in front of the first row's frame or in a frame of its own; the trailer is a count of -1.
      const at = first ? start + headerLength(bytes, start) : start;
      first = false;
      if (end - at < 2 || bytes.readInt16BE(at) < 0) return true;
      filling.append(bytes, at, end);
      if (filling.byteCount < BLOCK_BYTES) return true;
      queue.push(filling.finish(until));
      filling = new RowBlock(table, kinds, this.#epoch);
      wake.resolve();
      return queue.length < QUEUE_COUNT_MAX;
    };
    let done = false;
    let failure: unknown;
    const sql = `COPY (SELECT ${copyList(live.columns, kinds)} FROM ${live.sql}) TO STDOUT (FORMAT binary)`;
    const running = wire
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
          if (queue.length < QUEUE_COUNT_MAX) wire.resume();
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

const ALTERED: ReadonlySet<ErrorReason> = new Set([
  "no-table",
  "no-column",
  "no-object",
  // Before Postgres 17: the snapshot is gone with the connection that kept it.
  "parameter",
]);

function altered({ id }: TableVersion, cause?: unknown) {
  const message = `${id} was altered after the copy's snapshot was taken`;
  return sourceError("MR2025", "retryable", message, "It is read by chunks.", cause);
}

/**
 * Whether the table, or each of its partitions, is still in the file that the snapshot knows, with the column names that
 * the snapshot knows. Statements always use the present names, whatever the snapshot. A SELECT from the catalogue shows the
 * snapshot, the functions show the present.
 */
function sameFilesSql(name: string): string {
  const relation = `${quoteLiteral(name)}::regclass`;
  return `select (
      select coalesce(bool_and(c.relfilenode is not distinct from pg_relation_filenode(t.relid)), exists (select from pg_class where oid = ${relation}))
      from (select ${relation}::oid as relid union select relid::oid from pg_partition_tree(${relation}) where isleaf) t
      left join pg_class c on c.oid = t.relid
      where coalesce(c.relkind, 'r') <> 'p'
    ) and (
      select coalesce(bool_and(a.attname = i.object_names[3] is true), true)
      from pg_attribute a cross join pg_identify_object_as_address('pg_class'::regclass, a.attrelid, a.attnum) i
      where a.attrelid = ${relation} and a.attnum > 0 and not a.attisdropped
    )`;
}

/** PGCOPY's signature, flags and extension. */
function headerLength(bytes: Buffer, start: number): number {
  return 19 + bytes.readInt32BE(start + 15);
}
