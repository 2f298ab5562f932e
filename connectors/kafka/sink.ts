import { checkpointTexts, parseCheckpoint } from "../../src/core/checkpoint/checkpoint-text.ts";
import { type Clock, systemClock } from "../../src/core/clock.ts";
import type { Outcome, Sink, TargetPresence } from "../../src/core/contracts/sink.ts";
import type { MillraceError } from "../../src/core/errors.ts";
import { failpoint } from "../../src/core/failpoint.ts";
import type { SinkProgress, Step } from "../../src/core/model/batch.ts";
import { parsePosition, serializePosition } from "../../src/core/model/position.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import { isWhole } from "../kit/ordered-changes.ts";
import { type Checkpoint, CHECKPOINT_SETTINGS, CheckpointWriter, NO_CHECKPOINT, readCheckpoint } from "./checkpoint.ts";
import { Cluster, type ClusterSettings } from "./client/cluster.ts";
import { extentOf } from "./client/reading.ts";
import type { Compression } from "./client/record-batch.ts";
import { TransactionalWriter } from "./client/transactions.ts";
import { classify, isFenced, isUnknownTopic, kafkaError, tableError, topicsLost } from "./errors.ts";
import type { Format } from "./formats/format.ts";
import { ownTopic, topicOf, transactionTopic } from "./names.ts";
import { OpenTransaction } from "./open-transaction.ts";
import { type ChangeSettings, StepChanges, type StepTarget } from "./step-changes.ts";
import { RecordBuffers, StepRecords } from "./step-records.ts";
import { type TopicRules, Topics, type UsableTopic } from "./topics.ts";

export interface KafkaSinkSettings extends ChangeSettings {
  readonly name: string;
  /** Made when the sink connects: a file for TLS may have changed. */
  readonly cluster: () => ClusterSettings;
  readonly rules: TopicRules;
  readonly compression: Compression;
  /** Null: nothing is going to be written. */
  readonly format: Format | null;
}

/** One for the cluster, while it is open. */
interface Opened {
  readonly cluster: Cluster;
  readonly topics: Topics;
  readonly writer: TransactionalWriter;
  readonly checkpoint: CheckpointWriter;
}

const BATCH = { rowCountMax: 10_000, byteCountMax: 4 * 1024 * 1024 };
/** Control topics are read in order, by all. */
const ONE_PARTITION = { partitions: 1, settings: { "cleanup.policy": "compact" } } as const;

/**
 * Every change as a record, in commit order within each partition; a step and its checkpoint are one Kafka transaction. A
 * reader of committed records therefore sees each change once.
 */
export class KafkaSink implements Sink, TargetPresence {
  readonly kind = "kafka";
  readonly form = "stream";
  readonly delivery = "transactional";
  readonly onLost = "resync";
  readonly batch = BATCH;
  readonly presence = this;
  readonly name: string;
  readonly #settings: KafkaSinkSettings;
  readonly #clock: Clock;
  readonly #buffers = new RecordBuffers();
  readonly #changes: StepChanges | null;
  /** Versions whose schema goes out with the next step. */
  readonly #newSchemas = new Set<TableVersion>();
  /** Topics with changes of tables. */
  readonly #dataTopics = new Set<string>();
  #opened: Opened | null = null;
  /** Another process holds the sink; until it is opened again. */
  #refusal: MillraceError | null = null;
  #lease = 0;
  #last: Checkpoint = NO_CHECKPOINT;
  #transaction = new OpenTransaction("");
  #isClosed = false;

  constructor(settings: KafkaSinkSettings, clock: Clock = systemClock) {
    this.#settings = settings;
    this.#clock = clock;
    this.#changes = settings.format === null ? null : new StepChanges(settings, settings.format);
    this.name = settings.name;
  }

  target(table: Pick<TableVersion, "schema" | "table">): string {
    const { naming } = this.#settings;
    // All tables may share one topic: their keys name the table there.
    return naming.single === undefined ? topicOf(table, naming) : JSON.stringify([table.schema, table.table]);
  }

