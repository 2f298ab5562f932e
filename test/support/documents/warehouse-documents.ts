/** Documents as warehouses have them: rows whose relations are JSON. */
import { join } from "node:path";
import { type DuckDBConnection, DuckDBInstance } from "@duckdb/node-api";
import { expect } from "vitest";
import { duckdbExtensions } from "../../../scripts/services/packages/duckdb-extensions.ts";
import { askClickhouse, nameIn } from "../warehouses/clickhouse-values.ts";
import { mergeSql } from "../warehouses/files-merge.ts";
import { connectedDuckdb, FilesReader } from "../warehouses/files-reader.ts";
import { eventually } from "../run/waiting.ts";
import { type DocumentReader, ofRows } from "./hostile-shop.ts";

/** While no daemon has the file open. */
export function readDuckdb(path: string): DocumentReader {
  return async (name, wanted) => {
    const instance = await DuckDBInstance.create(path);
    const connection = await instance.connect();
    const rows = await rowsOf(connection, `select * from documents.${name} order by id`);
    connection.closeSync();
    instance.closeSync();
    return ofRows(rows, wanted);
  };
}

export function readLake(catalog: string): DocumentReader {
  return async (name, wanted) => {
    const instance = await DuckDBInstance.create(":memory:", { allow_unsigned_extensions: "true" });
    const connection = await instance.connect();
    const extensions = await duckdbExtensions();
    for (const one of ["ducklake", "sqlite_scanner"])
      await connection.run(`LOAD '${extensions}/${one}.duckdb_extension'`);
    await connection.run(`ATTACH 'ducklake:sqlite:${catalog}' AS lake (READ_ONLY, META_BUSY_TIMEOUT 5000); USE lake`);
    // Maintenance may move rows meanwhile: who reads then is told.
    const rows = await eventually(() => rowsOf(connection, `select * from documents.${name} order by id`));
    connection.closeSync();
    instance.closeSync();
    return ofRows(rows, wanted);
  };
}

/** `folder`: of the sink. */
export function readFiles(folder: string): DocumentReader {
  return async (name, wanted) => {
    // The daemon makes files of what waits when it is old enough.
    await eventually(() => expect(new FilesReader(folder).waiting()).toBe(0), { withinMs: 30_000, everyMs: 300 });
    using duckdb = await connectedDuckdb();
    const files = `${join(folder, `documents.${name}`)}/*/*.parquet`;
    const described = await rowsOf(
      duckdb.connection,
      `describe select * from read_parquet('${files}', union_by_name = true, hive_partitioning = false)`,
    );
    const columns = described
      .map(({ column_name }) => String(column_name))
      .filter((column) => !column.startsWith("_millrace_"));
    const merged = mergeSql({ files, key: ["id"], columns });
    return ofRows(await rowsOf(duckdb.connection, `select * from (${merged}) order by id`), wanted);
  };
}

export function readClickhouse(url: string, schema: string): DocumentReader {
  return async (name, wanted) => {
    const columns = await askClickhouse(
      url,
      `SELECT name, type FROM system.columns WHERE database = '${schema}' AND table = '${name}' AND name NOT LIKE '\\_millrace%'`,
    );
    const shown = columns.map(([column, type]) => {
      const decimals = /Decimal\(\d+, (\d+)\)/.exec(type ?? "")?.[1];
      return decimals === undefined ? nameIn(column!) : `toDecimalString(${nameIn(column!)}, ${decimals})`;
    });
    const rows = await askClickhouse(
      url,
      `SELECT ${shown.join(", ")} FROM ${nameIn(schema, name)} FINAL WHERE _millrace_deleted = 0 ORDER BY id`,
    );
    return ofRows(
      rows.map((row) => Object.fromEntries(columns.map(([column], i) => [column, row[i]]))),
      wanted,
    );
  };
}

async function rowsOf(connection: DuckDBConnection, sql: string): Promise<readonly Record<string, unknown>[]> {
  return (await connection.runAndReadAll(sql)).getRowObjectsJson();
}
