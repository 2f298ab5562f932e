/** A stream and a sink that do as a test tells them, for tests of the runtime between the two. */
import type { Batch, TableWrites } from "../../../src/core/model/batch.ts";
import type { Checkpoint } from "../../../src/core/checkpoint.ts";
import type { Block } from "../../../src/core/model/block.ts";
import { type Clock, systemClock } from "../../../src/core/clock.ts";
import { abortedError, atServer, MillraceError } from "../../../src/core/errors.ts";
import { DEFAULT_POLICY, type SchemaPolicy } from "../../../src/core/model/schema-change.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import { News } from "../../../src/core/waiting.ts";
import type { Outcome, Sink, SinkForm, BatchPrefetch } from "../../../src/core/contracts/sink.ts";
import type { ChangeStream } from "../../../src/core/contracts/change-log.ts";
import type { StateStore } from "../../../src/core/contracts/state-store.ts";
import type { Metrics } from "../../../src/core/contracts/telemetry.ts";
import { DeadLetterBox } from "../../../src/runtime/sink/dead-letters.ts";
import type { WorkerParts } from "../../../src/runtime/sink/applier.ts";
import { type TableEvents, TableGate } from "../../../src/runtime/schema/table-gate.ts";
import type { SinkTableAnswers } from "../../../src/runtime/sink/sink-tables.ts";
import { SinkWorker } from "../../../src/runtime/sink/sink-worker.ts";
import { openState } from "../../../src/state/open.ts";
import { ModelSink, type Row } from "./log-model.ts";
import { quietLog } from "../run/quiet-log.ts";
import { temporaryFolder } from "../run/temporary-folder.ts";

const TARGET = { side: "sink", kind: "scripted" } as const;

/** Gives out what was pushed, in order; waits when there is nothing. */
const KEPT = { policy: "deadLetter", countMax: 1_000, isHistory: false, lose: async () => undefined } as const;

export class ScriptedStream implements ChangeStream {
  readonly acknowledged: bigint[] = [];
  readonly #blocks: Block[] = [];
  #wake: (() => void) | null = null;
  #failure: unknown = null;
  isClosed = false;

  push(...blocks: readonly Block[]): void {
    this.#blocks.push(...blocks);
    this.#wake?.();
  }

  fail(error: unknown): void {
    this.#failure = error;
    this.#wake?.();
  }

  async next(signal: AbortSignal): Promise<Block> {
    for (;;) {
      signal.throwIfAborted();
      const block = this.#blocks.shift();
      if (block !== undefined) return block;
      if (this.#failure !== null) throw this.#failure;
      await new Promise<void>((resolve, reject) => {
        const onAbort = () => reject(abortedError(signal));
        signal.addEventListener("abort", onAbort, { once: true });
        this.#wake = () => {
          signal.removeEventListener("abort", onAbort);
          resolve();
        };
      });
    }
  }

  acknowledge(commit: bigint): void {
    this.acknowledged.push(commit);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.isClosed = true;
  }
}

export function outage(text = "the target is away"): MillraceError {
  return new MillraceError({ connector: TARGET, code: "MR3999", kind: "retryable", message: text });
}

function refusal(): MillraceError {
  return new MillraceError({ connector: TARGET, code: "MR3998", kind: "poison", message: "the row is refused" });
}

export function noSecondStream(): MillraceError {
  const message = "no second stream can be had";
  // As a source tells of it, which names its server.
  return atServer(new MillraceError({ code: "MR2999", kind: "retryable", reason: "one-stream", message }), "h:1");
}

/** Holds rows and checkpoint in memory, like a target that survives the process. */
export class ScriptedSink implements Sink, BatchPrefetch {
  readonly name: string;
  readonly kind = "scripted";
  form: SinkForm = "mirror";
  readonly delivery = "transactional";
  readonly onLost = "fail";
  readonly prefetch = this;
  readonly rows = {
    highestVersion: async (): Promise<bigint> => 0n,
    expel: async (): Promise<void> => undefined,
  };
  checkpoint: Checkpoint | null = null;
  readonly tables = new Map<string, ModelSink>();
  readonly batches: Batch[] = [];
  /** The tables of each batch that was announced while another was in flight. */
  readonly staged: (readonly TableWrites[])[] = [];
  opens = 0;
  /** Called before each batch; what it throws fails the batch, what it awaits holds it. */
  before: (batch: Batch, signal: AbortSignal) => Promise<void> | void = () => undefined;
  /** Called when a batch's rows are durable and its checkpoint is not. */
  between: (batch: Batch) => Promise<void> | void = () => undefined;
  /** Called when a batch is durable, before it is answered. */
  after: (batch: Batch) => Promise<void> | void = () => undefined;
  onOpen: () => Promise<void> | void = () => undefined;
  /** Called before a table is made ready; what it throws fails that. */
  preparing: (table: TableVersion) => void = () => undefined;
  /** Entries that the target refuses for their content. */
  refuses: (writes: TableWrites, entry: number) => boolean = () => false;

  constructor(name = "scripted") {
    this.name = name;
  }

  target({ schema, table }: Pick<TableVersion, "schema" | "table">): string {
    return `${schema}.${table}`;
  }

  async open(_lease: number, signal: AbortSignal): Promise<Checkpoint | null> {
    signal.throwIfAborted();
    this.opens++;
    await this.onOpen();
    return this.checkpoint;
  }

  async look(): Promise<Checkpoint | null> {
    return this.checkpoint;
  }

  async prepare(tables: readonly TableVersion[]): Promise<void> {
    for (const table of tables) {
      this.preparing(table);
      this.#model(table);
    }
  }

