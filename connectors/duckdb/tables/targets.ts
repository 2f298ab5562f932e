import type { EngineConnection } from "../engine/engine.ts";
import type { TableName } from "../../../src/core/contracts/connector.ts";
import { aboutTable, findMillraceError } from "../../../src/core/errors.ts";
import { failpoint } from "../../../src/core/failpoint.ts";
import { invariant } from "../../../src/core/invariant.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import { lostColumns, successorOf } from "../../../src/core/targets/following.ts";
import { carriesTarget, createStatements, followTarget, preparedAlready, type PreparedTarget } from "./ddl.ts";
import { classify, duckdbError, OF_ONE_TABLE, overFiles } from "../errors.ts";
import type { ExistingTarget } from "./existing.ts";
import { conversion, type TargetForm } from "./form.ts";
import { columnNames, fold, targetKey, type TargetName, targetOf, VERSION_COLUMN } from "../names.ts";
import type { Store } from "../store.ts";
import { type TableLayout, layoutOf } from "../write/layout.ts";
import { inTransaction } from "../write/transaction.ts";

export interface TargetsOptions {
  /** The sink's name. */
  readonly name: string;
  /** See TargetNote. */
  readonly owner: string | undefined;
  readonly schema: string | undefined;
  readonly form: TargetForm;
  readonly dropsColumns: ((table: TableName) => boolean) | undefined;
  readonly onPrepared: (layout: TableLayout, prepared: PreparedTarget) => void;
}

export interface TargetStore {
  readonly connection: EngineConnection;
  readonly store: Store;
  /** Called before the targets of these tables change in another way than by rows. Exclusively. */
  readonly changing: (tables: readonly TableVersion[]) => void;
}

/** A target that must change. `existing` is unknown if another table of the same call may have changed it. */
interface Lagging {
  readonly layout: TableLayout;
  readonly existing: ExistingTarget | undefined;
}

/** How many targets one text of statements creates. */
const MADE_TOGETHER = 50;

/** The targets of one sink's tables: prepares them, and knows how to write their rows. */
export class Targets {
  readonly #options: TargetsOptions;
  readonly #layouts = new WeakMap<TableVersion, TableLayout>();
  /** By table id, as last prepared. */
  readonly #latest = new Map<string, TableLayout>();
  /** Target key -> id of the table that is written to it. */
  readonly #owners = new Map<string, string>();

  constructor(options: TargetsOptions) {
    this.#options = options;
  }

  get latest(): ReadonlyMap<string, TableLayout> {
    return this.#latest;
  }

  get owners(): ReadonlyMap<string, string> {
    return this.#owners;
  }

