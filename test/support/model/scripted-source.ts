/** A source in memory: tables, a log, chunks and marks, for tests of the runtime around them. */
import type { Block } from "../../../src/core/model/block.ts";
import type { Position } from "../../../src/core/model/position.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import type { Catalog } from "../../../src/core/contracts/catalog.ts";
import type { ChangeLog, ChangeStream, StreamOptions } from "../../../src/core/contracts/change-log.ts";
import type { FirstCopy, LogAdmin } from "../../../src/core/contracts/log-admin.ts";
import { distanceInBytes, type Positions } from "../../../src/core/contracts/positions.ts";
import type { Chunk, KeyText, RowReads } from "../../../src/core/contracts/row-reads.ts";
import type { Source } from "../../../src/core/contracts/source.ts";
import type { Watermarks } from "../../../src/core/contracts/watermarks.ts";
import { blockOf, type Cell, type Change, UNCHANGED } from "./blocks.ts";
import { keyOfRow, type Row } from "./log-model.ts";
import { noSecondStream, ScriptedStream } from "./scripted.ts";

interface LogEntry {
  readonly commit: bigint;
  readonly make: () => Block;
}

/** A test puts another capability in the place of one, also while it is used. */
export class ScriptedSource implements Source {
  readonly kind = "scripted";
  readonly database = "test";
  readonly positions: Positions = { format: String, parse: BigInt, distance: distanceInBytes };
  log: ChangeLog = {
    stream: (from, options) => this.#stream(from, options),
    tip: async () => this.#commit,
    earliest: async () => 0n,
  };
  admin: LogAdmin = {
    losses: new Set(),
    create: async ({ epoch, wantCopy }) => {
      const position = { epoch, commit: this.#commit, index: 0 };
      return { identity: { log: "1" }, position, copy: wantCopy ? this.#copy() : null };
    },
    resume: async (identity, { from }) => {
      this.resumedFrom.push(from);
      return identity;
    },
    health: async () => ({ tip: this.#commit, retainedBytes: 0, safeBytes: null, warnings: [] }),
  };
  catalog: Catalog = {
    tables: async () => ({ tables: this.#tables, refused: [], generations: this.#generations() }),
    publish: async () => undefined,
  };
  rows: RowReads = {
    readRange: (table, { after }) => this.#range(table, after),
    readKeys: (table, keys) => {
      const rows = keys.flatMap((key) =>
        [...this.rowsOf(table).values()].filter((row) => keyPart(table, row) === key[0]),
      );
      return this.#chunk(table, rows);
    },
  };
  watermarks: Watermarks = {
    markPrefix: "m",
    mark: (content) => this.#mark(content),
    renew: async () => {
      await this.#mark("");
      return this.#commit;
    },
    visibility: async () => {
      const seen = this.#commit;
      return { sees: (xid) => xid <= Number(seen), committing: [] };
    },
  };
  readonly #tables: readonly TableVersion[];
  readonly #rows = new Map<string, Map<string, Row>>();
  readonly #log: LogEntry[] = [];
  #commit = 1000n;
  readonly streams: {
    readonly stream: ScriptedStream;
    readonly temporary: boolean;
    readonly from: Position;
    readonly byteCountMax: number;
  }[] = [];
  readonly resumedFrom: Position[] = [];
  /** Rows per chunk. */
  chunkSize = 1000;
  reads = 0;
  /** Called before each chunk is read, and before each table of the first copy. */
  onRead: (table: TableVersion) => Promise<void> | void = () => undefined;
  /** Called before each mark is written. */
  onMark: () => Promise<void> | void = () => undefined;
  /** No second stream is given while true. */
  refusesSecond = false;
  /** So many edges of windows never arrive in the stream. */
  marksToLose = 0;
  /** Blocks of the first copy that were let go, of those given out. */
  readonly copied = { given: 0, released: 0 };
  /** Chunks that were let go, of those given out. */
  readonly chunks = { given: 0, released: 0 };

  constructor(tables: readonly TableVersion[]) {
    this.#tables = tables;
    for (const table of tables) this.#rows.set(table.id, new Map());
  }

  rowsOf(table: TableVersion): ReadonlyMap<string, Row> {
    return this.#rows.get(table.id)!;
  }

  /** Rows that were there before the log. */
  fill(table: TableVersion, rows: readonly Row[]): void {
    for (const row of rows) this.#rows.get(table.id)!.set(keyOfRow(table, row), row);
  }

  /** One transaction. */
  commit(...changes: readonly Omit<Change, "commit">[]): bigint {
    const commit = (this.#commit += 10n);
    for (const { table, op, after, before } of changes) {
      const rows = this.#rows.get(table.id)!;
      if (op === "t") rows.clear();
      const old = rows.get(keyOfRow(table, before ?? after ?? []));
      if (before !== undefined) rows.delete(keyOfRow(table, before));
      if (after !== undefined) {
        const row = after.map((cell, i) => wholeCell(cell, old?.[i]));
        rows.set(keyOfRow(table, row), row);
      }
    }
    this.#append({
      commit,
      make: () => blockOf(changes.map((change) => ({ ...change, commit, xid: Number(commit) }))),
    });
    return commit;
  }

  #append(entry: LogEntry): void {
    this.#log.push(entry);
    for (const { stream } of this.streams) stream.push(entry.make());
  }

  #copy(): FirstCopy {
    const counts = this.copied;
    const frozen = new Map([...this.#rows].map(([id, rows]) => [id, [...rows.values()]]));
    const onRead = (table: TableVersion) => this.onRead(table);
    const blocks = (table: TableVersion) => {
      const rows = frozen.get(table.id) ?? [];
      return Array.from({ length: Math.ceil(rows.length / this.chunkSize) }, (_, i) =>
        rowsBlock(table, rows.slice(i * this.chunkSize, (i + 1) * this.chunkSize), () => counts.released++),
      );
    };
    return {
      tables: this.#tables,
      generations: this.#generations(),
      async *read(table: TableVersion) {
        for (const block of blocks(table)) {
          await onRead(table);
          counts.given++;
          yield block;
        }
      },
      close: async () => undefined,
    };
  }

  async #stream(from: Position, options: StreamOptions): Promise<ChangeStream> {
    if (options.temporary && this.refusesSecond) throw noSecondStream();
    const stream = new ScriptedStream();
    const { temporary, byteCountMax = 0 } = options;
    this.streams.push({ stream, from, temporary, byteCountMax });
    for (const entry of this.#log) if (entry.commit >= from.commit) stream.push(entry.make());
    return stream;
  }

  #generations(): ReadonlyMap<string, string> {
    return new Map(this.#tables.map(({ id }) => [id, "1"]));
  }

  async #mark(content: string): Promise<void> {
    await this.onMark();
    const position = (this.#commit += 10n);
    const isLost = content.includes("window") && this.marksToLose > 0;
    if (isLost) this.marksToLose--;
    const prefix = isLost ? "another program's" : "m";
    const message = { at: 0, prefix, content: Buffer.from(content), position, transactional: true };
    const until = { epoch: 1, commit: position + 1n, index: 0 };
    this.#append({ commit: position, make: () => blockOf([], { messages: [message], until }) });
  }

  async #range(table: TableVersion, after: KeyText | null): Promise<Chunk> {
    const sorted = [...this.rowsOf(table).values()].toSorted(
      (a, b) => Number(keyPart(table, a)) - Number(keyPart(table, b)),
    );
    const rest = sorted.filter((row) => after === null || Number(keyPart(table, row)) > Number(after[0]));
    const chunk = await this.#chunk(table, rest.slice(0, this.chunkSize));
    const last = rest[this.chunkSize - 1];
    return rest.length <= this.chunkSize || last === undefined ? chunk : { ...chunk, last: [keyPart(table, last)] };
  }

  async #chunk(table: TableVersion, rows: readonly Row[]): Promise<Chunk> {
    this.reads++;
    const seen = this.#commit;
    await this.onRead(table);
    if (rows.length > 0) this.chunks.given++;
    const block = rows.length === 0 ? null : rowsBlock(table, rows, () => this.chunks.released++);
    return { block, last: null, sees: (xid) => xid <= Number(seen) };
  }

  async close(): Promise<void> {}
}

function wholeCell(cell: Cell, old: string | null | undefined): string | null {
  if (cell === UNCHANGED) return old ?? null;
  return typeof cell === "string" ? cell : null;
}

function keyPart(table: TableVersion, row: Row): string {
  return row[table.key[0]!] ?? "";
}

function rowsBlock(table: TableVersion, rows: readonly Row[], onRelease: () => void): Block {
  const changes = rows.map((after): Change => ({ table, op: "r", after, commit: 0n, version: 1n << 55n }));
  return blockOf(changes, { until: { epoch: 1, commit: 0n, index: 0 }, onRelease });
}