  prefetchRows(tables: readonly TableWrites[]): void {
    this.staged.push(tables);
  }

  async apply(batch: Batch, outcome: Outcome, signal: AbortSignal): Promise<void> {
    outcome.waiting?.();
    await this.before(batch, signal);
    signal.throwIfAborted();
    if (batch.kind === "rows") {
      for (const writes of batch.tables) {
        const model = this.#model(writes.table);
        const missing = model.missing(writes);
        if (missing.length > 0) await outcome.incomplete(writes, missing);
        const refused = Array.from({ length: writes.count }, (_, i) => i).filter((i) => this.refuses(writes, i));
        await outcome.poison(refused.map((entry) => ({ writes, entry, error: refusal() })));
        model.apply(writes, Infinity, new Set(refused));
        model.pending.clear();
      }
    } else if (batch.kind !== "checkpoint") {
      const sweeps = batch.kind === "truncate" ? [{ table: batch.table, below: batch.version + 1n }] : batch.sweeps;
      for (const { table, below } of sweeps) {
        const { rows } = this.#model(table);
        for (const [key, { version }] of rows) if (version < below) rows.delete(key);
      }
    }
    await this.between(batch);
    this.checkpoint = batch.checkpoint;
    this.batches.push(batch);
    await this.after(batch);
  }

  async verify(): Promise<void> {}

  async forget(): Promise<void> {
    this.checkpoint = null;
  }

  async close(): Promise<void> {}

  rowsOf(table: TableVersion): Row[] {
    return [...this.#model(table).rows.values()].map(({ row }) => row);
  }

  #model(table: TableVersion): ModelSink {
    let model = this.tables.get(table.id);
    if (model === undefined) this.tables.set(table.id, (model = new ModelSink(table)));
    return model;
  }
}

export const noMetrics: Metrics = {
  rowsApplied: () => undefined,
  batchApplied: () => undefined,
  commitToApply: () => undefined,
  sinkError: () => undefined,
};

export interface OpenedState extends AsyncDisposable {
  readonly state: StateStore;
}

/** The real store, in a folder of its own, with an announced source. */
export async function realState(options: Parameters<typeof openState>[1] = {}): Promise<OpenedState> {
  const opened = await emptyState(options);
  await opened.state.source.announce(1);
  return opened;
}

/** The same before the first start. */
export async function emptyState(options: Parameters<typeof openState>[1] = {}): Promise<OpenedState> {
  const folder = temporaryFolder();
  const state = await openState(`sqlite:${folder.file("state.db")}`, options);
  return {
    state,
    [Symbol.asyncDispose]: async () => {
      await state.close();
      folder[Symbol.dispose]();
    },
  };
}

/** A sink that takes every table, and has none. */
export function tableAnswers(answers: Partial<SinkTableAnswers> = {}): SinkTableAnswers {
  return {
    areReadUnasked: true,
    isCatalogKnown: true,
    takes: () => true,
    wants: () => true,
    holds: () => true,
    fills: () => true,
    lacking: () => [],
    isCurrent: async () => true,
    leavesOut: () => false,
    known: [],
    named: [],
    isSuspended: () => false,
    misses: () => false,
    isKnown: () => true,
    isVoid: () => false,
    willRead: () => false,
    refuse: async () => undefined,
    suspend: async () => undefined,
    parts: async () => [],
    passedBy: async () => new Set(),
    rejoin: async () => undefined,
    changed: () => undefined,
    keysListed: () => undefined,
    ...answers,
  };
}

export type WorkerOptions = Partial<Omit<WorkerParts, "tables"> & SinkTableAnswers>;

/** Where the rows of dead letters come from. */
export const LETTERS_FROM = {
  name: "test",
  producer: "millrace/test",
  sourceKind: "scripted",
  database: "test",
  formatPosition: (commit: bigint) => String(commit),
};

export function workerOf(sink: Sink, state: StateStore, options: WorkerOptions = {}): SinkWorker {
  const worker = new SinkWorker({
    clock: hurriedClock,
    sink,
    state,
    limits: { rowCountMax: 10_000, byteCountMax: 8 * 1024 * 1024 },
    tables: tableAnswers(options),
    deadLetters: new DeadLetterBox(sink.name, state.deadLetters, KEPT, LETTERS_FROM, quietLog),
    logger: quietLog,
    metrics: noMetrics,
    news: new News(),
    ...options,
  });
  worker.position.enter({ state: "ab", session: "cd", batch: 7, resets: [], wasLeft: false });
  return worker;
}

/** Ten times as fast as the machine's: what is tried again after seconds is tried again soon. */
export const hurriedClock: Clock = {
  ...systemClock,
  elapsed: () => systemClock.elapsed() * 10,
  sleep: (ms, ...signals) => systemClock.sleep(ms / 10, ...signals),
  after: (ms, work) => systemClock.after(ms / 10, work),
};

/** A promise that a test resolves when it is time. */
export function gate(): { readonly passed: Promise<void>; readonly open: () => void } {
  const { promise, resolve } = Promise.withResolvers<void>();
  return { passed: promise, open: resolve };
}

/** A gate that nobody listens to. */
export function tableGate(
  state: StateStore,
  found: TableEvents["found"] = async () => undefined,
  policy: SchemaPolicy = DEFAULT_POLICY,
  clock: Clock = systemClock,
): TableGate {
  const ignored = (): void => undefined;
  return new TableGate({
    clock,
    state,
    events: { changed: ignored, renewed: ignored, suspended: ignored, found },
    policyOf: () => policy,
    logger: quietLog,
  });
}
