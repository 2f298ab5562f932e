import { type Clock, systemClock } from "../../../src/core/clock.ts";
import type {
  Outcome,
  ReadersHold,
  Sink,
  TargetHint,
  TargetPresence,
  TargetRows,
} from "../../../src/core/contracts/sink.ts";
import { MillraceError } from "../../../src/core/errors.ts";
import { failpoint } from "../../../src/core/failpoint.ts";
import type { Batch } from "../../../src/core/model/batch.ts";
import type { Checkpoint } from "../../../src/core/checkpoint.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import { isWhole } from "../../kit/ordered-changes.ts";
import { DENIED, deniedTopic } from "../client/cluster.ts";
import { apiIdsOf, aboutOf } from "../client/failures.ts";
import { classify, isFenced, isRefusedRecord, isUnknownTopic, ofTable, untoldTruncate } from "../errors.ts";
import type { Format } from "../formats/format.ts";
import { ownTopic, topicOf, transactionTopic } from "../names.ts";
import type { RegistrySettings } from "../registry/client.ts";
import { schemaError } from "../registry/errors.ts";
import { checkpointOf, NO_CHECKPOINT, type TopicCheckpoint } from "../writer/checkpoint.ts";
import { CheckpointedWriter, ONE_PARTITION, type Opened, type WriterSettings } from "../writer/checkpointed-writer.ts";
import { type Claims, expectBefore, holds } from "../writer/claims.ts";
import { partitionsOf } from "../writer/left-open.ts";
import { type BatchRecords, expectRoom } from "../writer/records.ts";
import { hasOtherPartitions, isNewlyCompacted, isSameTopic, leftIn, stateOf, type Topics } from "../writer/topics.ts";
import { BatchChanges, type BatchTarget } from "./batch-changes.ts";
import { OpenTransaction } from "./open-transaction.ts";

export interface TopicSinkSettings extends WriterSettings {
  readonly kind: "topics";
  /** Whether a record without a value follows a delete. */
  readonly tombstones: boolean;
  /** Whether a topic of its own tells the ends of transactions. */
  readonly transactions: boolean;
  /** Null: nothing is going to be written. */
  readonly format: Format | null;
  /** Null: records do not need one. */
  readonly registry: RegistrySettings | null;
}

/**
 * Every change as a record, in commit order within each partition; a batch and its checkpoint are one Kafka transaction. A
 * reader of committed records therefore sees each change once.
 */
export class TopicSink implements Sink, TargetPresence {
  readonly kind = "kafka";
  readonly form = "stream";
  readonly delivery = "transactional";
  readonly onLost = "resync";
  readonly scopedBy = "keys";
  readonly batchLimits = { rowCountMax: 10_000, byteCountMax: 4 * 1024 * 1024 };
  readonly presence = this;
  readonly name: string;
  /** Records stay: a sweep takes their rows from readers. */
  readonly rows: TargetRows;
  readonly #settings: TopicSinkSettings;
  readonly #clock: Clock;
  readonly #writer: CheckpointedWriter;
  readonly #changes: BatchChanges | null;
  /** Versions whose schema goes out with the next batch. */
  readonly #newSchemas = new Set<TableVersion>();
  /** By id, the tables that `prepare` was called for, with their newest version. */
  readonly #prepared = new Map<string, TableVersion>();
  /** The topics of tables, for the next checkpoint. */
  #topics: TopicCheckpoint["topics"] = NO_CHECKPOINT.topics;
  #transaction = new OpenTransaction("");

  readonly look: Sink["look"] = (signal) => this.#writer.look(signal);
  readonly verify: Sink["verify"] = (signal) => this.#writer.verify(signal);
  readonly rooms: Sink["rooms"] & {} = (signal) => this.#writer.rooms(signal);
  readonly forget: Sink["forget"] = (signal) => this.#writer.forget(signal);
  readonly close: Sink["close"] = () => this.#writer.close();

  constructor(settings: TopicSinkSettings, clock: Clock = systemClock) {
    const { name, naming, format } = settings;
    this.name = name;
    this.#settings = settings;
    this.#clock = clock;
    const others = [ownTopic("schemas", naming), transactionTopic(naming)];
    this.#writer = new CheckpointedWriter(settings, clock, { logs: [], others, calls: [] });
    this.rows = this.#writer;
    this.#changes = format === null ? null : new BatchChanges(settings, format);
  }

  get hints(): readonly TargetHint[] {
    return this.#writer.hints;
  }

  target(table: Pick<TableVersion, "schema" | "table">): string {
    const { naming } = this.#settings;
    const topic = topicOf(table, naming);
    // All tables may share one topic: their keys name the table there.
    return naming.single === undefined ? topic : JSON.stringify([topic, table.schema, table.table]);
  }

  async open(lease: number, signal: AbortSignal): Promise<Checkpoint | null> {
    const found = await this.#writer.open(lease, signal);
    this.#transaction = new OpenTransaction(found.open);
    const before = this.#topics;
    this.#topics = found.topics;
    await this.#prepareAgain(before, signal);
    return checkpointOf(found);
  }

