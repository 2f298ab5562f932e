import { ByteWriter } from "../../../src/core/bytes.ts";
import type { LogEntry, Batch } from "../../../src/core/model/batch.ts";
import { FrameWriter } from "../../../src/core/model/frame.ts";
import { logTopic, type TopicNaming } from "../names.ts";
import type { BatchTarget } from "../batch-changes.ts";
import { partsOf } from "../parts.ts";
import { relayedShape } from "./shapes.ts";

/** A buffer that a large batch made larger than this is not kept. */
const KEPT_BYTES_MAX = 16 * 1024 * 1024;

/** Writes each batch as one frame of the log. A batch that only moves the checkpoint writes nothing. */
export class LogChanges {
  readonly #naming: TopicNaming;
  #out = new ByteWriter();

  constructor(naming: TopicNaming) {
    this.#naming = naming;
  }

  add(batch: Batch, { records, topics }: BatchTarget): void {
    if (batch.kind !== "checkpoint" || batch.log === undefined) return;
    if (this.#out.bytes.length > KEPT_BYTES_MAX) this.#out = new ByteWriter();
    this.#out.reset();
    const places = { from: batch.log.from, until: batch.checkpoint.position };
    const frame = new FrameWriter(this.#out, places, relayedShape);
    for (const entry of batch.log.entries) write(frame, entry);
    const usable = topics.get(logTopic(this.#naming));
    for (const part of partsOf(this.#out.view(), usable.batchBytesMax)) records.own(usable, null, part);
  }

  /** Transactions end where the frames say so. */
  end(): void {}
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
