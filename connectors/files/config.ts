import * as z from "zod";
import { resolve } from "node:path";
import type { SinkContext, SinkFactory, UrlKeys } from "../../src/core/contracts/connector.ts";
import type { FilesSettings } from "./sink.ts";
import { bucketKeys, bucketOf, duckdbSecretSql, s3, S3_PATH, s3Refusal } from "../kit/bucket.ts";
import { placeOfBucket, placeOfFolder } from "../../src/core/targets/places.ts";
import { refusing } from "../../src/core/idle-keys.ts";
import { duration, size } from "../../src/core/values/quantity-keys.ts";
import { MEMORY_LIMIT, memorySize, quoteLiteral } from "../kit/duckdb.ts";
import { shellWord } from "../../src/core/shell-word.ts";
import { folderOf } from "./names.ts";

const AGE_MS_MAX = 24 * 3_600_000;
const KEEP_MS_MAX = 10_000 * 24 * 3_600_000;
const ROLL_BYTES_MAX = 4 * 1024 ** 3;

const roll = z.strictObject({
  rows: z.int().min(1).max(100_000_000).default(1_000_000).describe("Changes of all tables."),
  bytes: size(1024, ROLL_BYTES_MAX)
    .default(128 * 1024 * 1024)
    .describe("Size of these changes as text, which is several times the size of the Parquet files."),
  age: duration(1_000, AGE_MS_MAX)
    .default(60_000)
    .describe("How long a change waits for its file. An idle sink looks with each `heartbeat`."),
});

export const definition = z
  .object({
    path: z
      .string()
      .min(1)
      .describe(
        "A folder, relative to this file, or `s3://bucket/prefix`. One sink alone writes there. A missing folder is created.",
      ),
    format: z
      .enum(["parquet", "ndjson"])
      .default("parquet")
      .describe("parquet: typed columns. ndjson: a JSON object on each line."),
    roll: roll
      .prefault({})
      .describe("When changes become files: as soon as one of these is reached, and when the daemon stops."),
    keep: duration(3_600_000, KEEP_MS_MAX)
      .optional()
      .describe(
        "How long files stay, with their manifests. For readers that load them into tables of their own: what is left after that is no longer complete. Without it they stay for ever.",
      ),
    s3: s3.optional().describe("Of the bucket, for a `path` that begins with s3://."),
    memoryLimit: memorySize
      .optional()
      .describe(
        "Memory that DuckDB may use while it makes Parquet files. Apart from Millrace's own memory. Default: 512MB.",
      ),
  })
  .superRefine(
    refusing(function* ({ path, format, s3: given, memoryLimit: limit }) {
      yield s3Refusal("path", path, given);
      if (limit !== undefined && format === "ndjson")
        yield ["memoryLimit", "has no use with `format: ndjson`: DuckDB makes Parquet files alone"];
    }),
  );

const BELOW = "files below";

type FilesOptions = z.output<typeof definition>;

export const factory: SinkFactory<FilesOptions> = {
  extras: ({ path, format }) => [
    ...(format === "parquet" ? (["duckdb"] as const) : []),
    ...(S3_PATH.test(path) ? (["s3"] as const) : []),
  ],
  form: () => "stream",
  create: async (context) => {
    const { FilesSink } = await import("./sink.ts");
    return new FilesSink(settingsOf(context));
  },
  check: async (context, signal) => {
    const { check } = await import("./check.ts");
    return await check(settingsOf(context), signal);
  },
  reading: async ({ folder, options: { path, format, s3: given } }, table) => {
    const place = S3_PATH.test(path) ? path.replace(/\/+$/, "") : resolve(folder, path);
    const files = `${place}/${folderOf(table)}/*/*.${format}`;
    const read = format === "parquet" ? "read_parquet" : "read_json";
    const login = S3_PATH.test(path) ? duckdbSecretSql(given) : "";
    return { shell: `duckdb -c ${shellWord(`${login}from ${read}(${quoteLiteral(files)}) limit 10`)}` };
  },
  byUrl: {
    name: "files",
    forms: ["s3://bucket/prefix?endpoint=https://host&region=name", "a folder, such as ./files/", "file:PATH"],
    keys: keysOf,
    choices: () => [
      "format: ndjson      # a JSON object on each line. Default: parquet",
      "roll: { age: 10s }  # how long a change waits for its file. Default: 1m",
    ],
  },
  places: ({ folder, options: { path, s3: given } }) => {
    const bucket = bucketOf(path, given, folder);
    return [bucket === undefined ? placeOfFolder(BELOW, resolve(folder, path)) : placeOfBucket(BELOW, bucket)];
  },
};

/** A path is a folder's if it ends with a slash, or begins as a path does and has no ending. */
function keysOf(given: string): UrlKeys | string | null {
  if (/^s3:\/\//i.test(given)) return bucketKeys(given);
  const named = /^file:(?:\/\/(?=\/))?(.+)$/is.exec(given)?.[1];
  if (named !== undefined) return { path: named };
  if (/^[a-z][a-z0-9+.-]*:/i.test(given)) return null;
  return /^(?:.*\/|\.{1,2}|\.{0,2}\/(?:.*\/)?\.?[^/.]+)$/s.test(given) ? { path: given } : null;
}

function settingsOf({ daemon, name, folder, options }: SinkContext<FilesOptions>): FilesSettings {
  const { path, format, roll: limits, keep, memoryLimit = MEMORY_LIMIT } = options;
  return {
    daemon,
    name,
    format,
    roll: { rows: limits.rows, bytes: limits.bytes, ageMs: limits.age },
    keepMs: keep ?? null,
    memoryLimit,
    store: async () => {
      const bucket = bucketOf(path, options.s3, folder);
      if (bucket !== undefined) {
        const { S3Store } = await import("./store/s3.ts");
        return new S3Store(bucket);
      }
      const { FolderStore } = await import("./store/folder.ts");
      return new FolderStore(resolve(folder, path));
    },
  };
}
