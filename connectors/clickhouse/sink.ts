import { lowBytesOf, type Room, roomText } from "../../src/core/disk-room.ts";
import { failpoint } from "../../src/core/failpoint.ts";
import { type Batch, tablesOf } from "../../src/core/model/batch.ts";
import type { Checkpoint } from "../../src/core/checkpoint.ts";
import type { Inspection } from "../../src/core/contracts/comparing.ts";
import type {
  AllTargets,
  ForeignTarget,
  Outcome,
  Sink,
  SinkForm,
  TargetComparison,
  TargetEvolution,
  TargetPresence,
  TargetRows,
} from "../../src/core/contracts/sink.ts";
import type { Logger } from "../../src/core/contracts/telemetry.ts";
import { invariant } from "../../src/core/invariant.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import { Client, type ClientSettings } from "./client.ts";
import { explain, isDiskFull, isGone, lacksColumn, RowsRefused, stopped } from "./errors.ts";
import { WriteFence } from "./fence.ts";
import { ClickhouseInspection } from "./inspect/inspect.ts";
import { CheckpointRow } from "./checkpoint.ts";
import { expelSql } from "./tables/statements.ts";
import type { ClickhouseTarget } from "./tables/existing.ts";
import { LastSeen } from "./tables/last-seen.ts";
import { expectNone, Presence } from "./tables/presence.ts";
import { ClickhouseWarehouse, layoutFor, type WarehouseOptions } from "./tables/warehouse.ts";
import { Targets, type TargetsOptions } from "../warehouse/targets.ts";
import { BatchWriter } from "./write/batch-writer.ts";
import type { Placement, TableLayout } from "./tables/layout.ts";
import { sqlNameOf, targetOf } from "./names.ts";
import { HeldClient } from "../kit/held-client.ts";

/** Each batch makes a part of a table, which the server merges with others later: the larger a batch, the less work. */
const BATCH = { rowCountMax: 100_000, byteCountMax: 8 * 1024 * 1024, delayMs: 200 } as const;

const BUCKET_BYTES = 2 ** 60;

/** `owner`: also the name of the sink's checkpoint. `schema`: the database for all tables. */
export interface ClickhouseSinkSettings extends ClientSettings, TargetsOptions {
  readonly name: string;
  readonly owner: string;
  readonly placement: Placement;
}

/**
 * Mirrors tables into ClickHouse, or keeps their history; see README.md for its guarantees. Not a transactional sink:
 * rows become durable first, then the checkpoint, and versions make a repetition harmless.
 */
export class ClickhouseSink implements Sink, TargetPresence, TargetRows, TargetEvolution, TargetComparison {
  readonly kind = "clickhouse";
  readonly delivery = "idempotent";
  readonly onLost = "fail";
  readonly presence = this;
  readonly rows = this;
  readonly evolution = this;
  readonly comparison = this;
  readonly batchLimits = BATCH;
  readonly form: SinkForm;
  readonly scopedBy?: "rows";
  readonly name: string;
  readonly #settings: ClickhouseSinkSettings;
  readonly #options: WarehouseOptions;
  readonly #targets: Targets<TableLayout, ClickhouseTarget, TableLayout>;
  readonly #lastSeen: LastSeen;
  readonly #presence: Presence;
  readonly #writer: BatchWriter;
  readonly #closing = new AbortController();
  readonly #client = new HeldClient((signal) => Client.open(this.#settings, signal));
  #checkpoint: CheckpointRow | null = null;
  #fence: WriteFence | null = null;

  constructor(settings: ClickhouseSinkSettings, logger: Logger) {
    this.name = settings.name;
    this.form = settings.form.mode;
    if (this.form === "mirror") this.scopedBy = "rows";
    this.#settings = settings;
    const { owner, schema, form, placement, dropsColumns } = settings;
    this.#options = { owner, schema, form, placement, dropsColumns, logger };
    this.#targets = new Targets(owner);
    this.#lastSeen = new LastSeen(owner, placement);
    this.#presence = new Presence(this.#lastSeen);
    this.#writer = new BatchWriter(this.#presence);
  }

