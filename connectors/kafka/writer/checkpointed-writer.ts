/**
 * What the two sinks share, the one of topics and the one of the log: the sink's transactions, each of which ends with its
 * checkpoint, and the fence between two processes that write under one name.
 *
 *   open    checkpoint's topic: is it ours, of a lower lease? → made if missing, never one that deletes records
 *           transactional id: from here on no earlier process can write; its open transaction is aborted, or committed if it was so far
 *           left open: what a killed broker has not ended ends as it ended elsewhere (left-open.ts)
 *           checkpoint again: what the last process has committed meanwhile; with our lease it is written back
 *   write   records … records, checkpoint | commit      readers of committed records see all of it or nothing
 *   fails   nobody knows how far the transaction came: the connection is given up, and only `open` goes on. Fenced: the
 *           checkpoint tells whether another process has taken the sink, or the broker has aborted a slow transaction
 *
 * The lease is compared before and behind the fence: before, so that a process that is behind does not fence the one that is
 * ahead; behind, since the one before may have committed until then.
 */
import type { AllTargets, TargetHint, TargetRows } from "../../../src/core/contracts/sink.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import type { Clock } from "../../../src/core/clock.ts";
import type { MillraceError } from "../../../src/core/errors.ts";
import { type Room, roomText } from "../../../src/core/disk-room.ts";
import { failpoint } from "../../../src/core/failpoint.ts";
import { invariant } from "../../../src/core/invariant.ts";
import { type Checkpoint, checkpointTexts } from "../../../src/core/checkpoint.ts";
import { baseVersion, serializePosition } from "../../../src/core/model/position.ts";
import { type Cluster, type ClusterAccess, deniedTopic } from "../client/cluster.ts";
import { Ledger } from "../client/ledger.ts";
import { logDirRooms } from "../client/log-dirs.ts";
import type { Compression } from "../client/record-batch.ts";
import { TransactionalWriter } from "../client/transactions.ts";
import {
  classify,
  type FailedBatch,
  failedBatch,
  isDenied,
  isFenced,
  isOfStorage,
  isUnanswered,
  isUnknownTopic,
  kafkaError,
  stuckAfter,
  topicsLost,
} from "../errors.ts";
import { checkpointTopic, sinkId, type TopicNaming } from "../names.ts";
import {
  CHECKPOINT_SETTINGS,
  checkpointOf,
  CheckpointWriter,
  epochIn,
  forgotten,
  NO_CHECKPOINT,
  readCheckpoint,
  type TopicCheckpoint,
} from "./checkpoint.ts";
import { Claims, expectForm, expectOwner } from "./claims.ts";
import { endingOf, LeftOpen } from "./left-open.ts";
import { BatchRecords, RecordBuffers } from "./records.ts";
import { type NamedTopic, stateOf, type TopicRules, Topics, withLeft, withoutLeft } from "./topics.ts";

/** What every sink is told of its cluster, its topics and its records. */
export interface WriterSettings {
  readonly name: string;
  readonly cluster: ClusterAccess;
  readonly naming: TopicNaming;
  readonly rules: TopicRules;
  readonly compression: Compression;
  /** How records look, in the words of the configuration. Records of two forms do not go into one topic. */
  readonly form: string;
}

/** The sink's own topics beside its checkpoint's. */
interface OwnTopics {
  /** Made before anybody follows them: a topic that is made later would be another one. Nobody else writes there. */
  readonly logs: readonly string[];
  /** Those that may not be there yet. */
  readonly others: readonly string[];
  /** Of the calls about a log. Whoever follows the log writes there too. */
  readonly calls: readonly string[];
}

/** One for the cluster, while it is open. */
export interface Opened {
  readonly cluster: Cluster;
  readonly topics: Topics;
  readonly writer: TransactionalWriter;
  readonly leftOpen: LeftOpen;
  readonly checkpoint: CheckpointWriter;
}

/** How often a sink tries to have a topic that others want at the same moment. */
const CLAIMS_MAX = 5;
const CLAIM_WAIT_MS_MAX = 500;

/** What a batch writes of the checkpoint beside the position. */
type Standing = Pick<TopicCheckpoint, "open" | "topics">;

const ABORTED =
  "Kafka has aborted the transaction: it took too long, a request of an earlier process arrived late, or another program takes the sink's transactional id";
/** Control topics are read in order, by all. */
export const ONE_PARTITION = { partitions: 1, settings: { "cleanup.policy": "compact" } } as const;

