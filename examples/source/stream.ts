import { setTimeout as sleep } from "node:timers/promises";
import { ByteWriter } from "../../src/core/bytes.ts";
import type { ChangeStream, StreamOptions } from "../../src/core/contracts/change-log.ts";
import {
  BEFORE_FULL,
  BEFORE_NONE,
  Block,
  NO_TUPLE,
  OP_CREATE,
  OP_DELETE,
  OP_UPDATE,
} from "../../src/core/model/block.ts";
import { type Position, rowVersion } from "../../src/core/model/position.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import { TupleWriter } from "../../src/core/model/tuple.ts";
import { storedShape } from "./catalog.ts";
import { writeTuple } from "./cells.ts";
import { bigint, type Database, type SqlRow } from "./database.ts";

/** SQLite tells nobody of a commit. Asking costs a few microseconds, and half a poll is the mean delay of a change. */
const POLL_MS = 20;
const ROWS_MAX = 10_000;
const OPERATIONS: Readonly<Record<string, number>> = { c: OP_CREATE, u: OP_UPDATE, d: OP_DELETE };
export const MARK_PREFIX = "millrace";

/** The changes between two marks, as one transaction. Its position is that of the last change. */
interface Group {
  readonly commit: bigint;
  readonly mark: bigint;
  readonly content: string;
  /** The last row that was handed out. */
  doneTo: bigint;
  rowCount: number;
}

/** Changes from a position on, mark by mark. */
export class LogStream implements ChangeStream {
  readonly #database: Database;
  readonly #epoch: number;
  readonly #options: StreamOptions;
  readonly #tables = new Map<bigint, TableVersion>();
  /** The next mark to pass is this one or a later one. */
  #from: bigint;
  #group: Group | null = null;
  #isFirst = true;

  constructor(database: Database, from: Position, options: StreamOptions) {
    this.#database = database;
    this.#epoch = from.epoch;
    this.#from = from.commit;
    this.#options = options;
  }

  async next(signal: AbortSignal): Promise<Block> {
    for (;;) {
      signal.throwIfAborted();
      this.#group ??= this.#nextGroup();
      if (this.#group !== null) return await this.#block(this.#group);
      // Tells where the stream begins, also in an idle log.
      if (this.#isFirst) return this.#handedOut(this.#empty());
      await sleep(POLL_MS, undefined, { signal });
    }
  }

  /** Everything before it is done, but a transaction that contains it may be asked for again. */
  acknowledge(commit: bigint): void {
    if (this.#options.temporary) return;
    this.#database.write("deleting old changes", () => {
      const [row] = this.#database.rows("SELECT max(id) AS id FROM millrace_log WHERE op = 'm' AND id < ?", commit);
      if (row?.["id"] == null) return;
      const before = bigint(row["id"]);
      this.#database.rows("DELETE FROM millrace_log WHERE id <= ?", before);
      this.#database.rows("UPDATE millrace_meta SET kept_from = ?", before + 1n);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#database[Symbol.dispose]();
  }

  /** Null: nothing was committed. */
  #nextGroup(): Group | null {
    const [newest] = this.#database.rows("SELECT id, op FROM millrace_log ORDER BY id DESC LIMIT 1");
    if (newest === undefined || bigint(newest["id"]) < this.#from) return null;
    if (newest["op"] !== "m") this.#database.write("writing a mark", () => this.#database.mark(""));
    return this.#database.read("reading the log", () => {
      const first = "SELECT id, new FROM millrace_log WHERE op = 'm' AND id >= ? ORDER BY id LIMIT 1";
      const [row] = this.#database.rows(first, this.#from);
      if (row === undefined) return null;
      const mark = bigint(row["id"]);
      const before = "SELECT max(id) AS id FROM millrace_log WHERE op = 'm' AND id < ?";
      const doneTo = bigint(this.#database.rows(before, mark)[0]?.["id"] ?? 0n);
      const last = "SELECT max(id) AS id FROM millrace_log WHERE id > ? AND id < ?";
      const commit = bigint(this.#database.rows(last, doneTo, mark)[0]?.["id"] ?? mark);
      return { commit, mark, content: String(row["new"]), doneTo, rowCount: 0 };
    });
  }

  async #block(group: Group): Promise<Block> {
    const sql = "SELECT * FROM millrace_log WHERE id > ? AND id < ? ORDER BY id LIMIT ?";
    const rows = this.#database.rows(sql, group.doneTo, group.mark, ROWS_MAX);
    const block = this.#empty();
    const tuples = new TupleWriter(new ByteWriter());
    const tx = this.#begin(block, group, rows.at(-1));
    for (const row of rows) {
      const position = { epoch: this.#epoch, commit: group.commit, index: group.rowCount++ };
      await this.#append(block, tuples, row, tx, position);
      group.doneTo = bigint(row["id"]);
    }
    block.bytes = tuples.out.bytes;
    block.byteCount = tuples.out.length;
    const isWhole = rows.length < ROWS_MAX;
    block.until = isWhole
      ? { epoch: this.#epoch, commit: group.mark + 1n, index: 0 }
      : { epoch: this.#epoch, commit: group.commit, index: group.rowCount };
    if (!isWhole) return this.#handedOut(block);
    const message = { at: block.count, prefix: MARK_PREFIX, position: group.mark, transactional: false };
    if (group.content !== "") block.messages.push({ ...message, content: Buffer.from(group.content) });
    this.#group = null;
    this.#from = group.mark + 1n;
    return this.#handedOut(block);
  }

  #begin(block: Block, { commit }: Group, last: SqlRow | undefined): number {
    if (last === undefined) return 0;
    return block.transactions.add(commit, rowVersion(this.#epoch, commit), bigint(last["at_us"]), 0);
  }

  async #append(block: Block, tuples: TupleWriter, row: SqlRow, tx: number, position: Position): Promise<void> {
    const table = await this.#table(bigint(row["shape"]), position);
    let ordinal = block.tables.indexOf(table);
    if (ordinal < 0) ordinal = block.tables.push(table) - 1;
    const tuple = (list: unknown): number => (list === null ? NO_TUPLE : writeTuple(tuples, table, list));
    const [before, after] = [tuple(row["old"]), tuple(row["new"])];
    const kind = before === NO_TUPLE ? BEFORE_NONE : BEFORE_FULL;
    block.append(OPERATIONS[String(row["op"])]!, ordinal, after, before, kind, tx, position.index);
  }

  async #table(shape: bigint, position: Position): Promise<TableVersion> {
    let table = this.#tables.get(shape);
    if (table === undefined) {
      table = await this.#options.resolve(storedShape(this.#database, shape), position);
      this.#tables.set(shape, table);
    }
    return table;
  }

  #empty(): Block {
    const block = new Block(Buffer.alloc(0));
    block.until = { epoch: this.#epoch, commit: this.#from, index: 0 };
    return block;
  }

  #handedOut(block: Block): Block {
    this.#isFirst = false;
    return block;
  }
}
