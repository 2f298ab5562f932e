/** The nest as a source: documents are its tables, and the list of changed roots is its log. */
import { setImmediate as turn } from "node:timers/promises";
import { systemClock } from "../../../src/core/clock.ts";
import {
  type CreatedLog,
  type FirstCopy,
  type HeldPositions,
  type LogAdmin,
} from "../../../src/core/contracts/log-admin.ts";
import { type LogIdentity, NUMBERED } from "../../../src/core/contracts/positions.ts";
import type { Chunk, KeyText, RowRange, RowReads } from "../../../src/core/contracts/row-reads.ts";
import type { Source } from "../../../src/core/contracts/source.ts";
import { EVERYTHING_VISIBLE } from "../../../src/core/contracts/watermarks.ts";
import { addRead, type Block, finishRead, readBlock } from "../../../src/core/model/block.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import { classify, nestError, notOpen, notWhole, stopped } from "../errors.ts";
import type { PlannedDocument } from "../plan.ts";
import type { Nest } from "../nest.ts";
import { heldIn, lastEntry, lastOpening, openingOf, type Reading, trimmedTo, type Waiting } from "../stored.ts";
import { Reader } from "./readers.ts";
import { DocumentWriter } from "./rows.ts";
import { MARK_PREFIX, NestStream } from "./stream.ts";
import { captured, shapeOf } from "./tables.ts";

const CHUNK_MS_MAX = 400;
const CHUNK_ROWS_MAX = 5_000;
const CHUNK_BYTES_MAX = 4 * 1024 * 1024;
const SLICE_MS = 8;
/** The list is trimmed at most this often. */
const TRIM_MS = 1_000;
const RENEWAL = "renew";

export function nestSource(nest: Nest): Source {
  const trimming = new Trimming(nest);
  return {
    kind: "nest",
    database: "documents",
    // Numbers of entries, so their distance is a count of documents.
    positions: NUMBERED,
    log: {
      stream: async (from, options) =>
        new NestStream(nest, from, options, (commit) => trimming.passed(commit, options.temporary)),
      tip: async () => reading(nest, ({ reading: file }) => lastEntry(file) + 1n),
      earliest: async () => reading(nest, ({ reading: file }) => earliestIn(file)),
    },
    admin: logAdmin(nest),
    catalog: {
      tables: async () => reading(nest, ({ plan }) => captured(plan)),
      publish: async () => undefined,
    },
    rows: rowReads(nest),
    watermarks: {
      markPrefix: MARK_PREFIX,
      mark: async (content, signal) => void (await guarded(nest, signal, () => nest.mark(content, signal))),
      renew: (signal) => guarded(nest, signal, () => nest.mark(RENEWAL, signal)),
      visibility: async () => EVERYTHING_VISIBLE,
    },
    close: () => trimming.end(),
  };
}

/** By documents' names; none while the nest is not open. */
export function waitingDocuments(nest: Nest): ReadonlyMap<string, Waiting> {
  return nest.plan === null ? new Map() : reading(nest, ({ reading: file }) => nest.waiting(file));
}

