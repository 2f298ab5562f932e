import { checkpointTexts } from "../../src/core/checkpoint/checkpoint-text.ts";
import { type Clock, systemClock } from "../../src/core/clock.ts";
import type { Outcome, ReadersHold, Sink, TargetPresence, TargetRows } from "../../src/core/contracts/sink.ts";
import type { SourceRelay } from "../../src/core/contracts/source.ts";
import type { MillraceError } from "../../src/core/errors.ts";
import { failpoint } from "../../src/core/failpoint.ts";
import type { Checkpoint, Batch } from "../../src/core/model/batch.ts";
import { serializePosition } from "../../src/core/model/position.ts";
import { baseVersion } from "../../src/core/model/version.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import { isWhole } from "../kit/ordered-changes.ts";
import {
  type TopicCheckpoint,
  CHECKPOINT_SETTINGS,
  CheckpointWriter,
  epochIn,
  forgotten,
  NO_CHECKPOINT,
  checkpointOf,
  readCheckpoint,
} from "./checkpoint.ts";
import { Claims } from "./claims.ts";
import type { Cluster } from "./client/cluster.ts";
import type { Ending } from "./client/coordinator.ts";
import { TransactionalWriter } from "./client/transactions.ts";
import { classify, isFenced, isUnknownTopic, kafkaError, ofTable, stuckAfter, topicsLost } from "./errors.ts";
import { LeftOpen } from "./left-open.ts";
import { serve } from "./log/serve.ts";
import { LogChanges } from "./log/log-changes.ts";
import { logTopic, ownTopic, sinkId, topicOf, transactionTopic } from "./names.ts";
import { OpenTransaction } from "./open-transaction.ts";
import { schemaError } from "./registry/errors.ts";
import type { KafkaSinkSettings } from "./settings.ts";
import { BatchChanges, type BatchTarget } from "./batch-changes.ts";
import { RecordBuffers, BatchRecords } from "./batch-records.ts";
import { hasOtherPartitions, isNewlyCompacted, isSameTopic, placeOf, type TopicRules, Topics } from "./topics.ts";
import { checkpointTopic, expectBefore, expectForm, expectOwner, holds } from "./verification.ts";

/** One for the cluster, while it is open. */
interface Opened {
  readonly cluster: Cluster;
  readonly topics: Topics;
  readonly writer: TransactionalWriter;
  readonly leftOpen: LeftOpen;
  readonly checkpoint: CheckpointWriter;
}

/** Its records have no keys, so a broker whose topics are compacted by default must not compact it. */
function logSettings(settings: TopicRules["settings"]): TopicRules["settings"] {
  return { "cleanup.policy": "delete", ...settings };
}

const ABORTED = "Kafka has aborted the transaction: it took too long, or a request of an earlier process arrived late";
const BATCH = { rowCountMax: 10_000, byteCountMax: 4 * 1024 * 1024 };
/** Control topics are read in order, by all. */
const ONE_PARTITION = { partitions: 1, settings: { "cleanup.policy": "compact" } } as const;

/**
 * Every change as a record, in commit order within each partition; a batch and its checkpoint are one Kafka transaction. A
 * reader of committed records therefore sees each change once.
 */
export class KafkaSink implements Sink, TargetPresence, TargetRows {
  readonly kind = "kafka";
  readonly form: "stream" | "log";
  readonly delivery = "transactional";
  readonly onLost = "resync";
  readonly batchLimits = BATCH;
  readonly presence = this;
  readonly rows = this;
  readonly name: string;
  readonly #settings: KafkaSinkSettings;
  readonly #clock: Clock;
  readonly #buffers = new RecordBuffers();
  readonly #changes: BatchChanges | LogChanges | null;
  /** For `format: log`. */
  readonly relay?: SourceRelay;
  /** Versions whose schema goes out with the next batch. */
  readonly #newSchemas = new Set<TableVersion>();
  /** The topics of tables, for the next checkpoint. */
  #topics: TopicCheckpoint["topics"] = {};
  #opened: Opened | null = null;
  /** Why the last batch failed. */
  #failure: MillraceError | null = null;
  /** What the last transaction came to; null: unknown. A writer that was opened in vain leaves nobody else who knows. */
  #ending: Ending | null = null;
  /** Another process holds the sink; until it is opened again. */
  #refusal: MillraceError | null = null;
  /** Of other sinks, when this one was opened first: one that comes later meets ours. */
  #claims: Claims | null = null;
  #lease = 0;
  #last: TopicCheckpoint = NO_CHECKPOINT;
  #transaction = new OpenTransaction("");
  #isClosed = false;

