import type { LogEntry } from "../../core/model/batch.ts";
import { comparePositions, type Position } from "../../core/model/position.ts";
import type { Slice } from "../compaction/compaction.ts";
import { queuedRowsOf } from "./queued-rows.ts";
import type { QueuedWork, QueuedRowWorks } from "../stream/sink-queue.ts";
import type { BatchWriter } from "./batch-writer.ts";
import type { SinkTableAnswers } from "./tables-of-sink.ts";
import type { NoticeWork, TruncateWork } from "../stream/work.ts";

interface LogPassingParts {
  readonly writer: BatchWriter;
  readonly tables: SinkTableAnswers;
}

/**
 * Gives a sink of form `log` the log as it is. Changes of a table that is suspended are left out, and the sink is told that
 * they are lost: a reader then reads the table again.
 */
export class LogPassing {
  readonly #parts: LogPassingParts;
  /**
   * The configuration changes between two processes: the first batch of each says which rules are in force, and which tables
   * are left out. The source may show nothing of these.
   */
  #hasTold = false;

  constructor(parts: LogPassingParts) {
    this.#parts = parts;
  }

  async perform(taken: QueuedWork, signal: AbortSignal): Promise<"durable" | "dropped"> {
    switch (taken.kind) {
      case "rows":
        await this.#rows(taken, signal);
        return "durable";
      case "truncate":
        await this.#truncate(taken, signal);
        return "durable";
      case "notice":
        await this.#notice(taken, signal);
        return "durable";
      case "heartbeat":
        await this.#heartbeat(signal);
        return "durable";
      case "chunks":
      case "ends":
      case "carry":
      case "compare":
      case "copy":
        // What does not come from the log.
        return "dropped";
      default:
        return taken satisfies never;
    }
  }

  async #rows({ works }: QueuedRowWorks, signal: AbortSignal): Promise<void> {
    const batch = queuedRowsOf(works, this.#parts.writer.position.reached, "log");
    if (batch?.until == null) return;
    const lost = new Set<string>();
    const entries = batch.slices.flatMap((slice) => this.#wanted(slice, lost));
    await this.#pass([...entries, ...lossesOf(lost)], batch.until, signal);
  }

  /** The runs of rows that are passed on; the tables of the others are added to `lost`. */
  #wanted({ block, from, to }: Slice, lost: Set<string>): readonly LogEntry[] {
    const isWanted = block.tables.map((table) => this.#parts.tables.wants(table));
    if (isWanted.every(Boolean)) return [{ kind: "rows", block, from, to }];
    const runs: LogEntry[] = [];
    let start = from;
    for (let row = from; row <= to; row++) {
      if (row < to && isWanted[block.table[row]!] === true) continue;
      if (start < row) runs.push({ kind: "rows", block, from: start, to: row });
      if (row < to) lost.add(block.tables[block.table[row]!]!.id);
      start = row + 1;
    }
    return runs;
  }

  async #truncate({ table, version, record, until }: TruncateWork, signal: AbortSignal): Promise<void> {
    const { writer, tables } = this.#parts;
    if (comparePositions(until, writer.position.reached) <= 0) return;
    const entry: LogEntry = tables.wants(table)
      ? { kind: "truncate", table, version, record }
      : { kind: "lost", tableId: table.id };
    await this.#pass([entry], until, signal);
  }

  /** A mark at the sink's own position may be there already; twice at one position does no harm. */
  async #notice({ entry, until }: NoticeWork, signal: AbortSignal): Promise<void> {
    const { reached } = this.#parts.writer.position;
    if (until !== null && comparePositions(until, reached) < 0) return;
    await this.#pass([entry], until ?? reached, signal);
  }

  async #heartbeat(signal: AbortSignal): Promise<void> {
    const { writer } = this.#parts;
    await writer.verify(signal);
    const { position } = writer;
    if (position.isBeyondCheckpoint) await this.#pass([], position.reached, signal);
  }

  async #pass(entries: readonly LogEntry[], until: Position, signal: AbortSignal): Promise<void> {
    const { writer } = this.#parts;
    const { checkpoint } = writer.position;
    const log = { from: checkpoint.position, entries: this.#hasTold ? entries : [...this.#configured(), ...entries] };
    await writer.apply({ kind: "checkpoint", log, checkpoint: { ...checkpoint, position: until } }, signal);
    this.#hasTold = true;
  }

  #configured(): readonly LogEntry[] {
    const { tables } = this.#parts;
    const known = [...tables.known];
    const ruled = known.filter((table) => table.ruled !== undefined);
    const leftOut = known.map(({ id }) => id).filter((id) => tables.leavesOut(id));
    return [...ruled.map((table): LogEntry => ({ kind: "shape", table })), ...lossesOf(leftOut)];
  }
}

function lossesOf(tableIds: Iterable<string>): readonly LogEntry[] {
  return Array.from(tableIds, (tableId) => ({ kind: "lost", tableId }));
}
