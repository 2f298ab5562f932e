import type { DuckDBConnection } from "@duckdb/node-api";
import type { TableName } from "../../../src/core/contracts/connector.ts";
import { aboutTable, findMillraceError } from "../../../src/core/errors.ts";
import { failpoint } from "../../../src/core/failpoint.ts";
import { invariant } from "../../../src/core/invariant.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import type { Database } from "../file/database.ts";
import { carriesTarget, createStatements, followTarget, preparedAlready, type PreparedTarget } from "./ddl.ts";
import { classify, duckdbError, OF_ONE_TABLE } from "../errors.ts";
import { type ExistingTarget, lookUpTargets } from "./existing.ts";
import { conversion, type TargetForm } from "./form.ts";
import { fold, targetKey, targetOf, VERSION_COLUMN } from "../names.ts";
import { type Plan, planOf } from "../write/plan.ts";
import { readTextRows } from "../write/text-rows.ts";
import { inTransaction } from "../write/transaction.ts";

export interface TargetsOptions {
  /** The sink's name. */
  readonly name: string;
  readonly schema: string | undefined;
  readonly form: TargetForm;
  readonly dropsColumns: ((table: TableName) => boolean) | undefined;
  readonly onPrepared: (plan: Plan, prepared: PreparedTarget) => void;
}

export interface TargetFile {
  readonly connection: DuckDBConnection;
  readonly database: Database;
  /** Before the targets of these tables change otherwise than by rows. Exclusively. */
  readonly changing: (tables: readonly TableVersion[]) => void;
}

/** A target that is not as it should be. `existing` is unknown where another table of the same call may have changed it. */
interface Lagging {
  readonly plan: Plan;
  readonly existing: ExistingTarget | undefined;
}

/** So many targets are made by one text. */
const MADE_TOGETHER = 50;

/** The targets of one sink's tables: makes them ready, and knows how rows are written to those that are. */
export class Targets {
  readonly #options: TargetsOptions;
  readonly #plans = new WeakMap<TableVersion, Plan>();
  /** By table id, as they were prepared last. */
  readonly #latest = new Map<string, Plan>();
  /** Target key -> id of the table that is written there. */
  readonly #owners = new Map<string, string>();

  constructor(options: TargetsOptions) {
    this.#options = options;
  }

  get latest(): ReadonlyMap<string, Plan> {
    return this.#latest;
  }

  get owners(): ReadonlyMap<string, string> {
    return this.#owners;
  }