  target(table: TableVersion): string {
    return sqlNameOf(targetOf(table, this.#options.schema));
  }

  async open(lease: number, signal: AbortSignal): Promise<Checkpoint | null> {
    // What refused the last connection may be corrected by now, also in TLS files.
    await this.#client.disconnect();
    return await this.#work("opening the sink", signal, async (client, until) => {
      const checkpoint = this.#stored(client);
      const held = await checkpoint.takeOver(lease, until);
      if (this.#fence?.lease === lease) this.#fence.reopened(client);
      else this.#fence = new WriteFence(client, this.#settings.owner, lease, this.#settings.placement);
      await this.#presence.open(client, until);
      this.#checkpoint = checkpoint;
      return held;
    });
  }

  async look(signal: AbortSignal): Promise<Checkpoint | null> {
    return await this.#work("looking at the checkpoint", signal, (client, until) => this.#stored(client).look(until));
  }

  async missing(tables: readonly TableVersion[], signal: AbortSignal): Promise<readonly TableVersion[]> {
    return await this.#work("looking for tables", signal, async (client, until) => {
      const targets = tables.map((table) => targetOf(table, this.#options.schema));
      const lost = await this.#presence.lostOf(client, targets, this.form, until);
      const left = tables.filter((table) => !lost.has(this.target(table)));
      const missing = new Set(await this.#targets.missing(this.#warehouse(client, until), left));
      // What is reported here must not be reported again by `verify`.
      for (const table of missing) this.#presence.forget(this.target(table));
      return tables.filter((table) => missing.has(table) || lost.has(this.target(table)));
    });
  }

  async foreign(tables: readonly TableVersion[], signal: AbortSignal): Promise<readonly ForeignTarget[]> {
    return await this.#work("looking for tables", signal, async (client, until) => {
      const foreign = await this.#targets.foreign(this.#warehouse(client, until), tables);
      // What is reported here must not be reported again by `verify`.
      // Of a target that tables share it is a part, and the others' rows stay watched.
      for (const { table } of foreign) if (table.scope === undefined) this.#presence.forget(this.target(table));
      return foreign;
    });
  }

