import type { WarehouseSinkOptions } from "../warehouse/targets.ts";
import { fileFindings } from "../kit/file-target.ts";
import type { CheckedTable, Finding } from "../../src/core/contracts/connector.ts";
import type { MillraceError } from "../../src/core/errors.ts";
import { failed, takenFrom } from "../kit/findings.ts";
import { successorOf } from "../warehouse/following.ts";
import { DEFAULT_FORM } from "../warehouse/own-columns.ts";
import { checkedParts, refusedParts } from "../warehouse/scopes.ts";
import { refusalOf } from "../warehouse/table-change.ts";
import { classify, duckdbError, ofFile } from "./errors.ts";
import { Database } from "./file/database.ts";
import type { DuckdbSinkOptions } from "./sink.ts";
import type { Store } from "./store.ts";
import { CheckpointRow } from "./tables/checkpoint.ts";
import { DuckdbWarehouse } from "./tables/warehouse.ts";
import type { DuckdbForm } from "./write/layout.ts";

/** Checks the folder and, if the file exists, opens it and looks at the targets; creates nothing. */
export async function checkFile(
  options: DuckdbSinkOptions,
  signal: AbortSignal,
  tables: readonly CheckedTable[] = [],
): Promise<readonly Finding[]> {
  signal.throwIfAborted();
  const known = (error: unknown): MillraceError => ofFile(classify(error, "opening the file"), options.path);
  return await fileFindings(`duckdb.file.${options.name}`, options.path, known, async () => {
    return await targetFindings(await Database.acquire(options), options, tables, signal);
  });
}

/** What a start would refuse of the tables' targets. Releases the store. */
export async function targetFindings(
  store: Store,
  { name, owner, schema, form = DEFAULT_FORM }: WarehouseSinkOptions & { readonly form?: DuckdbForm },
  tables: readonly CheckedTable[],
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  try {
    const connection = await store.connect();
    try {
      const nothing = (): void => undefined;
      const options = { name, owner, schema, form, changing: nothing, onPrepared: nothing };
      const checkpoint = new CheckpointRow(owner, store.catalogue, form);
      const warehouse = new DuckdbWarehouse({ connection, store, checkpoint, signal }, options);
      const there = await warehouse.find(tables);
      const id = `duckdb.table.${name}`;
      const parts = checkedParts(tables, (table) => warehouse.key(table));
      const scopes = parts.map(({ scope }) => scope);
      const owners = await checkpoint.lookAtScopes(connection, store.catalogue, scopes);
      const taken = refusedParts(duckdbError, owner, parts, owners).map((error) => failed(id, error));
      const found = tables.flatMap((table): readonly Finding[] => {
        const existing = there.get(warehouse.key(table));
        if (existing === undefined) return [];
        const refused = refusalOf(warehouse, { table, form }, existing);
        if (refused !== null) return [failed(id, refused)];
        return takenFrom(id, warehouse.shown(table), successorOf(owner, existing.note), form.mode);
      });
      return [...taken, ...found];
    } finally {
      connection.disconnectSync();
    }
  } finally {
    await store.release();
  }
}