  /** Equal for two tables exactly when they would meet in one target. */
  key(table: TableVersion): string {
    return targetKey(targetOf(table, this.#options.schema));
  }

  plan(table: TableVersion): Plan {
    const plan = this.#plans.get(table);
    invariant(plan !== undefined, `${table.id} is prepared before it is written`);
    return plan;
  }

  /** What is opened next may be another file: targets are looked for from their next preparation on. */
  forget(keys: Iterable<string> = [...this.#owners.keys()]): void {
    for (const key of keys) this.#owners.delete(key);
  }

  /**
   * Those that are not there are made in one transaction, and those that lag behind follow in one each. A table that fails
   * leaves the others ready; the error names it.
   */
  async prepare(file: TargetFile, tables: readonly TableVersion[]): Promise<void> {
    const { connection, database, changing } = file;
    const failures: unknown[] = [];
    /** Undefined: it failed, for this table's sake alone. */
    const attempt = async <T>(table: TableVersion, work: () => T | Promise<T>): Promise<T | undefined> => {
      const known = (error: unknown) => classify(error, `preparing ${table.id}`);
      try {
        return await aboutTable(table.id, OF_ONE_TABLE, known, async () => await work());
      } catch (error) {
        if (findMillraceError(error)?.table === undefined) throw error;
        failures.push(error);
        return undefined;
      }
    };
    const plans: Plan[] = [];
    for (const table of tables) {
      const plan = await attempt(table, () => this.#claimed(table, database));
      if (plan !== undefined) plans.push(plan);
    }
    const lagging = await database.exclusively(async () => {
      const targets = plans.map(({ target }) => target);
      const there = await lookUpTargets(connection, database.catalogue, targets);
      const missing: Plan[] = [];
      const found: Lagging[] = [];
      const seen = new Set<string>();
      for (const plan of plans) {
        const key = targetKey(plan.target);
        const existing = there.get(key);
        if (seen.has(key)) found.push({ plan, existing: undefined });
        else if (existing === undefined) missing.push(plan);
        else {
          const already = await attempt(plan.table, () => preparedAlready(plan, existing) ?? "lagging");
          if (already === "lagging") found.push({ plan, existing });
          else if (already !== undefined) this.#ready(plan, already);
        }
        seen.add(key);
      }
      changing(missing.map(({ table }) => table));
      await make(connection, missing);
      for (const plan of missing) this.#ready(plan, { hasExact: false, retired: [] });
      return found;
    });
    for (const target of lagging) await attempt(target.plan.table, () => this.#follow(file, target));
    if (failures.length > 0) throw failures[0];
  }

  async #follow({ connection, database, changing }: TargetFile, { plan, existing }: Lagging): Promise<void> {
    await database.exclusively(async () => {
      changing([plan.table]);
      let target = existing ?? (await lookUp(connection, plan));
      // None where it is not ours: that is refused below.
      const converting = target.columns.has(VERSION_COLUMN) ? conversion(plan.sqlName, plan.form, target.columns) : [];
      for (const sql of converting) await connection.run(sql);
      if (converting.length > 0) target = await lookUp(connection, plan);
      const prepared = await inTransaction(
        connection,
        () => connection.run(BEGIN),
        async () => {
          const followed = await followTarget(connection, plan, target);
          failpoint("duckdb.target-made", plan.table);
          return followed;
        },
      );
      this.#ready(plan, prepared);
    });
  }

  /** Tables that are there get the form that the options ask for now, whether or not rows move in them. */
  async convert({ connection, database, changing }: TargetFile, tables: readonly TableVersion[]): Promise<void> {
    const { schema, form } = this.#options;
    const columns = await columnNames(connection, database.catalogue);
    for (const table of tables) {
      const found = columns.get(this.key(table));
      if (found?.has(VERSION_COLUMN) !== true) continue;
      const { sqlName } = planOf(table, targetOf(table, schema), database.catalogue, form);
      const statements = conversion(sqlName, form, found);
      if (statements.length === 0) continue;
      await database.exclusively(async () => {
        changing([table]);
        for (const sql of statements) await connection.run(sql);
      });
    }
  }

  /** See `Sink.carries`. */
  async carries(
    { connection, database }: Omit<TargetFile, "changing">,
    from: TableVersion,
    to: TableVersion,
  ): Promise<boolean> {
    const { catalogue } = database;
    return await carriesTarget(connection, this.#planned(from, catalogue), this.#planned(to, catalogue), catalogue);
  }

  #claimed(table: TableVersion, database: Database): Plan {
    const plan = this.#planned(table, database.catalogue);
    database.claim(targetKey(plan.target), { sink: this.#options.name, tableId: table.id });
    refuseOwnColumns(table);
    return plan;
  }

  #planned(table: TableVersion, catalogue: string): Plan {
    const { schema, form, dropsColumns } = this.#options;
    return { ...planOf(table, targetOf(table, schema), catalogue, form), dropsColumns: dropsColumns?.(table) ?? false };
  }

  #ready(plan: Plan, prepared: PreparedTarget): void {
    const { table } = plan;
    this.#owners.set(targetKey(plan.target), table.id);
    const ready = { ...plan, retired: prepared.retired };
    this.#plans.set(table, ready);
    this.#latest.set(table.id, ready);
    this.#options.onPrepared(ready, prepared);
  }
}

const BEGIN = "BEGIN TRANSACTION";

async function make(connection: DuckDBConnection, plans: readonly Plan[]): Promise<void> {
  if (plans.length === 0) return;
  await inTransaction(
    connection,
    () => connection.run(BEGIN),
    async () => {
      for (let from = 0; from < plans.length; from += MADE_TOGETHER) {
        const together = plans.slice(from, from + MADE_TOGETHER);
        await connection.run([...new Set(together.flatMap(createStatements))].join("; "));
        for (const { table } of together) failpoint("duckdb.target-made", table);
      }
    },
  );
}

async function lookUp(connection: DuckDBConnection, { target, catalogue }: Plan): Promise<ExistingTarget> {
  const existing = (await lookUpTargets(connection, catalogue, [target])).get(targetKey(target));
  invariant(existing !== undefined, "a target that was made or found is there");
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

/** Folded, by target key. */
async function columnNames(
  connection: DuckDBConnection,
  catalogue: string,
): Promise<ReadonlyMap<string, ReadonlySet<string>>> {
  const rows = await readTextRows(
    connection,
    "SELECT schema_name, table_name, column_name FROM duckdb_columns() WHERE database_name = $1",
    [catalogue],
  );
  const byTarget = Map.groupBy(rows, ([schema = "", table = ""]) => targetKey({ schema, table }));
  return new Map([...byTarget].map(([key, columns]) => [key, new Set(columns.map(([, , name = ""]) => fold(name)))]));
}
