/** A lake as the conformance suite and the tests of the sink look at it: through SQL of their own. */
import { rmSync } from "node:fs";
import { DuckDBInstance } from "@duckdb/node-api";
import { duckdbExtensions } from "../../../scripts/services/packages/duckdb-extensions.ts";
import { checkLake } from "../../../connectors/duckdb/lake/check.ts";
import { Lake } from "../../../connectors/duckdb/lake/lake.ts";
import { type CatalogKind, placeOf } from "../../../connectors/duckdb/lake/place.ts";
import { lakeSink, type LakeSinkOptions } from "../../../connectors/duckdb/lake/sink.ts";
import type { SinkTarget } from "../../conformance/sink.ts";
import { emptyBucket, type FreshBucket, freshDatabase } from "../run/services.ts";
import { onStore, quote, readerOf, type RunSql } from "./duckdb-target.ts";
import { eventually } from "../run/waiting.ts";
import { temporaryFolder } from "../run/temporary-folder.ts";
import { DEFAULT_FORM, type TargetForm } from "../../../connectors/warehouse/own-columns.ts";

const EXTENSIONS = await duckdbExtensions();

export interface LakeTarget extends SinkTarget {
  readonly options: LakeSinkOptions;
  makeSink(other?: string | TargetForm, daemon?: string): ReturnType<typeof lakeSink>;
  /** Runs SQL on the lake, also while a sink has it open. */
  readonly query: RunSql;
}

/** Runs statements in a lake whose catalogue is this SQLite file, as another program, while the daemon may have it open. */
export async function runInLake(catalog: string, ...statements: readonly string[]): Promise<void> {
  const instance = await DuckDBInstance.create(":memory:", { allow_unsigned_extensions: "true", threads: "2" });
  const connection = await instance.connect();
  for (const name of ["ducklake", "sqlite_scanner"]) {
    await connection.run(`LOAD '${EXTENSIONS}/${name}.duckdb_extension'`);
  }
  await connection.run(`ATTACH 'ducklake:sqlite:${catalog}' AS lake (META_BUSY_TIMEOUT 5000); USE lake`);
  // Of two writers at the same moment one is refused.
  for (const sql of statements) await eventually(async () => void (await connection.run(sql)));
  connection.disconnectSync();
  instance.closeSync();
}

/** `bucket`: where the data files are. Default: a folder. */
export async function lakeTarget(
  kind: CatalogKind,
  form: TargetForm = DEFAULT_FORM,
  bucket?: FreshBucket,
): Promise<LakeTarget> {
  const folder = temporaryFolder();
  const database = kind === "postgres" ? await freshDatabase() : null;
  const catalog = database?.url ?? `${kind}:${folder.file("lake.db")}`;
  const data =
    bucket === undefined ? { data: folder.file("data") } : { data: `s3://${bucket.bucket}/lake`, s3: bucket.options };
  const place = placeOf({ catalog, ...data }, "/");
  const options = { place, extensions: EXTENSIONS, memoryLimit: "256MB", threads: 2, maintenance: null };
  const query: RunSql = (sql) => onStore(Lake.acquire(options), sql);
  const nameIn = (table: { schema: string; table: string }) => `lake.${quote(table.schema)}.${quote(table.table)}`;
  return {
    options: { ...options, name: "lake", owner: "shop/lake", schema: undefined, form },
    query,
    makeSink: (other = form, daemon = "shop") => {
      const name = typeof other === "string" ? other : "lake";
      const given = typeof other === "string" ? form : other;
      return lakeSink({ ...options, name, owner: `${daemon}/${name}`, schema: undefined, form: given });
    },
    check: async (tables, daemon, signal) =>
      await checkLake({ ...options, name: "lake", owner: `${daemon}/lake`, schema: undefined, form }, signal, tables),
    ...readerOf(query, "lake", form),
    async wipe() {
      if (bucket !== undefined) await emptyBucket(bucket);
      if (database !== null) {
        await database.query("drop schema public cascade; create schema public");
        return;
      }
      for (const file of ["", "-wal", "-shm", ".wal"]) rmSync(`${place.catalog}${file}`, { force: true });
      rmSync(place.data, { recursive: true, force: true });
    },
    ...(database === null
      ? {}
      : {
          cut: async () => {
            await database.query(
              "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()",
            );
          },
        }),
    async occupy(table) {
      await query(`create schema if not exists lake.${quote(table.schema)}`);
      await query(`create table ${nameIn(table)} (id integer)`);
    },
    async copy(table) {
      await query(`create table lake.millrace_copy as from ${nameIn(table)}`);
      return async () => void (await query(`create or replace table ${nameIn(table)} as from lake.millrace_copy`));
    },
    async obstruct(table) {
      await query(`alter table ${nameIn(table)} rename to millrace_hidden`);
      const back = `alter table lake.${quote(table.schema)}.millrace_hidden rename to ${quote(table.table)}`;
      return { [Symbol.asyncDispose]: async () => void (await query(back)) };
    },
    async [Symbol.asyncDispose]() {
      folder[Symbol.dispose]();
      await bucket?.[Symbol.asyncDispose]();
      await database?.[Symbol.asyncDispose]();
    },
  };
}
