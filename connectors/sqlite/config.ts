import { resolve } from "node:path";
import { z } from "zod";
import { rowsOfEach, targetRows } from "../kit/first-rows.ts";
import { fileGrants, fileKeys } from "../kit/file-target.ts";
import { refusing } from "../../src/core/idle-keys.ts";
import { formChoices, idleDeletes, warehouseKeys, warehouseOptions } from "../kit/row-form.ts";
import type { SinkContext, SinkFactory, TableName } from "../../src/core/contracts/connector.ts";
import { placeOfFile } from "../../src/core/targets/places.ts";
import { isReserved, targetName } from "./names.ts";
import type { SqliteSinkOptions } from "./sink.ts";
import { quoteIdentifier } from "../kit/sql-names.ts";

export const definition = z
  .object({
    path: z.string().min(1).describe("The SQLite file. Created if missing; its folder must exist."),
    ...warehouseKeys("SQLite", isReserved),
  })
  .superRefine(
    refusing(function* (options) {
      yield idleDeletes(options);
    }),
  );

export type Options = z.infer<typeof definition>;

function sinkOptions(context: SinkContext<Options>): SqliteSinkOptions {
  return { ...warehouseOptions(context), path: resolve(context.folder, context.options.path) };
}

export const factory: SinkFactory<Options> = {
  form: (options) => options.mode,
  create: async (context) => {
    const { SqliteSink } = await import("./sink.ts");
    return new SqliteSink(sinkOptions(context));
  },
  check: async (context, signal, tables) => {
    const { checkFile } = await import("./check.ts");
    return await checkFile(sinkOptions(context), signal, tables);
  },
  grants: async (context) => fileGrants(sinkOptions(context).path),
  query: async (context, request, _copy, signal) => {
    const { queryFile } = await import("./inspect/query.ts");
    return await queryFile(sinkOptions(context).path, request, signal);
  },
  /** SQLite lets readers in beside the writer. */
  isQueriedInPlace: true,
  reading: async ({ options: { schema } }, table) => ({
    sql: `select * from ${quoteIdentifier(targetName(table, schema))} limit 10`,
  }),
  firstRows: async ({ options: { schema } }, tables, { rowCount, query }, signal) => {
    const sqlOf = (table: TableName): string =>
      `select * from ${quoteIdentifier(targetName(table, schema))} limit ${rowCount}`;
    return await rowsOfEach(tables, async (table) => targetRows(await query(sqlOf(table))), signal);
  },
  byUrl: {
    name: "embedded",
    forms: ["a path that ends with .sqlite, .sqlite3 or .db3", "sqlite:PATH"],
    keys: (given) => fileKeys(given, "sqlite", [".sqlite", ".sqlite3", ".db3"]),
    choices: (daemon) => [
      `schema: ${daemon}   # what all tables' names begin with. Default: the source's schemas`,
      ...formChoices,
    ],
  },
  places: (context) => [placeOfFile("the SQLite file", sinkOptions(context).path)],
};
