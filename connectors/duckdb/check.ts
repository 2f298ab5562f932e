import type { WarehouseSinkOptions } from "../warehouse/targets.ts";
import { constants } from "node:fs";
import { access, stat } from "node:fs/promises";
import { dirname } from "node:path";
import type { Finding, TableName } from "../../src/core/contracts/connector.ts";
import { findMillraceError } from "../../src/core/errors.ts";
import { failed, ok, wrong } from "../kit/findings.ts";
import { DEFAULT_FORM } from "../warehouse/own-columns.ts";
import { refusalOf } from "../warehouse/table-change.ts";
import { ofFile } from "./errors.ts";
import { Database } from "./file/database.ts";
import type { DuckdbSinkOptions } from "./sink.ts";
import type { Store } from "./store.ts";
import { DuckdbWarehouse } from "./tables/warehouse.ts";
import type { DuckdbForm } from "./write/layout.ts";

/** Checks the folder and, if the file exists, opens it and looks at the targets; creates nothing. */
export async function checkFile(
  options: DuckdbSinkOptions,
  signal: AbortSignal,
  tables: readonly TableName[] = [],
): Promise<readonly Finding[]> {
  signal.throwIfAborted();
  const id = `duckdb.file.${options.name}`;
  const folder = dirname(options.path);
  try {
    await access(folder, constants.W_OK);
  } catch {
    return [wrong(id, `${folder} is missing or can't be written`, `mkdir -p ${folder}`)];
  }
  const found = await stat(options.path).catch(() => undefined);
  if (found === undefined) return [ok(id, `${options.path} will be made`)];
  try {
    const database = await Database.acquire(options);
    return [ok(id, `${options.path} can be opened`), ...(await targetFindings(database, options, tables))];
  } catch (error) {
    const known = findMillraceError(error);
    if (known === undefined) throw error;
    return [failed(id, ofFile(known, options.path))];
  }
}

/** What a start would refuse of the tables' targets. Releases the store. */
export async function targetFindings(
  store: Store,
  { name, owner, schema, form = DEFAULT_FORM }: WarehouseSinkOptions & { readonly form?: DuckdbForm },
  tables: readonly TableName[],
): Promise<readonly Finding[]> {
  try {
    const connection = await store.connect();
    try {
      const nothing = (): void => undefined;
      const options = { name, owner, schema, form, changing: nothing, onPrepared: nothing };
      const warehouse = new DuckdbWarehouse(connection, store, options);
      const there = await warehouse.find(tables);
      return tables.flatMap((table): readonly Finding[] => {
        const existing = there.get(warehouse.key(table));
        const refused = existing === undefined ? null : refusalOf(warehouse, { table, form }, existing);
        return refused === null ? [] : [failed(`duckdb.table.${name}`, refused)];
      });
    } finally {
      connection.disconnectSync();
    }
  } finally {
    await store.release();
  }
}