export class CheckpointedWriter implements TargetRows {
  readonly #settings: WriterSettings;
  readonly #clock: Clock;
  readonly #own: OwnTopics;
  readonly #buffers = new RecordBuffers();
  #opened: Opened | null = null;
  /** Why the last batch failed. */
  #failure: FailedBatch | null = null;
  /** As the brokers told last: one whose disk is full tells nothing any more. */
  #rooms: readonly Room[] = [];
  /** A writer that was opened in vain leaves nobody else who knows. */
  readonly #ledger = new Ledger();
  /** Another process holds the sink; until it is opened again. */
  #refusal: MillraceError | null = null;
  /** Of other sinks, when this one was opened first: one that comes later meets ours. See `claimsOn`. */
  #claims: Claims | null = null;
  #lease = 0;
  #last: TopicCheckpoint = NO_CHECKPOINT;
  #isClosed = false;

  constructor(settings: WriterSettings, clock: Clock, own: OwnTopics) {
    this.#settings = settings;
    this.#clock = clock;
    this.#own = own;
  }

  /** While it is open. */
  get hints(): readonly TargetHint[] {
    return this.#opened?.cluster.heldBack.hints ?? [];
  }

  /** What was written last. */
  get last(): TopicCheckpoint {
    return this.#last;
  }

