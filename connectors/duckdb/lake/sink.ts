import type { Batch } from "../../../src/core/model/batch.ts";
import type { Inspection } from "../../../src/core/contracts/comparing.ts";
import { tmpdir } from "node:os";
import { failpoint } from "../../../src/core/failpoint.ts";
import { type Logger, SILENT } from "../../../src/core/contracts/telemetry.ts";
import { EngineSink, type EngineSinkOptions, type Opened } from "../engine-sink.ts";
import { DuckdbInspection } from "../inspect/inspect.ts";
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

export interface LakeSinkOptions extends LakeSettings, EngineSinkOptions {
  readonly form: TargetForm;
  /** Null: whoever looks after the lake does it in another way. */
  readonly maintenance: MaintenanceSettings | null;
  readonly logger?: Logger;
}

/** A commit costs the same for any number of rows, makes a file, and rewrites what says which rows of older files are gone. */
const BATCH = { rowCountMax: 200_000, byteCountMax: 16 * 1024 * 1024, delayMs: 500, hasTruncates: true } as const;

/** Mirrors tables into a lake (DuckLake), or keeps their history; effects occur exactly once. See README.md. */
export class LakeSink extends EngineSink<Lake> {
  readonly kind = "ducklake";
  override readonly batchLimits = BATCH;
  readonly #options: LakeSinkOptions;
  #maintenance: Maintenance | null = null;
  readonly #lostFiles: TablesWithLostFiles;

  constructor(options: LakeSinkOptions) {
    super(options, { ...options.form, isLake: true });
    this.#options = options;
    this.#lostFiles = new TablesWithLostFiles(options);
  }

  get #settings(): LakeSettings {
    return { ...this.#options, inOwnProcess: this.inOwnProcess };
  }

  /** The lake's maintenance removes them with their files. */
  override get deadRows(): number {
    return 0;
  }

  /** A reader of a catalogue in Postgres can lose its engine: see MOVED. The sink's own must not go with it. */
  override async inspect(): Promise<Inspection> {
    const { schema, place } = this.#options;
    const lake = await (place.kind === "postgres" ? Lake.acquireApart(this.#settings) : this.acquire());
    return await DuckdbInspection.over(lake, { schema, form: this.targetForm });
  }

  protected override placed(error: MillraceError): MillraceError {
    const { place } = this.#options;
    const part = error.connector?.part;
    if (part === "catalogue") return atServer(error, shownCatalog(place));
    if (part === "bucket") return atServer(error, shownData(place));
    const catalogue = place.kind === "postgres" ? [] : [place.catalog];
    const data = place.bucket === null ? [place.data] : [];
    return onDisk(error, ...catalogue, ...data, tmpdir());
  }

  protected override async acquire(): Promise<Lake> {
    return await Lake.acquire(this.#settings);
  }

  protected override async acquireExisting(): Promise<Lake | null> {
    return await Lake.acquireExisting(this.#settings);
  }

  protected override async joined({ store }: Opened<Lake>): Promise<void> {
    const { name, maintenance, logger = SILENT } = this.#options;
    const onLost = (target: TargetName, error: MillraceError) => this.#lostFiles.heardOf(target, error);
    const onLostAnswer = () => this.#lostFiles.answerLost();
    this.#maintenance = new Maintenance({
      sink: name,
      lake: store,
      settings: maintenance,
      logger,
      onLost,
      onLostAnswer,
    });
  }

  protected override async taken(): Promise<void> {
    await this.#lostFiles.afterLostAnswer(this.opened());
  }

  protected override async leaving(): Promise<void> {
    const maintenance = this.#maintenance;
    this.#maintenance = null;
    await maintenance?.close();
  }

  protected override isAbsent(error: unknown): boolean {
    return isNoLake(error);
  }

  protected override async applying(
    _batch: Batch,
    { connection, store }: Opened<Lake>,
    write: () => Promise<void>,
  ): Promise<void> {
    try {
      await write();
    } catch (error) {
      if (classify(error, "writing").reason === "lost") this.#lostFiles.answerLost();
      throw error;
    }
    failpoint("ducklake.committed");
    await store.giveBack(connection);
  }

  protected override async preparing(
    tables: readonly TableVersion[],
    opened: Opened<Lake>,
    purpose: "prepare" | "reset",
  ): Promise<void> {
    await this.#lostFiles.preparing(tables, opened, purpose);
  }

  protected override async verifying(opened: Opened<Lake>): Promise<void> {
    await this.#lostFiles.verify(opened);
  }

  protected override async meaning(error: MillraceError, opened: Opened<Lake>): Promise<MillraceError> {
    return await this.#lostFiles.meaning(error, opened);
  }
}
