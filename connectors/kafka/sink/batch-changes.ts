/** What a batch says, as records of the sink's format: changes in commit order, barriers, and where transactions begin and end. */
import { ByteWriter } from "../../../src/core/bytes.ts";
import type { RefusedEntry } from "../../../src/core/contracts/sink.ts";
import type { MillraceError } from "../../../src/core/errors.ts";
import { DELETE, type Batch, type TableWrites, type TruncateInLog } from "../../../src/core/model/batch.ts";
import { CommitWalk, type RowsBatch } from "../../kit/ordered-changes.ts";
import { type Block, OP_READ } from "../../../src/core/model/block.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import { kafkaError, newlyCompacted, untoldTruncate } from "../errors.ts";
import { type Barrier, type Format, Inexpressible, NoUtf8, type RecordContext } from "../formats/format.ts";
import { type TopicNaming, topicOf, transactionTopic } from "../names.ts";
import type { OpenTransaction } from "./open-transaction.ts";
import type { BatchRecords } from "../writer/records.ts";
import { isOfTopic, type Topics, type UsableTopic } from "../writer/topics.ts";

interface ChangeSettings {
  readonly naming: TopicNaming;
  readonly tombstones: boolean;
  readonly transactions: boolean;
}

/** Where a batch's records go. */
export interface BatchTarget {
  readonly records: BatchRecords;
  readonly topics: Topics;
  readonly transaction: OpenTransaction;
  readonly nowMs: number;
  /** Sends what `records` has, as a part of the batch's transaction. */
  readonly flush: () => Promise<void>;
}

/** The broker stores a part of so many bytes while the next one is made; and looks at them after so many changes. */
const PART_BYTES = 2 * 1024 * 1024;
const LOOK_EVERY = 256;

/** What the log says of a change's transaction. */
type InLog = Omit<TruncateInLog, "index">;

export class BatchChanges {
  readonly #settings: ChangeSettings;
  readonly #format: Format;
  readonly #key = new ByteWriter(4 * 1024);
  readonly #value = new ByteWriter();
  readonly #origin = new Origin();
  readonly #context: RecordContext = { nowMs: 0, isMoved: false, transaction: null };

  constructor(settings: ChangeSettings, format: Format) {
    this.#settings = settings;
    this.#format = format;
  }

