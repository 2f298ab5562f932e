import { basename, resolve } from "node:path";
import { z } from "zod";
import { fileGrants, fileKeys } from "../kit/file-target.ts";
import { refusing } from "../../src/core/idle-keys.ts";
import { formChoices, idleDeletes, warehouseKeys, warehouseOptions } from "../kit/row-form.ts";
import type { SinkContext, SinkFactory, TableName } from "../../src/core/contracts/connector.ts";
import { placeOfFile } from "../../src/core/targets/places.ts";
import { memoryLimit, threads } from "../kit/duckdb.ts";
import { firstRowsSql, isReserved, targetOf } from "./names.ts";
import type { DuckdbSinkOptions } from "./sink.ts";

export const definition = z
  .object({
    path: z.string().min(1).describe("The DuckDB file. Created if missing; its folder must exist."),
    ...warehouseKeys("DuckDB", isReserved),
    memoryLimit,
    threads,
  })
  .superRefine(
    refusing(function* (options) {
      yield idleDeletes(options);
    }),
  );

export type Options = z.infer<typeof definition>;

function sinkOptions(context: SinkContext<Options>): DuckdbSinkOptions {
  const { path, memoryLimit, threads } = context.options;
  return { ...warehouseOptions(context), path: resolve(context.folder, path), memoryLimit, threads };
}

export const factory: SinkFactory<Options> = {
  extras: () => ["duckdb"],
  form: (options) => options.mode,
  create: async (context, log) => {
    const { duckdbSink } = await import("./sink.ts");
    return duckdbSink({ ...sinkOptions(context), logger: log });
  },
  check: async (context, signal, tables) => {
    const { checkFile } = await import("./check.ts");
    return await checkFile(sinkOptions(context), signal, tables);
  },
  grants: async (context) => fileGrants(sinkOptions(context).path),
  query: async (context, request, copy, signal) => {
    const { queryFile } = await import("./inspect/query-file.ts");
    return await queryFile(sinkOptions(context), request, copy, signal);
  },
  readable: async (context) => {
    const { readableFile } = await import("./inspect/readable.ts");
    return await readableFile(sinkOptions(context));
  },
  reading: async ({ options }, table) => ({ sql: readingSql(options, table) }),
  firstRows: async ({ options }, tables, request) => {
    const { firstRows } = await import("./inspect/first-rows.ts");
    return await firstRows(
      tables.map((table) => readingSql(options, table)),
      request,
    );
  },
  byUrl: {
    name: "warehouse",
    forms: ["a path that ends with .duckdb", "duckdb:PATH"],
    keys: (given) => fileKeys(given, "duckdb", [".duckdb"]),
    choices: () => ["memoryLimit: 512MB  # DuckDB's own memory, apart from Millrace's", ...formChoices],
  },
  places: (context) => [placeOfFile("the DuckDB file", sinkOptions(context).path)],
};

function readingSql({ path, schema }: Pick<Options, "path" | "schema">, table: TableName): string {
  // DuckDB calls the catalogue by the file.
  const [catalogue] = basename(path).split(".");
  return firstRowsSql(targetOf(table, schema), catalogue);
}
