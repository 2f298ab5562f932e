/** The targets of one sink's tables: prepares them, and knows how to write their rows. */
import type { TableName } from "../../../src/core/contracts/connector.ts";
import type { Logger } from "../../../src/core/contracts/telemetry.ts";
import { aboutTable, findMillraceError } from "../../../src/core/errors.ts";
import { failpoint } from "../../../src/core/failpoint.ts";
import { invariant } from "../../../src/core/invariant.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import { lostColumns, successorOf } from "../../../src/core/targets/following.ts";
import type { Client } from "../client.ts";
import { current, DOUBT_MS_MAX } from "../current.ts";
import { classify, clickhouseError, isThere, notShown, OF_ONE_TABLE } from "../errors.ts";
import type { WriteFence } from "../fence.ts";
import { OWN_PREFIX, quoteIdentifier, sqlNameOf, type TargetName, targetOf, viewOf } from "../names.ts";
import { type ExistingTarget, lookUpTargets } from "./existing.ts";
import { carriesTarget, expectMode, followTable, refuseForm } from "./follow.ts";
import type { Placement, TargetForm } from "./form.ts";
import { layoutOf, type TableLayout } from "./layout.ts";
import { LastSeen } from "./last-seen.ts";
import { type LostTable, Presence } from "./presence.ts";
import { createSql, onCluster } from "./statements.ts";
import { isOurView, viewFor } from "./view.ts";

export interface TargetsOptions {
  /** See TargetNote. */
  readonly owner: string;
  readonly schema: string | undefined;
  readonly form: TargetForm;
  readonly placement: Placement;
  readonly dropsColumns: ((table: TableName) => boolean) | undefined;
  readonly logger: Logger;
}

export class Targets {
  readonly #options: TargetsOptions;
  readonly #layouts = new WeakMap<TableVersion, TableLayout>();
  readonly #lastSeen: LastSeen;
  readonly #presence: Presence;
  readonly #databases = new Set<string>();
  #fence: WriteFence | null = null;

  constructor(options: TargetsOptions) {
    this.#options = options;
    this.#lastSeen = new LastSeen(options.owner, options.placement);
    this.#presence = new Presence(this.#lastSeen);
  }