  async open(lease: number, signal: AbortSignal): Promise<SinkProgress | null> {
    this.#expectUsable(signal);
    await this.#release();
    this.#refusal = null;
    this.#lease = lease;
    const { rules, compression, naming } = this.#settings;
    const cluster = this.#connect();
    try {
      const topics = new Topics(cluster, rules, (ms, until) => this.#clock.sleep(ms, until));
      const place = this.#checkpointTopic;
      await topics.prepare([place], signal, { ...ONE_PARTITION, settings: CHECKPOINT_SETTINGS });
      this.#expectOurs(await readCheckpoint(cluster, place, signal));
      const id = `millrace-${naming.prefix}${naming.daemon}-${this.name}`;
      const writer = await TransactionalWriter.open(cluster, { clock: this.#clock, id, compression }, signal);
      failpoint("kafka.fenced");
      const { stable, end } = await extentOf(cluster, { ...topics.get(place), partition: 0 }, signal);
      if (stable < end) throw kafkaError("MR3504", "retryable", `a transaction of another program is open in ${place}`);
      const found = await readCheckpoint(cluster, place, signal);
      this.#expectOurs(found);
      this.#opened = { cluster, topics, writer, checkpoint: new CheckpointWriter() };
      this.#last = found;
      this.#transaction = new OpenTransaction(found.open);
      this.#newSchemas.clear();
      this.#dataTopics.clear();
      await this.#write({ ...found, lease }, [], signal);
      return progressOf(found);
    } catch (error) {
      this.#opened = null;
      await cluster[Symbol.asyncDispose]();
      throw classify(error, signal);
    }
  }

  async look(signal: AbortSignal): Promise<SinkProgress | null> {
    this.#expectUsable(signal);
    try {
      await using cluster = this.#connect();
      return progressOf(await readCheckpoint(cluster, this.#checkpointTopic, signal));
    } catch (error) {
      throw classify(error, signal);
    }
  }

  async prepare(tables: readonly TableVersion[], signal: AbortSignal): Promise<void> {
    const { topics } = this.#ours(signal);
    const { naming, format } = this.#settings;
    try {
      await topics.prepare([...new Set(tables.map((table) => topicOf(table, naming)))], signal);
      if (format?.schema !== undefined) {
        await topics.prepare([ownTopic("schemas", naming)], signal, ONE_PARTITION);
      }
      if (this.#settings.transactions && format?.end !== undefined) {
        await topics.prepare([transactionTopic(naming)], signal, { ...ONE_PARTITION, settings: {} });
      }
    } catch (error) {
      throw await this.#failed(error, signal);
    }
    for (const table of tables) this.#expectPartitions(table, topics.get(topicOf(table, naming)));
    for (const table of tables) {
      if (format?.schema !== undefined) this.#newSchemas.add(table);
      this.#dataTopics.add(topicOf(table, naming));
    }
  }

  async apply(step: Step, outcome: Outcome, signal: AbortSignal): Promise<void> {
    const { topics } = this.#ours(signal);
    const changes = this.#written;
    const nowMs = this.#clock.now();
    const records = new StepRecords(this.#buffers, nowMs);
    const transaction = this.#transaction.copy();
    const to: StepTarget = { records, topics, transaction, nowMs };
    try {
      this.#addSchemas(records, topics);
      await changes.add(step, to, outcome);
      if (transaction.isOpen && isWhole(transaction.version, step.progress.position)) changes.end(to);
      const { tables, bond } = checkpointTexts(step.progress);
      const position = serializePosition(step.progress.position);
      const ids = Object.fromEntries([...this.#dataTopics].map((name) => [name, placeText(topics.get(name))]));
      outcome.waiting?.();
      await this.#write(
        {
          lease: this.#lease,
          position,
          tables,
          bond,
          open: transaction.text,
          topics: { ...this.#last.topics, ...ids },
        },
        [records],
        signal,
      );
      this.#transaction = transaction;
      this.#newSchemas.clear();
    } catch (error) {
      throw await this.#failed(isUnknownTopic(error) ? topicsLost() : error, signal);
    } finally {
      this.#buffers.release();
    }
  }

  async missing(tables: readonly TableVersion[], signal: AbortSignal): Promise<readonly TableVersion[]> {
    const { topics } = this.#ours(signal);
    const { naming } = this.#settings;
    const known = new Map(Object.entries(this.#last.topics).map(([name, text]) => [name, idIn(text)]));
    try {
      const lost = new Set(await topics.lost(known, signal));
      return tables.filter((table) => {
        const name = topicOf(table, naming);
        return lost.has(name) || !known.has(name);
      });
    } catch (error) {
      throw await this.#failed(error, signal);
    }
  }

  async verify(signal: AbortSignal): Promise<void> {
    const { topics } = this.#ours(signal);
    let lost: readonly string[];
    try {
      const known = new Map([...topics.known].map(({ name, topic }) => [name, topic.id]));
      lost = await topics.lost(known, signal);
    } catch (error) {
      throw await this.#failed(error, signal);
    }
    if (lost.length === 0) return;
    await this.#release();
    throw topicsLost();
  }

  async forget(signal: AbortSignal): Promise<void> {
    this.#ours(signal);
    try {
      await this.#write({ ...NO_CHECKPOINT, lease: this.#lease }, [], signal);
    } catch (error) {
      throw await this.#failed(error, signal);
    }
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#release();
  }

  get #checkpointTopic(): string {
    return ownTopic(`checkpoint.${this.name}`, this.#settings.naming);
  }

  #connect(): Cluster {
    return new Cluster(this.#settings.cluster());
  }

  #addSchemas(records: StepRecords, topics: Topics): void {
    for (const table of this.#newSchemas) {
      const record = this.#settings.format?.schema?.(table) ?? null;
      if (record === null) continue;
      records.own(topics.get(ownTopic("schemas", this.#settings.naming)), record.key, record.value);
    }
  }

  async #write(next: Checkpoint, steps: readonly StepRecords[], signal: AbortSignal): Promise<void> {
    const { topics, writer, checkpoint } = this.#opened!;
    const records = steps[0] ?? new StepRecords(this.#buffers, this.#clock.now());
    const place = topics.get(this.#checkpointTopic);
    for (const { key, value } of checkpoint.records(next)) records.own(place, key, value);
    failpoint("kafka.before-transaction");
    await writer.write(records.batches, signal);
    failpoint("kafka.after-transaction");
    this.#last = next;
  }

  /** After a failure nobody knows how far the transaction came: the sink is opened again before anything else. */
  async #failed(error: unknown, signal: AbortSignal): Promise<unknown> {
    await this.#release();
    const known = classify(error, signal);
    if (known.kind === "aborted" || !isFenced(error)) return known;
    try {
      await using cluster = this.#connect();
      this.#expectOurs(await readCheckpoint(cluster, this.#checkpointTopic, signal));
    } catch (other) {
      const refusal = classify(other, signal);
      if (refusal.kind === "fatal") this.#refusal = refusal;
      return refusal;
    }
    return kafkaError("MR3504", "retryable", "Kafka has aborted the transaction, which took too long", error);
  }

  #expectOurs({ lease }: Checkpoint): void {
    if (lease <= this.#lease) return;
    const message = `another process holds the checkpoint under lease ${lease}, ours is ${this.#lease}`;
    throw kafkaError("MR3505", "fatal", message);
  }

  #expectPartitions(table: TableVersion, usable: UsableTopic): void {
    const before = this.#last.topics[usable.name];
    const now = placeText(usable);
    if (before === undefined || before === now || idIn(before) !== idIn(now)) return;
    const message = `topic ${usable.name} has ${usable.topic.leaders.length} partitions, and had ${before.split(" ")[1]}`;
    throw tableError("MR3514", table.id, message);
  }

  get #written(): StepChanges {
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

/** A topic's id, and its number of partitions. */
function placeText({ topic }: UsableTopic): string {
  return `${topic.id} ${topic.leaders.length}`;
}

function idIn(place: string): string {
  return place.split(" ")[0]!;
}

function progressOf({ position, tables, bond }: Checkpoint): SinkProgress | null {
  return position === "" ? null : { position: parsePosition(position), ...parseCheckpoint(tables, bond) };
}
