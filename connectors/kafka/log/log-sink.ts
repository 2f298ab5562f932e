import { ByteWriter } from "../../../src/core/bytes.ts";
import { type Clock, systemClock } from "../../../src/core/clock.ts";
import type { Outcome, Sink, TargetHint, TargetRows } from "../../../src/core/contracts/sink.ts";
import type { SourceRelay } from "../../../src/core/contracts/source.ts";
import type { Batch, LogEntry } from "../../../src/core/model/batch.ts";
import type { Checkpoint } from "../../../src/core/checkpoint.ts";
import { FrameWriter } from "../../../src/core/model/frame.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import { callTopics, logTopic, topicOf } from "../names.ts";
import { checkpointOf } from "../writer/checkpoint.ts";
import { CheckpointedWriter } from "../writer/checkpointed-writer.ts";
import type { BatchRecords } from "../writer/records.ts";
import type { Topics } from "../writer/topics.ts";
import { type LogSinkSettings, serve } from "./answering.ts";
import { relayedShape } from "./calls.ts";

/** A buffer that a large batch made larger than this is not kept. */
const KEPT_BYTES_MAX = 16 * 1024 * 1024;

/** `format: log`: each batch is one frame of the log, and with its checkpoint one Kafka transaction. */
export class LogSink implements Sink {
  readonly kind = "kafka";
  readonly form = "log";
  readonly delivery = "transactional";
  readonly onLost = "resync";
  readonly batchLimits = { rowCountMax: 10_000, byteCountMax: 4 * 1024 * 1024 };
  readonly name: string;
  /** The log remains. */
  readonly rows: TargetRows;
  readonly relay: SourceRelay;
  readonly #settings: LogSinkSettings;
  readonly #writer: CheckpointedWriter;
  #out = new ByteWriter();

  readonly look: Sink["look"] = (signal) => this.#writer.look(signal);
  readonly verify: Sink["verify"] = (signal) => this.#writer.verify(signal);
  readonly rooms: Sink["rooms"] & {} = (signal) => this.#writer.rooms(signal);
  readonly forget: Sink["forget"] = (signal) => this.#writer.forget(signal);
  readonly close: Sink["close"] = () => this.#writer.close();

  constructor(settings: LogSinkSettings, clock: Clock = systemClock) {
    this.name = settings.name;
    this.#settings = settings;
    const { naming } = settings;
    const own = { logs: [logTopic(naming)], others: [], calls: Object.values(callTopics(naming)) };
    this.#writer = new CheckpointedWriter(settings, clock, own);
    this.rows = this.#writer;
    this.relay = { serve: (relayed, signal) => serve(settings, clock, relayed, signal) };
  }

  get hints(): readonly TargetHint[] {
    return this.#writer.hints;
  }

  target(table: Pick<TableVersion, "schema" | "table">): string {
    return topicOf(table, this.#settings.naming);
  }

  async open(lease: number, signal: AbortSignal): Promise<Checkpoint | null> {
    return checkpointOf(await this.#writer.open(lease, signal));
  }

  /** `open` has made the one topic of all tables. */
  async prepare(_tables: readonly TableVersion[], signal: AbortSignal): Promise<void> {
    this.#writer.ours(signal);
  }

  async apply(batch: Batch, outcome: Outcome, signal: AbortSignal): Promise<void> {
    await this.#writer.attempt(signal, async ({ topics, writer, leftOpen }) => {
      const records = this.#writer.records();
      await leftOpen.tell(await writer.untold(signal), signal);
      this.#add(batch, records, topics);
      outcome.waiting?.();
      await this.#writer.commit(batch.checkpoint, { open: "", topics: this.#writer.last.topics }, records, signal);
    });
  }

  /** A batch that only moves the checkpoint writes nothing. */
  #add(batch: Batch, records: BatchRecords, topics: Topics): void {
    if (batch.kind !== "checkpoint" || batch.log === undefined) return;
    if (this.#out.bytes.length > KEPT_BYTES_MAX) this.#out = new ByteWriter();
    this.#out.reset();
    const range = { from: batch.log.from, until: batch.checkpoint.position };
    const frame = new FrameWriter(this.#out, range, relayedShape);
    for (const entry of batch.log.entries) write(frame, entry);
    records.message(topics.get(logTopic(this.#settings.naming)), null, this.#out.view());
  }
}

function write(frame: FrameWriter, entry: LogEntry): void {
  switch (entry.kind) {
    case "rows":
      frame.rows(entry.block, entry.from, entry.to);
      break;
    case "truncate":
      frame.truncate(entry.table, entry.version, entry.record);
      break;
    case "mark":
      frame.mark(entry.message);
      break;
    case "shape":
      frame.shape(entry.table);
      break;
    case "lost":
      frame.lost(entry.tableId);
      break;
    case "renamed":
      frame.renamed(entry.renames, entry.commit);
      break;
    default:
      entry satisfies never;
  }
}