  /** Equal for two tables if and only if they would share a target. */
  key(table: TableVersion): string {
    return sqlNameOf(targetOf(table, this.#options.schema));
  }

  get fence(): WriteFence {
    invariant(this.#fence !== null, "a sink is opened before it is used");
    return this.#fence;
  }

  layout(table: TableVersion): TableLayout {
    const layout = this.#layouts.get(table);
    invariant(layout !== undefined, `${table.id} is prepared before it is written`);
    return layout;
  }

  /** For a version that need not be prepared. */
  layoutFor(table: TableVersion): TableLayout {
    const { owner, schema, form, placement, dropsColumns } = this.#options;
    const target = targetOf(table, schema);
    return layoutOf(table, { target, form, placement, owner, dropsColumns: dropsColumns?.(table) ?? false });
  }

  /** The checkpoint, and its database, are there. */
  async open(client: Client, fence: WriteFence, signal: AbortSignal): Promise<void> {
    this.#fence = fence;
    this.#databases.clear();
    await this.#presence.open(client, signal);
  }

  /** Removes what the sink has stored about its targets. */
  async remove(client: Client, signal: AbortSignal): Promise<void> {
    await this.#lastSeen.remove(client, signal);
  }

  /** If a table fails, the others are still prepared; the error names it. */
  async prepare(client: Client, tables: readonly TableVersion[], signal: AbortSignal): Promise<void> {
    const failures: unknown[] = [];
    const prepared: TableLayout[] = [];
    const there = await this.#lookUp(client, tables, signal);
    const seen = new Set<string>();
    for (const table of tables) {
      const known = (error: unknown) => classify(error, `preparing ${table.id}`, signal);
      try {
        await aboutTable(table.id, OF_ONE_TABLE, known, async () => {
          const key = this.key(table);
          // Another version of the table in this call has changed the target.
          const found = seen.has(key) ? await this.#lookUp(client, [table], signal) : there;
          seen.add(key);
          prepared.push(await this.#prepare(client, table, found, signal));
        });
      } catch (error) {
        if (findMillraceError(error)?.table === undefined) throw error;
        failures.push(error);
      }
    }
    await this.#presence.add(client, prepared, signal);
    if (failures.length > 0) throw failures[0];
  }

  async #prepare(
    client: Client,
    table: TableVersion,
    there: ReadonlyMap<string, ExistingTarget>,
    signal: AbortSignal,
  ): Promise<TableLayout> {
    refuseOwnColumns(table);
    const layout = this.layoutFor(table);
    const existing = there.get(layout.sqlName) ?? (await this.#create(client, layout, signal));
    if (existing?.isView === true && isOurView(existing.comment)) {
      // The view of another table: a table goes before it.
      await client.run(`DROP VIEW ${layout.sqlName}${onCluster(layout.placement)} SYNC`, signal);
      await this.#create(client, layout, signal);
    } else if (existing !== undefined) await followTable(client, this.fence, layout, existing, signal);
    await this.#show(client, layout, there.get(sqlNameOf(viewOf(layout.target))), signal);
    this.#layouts.set(table, layout);
    return layout;
  }

  /** What is there already, although an earlier answer did not show it. */
  async #create(client: Client, layout: TableLayout, signal: AbortSignal): Promise<ExistingTarget | undefined> {
    const { database } = layout.target;
    if (!this.#databases.has(database)) {
      const on = onCluster(layout.placement);
      await client.run(`CREATE DATABASE IF NOT EXISTS ${quoteIdentifier(database)}${on}`, signal);
      this.#databases.add(database);
    }
    try {
      await client.run(createSql(layout, this.fence), signal);
    } catch (error) {
      if (isThere(error)) return await foundAgain(client, layout.target, signal);
      throw error;
    }
    this.fence.made(layout);
    failpoint("clickhouse.target-made", layout.table);
    return undefined;
  }

  async #show(
    client: Client,
    layout: TableLayout,
    existing: ExistingTarget | undefined,
    signal: AbortSignal,
  ): Promise<void> {
    const { comment, createSql: sql } = viewFor(layout);
    if (existing?.comment === comment) return;
    if (existing !== undefined && !isOurView(existing.comment)) {
      const name = `${layout.target.database}.${viewOf(layout.target).table}`;
      this.#options.logger.warn(
        { table: layout.table.id },
        `there is no view of its live rows: ${name} exists already`,
      );
      return;
    }
    try {
      // What an answer did not show yet may be somebody's.
      await client.run(existing === undefined ? sql.replace("CREATE OR REPLACE", "CREATE") : sql, signal);
    } catch (error) {
      if (existing !== undefined || !isThere(error)) throw error;
      await this.#show(client, layout, await foundAgain(client, viewOf(layout.target), signal), signal);
    }
  }

  /**
   * Existing targets get the form that the options request now. Returns the tables whose target is missing or another one,
   * lost rows or columns, or was taken over by another daemon.
   */
  async missing(
    client: Client,
    tables: readonly TableVersion[],
    signal: AbortSignal,
  ): Promise<readonly TableVersion[]> {
    const isWhole = (table: TableVersion, existing: ExistingTarget | undefined): existing is ExistingTarget =>
      existing !== undefined && !existing.isView && !this.#isRobbed(table, existing);
    const there = await current(
      () => this.#lookUp(client, tables, signal),
      (found) => tables.every((table) => isWhole(table, found.get(this.key(table)))),
      signal,
      DOUBT_MS_MAX,
    );
    const targets = tables.flatMap((table) => this.#nameOf(table) ?? []);
    const lost = await this.#presence.lostOf(client, targets, signal);
    const missing: TableVersion[] = [];
    for (const table of tables) {
      const existing = there.get(this.key(table));
      if (lost.has(this.key(table)) || !isWhole(table, existing)) {
        // What is reported here must not be reported again by `lost`.
        this.#presence.forget(this.key(table));
        missing.push(table);
      } else if (existing.form !== null) {
        expectMode(this.key(table), existing.form.mode, this.#options.form.mode);
        refuseForm(this.key(table), existing, this.#options.placement, table.id);
        const isSame = existing.form.mode === "history" || existing.form.deletes === this.#options.form.deletes;
        if (!isSame) await this.prepare(client, [table], signal);
      }
    }
    return missing;
  }

  /** See TargetPresence. */
  async foreign(
    client: Client,
    tables: readonly TableVersion[],
    signal: AbortSignal,
  ): Promise<readonly TableVersion[]> {
    const look = async (): Promise<readonly TableVersion[]> => {
      const there = await this.#lookUp(client, tables, signal);
      return tables.filter((table) => {
        const target = this.#nameOf(table);
        const note = target === null ? undefined : there.get(sqlNameOf(target))?.note;
        return successorOf(this.#options.owner, note ?? null) !== null;
      });
    };
    return await current(look, ({ length }) => length === 0, signal, DOUBT_MS_MAX);
  }

  /** Rows were written there. */
  filled(layout: TableLayout): void {
    this.#presence.filled(layout);
  }

  /** The rows of a batch are there. */
  async written(client: Client, signal: AbortSignal): Promise<void> {
    await this.#presence.saveFilled(client, signal);
  }

  /** This sink removed rows there in another way than by batches. */
  async removed(client: Client, sqlNames: readonly string[], signal: AbortSignal): Promise<void> {
    await this.#presence.refresh(client, sqlNames, signal);
  }

  /** See Presence. */
  async lost(client: Client, signal: AbortSignal): Promise<readonly LostTable[]> {
    return await this.#presence.lost(client, signal);
  }

  /** See `Sink.carries`. */
  async carries(client: Client, from: TableVersion, to: TableVersion, signal: AbortSignal): Promise<boolean> {
    const existing = (await this.#lookUp(client, [to], signal)).get(this.key(to));
    if (existing === undefined || existing.form === null) return false;
    return await carriesTarget(client, [this.layoutFor(from), this.layoutFor(to)], existing, signal);
  }

  #isRobbed(table: TableVersion, { columns, form, note }: ExistingTarget): boolean {
    if (form === null) return false;
    const names = table.columns.map(({ name }) => name);
    const lost = lostColumns([...columns.keys()], note, table, names);
    return successorOf(this.#options.owner, note) !== null || lost.length > 0;
  }

  /** Tables that exist, with their views. */
  async #lookUp(client: Client, tables: readonly TableVersion[], signal: AbortSignal) {
    const names = tables.flatMap((table) => {
      const target = this.#nameOf(table);
      return target === null ? [] : [target, viewOf(target)];
    });
    return await lookUpTargets(client, names, signal);
  }

  /** Null: it can't have that name, as its own preparation says. */
  #nameOf(table: TableVersion): TargetName | null {
    try {
      return targetOf(table, this.#options.schema);
    } catch {
      return null;
    }
  }
}

/** A table or view that an answer of before did not show. */
async function foundAgain(client: Client, target: TargetName, signal: AbortSignal): Promise<ExistingTarget> {
  const name = sqlNameOf(target);
  const look = async () => (await lookUpTargets(client, [target], signal)).get(name);
  const found = await current(look, (existing) => existing !== undefined, signal);
  if (found === undefined) throw notShown(name);
  return found;
}

function refuseOwnColumns(table: TableVersion): void {
  const own = table.columns.find(({ name }) => name.startsWith(OWN_PREFIX));
  if (own === undefined) return;
  throw clickhouseError({
    code: "MR4109",
    kind: "fatal",
    message: `column ${own.name} of ${table.id} is named like Millrace's own columns`,
  });
}