  constructor(settings: KafkaSinkSettings, clock: Clock = systemClock) {
    this.#settings = settings;
    this.#clock = clock;
    this.form = settings.isLog ? "log" : "stream";
    if (settings.isLog) {
      this.#changes = new LogChanges(settings.naming);
      this.relay = { serve: (relayed, signal) => serve(settings, clock, relayed, signal) };
    } else this.#changes = settings.format === null ? null : new BatchChanges(settings, settings.format);
    this.name = settings.name;
  }

  target(table: Pick<TableVersion, "schema" | "table">): string {
    const { naming } = this.#settings;
    // All tables may share one topic: their keys name the table there.
    return naming.single === undefined ? topicOf(table, naming) : JSON.stringify([table.schema, table.table]);
  }

  async open(lease: number, signal: AbortSignal): Promise<Checkpoint | null> {
    this.#expectUsable(signal);
    await this.#release();
    this.#refusal = null;
    this.#lease = lease;
    const { rules, compression, naming, form } = this.#settings;
    const cluster = await this.#settings.cluster.connect(signal);
    try {
      const sleep = (ms: number, until: AbortSignal) => this.#clock.sleep(ms, until);
      const topics = new Topics(cluster, rules, sleep);
      const place = this.#checkpointTopic;
      // Before anything is made or written.
      expectOwner(await readCheckpoint(cluster, place, signal), this.#settings);
      this.#claims ??= await Claims.of(cluster, this.#settings, signal);
      this.#claims.expectOwn(naming);
      await topics.prepare([place], signal, { ...ONE_PARTITION, settings: CHECKPOINT_SETTINGS });
      topics.expectKept([place]);
      // Before anybody follows the log: a topic that is made later would be another one.
      await topics.prepare(this.#logTopics, signal, { partitions: 1, settings: logSettings(rules.settings) });
      topics.expectUncompacted(this.#logTopics);
      this.#expectOurs(await readCheckpoint(cluster, place, signal));
      const id = sinkId(this.#settings);
      const always = { ...topics.get(place), partition: 0 };
      const writer = await TransactionalWriter.open(cluster, { clock: this.#clock, id, compression, always }, signal);
      this.#ending = writer.before ?? this.#ending;
      failpoint("kafka.fenced");
      const address = this.#settings.cluster.settings().brokers[0]!;
      const leftOpen = new LeftOpen({
        cluster,
        writer,
        checkpoint: topics.get(place),
        known: this.#ending,
        sleep,
        address,
      });
      await leftOpen.expectEnded(
        [place, ...this.#logTopics].map((name) => topics.get(name)),
        signal,
      );
      const found = await readCheckpoint(cluster, place, signal);
      this.#expectOurs(found);
      expectForm(found, this.#settings);
      // Before anything is written, which would end it in its own way.
      await leftOpen.end(await topics.existing([...Object.keys(found.topics), ...this.#ownTopics], signal), signal);
      this.#opened = { cluster, topics, writer, leftOpen, checkpoint: new CheckpointWriter() };
      this.#last = found;
      this.#transaction = new OpenTransaction(found.open);
      this.#newSchemas.clear();
      this.#topics = found.topics;
      await this.#write({ ...found, lease, form, owner: id }, this.#noRecords(), signal);
      this.#failure = null;
      this.#ending = null;
      return checkpointOf(found);
    } catch (error) {
      this.#opened = null;
      await cluster[Symbol.asyncDispose]();
      throw stuckAfter(this.#failure, classify(error, signal));
    }
  }

  async look(signal: AbortSignal): Promise<Checkpoint | null> {
    this.#expectUsable(signal);
    try {
      await using cluster = await this.#settings.cluster.connect(signal);
      return checkpointOf(await readCheckpoint(cluster, this.#checkpointTopic, signal));
    } catch (error) {
      throw classify(error, signal);
    }
  }

  /** In a compacted topic the row that a change builds on may be gone; under a new key it is in another partition. */
  readersHold(table: TableVersion): ReadersHold {
    const name = topicOf(table, this.#settings.naming);
    return this.#opened?.topics.isCompacted(name) === false ? "same key" : "none";
  }

  async prepare(tables: readonly TableVersion[], signal: AbortSignal): Promise<void> {
    const { topics, leftOpen } = this.#ours(signal);
    const { naming, format } = this.#settings;
    await this.#prepareOwn(topics, signal);
    const names = new Set(tables.map((table) => topicOf(table, naming)));
    try {
      await topics.prepare([...names], signal);
    } catch (error) {
      const known = classify(error, signal);
      const [table] = tables;
      throw tables.length === 1 && naming.single === undefined ? ofTable(known, table!.id) : known;
    }
    for (const table of tables) {
      const usable = topics.get(topicOf(table, naming));
      this.#claims?.expectFree(table.id, usable.name, usable.topic);
      expectBefore(this.#last, table.id, usable, this.#settings);
    }
    for (const table of tables) await this.#register(table, signal);
    if (format?.schema !== undefined) for (const table of tables) this.#newSchemas.add(table);
    const places = [...names].map((name) => [name, placeOf(topics.get(name))] as const);
    const changed = places.filter(([name, place]) => this.#topics[name] !== place);
    if (changed.length === 0) return;
    const added = changed.flatMap(([name, place]) => {
      const before = this.#topics[name];
      return before !== undefined && isSameTopic(before, place) ? [] : [topics.get(name)];
    });
    try {
      await leftOpen.abort(added, signal);
    } catch (error) {
      throw await this.#failed(error, signal);
    }
    this.#topics = { ...this.#topics, ...Object.fromEntries(changed) };
  }

  async apply(batch: Batch, outcome: Outcome, signal: AbortSignal): Promise<void> {
    const { topics, writer, leftOpen } = this.#ours(signal);
    const changes = this.#written;
    const nowMs = this.#clock.now();
    const records = new BatchRecords(this.#buffers, nowMs);
    const transaction = this.#transaction.copy();
    const flush = async (): Promise<void> => {
      const { batches, release } = records.part();
      await writer.send(batches, release, signal);
      // What was sent leaves the process in later turns of the event loop.
      await new Promise<void>((resolve) => this.#clock.later(resolve));
      failpoint("kafka.part-sent");
    };
    const to: BatchTarget = { records, topics, transaction, nowMs, flush };
    try {
      const untold = await writer.untold(signal);
      if (untold !== null) await leftOpen.commit(untold, signal);
      this.#addSchemas(records, topics);
      await changes.add(batch, to, outcome);
      if (transaction.isOpen && isWhole(transaction.version, batch.checkpoint.position)) changes.end(to);
      const { form } = this.#settings;
      const { tables, bond } = checkpointTexts(batch.checkpoint);
      const position = serializePosition(batch.checkpoint.position);
      outcome.waiting?.();
      const owner = sinkId(this.#settings);
      const open = transaction.text;
      const next = { lease: this.#lease, position, epoch: 0, tables, bond, open, topics: this.#topics, form, owner };
      await this.#write(next, records, signal);
      this.#transaction = transaction;
      this.#newSchemas.clear();
    } catch (error) {
      throw await this.#failed(isUnknownTopic(error) ? topicsLost() : error, signal);
    }
  }

  async missing(tables: readonly TableVersion[], signal: AbortSignal): Promise<readonly TableVersion[]> {
    const { topics } = this.#ours(signal);
    const before = this.#last.topics;
    try {
      const now = await topics.places(Object.keys(before), signal);
      return tables.filter((table) => {
        const name = topicOf(table, this.#settings.naming);
        const [held, found] = [before[name], now.get(name)];
        if (held === undefined || found == null || !isSameTopic(held, found) || isNewlyCompacted(held, found))
          return true;
        // A part of a copy that lies in other partitions; a whole one is suspended when its rows come.
        return hasOtherPartitions(held, found) && !holds(this.#last, table.id);
      });
    } catch (error) {
      throw await this.#failed(error, signal);
    }
  }

  /** Records stay: a sweep takes their rows from readers. */
  async expel(_tables: readonly TableVersion[], _version: bigint, signal: AbortSignal): Promise<void> {
    this.#ours(signal);
  }

  /** Of certain tables there is none that has an effect on later ones: see `expel`. */
  async highestVersion(tables: readonly TableVersion[] | null, signal: AbortSignal): Promise<bigint> {
    this.#ours(signal);
    const epoch = epochIn(this.#last);
    return tables === null && epoch > 0 ? baseVersion(epoch) : 0n;
  }

  async verify(signal: AbortSignal): Promise<void> {
    const { topics } = this.#ours(signal);
    try {
      await topics.verify(signal);
    } catch (error) {
      throw await this.#failed(error, signal);
    }
  }

  async forget(signal: AbortSignal): Promise<void> {
    this.#ours(signal);
    try {
      await this.#write(forgotten({ ...this.#last, lease: this.#lease }), this.#noRecords(), signal);
    } catch (error) {
      throw await this.#failed(error, signal);
    }
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#release();
  }

  /** Whose name is not a table's; made before the first batch. */
  get #logTopics(): readonly string[] {
    return this.#settings.isLog ? [logTopic(this.#settings.naming)] : [];
  }

  get #ownTopics(): readonly string[] {
    const { naming, isLog } = this.#settings;
    return isLog ? [] : [ownTopic("schemas", naming), transactionTopic(naming)];
  }

  get #checkpointTopic(): string {
    return checkpointTopic(this.#settings);
  }

  async #prepareOwn(topics: Topics, signal: AbortSignal): Promise<void> {
    const { naming, format, transactions } = this.#settings;
    try {
      if (format?.schema !== undefined) await topics.prepare([ownTopic("schemas", naming)], signal, ONE_PARTITION);
      if (transactions && format?.end !== undefined) {
        await topics.prepare([transactionTopic(naming)], signal, { ...ONE_PARTITION, settings: {} });
        await format.registerTransactions?.(transactionTopic(naming), signal);
      }
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

  #addSchemas(records: BatchRecords, topics: Topics): void {
    for (const table of this.#newSchemas) {
      const record = this.#settings.format?.schema?.(table) ?? null;
      if (record === null) continue;
      records.own(topics.get(ownTopic("schemas", this.#settings.naming)), record.key, record.value);
    }
  }

  #noRecords(): BatchRecords {
    return new BatchRecords(this.#buffers, this.#clock.now());
  }

  /** The checkpoint, and in the same transaction what is in `records`. */
  async #write(next: TopicCheckpoint, records: BatchRecords, signal: AbortSignal): Promise<void> {
    const { topics, writer, checkpoint } = this.#opened!;
    const place = topics.get(this.#checkpointTopic);
    for (const { key, value } of checkpoint.records(next, place.batchBytesMax)) records.own(place, key, value);
    failpoint("kafka.before-transaction");
    const { batches, release } = records.part();
    await writer.send(batches, release, signal);
    await writer.commit(signal);
    failpoint("kafka.after-transaction");
    this.#last = next;
  }

  /** After a failure nobody knows how far the transaction came: the sink is opened again before anything else. */
  async #failed(error: unknown, signal: AbortSignal): Promise<unknown> {
    await this.#release();
    const known = classify(error, signal);
    this.#failure = known;
    if (known.kind === "aborted" || !isFenced(error)) return known;
    try {
      await using cluster = await this.#settings.cluster.connect(signal);
      this.#expectOurs(await readCheckpoint(cluster, this.#checkpointTopic, signal));
    } catch (other) {
      const refusal = classify(other, signal);
      if (refusal.kind === "fatal") this.#refusal = refusal;
      return refusal;
    }
    return kafkaError("MR3504", "retryable", ABORTED, error);
  }

  #expectOurs({ lease }: TopicCheckpoint): void {
    if (lease <= this.#lease) return;
    const message = `another process holds the checkpoint under lease ${lease}, ours is ${this.#lease}`;
    throw kafkaError("MR3505", "fatal", message);
  }

  get #written(): BatchChanges | LogChanges {
    if (this.#changes === null) throw new Error("a sink that writes has a format");
    return this.#changes;
  }

  #ours(signal: AbortSignal): Opened {
    this.#expectUsable(signal);
    if (this.#refusal !== null) throw this.#refusal;
    if (this.#opened === null) throw kafkaError("MR3501", "retryable", "the sink is not open");
    return this.#opened;
  }

  #expectUsable(signal: AbortSignal): void {
    signal.throwIfAborted();
    if (this.#isClosed) throw kafkaError("MR3501", "aborted", "the sink is closed");
  }

  async #release(): Promise<void> {
    const opened = this.#opened;
    this.#opened = null;
    await opened?.cluster[Symbol.asyncDispose]();
  }
}
