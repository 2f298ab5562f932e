/** One sink over one target, with the words that the conformance tests are written in. */
import { expect } from "vitest";
import { type Batch, DELETE, PATCH, PUT, type TableWrites } from "../../src/core/model/batch.ts";
import type { Checkpoint } from "../../src/core/checkpoint.ts";
import { findMillraceError, type MillraceError } from "../../src/core/errors.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import type { Outcome, RefusedEntry, Sink } from "../../src/core/contracts/sink.ts";
import { rowVersion } from "../../src/core/model/position.ts";
import { blockOf, type Cell, type Change, type Entry, UNCHANGED, writesOf } from "../support/model/blocks.ts";
import { formOf, type SinkHarness, type SinkTarget } from "./sink.ts";
import { checkpointOf, complete } from "../support/daemon/complete.ts";

/** Longer than any single call may take; a sink that hangs fails its test by this. */
const CALL_TIMEOUT_MS = 60_000;

export type Cells = readonly Cell[];

/** An entry of a batch, as the runtime would have compacted it. */
export interface Write {
  readonly action: typeof PUT | typeof PATCH | typeof DELETE;
  readonly after?: Cells;
  readonly before?: Cells;
  readonly fresh?: boolean;
  readonly moved?: boolean;
  /** Commit position whose version the row carries; default: the batch's. */
  readonly at?: bigint;
  /** Of a row that a filter may have left out all along. */
  readonly isDoubted?: boolean;
}

type WriteOptions = Pick<Write, "fresh" | "at">;

export function put(after: Cells, options: WriteOptions = {}): Write {
  return { action: PUT, after, ...options };
}

/** A row with unchanged cells; with `from` its base is the row under that old key. */
export function patch(after: Cells, options: { readonly from?: Cells; readonly at?: bigint } = {}): Write {
  const { from, ...rest } = options;
  return from === undefined
    ? { action: PATCH, after, ...rest }
    : { action: PATCH, after, before: from, moved: true, ...rest };
}

export function remove(before: Cells, options: Pick<Write, "at" | "isDoubted"> = {}): Write {
  return { action: DELETE, before, ...options };
}

/** Commit position `at`, everything before it done. */
export function checkpointAt(at: bigint, tables: Readonly<Record<string, string>> = {}, index = 0): Checkpoint {
  return checkpointOf({ epoch: 1, commit: at, index }, complete(tables));
}

/** The writes of a batch that commits at `at`. Entries lie alternately in two blocks, as under load. */
export function writes(table: TableVersion, at: bigint, entries: readonly Write[]): TableWrites {
  const changes: Change[][] = entries.length > 1 ? [[], []] : [[]];
  const placed = entries.map((write, i): Entry => {
    const block = i % changes.length;
    const list = changes[block]!;
    list.push({
      table,
      op: write.action === DELETE ? "d" : write.fresh === true ? "c" : "u",
      commit: write.at ?? at,
      index: i,
      ...(write.after === undefined ? {} : { after: write.after }),
      ...(write.before === undefined ? {} : { before: write.before }),
      ...(write.isDoubted === true ? { beforeKind: "doubted" } : {}),
    });
    return {
      block,
      row: list.length - 1,
      action: write.action,
      fresh: write.fresh ?? false,
      moved: write.moved ?? false,
    };
  });
  return writesOf(
    table,
    changes.map((list) => blockOf(list)),
    placed,
  );
}

export function rowsBatch(at: bigint, ...tables: readonly (readonly [TableVersion, readonly Write[]])[]): Batch {
  return {
    kind: "rows",
    tables: tables.map(([table, entries]) => writes(table, at, entries)),
    checkpoint: checkpointAt(at + 1n),
  };
}

/** Remembers what a sink reported. */
export class Reports implements Outcome {
  readonly incompletes: { readonly table: string; readonly entries: readonly number[] }[] = [];
  readonly poisons: { readonly table: string; readonly entry: number; readonly error: MillraceError }[] = [];

  async incomplete(writes: TableWrites, entries: readonly number[]): Promise<void> {
    this.incompletes.push({ table: writes.table.table, entries: [...entries] });
  }

  async poison(refused: readonly RefusedEntry[]): Promise<void> {
    for (const { writes, entry, error } of refused) this.poisons.push({ table: writes.table.table, entry, error });
  }

  /** Entries reported incomplete, whatever calls they came in. */
  get incompleteEntries(): readonly number[] {
    return this.incompletes.flatMap((report) => report.entries).toSorted((a, b) => a - b);
  }
}

export class Stage implements AsyncDisposable {
  readonly harness: SinkHarness;
  readonly target: SinkTarget;
  sink: Sink;
  /** What `open` returned. */
  held: Checkpoint | null = null;
  lease = 0;
  reports = new Reports();
  #sinks: Sink[] = [];
  #ownsTarget: boolean;
  #batchCount = 0;