  /**
   * A batch that failed is given again without another preparation. A topic that is another one by now stays unknown, so that
   * the batch fails and the tables are prepared again.
   */
  async #prepareAgain(before: TopicCheckpoint["topics"], signal: AbortSignal): Promise<void> {
    if (this.#prepared.size === 0) return;
    const { topics } = this.#writer.ours(signal);
    const now = await this.#writer.attempt(signal, () => topics.states(Object.keys(before), signal));
    const { naming } = this.#settings;
    for (const [id, table] of this.#prepared) {
      const name = topicOf(table, naming);
      if (now.get(name) !== before[name]) this.#prepared.delete(id);
    }
    try {
      await this.prepare([...this.#prepared.values()], signal);
    } catch (error) {
      if (!(error instanceof MillraceError) || error.table === undefined) throw error;
      this.#prepared.clear();
    }
  }

  /** In a compacted topic the row that a change builds on may be gone; under a new key it is in another partition. */
  readersHold(table: TableVersion): ReadersHold {
    const name = topicOf(table, this.#settings.naming);
    return this.#writer.topics?.isCompacted(name) === false ? "same key" : "none";
  }

  async prepare(tables: readonly TableVersion[], signal: AbortSignal): Promise<void> {
    const { topics } = this.#writer.ours(signal);
    const { naming, format } = this.#settings;
    const own = await this.#prepareOwn(topics, signal);
    const names = new Set(tables.map((table) => topicOf(table, naming)));
    try {
      await topics.prepare([...names], signal);
    } catch (error) {
      const known = classify(error, signal);
      const [table] = tables;
      throw tables.length === 1 && naming.single === undefined ? ofTable(known, table!.id) : known;
    }
    const states = [...own, ...names].map((name) => [name, stateOf(topics.get(name))] as const);
    const changed = states.filter(([name, state]) => this.#topics[name] !== state);
    const added = changed.flatMap(([name, state]) => {
      const before = this.#topics[name];
      return before !== undefined && isSameTopic(before, state) ? [] : [topics.get(name)];
    });
    const denied = changed.flatMap(([name]) => (leftIn(this.#topics[name]) === null ? [] : [topics.get(name)]));
    const newNames = added.map(({ name }) => name);
    const claims = await this.#writer.attempt(signal, () => this.#writer.claimsOn(newNames, signal));
    const wanted = [
      ...own.map((name) => ({ id: null, name })),
      ...tables.map((table) => ({ id: table.id, name: topicOf(table, naming) })),
    ];
    const refusalOf = (others: Claims): MillraceError | null =>
      wanted.map(({ id, name }) => others.refusal(id, name, topics.get(name).topic)).find((one) => one !== null) ??
      null;
    const refusal = refusalOf(claims);
    if (refusal !== null) throw refusal;
    for (const table of tables)
      expectBefore(this.#writer.last, table.id, topics.get(topicOf(table, naming)), this.#settings);
    if (added.length + denied.length > 0) {
      const claimed = { ...this.#topics, ...Object.fromEntries(changed) };
      const refused = await this.#writer.attempt(signal, async ({ leftOpen }) => {
        try {
          // No committed batch has written there.
          await leftOpen.tell(partitionsOf(added), signal);
          await leftOpen.end(denied, this.#topics, signal);
        } catch (error) {
          throw this.#ofTopic(error, tables, signal);
        }
        return await this.#writer.claim(claimed, refusalOf, signal);
      });
      if (refused !== null) throw refused;
    }
    for (const table of tables) {
      this.#expectRoom(table, topics);
      await this.#register(table, signal);
    }
    if (format?.schema !== undefined) for (const table of tables) this.#newSchemas.add(table);
    for (const table of tables) this.#prepared.set(table.id, table);
    if (changed.length > 0) this.#topics = { ...this.#topics, ...Object.fromEntries(changed) };
  }

  async apply(batch: Batch, outcome: Outcome, signal: AbortSignal): Promise<void> {
    const changes = this.#changes;
    if (changes === null) throw new Error("a sink that writes has a format");
    const ended = await this.#writer.attempt(signal, async (opened) => {
      try {
        return await this.#write(batch, changes, opened, outcome, signal);
      } catch (error) {
        throw this.#untold(batch, error) ?? this.#ofTopic(error, this.#prepared.values(), signal);
      }
    });
    if (ended !== null) throw ended.by;
  }

  async #write(
    batch: Batch,
    changes: BatchChanges,
    { topics, writer, leftOpen }: Opened,
    outcome: Outcome,
    signal: AbortSignal,
  ): Promise<Ended | null> {
    const nowMs = this.#clock.now();
    const records = this.#writer.records(nowMs);
    const transaction = this.#transaction.copy();
    const flush = async (): Promise<void> => {
      await this.#writer.send(records, signal);
      // What was sent leaves the process in later turns of the event loop.
      await new Promise<void>((resolve) => this.#clock.later(resolve));
      failpoint("kafka.part-sent");
    };
    const to: BatchTarget = { records, topics, transaction, nowMs, flush };
    await leftOpen.tell(await writer.untold(signal), signal);
    this.#addSchemas(records, topics);
    const refused = await changes.add(batch, to);
    const ending = await endedBy(outcome.poison(refused));
    if (ending !== null) {
      await writer.abort(signal);
      return ending;
    }
    if (transaction.isOpen && isWhole(transaction.version, batch.checkpoint.position)) changes.end(to);
    outcome.waiting?.();
    const standing = { open: transaction.text, topics: this.#topics };
    await this.#writer.commit(batch.checkpoint, standing, records, signal);
    this.#transaction = transaction;
    this.#newSchemas.clear();
    return null;
  }

  async missing(tables: readonly TableVersion[], signal: AbortSignal): Promise<readonly TableVersion[]> {
    const { naming } = this.#settings;
    const { last } = this.#writer;
    const names = Object.keys(last.topics);
    const now = await this.#writer.attempt(signal, ({ topics }) => topics.states(names, signal));
    return tables.filter((table) => {
      const name = topicOf(table, naming);
      const [held, found] = [last.topics[name], now.get(name)];
      if (found === DENIED) throw this.#ofTopic(deniedTopic(name), [table], signal);
      if (held === undefined || found === undefined || !isSameTopic(held, found) || isNewlyCompacted(held, found))
        return true;
      // A part of a copy that lies in other partitions; a whole one is suspended when its rows come.
      return hasOtherPartitions(held, found) && !holds(last, table.id);
    });
  }

  /** The names of topics that no table has. */
  async #prepareOwn(topics: Topics, signal: AbortSignal): Promise<readonly string[]> {
    const { naming, format, transactions } = this.#settings;
    const own: string[] = [];
    try {
      if (format?.schema !== undefined) {
        const name = ownTopic("schemas", naming);
        await topics.prepare([name], signal, ONE_PARTITION);
        own.push(name);
      }
      if (transactions && format?.end !== undefined) {
        const name = transactionTopic(naming);
        await topics.prepare([name], signal, { ...ONE_PARTITION, settings: {} });
        await format.registerTransactions?.(name, signal);
        own.push(name);
      }
      return own;
    } catch (error) {
      throw classify(error, signal);
    }
  }

  /** A schema that the registry refuses suspends its table. */
  async #register(table: TableVersion, signal: AbortSignal): Promise<void> {
    const { naming, format } = this.#settings;
    try {
      await format?.register?.(table, topicOf(table, naming), signal);
    } catch (error) {
      throw schemaError(error, table.id) ?? classify(error, signal);
    }
  }

  /** A schema that is too large for its topic suspends its table. */
  #expectRoom(table: TableVersion, topics: Topics): void {
    const record = this.#settings.format?.schema?.(table) ?? null;
    if (record === null) return;
    try {
      expectRoom(topics.get(ownTopic("schemas", this.#settings.naming)), record.key, record.value);
    } catch (error) {
      throw ofTable(classify(error), table.id);
    }
  }

  #addSchemas(records: BatchRecords, topics: Topics): void {
    for (const table of this.#newSchemas) {
      const record = this.#settings.format?.schema?.(table) ?? null;
      if (record === null) continue;
      records.own(topics.get(ownTopic("schemas", this.#settings.naming)), record.key, record.value);
    }
  }

  /** A truncate without a key, in a topic that is compacted since somebody looked last. */
  #untold(batch: Batch, error: unknown): MillraceError | null {
    const { naming } = this.#settings;
    if (batch.kind !== "truncate" || !naming.isDebezium || !isRefusedRecord(error)) return null;
    return untoldTruncate(batch.table.id, topicOf(batch.table, naming));
  }

  /** What the brokers refuse of one table's topic concerns that table alone. */
  #ofTopic(error: unknown, tables: Iterable<TableVersion>, signal: AbortSignal): unknown {
    const { naming } = this.#settings;
    // A fence is the whole sink's, whichever topic it is told of.
    if (naming.single !== undefined || isUnknownTopic(error) || isFenced(error)) return error;
    const about = new Set(apiIdsOf(error).map((id) => aboutOf(error, id)));
    const table = [...tables].find((one) => about.has(topicOf(one, naming)));
    const known = classify(error, signal);
    // Of the others the writer sees what the brokers say.
    return table === undefined || known.kind !== "blocked" ? error : ofTable(known, table.id);
  }
}

interface Ended {
  readonly by: unknown;
}

/** Why a report ends its batch; null: it does not. Nothing is wrong with the sink then. */
async function endedBy(report: Promise<void>): Promise<Ended | null> {
  try {
    await report;
    return null;
  } catch (error) {
    return { by: error };
  }
}
