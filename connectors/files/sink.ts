import { type Clock, systemClock } from "../../src/core/clock.ts";
import { checkpointTexts, checkpointFromTexts, type Checkpoint } from "../../src/core/checkpoint.ts";
import type {
  AllTargets,
  Outcome,
  Sink,
  TargetHint,
  TargetNumbers,
  TargetPresence,
  TargetRows,
} from "../../src/core/contracts/sink.ts";
import type { NumberStore } from "../../src/core/contracts/state-store.ts";
import { diskRooms, type Room } from "../../src/core/disk-room.ts";
import { eachOf } from "../../src/core/each-of.ts";
import { findMillraceError, isAborted, joined, type MillraceError } from "../../src/core/errors.ts";
import type { Batch } from "../../src/core/model/batch.ts";
import { parsePosition, serializePosition } from "../../src/core/model/position.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import { filesError, refusalThere } from "./errors.ts";
import { ChangeLog, type RollLimits } from "./log/change-log.ts";
import type { EntryCheckpoint, Head, RowText } from "./log/entry.ts";
import { expectOwn, findLog } from "./log/log.ts";
import { ReaderNumbers } from "./log/reader-numbers.ts";
import { folderOf } from "./names.ts";
import { Holes } from "./publish/holes.ts";
import { ParquetMaker } from "./publish/parquet.ts";
import { Publisher, type Withheld } from "./publish/publisher.ts";
import { highestVersion } from "./publish/manifest.ts";
import { Retention } from "./publish/retention.ts";
import type { Store } from "./store/store.ts";
import { CsvRows } from "./text/csv.ts";
import { NdjsonRows } from "./text/ndjson.ts";
import { type BatchParts, type BatchNumbers, BatchRows } from "./text/batch-parts.ts";

/** Larger batches make fewer entries of the log. */
const CLOSE_MS_MAX = 30_000;
const BATCH = { rowCountMax: 50_000, byteCountMax: 16 * 1024 * 1024 };

/** Objects that are looked at when the sink is opened, and with each heartbeat. */
const LOOKED_AT = { opening: 100, idle: 20 };
/** Folders of tables. */
const PROBES_AT_ONCE = 10;

export interface FilesSettings {
  readonly daemon: string;
  readonly name: string;
  readonly format: "parquet" | "ndjson";
  readonly roll: RollLimits;
  /** How long files stay; null: for ever. */
  readonly keepMs: number | null;
  readonly memoryLimit: string;
  readonly store: () => Promise<Store>;
}

interface Opened {
  readonly store: Store;
  readonly log: ChangeLog;
}

/**
 * Every change as a row of files that are only ever added. A batch is an entry of the sink's log; when enough of them wait, they
 * become files.
 */
export class FilesSink implements Sink, TargetPresence, TargetRows, TargetNumbers {
  readonly kind = "files";
  readonly form = "stream";
  readonly delivery = "transactional";
  readonly onLost = "resync";
  readonly presence = this;
  readonly rows = this;
  readonly numbers = this;
  readonly isLoadedElsewhere = true;
  readonly scopedBy = "keys";
  readonly batchLimits = BATCH;
  readonly name: string;
  readonly #settings: FilesSettings;
  readonly #clock: Clock;
  readonly #parts: BatchRows;
  readonly #parquet: ParquetMaker;
  readonly #text: RowText;
  readonly #holes: Holes;
  #retention: Retention | null = null;
  #numbers: NumberStore | null = null;
  #opened: Opened | null = null;
  /** Folders of tables that took files. */
  readonly #taking = new Set<string>();
  /** By table: files were made without its changes, because its folder took none. Until the runtime is told. */
  readonly #untold = new Map<string, MillraceError>();
  /** Another process holds the sink; until it is opened again. */
  #refusal: MillraceError | null = null;
  #isBusy = false;
  #isClosed = false;

  constructor(settings: FilesSettings, clock: Clock = systemClock) {
    this.name = settings.name;
    this.#settings = settings;
    this.#clock = clock;
    this.#text = settings.format === "parquet" ? "csv" : "ndjson";
    this.#parts = new BatchRows(settings.format === "parquet" ? new CsvRows() : new NdjsonRows());
    this.#parquet = new ParquetMaker(settings.memoryLimit, clock);
    this.#holes = new Holes(settings.keepMs !== null);
  }