  async keepOnly(tables: readonly TableVersion[], signal: AbortSignal): Promise<void> {
    await this.#work("letting go of tables", signal, async (client, until) => {
      await this.#opened().compare(until);
      await this.#targets.keepOnly(this.#warehouse(client, until), tables);
    });
  }

  async prepare(tables: readonly TableVersion[], signal: AbortSignal): Promise<void> {
    await this.#work("preparing tables", signal, async (client, until) => {
      await this.#opened().compare(until);
      await this.#targets.prepare(this.#warehouse(client, until), tables);
    });
  }

  async carries(from: TableVersion, to: TableVersion, signal: AbortSignal): Promise<boolean> {
    return await this.#work(`looking at ${to.id}`, signal, (client, until) =>
      this.#targets.carries(this.#warehouse(client, until), from, to),
    );
  }

  async apply(batch: Batch, outcome: Outcome, signal: AbortSignal): Promise<void> {
    await this.#work("writing", signal, async (client, until) => {
      const checkpoint = this.#opened();
      const layouts = tablesOf(batch).map((table) => this.#targets.get(table));
      await checkpoint.compare(until);
      const fence = this.#entered();
      try {
        const warehouse = this.#warehouse(client, until);
        await warehouse.enter(layouts);
        if (batch.kind === "sweep") await this.#targets.hide(warehouse, batch.sweeps);
        await this.#writer.write({ client, fence }, batch, layouts, outcome, until);
      } catch (thrown) {
        const error = thrown instanceof RowsRefused ? thrown.error : thrown;
        if (isGone(error) || lacksColumn(error)) await this.#expectTables(client, until);
        throw thrown instanceof RowsRefused ? thrown.judged : error;
      }
      if (batch.kind !== "checkpoint") failpoint("clickhouse.rows-written");
      await this.#presence.saveFilled(client, until);
      await checkpoint.write(batch.checkpoint, until);
      failpoint("clickhouse.committed");
    });
  }

  async expel(tables: readonly TableVersion[], version: bigint, signal: AbortSignal): Promise<void> {
    await this.#work("removing rows that Millrace did not write", signal, async (client, until) => {
      await this.#opened().compare(until);
      const warehouse = this.#warehouse(client, until);
      const fence = this.#entered();
      const expelled = await this.#targets.expelled(warehouse, tables);
      // A process before this one may have ended before it stopped the former owner.
      for (const { table, settled } of expelled) if (settled !== null) fence.left(layoutFor(table, this.#options));
      await warehouse.enter(expelled.map(({ table }) => layoutFor(table, this.#options)));
      for (const { table, noted, settled } of expelled) {
        const layout = layoutFor(table, this.#options);
        const sql = expelSql(layout, version, fence.holds(layout));
        await client.run(sql, until, { allow_nondeterministic_mutations: 1 });
        // If another one has entered the table, the mutation has removed nothing, and each of these two calls throws.
        if (noted === null) await fence.expectEntered(layout, until);
        else await warehouse.note(layout, noted);
        if (settled !== null) await warehouse.settle(settled);
      }
      const names = expelled.map(({ rows }) => rows);
      await this.#presence.refresh(client, names, until);
    });
  }

  async highestVersion(tables: readonly TableVersion[] | AllTargets, signal: AbortSignal): Promise<bigint> {
    return await this.#work("looking for old rows", signal, (client, until) =>
      this.#targets.highestVersion(this.#warehouse(client, until), tables),
    );
  }

  async verify(signal: AbortSignal): Promise<void> {
    await this.#work("looking at the tables", signal, async (client, until) => {
      await this.#opened().compare(until);
      await this.#expectTables(client, until);
    });
  }

  async #expectTables(client: Client, signal: AbortSignal): Promise<void> {
    // First: who has taken a part of a shared target may have removed all rows that were there.
    await this.#targets.checkScopes(this.#warehouse(client, signal));
    expectNone(await this.#presence.lost(client, signal));
  }

  async forget(signal: AbortSignal): Promise<void> {
    await this.#work("removing the sink's checkpoint", signal, async (client, until) => {
      await this.#opened().compare(until);
      const { scopes } = this.#warehouse(client, until);
      await scopes.release(await scopes.own());
      await this.#opened().remove(until);
      await this.#lastSeen.remove(client, until);
    });
  }

  /** Of the disks of the server that the url leads to. */
  async rooms(signal: AbortSignal): Promise<readonly Room[]> {
    const client = this.#client.current;
    if (client === null) return [];
    const lines = await client.text("SELECT free_space, total_space, path FROM system.disks", signal);
    return lines.split("\n").flatMap((line): readonly Room[] => {
      const [free, total, where] = line.split("\t");
      // A bucket tells the largest number there is.
      if (where === undefined || Number(total) >= BUCKET_BYTES) return [];
      return [{ where, freeBytes: Number(free), lowBytes: lowBytesOf(Number(total)) }];
    });
  }

  async inspect(signal: AbortSignal): Promise<Inspection> {
    return new ClickhouseInspection(await Client.open(this.#settings, signal), (table) =>
      layoutFor(table, this.#options),
    );
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#client.close();
  }

  #stored(client: Client): CheckpointRow {
    return new CheckpointRow(client, this.#settings.owner, this.#settings.placement);
  }

  #warehouse(client: Client, signal: AbortSignal): ClickhouseWarehouse {
    const [fence, checkpoint] = [this.#entered(), this.#opened()];
    const state = { fence, presence: this.#presence, checkpoint, targets: this.#targets };
    return new ClickhouseWarehouse(client, state, this.#options, signal);
  }

  #entered(): WriteFence {
    invariant(this.#fence !== null, "a sink is opened before it is used");
    return this.#fence;
  }

  #opened(): CheckpointRow {
    invariant(this.#checkpoint !== null, "a sink is opened before it is used");
    return this.#checkpoint;
  }

  async #work<T>(
    doing: string,
    signal: AbortSignal,
    work: (client: Client, signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const until = AbortSignal.any([signal, this.#closing.signal]);
    try {
      if (until.aborted) throw stopped();
      return await work(await this.#client.connected(until), until);
    } catch (error) {
      throw await explain(error, doing, {
        url: this.#settings.url,
        signal: until,
        room: isDiskFull(error) ? await this.rooms(until).then(roomText, () => "") : "",
      });
    }
  }
}