function logAdmin(nest: Nest): LogAdmin {
  return {
    losses: new Set(["MR2032"]),
    create: async ({ epoch, wantCopy }, signal): Promise<CreatedLog> => {
      const commit = (await guarded(nest, signal, () => nest.beginLists(signal))) + 1n;
      const identity = identityOf(nest);
      return { identity, position: { epoch, commit, index: 0 }, copy: wantCopy ? firstCopy(nest) : null };
    },
    // Invariant: the present opening is stored before the stream shows what it wrote.
    resume: async (identity, held, signal) => {
      const loss = reading(nest, ({ reading: file }) => lossIn(file, identity, held));
      if (loss === null) return identityOf(nest);
      // `cross` knows of fewer positions, and is to see it too.
      await guarded(nest, signal, () => nest.endLists(signal));
      throw nestError("MR2032", "fatal", `the nest ${nest.path} is another one: ${loss}`, { reason: "moved" });
    },
    // Sinks keep the documents that they have, and are compared.
    cross: async (identity, positions, signal) => {
      const reached = positions.reduce((a, b) => (a > b ? a : b), 1n);
      const from = positions.reduce((a, b) => (a < b ? a : b), reached);
      const position = (commit: bigint) => ({ epoch: 1, commit, index: 0 });
      const held = { from: position(from), reached: position(reached) };
      if (reading(nest, ({ reading: file }) => lossIn(file, identity, held)) === null) return null;
      const end = (await guarded(nest, signal, () => nest.beginLists(signal))) + 1n;
      const compared = reading(nest, ({ plan }) => captured(plan).generations);
      return { identity: identityOf(nest), positions: new Map(), from: end, end, generations: new Map(), compared };
    },
    health: async () => {
      const tip = reading(nest, ({ reading: file }) => lastEntry(file) + 1n);
      return { tip, retainedBytes: 0, safeBytes: null, warnings: [], slowFunctions: nest.transforms.slow() };
    },
  };
}

/** Null: changes are not listed. */
function earliestIn(file: Reading): bigint | null {
  const trimmed = trimmedTo(file);
  return trimmed === null ? null : trimmed + 1n;
}

/** Why this is not the list that the sinks have followed; null: it is. */
function lossIn(file: Reading, identity: LogIdentity, { from, reached }: HeldPositions): string | null {
  const earliest = earliestIn(file);
  const opening = openingOf(file, identity["opening"] ?? "");
  if (earliest === null || opening === null) return "it was made again";
  if (reached.commit > opening.last + 1n) return "it was put back to an earlier state";
  return from.commit < earliest ? "its list of changed documents begins later" : null;
}

function identityOf(nest: Nest): LogIdentity {
  const opening = reading(nest, ({ reading: file }) => lastOpening(file));
  if (opening === null) throw notOpen(nest.path);
  return { opening: opening.id };
}

function reading<T>(nest: Nest, work: (reader: Reader) => T): T {
  try {
    using reader = Reader.open(nest);
    return work(reader);
  } catch (error) {
    throw classify(error, "reading the nest", nest.path);
  }
}

async function guarded<T>(nest: Nest, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
  if (nest.plan === null) throw notOpen(nest.path);
  try {
    return await work();
  } catch (error) {
    if (signal.aborted) throw stopped();
    throw classify(error, "writing to the nest's lists", nest.path);
  }
}

function rowReads(nest: Nest): RowReads {
  return {
    readRange: async (table, { after, where }: RowRange, signal) => {
      if (where !== null)
        throw nestError("MR1110", "fatal", "documents are read again as a whole: leave the condition out");
      return await reads(nest, table, signal, (reader, planned) => range(reader, planned, table, after, signal));
    },
    readKeys: (table, keys, signal) =>
      reads(nest, table, signal, async (reader, planned) => {
        const rows = reader.rows(planned);
        const chunk = new ChunkWriter(table);
        for (const key of keys) {
          const values = rows.one(key);
          if (values !== null) chunk.add(rows.write(chunk.writer, table, values));
          await chunk.pause(signal);
        }
        return chunk.finish(null);
      }),
  };
}

async function range(
  reader: Reader,
  planned: PlannedDocument,
  table: TableVersion,
  after: KeyText | null,
  signal: AbortSignal,
): Promise<Chunk> {
  const rows = reader.rows(planned);
  const chunk = new ChunkWriter(table);
  let last: KeyText | null = null;
  for (const values of rows.range(after)) {
    chunk.add(rows.write(chunk.writer, table, values));
    if (chunk.isFull) {
      last = rows.keyOf(values);
      break;
    }
    await chunk.pause(signal);
  }
  return chunk.finish(last);
}