  /** Returns the rows that no topic takes. */
  async add(batch: Batch, to: BatchTarget): Promise<readonly RefusedEntry[]> {
    Object.assign(this.#context, { nowMs: to.nowMs, isMoved: false, transaction: null });
    if (batch.kind === "truncate") {
      this.#between(batch.version, to);
      if (batch.record !== undefined) this.#count(batch.version, batch.table.id, batch.record, to);
      this.#barrier({ kind: "truncate", batch }, this.#usable(batch.table, to), to);
    } else if (batch.kind === "sweep") {
      for (const { table, below } of batch.sweeps) {
        this.#barrier({ kind: "sweep", table, below }, this.#usable(table, to), to);
      }
    } else if (batch.kind === "rows") return await this.#addRows(batch, to);
    return [];
  }

  /** All changes of the open transaction are written. */
  end({ transaction, records, topics }: BatchTarget): void {
    const { version, counts, id, timeMs, isCounted } = transaction;
    transaction.end();
    if (!this.#settings.transactions || !isCounted) return;
    const record = this.#format.end?.({ version, counts, id, timeMs }) ?? null;
    if (record !== null) records.own(topics.get(transactionTopic(this.#settings.naming)), record.key, record.value);
  }

  async #addRows(batch: RowsBatch, to: BatchTarget): Promise<readonly RefusedEntry[]> {
    const usable = new Map(batch.tables.map(({ table }) => [table, this.#usable(table, to)]));
    for (const { table, patchCount } of batch.tables) {
      const { name, isCompacted } = usable.get(table)!;
      // Compacted before it was known to be.
      if (patchCount > 0 && isCompacted === true) throw newlyCompacted(name);
    }
    const refused: RefusedEntry[] = [];
    const origin = this.#origin;
    origin.begin();
    const walk = new CommitWalk(batch);
    const visit = (writes: TableWrites, entry: number, isMoved: boolean): void => {
      origin.look(writes, entry);
      const version = origin.isRead ? null : origin.version;
      this.#between(version, to);
      this.#context.isMoved = isMoved;
      this.#context.transaction = null;
      if (version !== null) this.#count(version, writes.table.id, origin.log, to);
      const error = this.#change(writes, entry, usable.get(writes.table)!, to);
      if (error !== null) refused.push({ writes, entry, error });
    };
    while (walk.visit(LOOK_EVERY, visit)) if (to.records.byteCount >= PART_BYTES) await to.flush();
    return refused;
  }

  #usable(table: Parameters<typeof topicOf>[0], { topics }: BatchTarget): UsableTopic {
    return topics.get(topicOf(table, this.#settings.naming));
  }

  #between(next: bigint | null, to: BatchTarget): void {
    if (to.transaction.isOpen && to.transaction.version !== next) this.end(to);
  }

  /** A change of a transaction comes next. */
  #count(version: bigint, tableId: string, log: InLog, { transaction, records, topics }: BatchTarget): void {
    const format = this.#format;
    if (!this.#settings.transactions || !transaction.isCounted) {
      transaction.pass(version);
      return;
    }
    const isFirst = !transaction.isOpen;
    transaction.add(version, tableId);
    if (format.transactionId === undefined) return;
    if (isFirst) {
      transaction.id = format.transactionId({ version, xid: log.xid, origin: log.origin });
      transaction.timeMs = Number(log.commitTimeUs / 1000n);
      const record = format.begin?.(transaction);
      const topic = transactionTopic(this.#settings.naming);
      if (record !== undefined) records.own(topics.get(topic), record.key, record.value);
    }
    const { id, total } = transaction;
    this.#context.transaction = { id, total, inTable: transaction.counts.get(tableId)! };
  }

  /** What is wrong with the record: it is too large, or has a value that the format lacks. */
  #change(
    writes: TableWrites,
    entry: number,
    usable: UsableTopic,
    { records }: Pick<BatchTarget, "records">,
  ): MillraceError | null {
    const format = this.#format;
    const key = this.#key;
    const value = this.#value;
    key.reset();
    value.reset();
    try {
      format.key(key, writes, entry);
      format.value(value, writes, entry, this.#context);
    } catch (error) {
      if (error instanceof NoUtf8)
        return kafkaError(
          "MR3111",
          "poison",
          `no record can hold a row of ${writes.table.id}: a text of it is no UTF-8`,
        );
      if (!(error instanceof Inexpressible)) throw error;
      const what = `a row of ${writes.table.id} has a value in column ${error.column} that the format lacks`;
      const hint =
        "NaN and Infinity: `decimals: string` or `double`. Left-out values: give the table REPLICA IDENTITY FULL. Then `millrace dlq replay --sink NAME --all`.";
      return kafkaError("MR3111", "poison", what, { hint });
    }
    const headers = format.headers(writes, entry);
    const { timeMs } = this.#origin;
    if (!records.add(usable, key.view(), value.view(), headers, timeMs)) {
      const { batchLimit, batchBytesMax } = usable;
      const byteCount = key.view().length + value.view().length;
      const whose = isOfTopic(batchLimit) ? "its topic" : "the brokers";
      const what = `a row of ${writes.table.id} takes ${byteCount} bytes, and ${batchLimit} of ${whose} lets ${batchBytesMax} through`;
      const hint = `Raise \`${batchLimit}\` of ${whose} (and \`replica.fetch.max.bytes\` of the brokers), then \`millrace dlq replay --sink NAME --all\`. Or leave the large column out (\`drop: true\`).`;
      return kafkaError("MR3111", "poison", what, { hint });
    }
    if (this.#settings.tombstones && writes.action[entry] === DELETE) {
      records.add(usable, key.view(), null, headers, timeMs);
    }
    return null;
  }

  #barrier(barrier: Barrier, usable: UsableTopic, { records, nowMs }: BatchTarget): void {
    const record = this.#format.barrier(barrier, this.#context);
    if (record === null) return;
    if (record.key === null && usable.isCompacted === true) throw untoldTruncate(tableOf(barrier).id, usable.name);
    const { key, value, headers, isEverywhere } = record;
    const count = isEverywhere ? usable.topic.leaders.length : 1;
    for (let partition = 0; partition < count; partition++) {
      records.at(partition, usable, key, value, headers, nowMs);
    }
  }
}

function tableOf(barrier: Barrier): TableVersion {
  return barrier.kind === "sweep" ? barrier.table : barrier.batch.table;
}

/** Of a change: the changes of a transaction follow each other, and its large integers cost more than all else of a row. */
class Origin {
  #block: Block | null = null;
  #tx = 0;
  #isOfNone = false;
  version = 0n;
  timeMs = 0;
  log: InLog = { commitTimeUs: 0n, xid: 0, origin: undefined };
  /** The row was read, and is of no transaction. */
  isRead = false;

  /** Another batch may have the same blocks, with others in them. */
  begin(): void {
    this.#block = null;
  }

  look({ blocks, block, row }: TableWrites, entry: number): void {
    const of = blocks[block[entry]!]!;
    const tx = of.tx[row[entry]!]!;
    if (of !== this.#block || tx !== this.#tx) this.#take(of, tx);
    this.isRead = this.#isOfNone || of.op[row[entry]!] === OP_READ;
  }

  #take(block: Block, tx: number): void {
    const { transactions } = block;
    this.#block = block;
    this.#tx = tx;
    this.#isOfNone = transactions.commit[tx] === 0n;
    this.version = transactions.version[tx]!;
    const commitTimeUs = transactions.commitTimeUs[tx]!;
    this.timeMs = Number(commitTimeUs / 1000n);
    this.log = { commitTimeUs, xid: transactions.xid[tx]!, origin: transactions.origins[tx] };
  }
}
