import type { Outcome, Sink } from "../../src/core/contracts/sink.ts";
import type { Batch } from "../../src/core/model/batch.ts";
import { type Checkpoint, checkpointFromTexts, checkpointTexts } from "../../src/core/checkpoint.ts";
import { parsePosition, rowVersion, serializePosition } from "../../src/core/model/position.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import { shapeNote } from "../../src/core/targets/base-rows.ts";
import { emptied, fileError, otherCheckpoint, takenOver } from "./errors.ts";
import { type Contents, readContents, writeContents } from "./file.ts";
import { applyWrites } from "./rows.ts";

export interface JsonFileSettings {
  readonly name: string;
  readonly path: string;
}

/**
 * Tables as lines of one JSON file: a sink to start from. Each batch reads the file, changes what it read, and writes the
 * file again, so nothing but the fence is kept between batches. That makes it short, and slow for more than a few thousand rows.
 */
export class JsonFileSink implements Sink {
  readonly kind = "jsonfile";
  readonly form = "mirror";
  readonly delivery = "transactional";
  readonly onLost = "fail";
  readonly name: string;
  readonly #path: string;
  #lease = 0;
  /** Positions that this process may have stored: the last one, and the one of a batch whose write failed half-way. */
  #stored: readonly string[] = [];
  #isClosed = false;

  constructor({ name, path }: JsonFileSettings) {
    this.name = name;
    this.#path = path;
  }

  target({ schema, table }: Pick<TableVersion, "schema" | "table">): string {
    return JSON.stringify([schema, table]);
  }

  async open(lease: number, signal: AbortSignal): Promise<Checkpoint | null> {
    this.#check(signal);
    const contents = (await readContents(this.#path)) ?? nothing();
    if (contents.lease > lease) throw takenOver(contents.lease, lease);
    contents.lease = lease;
    this.#lease = lease;
    this.#stored = [contents.position];
    await writeContents(this.#path, contents);
    return checkpointOf(contents);
  }

  async look(signal: AbortSignal): Promise<Checkpoint | null> {
    this.#check(signal);
    return checkpointOf((await readContents(this.#path)) ?? nothing());
  }

  /** Rows keep the columns they were written with. What is noted: which of them may lend a value to a later change. */
  async prepare(tables: readonly TableVersion[], signal: AbortSignal): Promise<void> {
    const contents = await this.#ours(signal);
    const before = JSON.stringify(tables.map(({ id }) => contents.held.get(id)?.shape));
    for (const table of tables) {
      const held = contents.held.get(table.id);
      const shape = shapeNote(held?.shape ?? null, table, versionAt(contents.position));
      contents.held.set(table.id, { shape, rows: held?.rows ?? new Map() });
    }
    if (JSON.stringify(tables.map(({ id }) => contents.held.get(id)?.shape)) === before) return;
    await writeContents(this.#path, contents);
  }

  async apply(batch: Batch, outcome: Outcome, signal: AbortSignal): Promise<void> {
    const contents = await this.#ours(signal);
    await change(contents, batch, outcome);
    const { tables, bond } = checkpointTexts(batch.checkpoint);
    const position = serializePosition(batch.checkpoint.position);
    const [last = ""] = this.#stored;
    // Were the write to fail behind the rename, the file would hold the new position.
    this.#stored = [last, position];
    await writeContents(this.#path, { ...contents, position, tables, bond });
    this.#stored = [position];
  }

  async verify(signal: AbortSignal): Promise<void> {
    await this.#ours(signal);
  }

  async forget(signal: AbortSignal): Promise<void> {
    const contents = await this.#ours(signal);
    await writeContents(this.#path, { ...contents, position: "", tables: "{}", bond: "" });
  }

  async close(): Promise<void> {
    this.#isClosed = true;
  }

  /** What the file holds, after the fence was checked: no other process has written since this one did. */
  async #ours(signal: AbortSignal): Promise<Contents> {
    this.#check(signal);
    const contents = await readContents(this.#path);
    if (contents === null) throw emptied(this.#path);
    if (contents.lease !== this.#lease) throw takenOver(contents.lease, this.#lease);
    if (!this.#stored.includes(contents.position)) throw otherCheckpoint(this.#path);
    this.#stored = [contents.position];
    return contents;
  }

  #check(signal: AbortSignal): void {
    signal.throwIfAborted();
    if (this.#isClosed) throw fileError("MR2029", "aborted", "the sink is closed");
  }
}

/** Changes what was read. Nothing of it is durable before `writeContents`, so a report that fails leaves the file as it was. */
async function change(contents: Contents, batch: Batch, outcome: Outcome): Promise<void> {
  switch (batch.kind) {
    case "checkpoint":
      return;
    case "rows":
      for (const writes of batch.tables) {
        const incomplete = applyWrites(writes, contents.held.get(writes.table.id)!);
        if (incomplete.length > 0) await outcome.incomplete(writes, incomplete);
      }
      return;
    case "truncate":
      return removeBelow(contents, batch.table, batch.version + 1n);
    case "sweep":
      for (const { table, below } of batch.sweeps) removeBelow(contents, table, below);
      return;
    default:
      return batch satisfies never;
  }
}

function removeBelow({ held }: Contents, table: TableVersion, below: bigint): void {
  const rows = held.get(table.id)?.rows;
  for (const [id, { version }] of rows ?? []) if (version < below) rows?.delete(id);
}

function checkpointOf({ position, tables, bond }: Contents): Checkpoint | null {
  return position === "" ? null : { position: parsePosition(position), ...checkpointFromTexts(tables, bond) };
}

/** Rows of a shape that begins now have this version or a higher one. */
function versionAt(position: string): bigint {
  if (position === "") return 0n;
  const { epoch, commit } = parsePosition(position);
  return rowVersion(epoch, commit);
}

function nothing(): Contents {
  return { lease: 0, position: "", tables: "{}", bond: "", held: new Map() };
}