  /** Equal for two tables if and only if they would share a target. */
  key(table: TableVersion): string {
    return targetKey(targetOf(table, this.#options.schema));
  }

  layout(table: TableVersion): TableLayout {
    const layout = this.#layouts.get(table);
    invariant(layout !== undefined, `${table.id} is prepared before it is written`);
    return layout;
  }

  /** The next opened store may be another one: targets are looked up again at their next preparation. */
  forget(keys: Iterable<string> = [...this.#owners.keys()]): void {
    for (const key of keys) this.#owners.delete(key);
  }

  /**
   * Creates missing targets in one transaction, and makes each outdated one follow in a separate one. If a table fails,
   * the others are still prepared; the error names it.
   */
  async prepare(targets: TargetStore, tables: readonly TableVersion[]): Promise<void> {
    const { connection, store, changing } = targets;
    const failures: unknown[] = [];
    /** Undefined if it failed because of this table only. */
    const attempt = async <T>(table: TableVersion, work: () => T | Promise<T>): Promise<T | undefined> => {
      const known = (error: unknown) => classify(error, `preparing ${table.id}`);
      try {
        return await aboutTable(table.id, OF_ONE_TABLE, known, () => overFiles(table.id, work));
      } catch (error) {
        if (findMillraceError(error)?.table === undefined) throw error;
        failures.push(error);
        return undefined;
      }
    };
    const layouts: TableLayout[] = [];
    for (const table of tables) {
      const layout = await attempt(table, () => this.#claimed(table, store));
      if (layout !== undefined) layouts.push(layout);
    }
    const lagging = await store.exclusively(async () => {
      const wanted = layouts.map(({ target }) => target);
      const there = await store.find(connection, wanted);
      const missing: TableLayout[] = [];
      const found: Lagging[] = [];
      const seen = new Set<string>();
      for (const layout of layouts) {
        const key = targetKey(layout.target);
        const existing = there.get(key);
        if (seen.has(key)) found.push({ layout, existing: undefined });
        else if (existing === undefined) missing.push(layout);
        else {
          const already = await attempt(layout.table, () => preparedAlready(layout, existing) ?? "lagging");
          if (already === "lagging") found.push({ layout, existing });
          else if (already !== undefined) this.#ready(layout, already);
        }
        seen.add(key);
      }
      changing(missing.map(({ table }) => table));
      await make(connection, missing);
      for (const layout of missing) this.#ready(layout, { hasExact: false, retired: [] });
      return found;
    });
    for (const target of lagging) await attempt(target.layout.table, () => this.#follow(targets, target));
    if (failures.length > 0) throw failures[0];
  }

  async #follow({ connection, store, changing }: TargetStore, { layout, existing }: Lagging): Promise<void> {
    await store.exclusively(async () => {
      changing([layout.table]);
      let target = existing ?? (await lookUp(connection, store, layout));
      // No conversion if it is not ours: that is refused below.
      const converting = target.columns.has(VERSION_COLUMN)
        ? conversion(layout.sqlName, layout.form, target.columns)
        : [];
      for (const sql of converting) await connection.run(sql);
      if (converting.length > 0) target = await lookUp(connection, store, layout);
      const prepared = await inTransaction(
        connection,
        () => connection.run(BEGIN),
        async () => {
          const followed = await followTarget(connection, layout, target);
          failpoint("duckdb.target-made", layout.table);
          return followed;
        },
      );
      this.#ready(layout, prepared);
    });
  }

  /**
   * Existing tables get the form that the options request now, even if no rows arrive. Returns the tables whose target
   * is missing, lost columns, or was taken over by another daemon.
   */
  async missing(
    { connection, store, changing }: TargetStore,
    tables: readonly TableVersion[],
  ): Promise<readonly TableVersion[]> {
    const { schema, form } = this.#options;
    const targets = tables.map((table) => targetOf(table, schema));
    const there = await store.find(connection, targets);
    const missing: TableVersion[] = [];
    for (const table of tables) {
      const found = there.get(this.key(table));
      if (found === undefined || found.isView || this.#isRobbed(table, found)) missing.push(table);
      if (found?.columns.has(VERSION_COLUMN) !== true || this.successor(found) !== null) continue;
      const { sqlName } = layoutOf(table, targetOf(table, schema), store.catalogue, form);
      const statements = conversion(sqlName, form, found.columns);
      if (statements.length === 0) continue;
      await store.exclusively(async () => {
        changing([table]);
        for (const sql of statements) await connection.run(sql);
      });
    }
    // What is reported here must not be reported again by `verify`.
    this.forget(missing.map((table) => this.key(table)));
    return missing;
  }

  /** See TargetPresence. */
  async foreign(
    { connection, store }: Omit<TargetStore, "changing">,
    tables: readonly TableVersion[],
  ): Promise<readonly TableVersion[]> {
    const names = tables.map((table) => this.#nameOf(table));
    const there = await store.find(
      connection,
      names.filter((name) => name !== null),
    );
    return tables.filter((_, i) => {
      const name = names[i]!;
      const found = name === null ? undefined : there.get(targetKey(name));
      return found !== undefined && this.successor(found) !== null;
    });
  }

  /** Null: it can't have that name, as its own preparation says. */
  #nameOf(table: TableVersion): TargetName | null {
    try {
      return targetOf(table, this.#options.schema);
    } catch {
      return null;
    }
  }

  /** See `successorOf`. */
  successor({ note }: Pick<ExistingTarget, "note">): string | null {
    return successorOf(this.#options.owner, note);
  }

  /** See `Sink.carries`. */
  async carries(
    { connection, store }: Omit<TargetStore, "changing">,
    from: TableVersion,
    to: TableVersion,
  ): Promise<boolean> {
    const { catalogue } = store;
    const [before, after] = [this.#layoutFor(from, catalogue), this.#layoutFor(to, catalogue)];
    const existing = (await store.find(connection, [after.target])).get(targetKey(after.target));
    return existing !== undefined && carriesTarget(before, after, existing);
  }

  #isRobbed(table: TableVersion, existing: ExistingTarget): boolean {
    const { columns, note } = existing;
    if (!columns.has(VERSION_COLUMN)) return false;
    const names = columnNames(table.columns, this.#options.form).map(fold);
    return this.successor(existing) !== null || lostColumns([...columns.keys()], note, table, names).length > 0;
  }

  #claimed(table: TableVersion, store: Store): TableLayout {
    const layout = this.#layoutFor(table, store.catalogue);
    store.claim(targetKey(layout.target), { sink: this.#options.name, tableId: table.id });
    refuseOwnColumns(table);
    return layout;
  }

  #layoutFor(table: TableVersion, catalogue: string): TableLayout {
    const { owner, schema, form, dropsColumns } = this.#options;
    return {
      ...layoutOf(table, targetOf(table, schema), catalogue, form),
      owner,
      dropsColumns: dropsColumns?.(table) ?? false,
    };
  }

  #ready(layout: TableLayout, prepared: PreparedTarget): void {
    const { table } = layout;
    this.#owners.set(targetKey(layout.target), table.id);
    const ready = { ...layout, retired: prepared.retired };
    this.#layouts.set(table, ready);
    this.#latest.set(table.id, ready);
    this.#options.onPrepared(ready, prepared);
  }
}

const BEGIN = "BEGIN TRANSACTION";

async function make(connection: EngineConnection, layouts: readonly TableLayout[]): Promise<void> {
  if (layouts.length === 0) return;
  await inTransaction(
    connection,
    () => connection.run(BEGIN),
    async () => {
      for (let from = 0; from < layouts.length; from += MADE_TOGETHER) {
        const together = layouts.slice(from, from + MADE_TOGETHER);
        await connection.run([...new Set(together.flatMap(createStatements))].join("; "));
        for (const { table } of together) failpoint("duckdb.target-made", table);
      }
    },
  );
}

async function lookUp(connection: EngineConnection, store: Store, { target }: TableLayout): Promise<ExistingTarget> {
  const existing = (await store.find(connection, [target])).get(targetKey(target));
  invariant(existing !== undefined, "a created or found target exists");
  return existing;
}

function refuseOwnColumns(table: TableVersion): void {
  const own = table.columns.find(({ name }) => fold(name).startsWith("_millrace_"));
  if (own === undefined) return;
  throw duckdbError({
    code: "MR3209",
    kind: "fatal",
    message: `column ${own.name} of ${table.id} is named like Millrace's own columns`,
    hint: "rename the column at the source, or leave the table out",
  });
}
