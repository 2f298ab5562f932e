import { resolve } from "node:path";
import * as z from "zod";
import { deletes, mode } from "../../kit/row-form.ts";
import type { SinkContext, SinkFactory } from "../../../src/core/contracts/connector.ts";
import { memoryLimit, threads } from "../memory-keys.ts";
import { CATALOG, DATA, placeOf, shownCatalog } from "./place.ts";
import type { LakeSinkOptions } from "./sink.ts";

export const definition = z.object({
  catalog: z
    .string()
    .regex(CATALOG, {
      error: "expected sqlite:./lake.db, postgres://user:password@host/database or duckdb:./lake.duckdb",
    })
    .describe(
      "Where the lake's catalogue is: sqlite:FILE, postgres://… (parameters as for psql), or duckdb:FILE, which no other process can read meanwhile.",
    ),
  data: z.string().regex(DATA, { error: "expected a folder" }).describe("The folder of the lake's data files."),
  schema: z.string().min(1).optional().describe("Put all tables into this schema. Default: the source's schemas."),
  deletes,
  mode,
  memoryLimit,
  threads,
  extensions: z
    .string()
    .min(1)
    .optional()
    .describe("A folder with DuckDB's extensions (NAME.duckdb_extension). Default: DuckDB fetches them once."),
});

export type Options = z.infer<typeof definition>;

function sinkOptions({ name, folder, options, dropsColumns }: SinkContext<Options>): LakeSinkOptions {
  const { catalog, data, extensions, memoryLimit, threads, schema, deletes, mode } = options;
  return {
    name,
    place: placeOf(catalog, data, folder),
    extensions: extensions === undefined ? undefined : resolve(folder, extensions),
    memoryLimit,
    threads,
    schema,
    form: { deletes, mode },
    dropsColumns,
  };
}

export const factory: SinkFactory<Options> = {
  create: async (context, log) => {
    const { LakeSink } = await import("./sink.ts");
    return new LakeSink({ ...sinkOptions(context), logger: log });
  },
  check: async (context, signal) => {
    const { checkLake } = await import("./check.ts");
    return await checkLake(sinkOptions(context), signal);
  },
  query: async (context, request, _copy, signal) => {
    const { queryLake } = await import("./query.ts");
    return await queryLake(sinkOptions(context), request, signal);
  },
  places: (context) => [`the lake ${shownCatalog(sinkOptions(context).place)}`],
};
