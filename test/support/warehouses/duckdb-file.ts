/** A DuckDB file while nobody holds it: changed, and copied, behind the product's back. */
import { copyFileSync, existsSync, rmSync } from "node:fs";
import { DuckDBInstance } from "@duckdb/node-api";

export async function runInFile(path: string, sql: string): Promise<void> {
  const instance = await DuckDBInstance.create(path);
  const connection = await instance.connect();
  await connection.run(sql);
  connection.disconnectSync();
  instance.closeSync();
}

/** All rows as text, by table, Millrace's own too. */
export async function rowsInFile(path: string): Promise<readonly (readonly [table: string, text: string])[]> {
  const instance = await DuckDBInstance.create(path);
  const connection = await instance.connect();
  const textOf = async (sql: string) => (await connection.runAndReadAll(sql)).getRows().flat().map(String);
  const tables = await textOf(`select '"' || schema_name || '"."' || table_name || '"' from duckdb_tables()`);
  const found: [string, string][] = [];
  for (const table of tables) found.push([table, (await textOf(`select t::varchar from ${table} as t`)).join("\n")]);
  connection.disconnectSync();
  instance.closeSync();
  return found;
}

/** With what is not yet in the file itself. */
export function copyDuckdbFile(from: string, to: string): void {
  rmSync(`${to}.wal`, { force: true });
  copyFileSync(from, to);
  if (existsSync(`${from}.wal`)) copyFileSync(`${from}.wal`, `${to}.wal`);
}