  get hints(): readonly TargetHint[] {
    const { hint } = this.#retention ?? {};
    return hint == null ? this.#holes.hints : [hint, ...this.#holes.hints];
  }

  /** What a reader of the table takes. Of a reader of one format, files of another one are none of the table's. */
  target(table: Pick<TableVersion, "schema" | "table">): string {
    return `${folderOf(table)}/*/*.${this.#settings.format}`;
  }

  keepIn(store: NumberStore): void {
    this.#numbers = store;
  }

  async open(lease: number, signal: AbortSignal): Promise<Checkpoint | null> {
    this.#expectUsable(signal);
    await this.#release();
    this.#refusal = null;
    const store = await this.#settings.store();
    try {
      const publisher = new Publisher(store, this.#parquet);
      const { keepMs, roll } = this.#settings;
      const owner = { lease, name: this.#owner, writer: this.#clock.unique(8), text: this.#text, roll };
      const retention = (this.#retention = keepMs === null ? null : new Retention(store, keepMs));
      const numbers = await ReaderNumbers.begin(this.name, this.#clock, this.#numbers);
      const tools = { store, publisher, retention, clock: this.#clock, numbers, owner, onWithheld: this.#withhold };
      const log = await ChangeLog.open(tools, signal);
      await this.#expectNoHoles({ store, log }, LOOKED_AT.opening, signal);
      this.#opened = { store, log };
      return checkpointOf(log.checkpoint);
    } catch (error) {
      await store[Symbol.asyncDispose]();
      throw error;
    }
  }

  get #owner(): Head["owner"] {
    return { daemon: this.#settings.daemon, sink: this.name };
  }

  async look(signal: AbortSignal): Promise<Checkpoint | null> {
    this.#expectUsable(signal);
    await using store = await this.#settings.store();
    const head = (await findLog(store, signal))?.entry.head;
    if (head === undefined) return null;
    expectOwn(head, this.#owner, store.location);
    return checkpointOf(head.checkpoint);
  }

  /** Tables of which files are gone, or were never there. */
  async missing(tables: readonly TableVersion[], signal: AbortSignal): Promise<readonly TableVersion[]> {
    const { log } = this.#ours(signal);
    const withheld = tables.filter(({ id }) => log.withheld.includes(id));
    for (const { id } of withheld) this.#untold.delete(id);
    return [...new Set([...this.#holes.tablesOf(tables), ...withheld])];
  }

  /** A file has the names and types of its columns: a folder only has to take it. */
  async prepare(tables: readonly TableVersion[], signal: AbortSignal): Promise<void> {
    const { store, log } = this.#ours(signal);
    const folders = new Map(tables.map((table) => [folderOf(table), table]));
    await eachOf(folders, PROBES_AT_ONCE, ([folder, { id }]) => this.#expectTaken(folder, id, store, signal));
    const complete = new Set(completeIn(log));
    // Invariant: what lacks changes stays known until the checkpoint no longer calls the table complete, and the runtime knows.
    const restored = tables.filter(({ id }) => !complete.has(id) && !this.#untold.has(id));
    log.restore(new Set(restored.map(({ id }) => id)));
  }

  /** Before anything else: a table that is read in vain is read again and again. */
  async #expectTaken(folder: string, table: string, store: Store, signal: AbortSignal): Promise<void> {
    if (this.#taking.has(folder)) return;
    try {
      await store.probe(folder, this.#settings.format, signal);
    } catch (error) {
      throw refusalThere(error)?.with({ table }) ?? error;
    }
    this.#taking.add(folder);
  }

  readonly #withhold = (withheld: readonly Withheld[]): void => {
    // Names of folders may be those of several tables.
    if (withheld.length > 0) this.#taking.clear();
    for (const { tableId, error } of withheld) this.#untold.set(tableId, error.with({ table: tableId }));
  };

  #expectNoneWithheld(): void {
    const [first, ...others] = this.#untold.values();
    if (first === undefined) return;
    // Together: the runtime looks next whether the sink takes anything without them.
    this.#untold.clear();
    throw joined([first, ...others]);
  }

  /** Files stay: a sweep takes their rows from readers. */
  async expel(_tables: readonly TableVersion[], _version: bigint, signal: AbortSignal): Promise<void> {
    this.#ours(signal);
  }

  /** Of certain tables there is none that has an effect on later ones: a sweep takes away what was before the log's beginning. */
  async highestVersion(tables: readonly TableVersion[] | AllTargets, signal: AbortSignal): Promise<bigint> {
    const { store, log } = this.#ours(signal);
    if (typeof tables !== "string" || log.published.number === 0) return 0n;
    return await highestVersion(store, log.published.number, signal);
  }

  async apply(batch: Batch, outcome: Outcome, signal: AbortSignal): Promise<void> {
    const opened = this.#ours(signal);
    this.#expectNoneWithheld();
    const { log } = opened;
    const position = serializePosition(batch.checkpoint.position);
    const readsAll = isEmpty(batch.checkpoint.tables) && completeIn(log).length > 0;
    const held = new Set(batch.kind === "sweep" ? completeIn(log) : []);
    const partsOf = async (numbers: Pick<BatchNumbers, "sequence" | "begun">): Promise<BatchParts> => {
      const holds = (tableId: string): boolean => held.has(tableId);
      const parts = this.#parts.partsOf(batch, { ...numbers, holds }, this.#clock.now());
      if (parts.refused.length > 0) await outcome.poison(parts.refused);
      outcome.waiting?.();
      return parts;
    };
    await this.#guarded(async () => {
      await log.add({ position, ...checkpointTexts(batch.checkpoint) }, readsAll, partsOf, signal);
      await this.#closeHoles(opened, signal);
    });
  }

  async verify(signal: AbortSignal): Promise<void> {
    const opened = this.#ours(signal);
    this.#expectNoneWithheld();
    await this.#guarded(async () => {
      await opened.log.verify(signal);
      await this.#closeHoles(opened, signal);
      await this.#expectNoHoles(opened, LOOKED_AT.idle, signal);
    });
  }

  async rooms(): Promise<readonly Room[]> {
    return diskRooms(...(this.#opened?.store.paths ?? []));
  }

  async forget(signal: AbortSignal): Promise<void> {
    const { log } = this.#ours(signal);
    await this.#guarded(() => log.forget(signal));
    await this.#release();
  }

  /** Between two batches, what waits in the log becomes files. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    const opened = this.#isBusy ? null : this.#opened;
    try {
      await opened?.log.publishAll(AbortSignal.timeout(CLOSE_MS_MAX));
    } catch (error) {
      // It stays in the log, and becomes files when the sink is opened again.
      if (findMillraceError(error) === undefined && !isAborted(error)) throw error;
    } finally {
      await this.#release();
      await this.#parquet[Symbol.asyncDispose]();
    }
  }

  async #expectNoHoles({ store, log }: Opened, countMax: number, signal: AbortSignal): Promise<void> {
    await this.#holes.expectNone(store, log.published, completeIn(log), countMax, signal);
  }

  async #closeHoles({ store, log }: Opened, signal: AbortSignal): Promise<void> {
    await this.#holes.close(store, log.published, completeIn(log), this.#clock.now(), signal);
  }

  /** After a failure nobody knows how far the work came: the sink is opened again before anything else. */
  async #guarded(work: () => Promise<void>): Promise<void> {
    this.#isBusy = true;
    try {
      await work();
    } catch (error) {
      await this.#release();
      const known = findMillraceError(error);
      if (known?.kind === "fatal") this.#refusal = known;
      throw error;
    } finally {
      this.#isBusy = false;
    }
  }

  #ours(signal: AbortSignal): Opened {
    this.#expectUsable(signal);
    if (this.#refusal !== null) throw this.#refusal;
    if (this.#opened === null) throw filesError("MR2001", "retryable", "the sink is not open");
    return this.#opened;
  }

  #expectUsable(signal: AbortSignal): void {
    signal.throwIfAborted();
    if (this.#isClosed) throw filesError("MR2029", "aborted", "the sink is closed");
  }

  async #release(): Promise<void> {
    const opened = this.#opened;
    this.#opened = null;
    await opened?.store[Symbol.asyncDispose]();
  }
}

function checkpointOf({ position, tables, bond }: EntryCheckpoint): Checkpoint | null {
  return position === "" ? null : { position: parsePosition(position), ...checkpointFromTexts(tables, bond) };
}

function isEmpty(tables: Checkpoint["tables"]): boolean {
  for (const _ in tables) return false;
  return true;
}

/** Ids of tables. */
function completeIn(log: ChangeLog): readonly string[] {
  return Object.keys(checkpointOf(log.checkpoint)?.tables ?? {});
}