  /** Those on topics that this sink has not written to: one that others have made may have been claimed since. */
  async claimsOn(names: readonly string[], signal: AbortSignal): Promise<Claims> {
    const { cluster, topics } = this.ours(signal);
    const mayBeTaken = names.some((name) => !topics.isMade(name));
    if (mayBeTaken) this.#claims = await Claims.of(cluster, this.#settings, signal);
    invariant(this.#claims !== null, "an open sink has looked at the others");
    return this.#claims;
  }

  /**
   * Writes down which topics are this sink's from now on. Where another sink has done so for one of them at the same moment, both
   * take theirs back, and the first that tries again has it. Returns why it is refused. Within `attempt`.
   */
  async claim(
    topics: TopicCheckpoint["topics"],
    refusalOf: (claims: Claims) => MillraceError | null,
    signal: AbortSignal,
  ): Promise<MillraceError | null> {
    const before = this.#last;
    const written = { lease: this.#lease, form: this.#settings.form, owner: sinkId(this.#settings) };
    for (let tries = 1; ; tries++) {
      const { cluster } = this.ours(signal);
      await this.#write({ ...before, ...written, topics }, this.records(), signal);
      this.#claims = await Claims.of(cluster, this.#settings, signal);
      if (refusalOf(this.#claims) === null) return null;
      await this.#write({ ...before, ...written }, this.records(), signal);
      await this.#clock.sleep(this.#clock.random() * CLAIM_WAIT_MS_MAX, signal);
      const refusal = refusalOf(await Claims.of(cluster, this.#settings, signal));
      if (refusal !== null || tries === CLAIMS_MAX) return refusal;
    }
  }

  /** Null: the sink is not open. */
  get topics(): Topics | null {
    return this.#opened?.topics ?? null;
  }

  async open(lease: number, signal: AbortSignal): Promise<TopicCheckpoint> {
    this.#expectUsable(signal);
    await this.#release();
    this.#refusal = null;
    this.#lease = lease;
    const { rules, compression, naming, form } = this.#settings;
    const cluster = await this.#settings.cluster.connect(signal).catch((error: unknown) => {
      throw stuckAfter(this.#failure, classify(error, signal));
    });
    try {
      const clock = this.#clock;
      const topics = new Topics(cluster, rules, clock);
      const name = this.#checkpointTopic;
      // Before anything is made or written.
      expectOwner(await readCheckpoint(cluster, name, signal), this.#settings);
      this.#claims ??= await Claims.of(cluster, this.#settings, signal);
      this.#claims.expectOwn(naming);
      await topics.prepare([name], signal, { ...ONE_PARTITION, settings: CHECKPOINT_SETTINGS });
      topics.expectKept([name]);
      const { calls, logs, others } = this.#own;
      // Their records have no keys, so a broker whose topics are compacted by default must not compact them.
      const settings = { "cleanup.policy": "delete", ...rules.settings };
      await topics.prepare(logs, signal, { partitions: 1, settings });
      topics.expectUncompacted(logs);
      const ofCalls = await topics.existing(calls, signal);
      expectNone(ofCalls.denied);
      for (const { name: own, topic } of [...logs.map((log) => topics.get(log)), ...ofCalls.there])
        this.#claims.expectFree(null, own, topic);
      this.#expectOurs(await readCheckpoint(cluster, name, signal));
      const id = sinkId(this.#settings);
      const checkpoint = topics.get(name);
      const always = { ...checkpoint, partition: 0 };
      const ledger = this.#ledger;
      const scene = { cluster, checkpoint, ledger };
      const writer = await TransactionalWriter.open(
        cluster,
        {
          clock,
          id,
          compression,
          always,
          requestBytesMax: topics.requestBytesMax,
          ledger,
          unfinished: (open) => endingOf(scene, open, signal),
        },
        signal,
      );
      failpoint("kafka.fenced");
      const address = this.#settings.cluster.settings().brokers[0]!;
      const leftOpen = new LeftOpen({ ...scene, writer, clock, address });
      await leftOpen.expectEnded(
        [name, ...logs].map((one) => topics.get(one)),
        signal,
      );
      const stored = await readCheckpoint(cluster, name, signal);
      this.#expectOurs(stored);
      expectForm(stored, this.#settings);
      // Before anything is written, which would end it in its own way.
      const { there, denied } = await topics.existing([...Object.keys(stored.topics), ...others], signal);
      expectNone(denied.filter((one) => others.includes(one)));
      const left = [...denied, ...(await notEnded(leftOpen, there, stored.topics, signal))];
      const found = { ...stored, topics: await statesNow(leftOpen, stored.topics, left, signal) };
      this.#opened = { cluster, topics, writer, leftOpen, checkpoint: new CheckpointWriter() };
      this.#last = found;
      const ofLogs = Object.fromEntries(logs.map((log) => [log, stateOf(topics.get(log))]));
      const written = { ...found.topics, ...ofLogs };
      ledger.settle();
      await this.#write({ ...found, lease, form, owner: id, topics: written }, this.records(), signal);
      this.#failure = null;
      return found;
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

  ours(signal: AbortSignal): Opened {
    this.#expectUsable(signal);
    if (this.#refusal !== null) throw this.#refusal;
    if (this.#opened === null) throw kafkaError("MR2001", "retryable", "the sink is not open");
    return this.#opened;
  }

  /** Work after whose failure the sink is opened again before anything else. */
  async attempt<T>(signal: AbortSignal, work: (opened: Opened) => Promise<T>): Promise<T> {
    const opened = this.ours(signal);
    try {
      return await work(opened);
    } catch (error) {
      throw await this.#failed(error, signal);
    }
  }

  /** None yet, for one batch. */
  records(nowMs = this.#clock.now()): BatchRecords {
    return new BatchRecords(this.#buffers, nowMs);
  }

  /** Sends what `records` has, as a part of the transaction that `commit` ends. */
  async send(records: BatchRecords, signal: AbortSignal): Promise<void> {
    const { batches, release } = records.part();
    await this.#opened!.writer.send(batches, release, signal);
  }

  /** Ends the transaction with this checkpoint, and with what is in `records`. Within `attempt`. */
  async commit(checkpoint: Checkpoint, standing: Standing, records: BatchRecords, signal: AbortSignal): Promise<void> {
    const { tables, bond } = checkpointTexts(checkpoint);
    const position = serializePosition(checkpoint.position);
    const { form } = this.#settings;
    const owner = sinkId(this.#settings);
    const next = { lease: this.#lease, position, epoch: 0, tables, bond, form, owner, ...standing };
    await this.#write(next, records, signal);
  }

  async rooms(signal: AbortSignal): Promise<readonly Room[]> {
    if (this.#opened === null) return [];
    this.#rooms = await logDirRooms(this.#opened.cluster, signal);
    return this.#rooms;
  }

  async verify(signal: AbortSignal): Promise<void> {
    await this.attempt(signal, ({ topics }) => topics.verify(signal));
  }

  /** No record is taken back. */
  async expel(_tables: readonly TableVersion[], _version: bigint, signal: AbortSignal): Promise<void> {
    this.ours(signal);
  }

  /**
   * The versions of all records are of this epoch or below. Of certain tables there is none that has an effect on later ones: see
   * `expel`.
   */
  async highestVersion(tables: readonly TableVersion[] | AllTargets, signal: AbortSignal): Promise<bigint> {
    this.ours(signal);
    const epoch = epochIn(this.#last);
    return typeof tables === "string" && epoch > 0 ? baseVersion(epoch) : 0n;
  }

  async forget(signal: AbortSignal): Promise<void> {
    const next = forgotten({ ...this.#last, lease: this.#lease });
    await this.attempt(signal, () => this.#write(next, this.records(), signal));
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#release();
  }

  get #checkpointTopic(): string {
    return checkpointTopic(this.#settings);
  }

  async #write(next: TopicCheckpoint, records: BatchRecords, signal: AbortSignal): Promise<void> {
    const { topics, writer, checkpoint } = this.#opened!;
    const own = topics.get(this.#checkpointTopic);
    for (const { key, value } of checkpoint.records(next, own.batchBytesMax)) records.own(own, key, value);
    failpoint("kafka.before-transaction");
    await this.send(records, signal);
    await writer.commit(signal);
    failpoint("kafka.after-transaction");
    this.#last = next;
  }

  async #failed(error: unknown, signal: AbortSignal): Promise<unknown> {
    const [heldBack] = this.hints;
    await this.#release();
    const known = this.#withRoom(classify(isUnknownTopic(error) ? topicsLost() : error, signal), error);
    this.#failure = failedBatch(known, error);
    if (known.kind === "aborted") return known;
    if (!isFenced(error)) return heldBack !== undefined && isUnanswered(error) ? tooMuchFor(heldBack, error) : known;
    try {
      await using cluster = await this.#settings.cluster.connect(signal);
      this.#expectOurs(await readCheckpoint(cluster, this.#checkpointTopic, signal));
    } catch (other) {
      const refusal = classify(other, signal);
      if (refusal.kind === "fatal") this.#refusal = refusal;
      return refusal;
    }
    return heldBack === undefined
      ? kafkaError("MR2006", "retryable", ABORTED, { cause: error })
      : tooMuchFor(heldBack, error);
  }

  #withRoom(known: MillraceError, error: unknown): MillraceError {
    if (!isOfStorage(error) || this.#rooms.length === 0) return known;
    return known.with({ message: `${known.message}; when they were last asked: ${roomText(this.#rooms)}` });
  }

  #expectOurs({ lease }: TopicCheckpoint): void {
    if (lease <= this.#lease) return;
    const message = `another process holds the checkpoint under lease ${lease}, ours is ${this.#lease}`;
    throw kafkaError("MR3109", "fatal", message);
  }

  #expectUsable(signal: AbortSignal): void {
    signal.throwIfAborted();
    if (this.#isClosed) throw kafkaError("MR2029", "aborted", "the sink is closed");
  }

  async #release(): Promise<void> {
    const opened = this.#opened;
    this.#opened = null;
    await opened?.cluster[Symbol.asyncDispose]();
  }
}

/** The brokers answer nothing meanwhile, and a transaction has its time. */
function tooMuchFor({ what, fix }: TargetHint, cause: unknown): MillraceError {
  const message = `${what}: longer than a batch may take`;
  return kafkaError("MR2006", "retryable", message, {
    hint: `${fix}. Millrace goes on with smaller batches.`,
    cause,
    reason: "size",
  });
}

/** Of Millrace's own topics. */
function expectNone([denied]: readonly string[]): void {
  if (denied !== undefined) throw deniedTopic(denied);
}

/** Ends what is open in these topics. Returns those in which this user may not: of a table, whose next rows meet it. */
async function notEnded(
  leftOpen: LeftOpen,
  topics: readonly NamedTopic[],
  before: TopicCheckpoint["topics"],
  signal: AbortSignal,
): Promise<readonly string[]> {
  try {
    await leftOpen.end(topics, before, signal);
    return [];
  } catch (error) {
    if (!isDenied(error)) throw error;
    if (topics.length === 1) return topics.map(({ name }) => name);
  }
  const denied: string[] = [];
  for (const topic of topics) denied.push(...(await notEnded(leftOpen, [topic], before, signal)));
  return denied;
}

/** `left`: those in which something may be open still. */
async function statesNow(
  leftOpen: LeftOpen,
  topics: TopicCheckpoint["topics"],
  left: readonly string[],
  signal: AbortSignal,
): Promise<TopicCheckpoint["topics"]> {
  const ending = left.length === 0 ? null : await leftOpen.last(signal);
  const states = Object.entries(topics).map(([name, state]): [string, string] => {
    return [name, ending !== null && left.includes(name) ? withLeft(state, ending) : withoutLeft(state)];
  });
  return Object.fromEntries(states);
}