  private constructor(harness: SinkHarness, target: SinkTarget, sink: Sink, ownsTarget: boolean) {
    this.harness = harness;
    this.target = target;
    this.sink = sink;
    this.#sinks.push(sink);
    this.#ownsTarget = ownsTarget;
  }

  /** An empty target, opened under lease 1, with these tables prepared. */
  static async of(harness: SinkHarness, ...tables: readonly TableVersion[]): Promise<Stage> {
    const target = await harness.target();
    const stage = new Stage(harness, target, await target.makeSink(), true);
    const { form, delivery } = stage.sink;
    expect([form, delivery]).toEqual([formOf(harness), harness.transactional ? "transactional" : "idempotent"]);
    await stage.open(1);
    await stage.prepare(...tables);
    return stage;
  }

  /** A second process over the same target. Dispose it before the first. */
  async rival(lease: number, ...tables: readonly TableVersion[]): Promise<Stage> {
    const stage = new Stage(this.harness, this.target, await this.target.makeSink(), false);
    await stage.open(lease);
    await stage.prepare(...tables);
    return stage;
  }

  /** The sink of another daemon over the same target. Dispose it before the first. */
  async beside(daemon: string): Promise<Stage> {
    const stage = new Stage(this.harness, this.target, await this.target.makeSink(undefined, daemon), false);
    await stage.open(1);
    return stage;
  }

  async open(lease: number): Promise<void> {
    this.lease = lease;
    this.held = await this.sink.open(lease, timeout());
  }

  /** The process ends (nothing in flight) and another one takes its place. */
  async restart(...tables: readonly TableVersion[]): Promise<void> {
    await this.sink.close();
    this.sink = await this.target.makeSink();
    this.#sinks.push(this.sink);
    await this.open(this.lease + 1);
    await this.prepare(...tables);
  }

  async prepare(...tables: readonly TableVersion[]): Promise<void> {
    if (tables.length > 0) await this.sink.prepare(tables, timeout());
  }

  /** Every other batch of rows is announced before. */
  async apply(batch: Batch, outcome: Outcome = this.reports): Promise<void> {
    if (batch.kind === "rows" && this.#batchCount++ % 2 === 1) this.sink.prefetch?.prefetchRows(batch.tables);
    await this.sink.apply(this.#ordered(batch), outcome, timeout());
  }

  /** A stream is told the order of the entries: table by table, unless it is given. */
  #ordered(batch: Batch): Batch {
    if (batch.kind !== "rows" || this.sink.form !== "stream" || batch.order !== undefined) return batch;
    return { ...batch, order: Uint16Array.from(batch.tables.flatMap(({ count }, t) => Array<number>(count).fill(t))) };
  }

  /** Applies entries of one table in a batch that commits at `at`. */
  async write(table: TableVersion, at: bigint, entries: readonly Write[]): Promise<Reports> {
    this.reports = new Reports();
    await this.apply(rowsBatch(at, [table, entries]));
    return this.reports;
  }

  /** The table's rows in the target are these, cells given in Postgres' text form. */
  async expectRows(table: TableVersion, expected: readonly Cells[]): Promise<void> {
    const rows = await this.target.readRows(table);
    const found = rows.map((row) => row.cells);
    const wanted = expected.map((cells) => this.landed(table, cells));
    expect(found.toSorted(byText)).toEqual(wanted.toSorted(byText));
  }

  async expectVersions(table: TableVersion, commits: readonly bigint[]): Promise<void> {
    const rows = await this.target.readRows(table);
    const found = rows.map((row) => row.version).toSorted((a, b) => Number(a - b));
    expect(found).toEqual(commits.map((commit) => rowVersion(1, commit)));
  }

  /** Checkpoint as a process would find it that starts now. */
  async checkpointNow(): Promise<Checkpoint | null> {
    await using later = await this.rival(this.lease + 1);
    this.lease++;
    return later.held;
  }

  landed(table: TableVersion, cells: Cells): (string | null)[] {
    return cells.map((cell, i) => {
      if (cell === null) return null;
      if (typeof cell !== "string") throw new Error("expected rows are given in text form");
      const column = table.columns[i]!;
      return this.harness.landed === undefined ? cell : this.harness.landed(column, cell);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const sink of this.#sinks) await sink.close();
    if (this.#ownsTarget) await this.target[Symbol.asyncDispose]();
  }
}

export function timeout(): AbortSignal {
  return AbortSignal.timeout(CALL_TIMEOUT_MS);
}

/** The MillraceError that the promise fails with; anything else fails the test. */
export async function failure(promise: Promise<unknown>): Promise<MillraceError> {
  let thrown: unknown;
  try {
    await promise;
  } catch (error) {
    thrown = error;
  }
  expect(thrown, "the call should have failed").toBeDefined();
  const known = findMillraceError(thrown);
  if (known === undefined) throw thrown;
  return known;
}

export { UNCHANGED };

function byText(a: readonly (string | null)[], b: readonly (string | null)[]): number {
  const left = JSON.stringify(a);
  const right = JSON.stringify(b);
  return left < right ? -1 : left > right ? 1 : 0;
}