/** In one snapshot of the file, and in the shape that is asked for. */
async function reads(
  nest: Nest,
  table: TableVersion,
  signal: AbortSignal,
  work: (reader: Reader, planned: PlannedDocument) => Promise<Chunk>,
): Promise<Chunk> {
  try {
    using reader = Reader.open(nest);
    const planned = reader.plan.documents.find(({ document }) => document.name === table.table);
    if (planned === undefined || shapeOf(planned).fingerprint !== table.fingerprint)
      throw nestError("MR2025", "retryable", `${table.id} has another shape by now`);
    reader.database.exec("BEGIN");
    if (heldIn(reader.reading).get(planned.id) === null) throw notWhole(table.id);
    const chunk = await work(reader, planned);
    reader.database.exec("COMMIT");
    return chunk;
  } catch (error) {
    if (signal.aborted) throw stopped();
    throw classify(error, `reading ${table.id}`, nest.path);
  }
}

class ChunkWriter {
  readonly writer = new DocumentWriter();
  readonly #block: Block;
  readonly #began = performance.now();
  #since = performance.now();

  constructor(table: TableVersion) {
    this.#block = readBlock(table, 1, this.writer.out);
  }

  get isFull(): boolean {
    const { count } = this.#block;
    if (count >= CHUNK_ROWS_MAX || this.writer.out.length > CHUNK_BYTES_MAX) return true;
    return performance.now() - this.#began > CHUNK_MS_MAX;
  }

  /** Null: there is no document of this row. */
  add(offset: number | null): void {
    if (offset !== null) addRead(this.#block, offset);
  }

  /** Other work of the process gets its turn. */
  async pause(signal: AbortSignal): Promise<void> {
    if (performance.now() - this.#since < SLICE_MS) return;
    await turn();
    if (signal.aborted) throw stopped();
    this.#since = performance.now();
  }

  finish(last: KeyText | null): Chunk {
    const { sees } = EVERYTHING_VISIBLE;
    if (this.#block.count === 0) return { block: null, last, sees };
    return { block: finishRead(this.#block, this.writer.out, { epoch: 1, commit: 0n, index: 0 }), last, sees };
  }
}

/** All documents, each as of a moment after the log began. Those that are held are read beside the stream. */
function firstCopy(nest: Nest): FirstCopy {
  const { tables, generations } = reading(nest, ({ plan, reading: file }) => {
    const held = heldIn(file);
    return captured({ ...plan, documents: plan.documents.filter(({ id }) => held.get(id) !== null) });
  });
  const { readRange } = rowReads(nest);
  return {
    tables,
    generations,
    read: async function* (table, signal): AsyncGenerator<Block> {
      let after: KeyText | null = null;
      do {
        const chunk: Chunk = await readRange(table, { after, where: null }, signal);
        if (chunk.block !== null) yield chunk.block;
        after = chunk.last;
      } while (after !== null);
    },
    close: async () => undefined,
  };
}

/** Removes entries that every sink has passed. */
class Trimming {
  readonly #nest: Nest;
  readonly #ending = new AbortController();
  #passed = 0n;
  #trimmed = 0n;
  #running: Promise<void> | null = null;

  constructor(nest: Nest) {
    this.#nest = nest;
  }

  /** Told again and again. A second stream is of one sink that is behind. */
  passed(commit: bigint, isTemporary: boolean): void {
    if (isTemporary) return;
    if (commit - 1n > this.#passed) this.#passed = commit - 1n;
    this.#nest.passed(this.#passed);
    if (this.#trimmed < this.#passed) this.#running ??= this.#trim().finally(() => (this.#running = null));
  }

  async #trim(): Promise<void> {
    const { signal } = this.#ending;
    try {
      while (this.#trimmed < this.#passed) {
        await systemClock.sleep(TRIM_MS, signal);
        const until = this.#passed;
        await this.#nest.trim(until, signal);
        this.#trimmed = until;
      }
    } catch {
      // The file is away, or its disk is full: the list is trimmed when the position is told again.
    }
  }

  async end(): Promise<void> {
    this.#ending.abort();
    await this.#running;
  }
}
