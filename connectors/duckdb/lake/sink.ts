import type { WarehouseSinkOptions } from "../../warehouse/targets.ts";
import type { Batch } from "../../../src/core/model/batch.ts";
import type { Inspection } from "../../../src/core/contracts/comparing.ts";
import { failpoint } from "../../../src/core/failpoint.ts";
import type { TargetHint } from "../../../src/core/contracts/sink.ts";
import { type Logger, SILENT } from "../../../src/core/contracts/telemetry.ts";
import { EngineSink, type Opened, type StoreKeeper } from "../engine-sink.ts";
import type { DuckdbForm } from "../write/layout.ts";
import { stageFolder } from "../write/stage-file.ts";
import { DuckdbInspection } from "../inspect/inspect.ts";
import { writersOf } from "../../../src/core/files.ts";
import { atServer, type MillraceError } from "../../../src/core/errors.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import type { TargetName } from "../names.ts";
import { classify, onDisk } from "../errors.ts";
import { isNoLake, type LakeSettings } from "./engine.ts";
import { Lake } from "./lake.ts";
import { shownCatalog, shownData } from "./place.ts";
import { TablesWithLostFiles } from "./lost-tables.ts";
import { Maintenance, type MaintenanceSettings } from "./maintenance.ts";
import type { TargetForm } from "../../warehouse/own-columns.ts";

export interface LakeSinkOptions extends LakeSettings, WarehouseSinkOptions {
  readonly owner: string;
  readonly form: TargetForm;
  /** Null: the lake is maintained by other means. */
  readonly maintenance: MaintenanceSettings | null;
  /** See TablesWithLostFiles. */
  readonly listedMs?: number;
  readonly logger?: Logger;
}

/** A commit costs the same for any number of rows, makes a file, and rewrites what says which rows of older files are gone. */
const BATCH = { rowCountMax: 200_000, byteCountMax: 16 * 1024 * 1024, delayMs: 500, hasTruncates: true } as const;

/** Mirrors tables into a lake (DuckLake), or keeps their history; effects occur exactly once. See README.md. */
export function lakeSink(options: LakeSinkOptions): EngineSink<Lake> {
  return new EngineSink(options, new LakeKeeper(options));
}

class LakeKeeper implements StoreKeeper<Lake> {
  readonly kind = "ducklake";
  readonly form: DuckdbForm;
  readonly batchLimits = BATCH;
  /** The lake's maintenance removes them with their files. */
  readonly deadRows = 0;
  inOwnProcess = false;
  readonly #options: LakeSinkOptions;
  readonly #lostFiles: TablesWithLostFiles;
  #maintenance: Maintenance | null = null;

  constructor(options: LakeSinkOptions) {
    this.form = { ...options.form, isLake: true };
    this.#options = options;
    this.#lostFiles = new TablesWithLostFiles(options);
  }

  get hints(): readonly TargetHint[] {
    return this.#maintenance?.failed.hints ?? [];
  }

  get #settings(): LakeSettings {
    return { ...this.#options, inOwnProcess: this.inOwnProcess };
  }

  async acquire(): Promise<Lake> {
    return await Lake.acquire(this.#settings);
  }

  async acquireExisting(): Promise<Lake | null> {
    return await Lake.acquireExisting(this.#settings);
  }

  /** A reader of a catalogue in Postgres can lose its engine: see MOVED. The sink's own must not go with it. */
  async inspect(): Promise<Inspection> {
    const { schema, place } = this.#options;
    const lake = await (place.kind === "postgres" ? Lake.acquireApart(this.#settings) : this.acquire());
    return await DuckdbInspection.over(lake, { schema, form: this.form });
  }

  isAbsent(error: unknown): boolean {
    return isNoLake(error);
  }

  get paths(): readonly string[] {
    const { place } = this.#options;
    const catalogue = place.kind === "postgres" ? [] : [place.catalog];
    const data = place.bucket === null ? [place.data] : [];
    return [...catalogue, ...data, stageFolder()];
  }

  placed(error: MillraceError): MillraceError {
    const { place } = this.#options;
    const part = error.connector?.part;
    if (part === "catalogue") return atCatalogue(error, place);
    if (part === "bucket") return atServer(error, shownData(place));
    return onDisk(error, ...this.paths);
  }

  async meaning(error: MillraceError, opened: Opened<Lake>): Promise<MillraceError> {
    return await this.#lostFiles.meaning(error, opened);
  }

  async joined({ store: lake }: Opened<Lake>): Promise<void> {
    const { name: sink, maintenance: settings, logger = SILENT } = this.#options;
    const onLost = (target: TargetName, error: MillraceError) => this.#lostFiles.heardOf(target, error);
    const onLostAnswer = () => this.#lostFiles.answerLost();
    this.#maintenance = new Maintenance({ sink, lake, settings, logger, onLost, onLostAnswer });
  }

  async leaving(): Promise<void> {
    const maintenance = this.#maintenance;
    this.#maintenance = null;
    await maintenance?.close();
  }

  async taken(): Promise<void> {
    this.#lostFiles.lookAgain();
  }

  async missing(tables: readonly TableVersion[], opened: Opened<Lake>): Promise<readonly TableVersion[]> {
    return await this.#lostFiles.missing(tables, opened);
  }

  async preparing(
    tables: readonly TableVersion[],
    opened: Opened<Lake>,
    purpose: "prepare" | "reset",
    signal: AbortSignal,
  ): Promise<void> {
    await this.#lostFiles.preparing(tables, opened, purpose, signal);
    this.#maintenance?.shapesChanged();
  }

  async applying(_batch: Batch, { connection, store }: Opened<Lake>, write: () => Promise<void>): Promise<void> {
    try {
      await write();
    } catch (error) {
      if (classify(error, "writing").reason === "lost") this.#lostFiles.answerLost();
      throw error;
    }
    failpoint("ducklake.committed");
    await store.giveBack(connection);
  }

  async verifying(opened: Opened<Lake>): Promise<void> {
    await this.#lostFiles.verify(opened);
  }
}

/** With the file, or the server, that it concerns, and who has a file locked. */
function atCatalogue(error: MillraceError, place: LakeSettings["place"]): MillraceError {
  const { message, reason, kind } = error;
  const shown = shownCatalog(place);
  const who = reason === "lock" && place.kind === "sqlite" ? writersOf(place.catalog) : "";
  if (who !== "") return error.with({ message: `${message.replace("another program", who)}: ${shown}` });
  return kind === "fatal" && !message.includes(shown)
    ? error.with({ message: `${message}: ${shown}` })
    : atServer(error, shown);
}
