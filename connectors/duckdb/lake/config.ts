import { resolve } from "node:path";
import * as z from "zod";
import { refusing } from "../../../src/core/idle-keys.ts";
import { formChoices, idleDeletes, warehouseKeys, warehouseOptions } from "../../kit/row-form.ts";
import type { SinkContext, SinkFactory, UrlKeys } from "../../../src/core/contracts/connector.ts";
import { memoryLimit, threads } from "../../kit/duckdb.ts";
import { firstRowsSql, isReserved, targetOf } from "../names.ts";
import { duration } from "../../../src/core/values/quantity-keys.ts";
import { s3, S3_PATH, s3Refusal } from "../../kit/bucket.ts";
import { CATALOG, placeOf, placesOf } from "./place.ts";
import type { LakeSinkOptions } from "./sink.ts";

const DAY_MS = 86_400_000;

const fields = z.object({
  catalog: z
    .string()
    .regex(CATALOG, {
      error: "expected sqlite:./lake.db, postgres://user:password@host/database or duckdb:./lake.duckdb",
    })
    .describe(
      "Where the lake's catalogue is: sqlite:FILE, postgres://… (a database of its own, or an empty schema `public`; parameters as for psql, `passfile` for a password that changes), or duckdb:FILE, which no other process can read meanwhile.",
    ),
  data: z
    .string()
    .min(1)
    .describe(
      "The folder of the lake's data files, of this lake alone, or `s3://bucket/prefix`. The catalogue keeps its absolute path: it can't be changed later (MR2004).",
    ),
  s3: s3.optional().describe("Of the bucket, for `data` that begin with s3://."),
  ...warehouseKeys("DuckDB", isReserved),
  memoryLimit,
  threads,
  maintenance: z
    .strictObject({
      every: duration(10_000, 7 * DAY_MS)
        .prefault("1h")
        .describe("How often small files are joined and old snapshots end."),
      keepSnapshots: duration(0, 3650 * DAY_MS)
        .prefault("7d")
        .describe("How long readers can go back in time."),
    })
    .or(z.literal(false))
    .prefault({})
    .describe("The lake's upkeep; false: another program does it."),
  extensions: z
    .string()
    .min(1)
    .optional()
    .describe(
      "A folder with DuckDB's extensions (NAME.duckdb_extension) for machines without a network; DuckDB does not check their signatures. Default: DuckDB fetches them once.",
    ),
});

export const definition = fields.superRefine(
  refusing(function* (options) {
    yield s3Refusal("data", options.data, options.s3);
    yield idleDeletes(options);
  }),
);

export type Options = z.infer<typeof definition>;

function sinkOptions(context: SinkContext<Options>): LakeSinkOptions {
  const { folder, options } = context;
  const { extensions, memoryLimit, threads, maintenance } = options;
  return {
    ...warehouseOptions(context),
    place: placeOf(options, folder),
    extensions: extensions === undefined ? undefined : resolve(folder, extensions),
    memoryLimit,
    threads,
    maintenance:
      maintenance === false ? null : { everyMs: maintenance.every, keepSnapshotsMs: maintenance.keepSnapshots },
  };
}

export const factory: SinkFactory<Options> = {
  extras: ({ data }) => (S3_PATH.test(data) ? ["duckdb", "s3"] : ["duckdb"]),
  form: (options) => options.mode,
  create: async (context, log) => {
    const { lakeSink } = await import("./sink.ts");
    return lakeSink({ ...sinkOptions(context), logger: log });
  },
  check: async (context, signal, tables) => {
    const { checkLake } = await import("./check.ts");
    return await checkLake(sinkOptions(context), signal, tables);
  },
  query: async (context, request, _copy, signal) => {
    const { queryLake } = await import("./query.ts");
    return await queryLake(sinkOptions(context), request, signal);
  },
  isQueriedInPlace: true,
  reading: async ({ options: { schema } }, table) => ({ sql: firstRowsSql(targetOf(table, schema)) }),
  firstRows: async ({ options: { schema } }, tables, request) => {
    const { firstRows } = await import("../inspect/first-rows.ts");
    return await firstRows(
      tables.map((table) => firstRowsSql(targetOf(table, schema))),
      request,
    );
  },
  byUrl: {
    name: "lake",
    forms: ["ducklake:FILE", "ducklake:sqlite:FILE", "ducklake:duckdb:FILE", "ducklake:postgres://host/database"],
    keys: keysOf,
    choices: () => ["memoryLimit: 512MB  # DuckDB's own memory, apart from Millrace's", ...formChoices],
  },
  places: (context) => placesOf(sinkOptions(context).place, context.folder),
};

/** As DuckDB's ATTACH has it; a file alone is SQLite's, which readers can open meanwhile. The data lie beside the catalogue. */
function keysOf(given: string): UrlKeys | string | null {
  const catalog = /^ducklake:(.+)$/is.exec(given)?.[1];
  if (catalog === undefined) return null;
  const isKnown = CATALOG.test(catalog);
  if (!isKnown && /^[a-z][a-z0-9+.-]*:/i.test(catalog))
    return "expected ducklake:sqlite:FILE, ducklake:duckdb:FILE or ducklake:postgres://host/database";
  const file = isKnown ? /^(?:sqlite|duckdb):(.+)$/s.exec(catalog)?.[1] : catalog;
  const data = file === undefined ? "./lake.files/" : `${file.replace(/\.[^./]+$/, "")}.files/`;
  return { catalog: isKnown ? catalog : `sqlite:${catalog}`, data };
}
