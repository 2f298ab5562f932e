import { checkpointTexts, checkpointFromTexts, type Checkpoint } from "../../src/core/checkpoint.ts";
import type { Outcome, Sink } from "../../src/core/contracts/sink.ts";
import type { Batch } from "../../src/core/model/batch.ts";
import { parsePosition, serializePosition } from "../../src/core/model/position.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import { inCommitOrder, isWhole, transactionOf } from "../../connectors/kit/ordered-changes.ts";
import { lineOf } from "./changes.ts";
import { streamError } from "./errors.ts";
import { type StoredCheckpoint, LogWriter, NO_CHECKPOINT, readLog } from "./log-file.ts";

export interface StreamFileSettings {
  readonly name: string;
  readonly path: string;
}

/** Every change as a line of one file, in commit order: a sink of the form `stream` to start from. */
export class StreamFileSink implements Sink {
  readonly kind = "streamfile";
  readonly form = "stream";
  readonly delivery = "transactional";
  readonly onLost = "resync";
  readonly name: string;
  readonly #path: string;
  #log: LogWriter | null = null;
  /** The version of a transaction of which lines are written, and not its end; "": there is none. */
  #open = "";
  #isClosed = false;

  constructor({ name, path }: StreamFileSettings) {
    this.name = name;
    this.#path = path;
  }

  target({ schema, table }: Pick<TableVersion, "schema" | "table">): string {
    return JSON.stringify([schema, table]);
  }

  async open(lease: number, signal: AbortSignal): Promise<Checkpoint | null> {
    this.#check(signal);
    await this.#release();
    const found = await readLog(this.#path);
    if (found.lease > lease) {
      throw streamError(
        "MR3109",
        "fatal",
        `another process holds the file under lease ${found.lease}, ours is ${lease}`,
      );
    }
    this.#log = await LogWriter.open(this.#path, found.length);
    await this.#log.add([JSON.stringify({ lease })]);
    this.#open = found.checkpoint.open;
    return checkpointOf(found.checkpoint);
  }

  async look(signal: AbortSignal): Promise<Checkpoint | null> {
    this.#check(signal);
    return checkpointOf((await readLog(this.#path)).checkpoint);
  }

  /** A line has the names of its columns: it needs nothing before. */
  async prepare(_tables: readonly TableVersion[], signal: AbortSignal): Promise<void> {
    await this.#ours(signal);
  }

  async apply(batch: Batch, _outcome: Outcome, signal: AbortSignal): Promise<void> {
    const log = await this.#ours(signal);
    const { position } = batch.checkpoint;
    const { lines, open } = linesOf(batch, this.#open);
    const checkpoint: StoredCheckpoint = {
      position: serializePosition(position),
      ...checkpointTexts(batch.checkpoint),
      open,
    };
    await log.add([...lines, JSON.stringify(checkpoint)]);
    this.#open = open;
  }

  async verify(signal: AbortSignal): Promise<void> {
    await this.#ours(signal);
  }

  async forget(signal: AbortSignal): Promise<void> {
    const log = await this.#ours(signal);
    await log.add([JSON.stringify(NO_CHECKPOINT)]);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#release();
  }

  async #ours(signal: AbortSignal): Promise<LogWriter> {
    this.#check(signal);
    const log = this.#log;
    if (log === null) throw streamError("MR2001", "retryable", "the sink is not open");
    await log.expectOurs();
    return log;
  }

  async #release(): Promise<void> {
    const log = this.#log;
    this.#log = null;
    await log?.[Symbol.asyncDispose]();
  }

  #check(signal: AbortSignal): void {
    signal.throwIfAborted();
    if (this.#isClosed) throw streamError("MR2029", "aborted", "the sink is closed");
  }
}

/** A batch's lines, and the transaction that they leave open. */
function linesOf(batch: Batch, openBefore: string): { readonly lines: readonly string[]; readonly open: string } {
  const lines: string[] = [];
  let open = openBefore;
  const end = (): void => {
    if (open !== "") lines.push(JSON.stringify({ end: open }));
    open = "";
  };
  if (batch.kind === "rows") {
    inCommitOrder(batch, (writes, entry) => {
      const transaction = transactionOf(writes, entry);
      if (open !== "" && open !== String(transaction)) end();
      open = transaction === null ? "" : String(transaction);
      lines.push(lineOf(writes, entry));
    });
  } else if (batch.kind === "truncate") {
    // It is of its transaction, as rows are.
    if (open !== "" && open !== String(batch.version)) end();
    open = batch.record === undefined ? "" : String(batch.version);
    lines.push(JSON.stringify({ truncate: batch.table.id, version: String(batch.version) }));
  } else if (batch.kind === "sweep") {
    for (const { table, below } of batch.sweeps) {
      lines.push(JSON.stringify({ sweep: table.id, below: String(below) }));
    }
  }
  if (open !== "" && isWhole(BigInt(open), batch.checkpoint.position)) end();
  return { lines, open };
}

function checkpointOf({ position, tables, bond }: StoredCheckpoint): Checkpoint | null {
  return position === "" ? null : { position: parsePosition(position), ...checkpointFromTexts(tables, bond) };
}
