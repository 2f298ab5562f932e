import { resolve } from "node:path";
import * as z from "zod";
import type { SinkContext, SinkFactory } from "../../src/core/contracts/connector.ts";
import type { FilesSettings, S3Settings } from "./settings.ts";
import { memoryLimit } from "../kit/duckdb.ts";

const DURATION = /^(\d+)(s|m|h)$/;
const DURATION_MS: Readonly<Record<string, number>> = { s: 1_000, m: 60_000, h: 3_600_000 };
const SIZE = /^(\d+)(KB|MB|GB)$/;
const SIZE_BYTES: Readonly<Record<string, number>> = { KB: 1024, MB: 1024 ** 2, GB: 1024 ** 3 };
const S3_PATH = /^s3:\/\/([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(\/.*)?$/;
const AGE_MS_MAX = 24 * 3_600_000;
const ROLL_BYTES_MAX = 4 * 1024 ** 3;

const roll = z.strictObject({
  rows: z.int().min(1).max(100_000_000).default(1_000_000).describe("Changes of all tables."),
  bytes: z
    .string()
    .regex(SIZE, { error: "expected a size such as 64MB" })
    .transform((text) => measured(text, SIZE, SIZE_BYTES))
    .refine((bytes) => bytes >= 1024 && bytes <= ROLL_BYTES_MAX, { error: "expected a size from 1KB to 4GB" })
    .default(128 * 1024 * 1024)
    .describe("Size of these changes as text, which is several times the size of the Parquet files."),
  age: z
    .string()
    .regex(DURATION, { error: "expected a duration such as 30s, 5m, 1h" })
    .transform((text) => measured(text, DURATION, DURATION_MS))
    .refine((ms) => ms >= 1_000 && ms <= AGE_MS_MAX, { error: "expected a duration from 1s to 24h" })
    .default(60_000)
    .describe("How long a change waits for its file. An idle sink looks with each `heartbeat`."),
});

const s3 = z.strictObject({
  region: z.string().min(1).optional().describe("Default: AWS_REGION, else that of AWS' profile."),
  endpoint: z.url().optional().describe("The server's URL, where it is not AWS."),
  accessKeyId: z
    .string()
    .min(1)
    .optional()
    .describe("Default: as AWS' own programs find it: variables, profile, role."),
  secretAccessKey: z.string().min(1).optional().describe("Belongs to `accessKeyId`."),
  pathStyle: z
    .boolean()
    .default(false)
    .describe("Whether the bucket is a part of the path, and not of the host's name."),
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
    s3: s3.optional().describe("Of the bucket, for a `path` that begins with s3://."),
    memoryLimit: memoryLimit.describe(
      "Memory that DuckDB may use while it makes Parquet files. Apart from Millrace's own memory.",
    ),
  })
  .superRefine(({ path, s3: given }, issues) => {
    const refuse = (key: string, message: string): void => issues.addIssue({ code: "custom", path: [key], message });
    if (/^[a-z0-9]+:\/\//i.test(path) && !S3_PATH.test(path))
      refuse("path", "expected a folder, or s3://bucket/prefix");
    if (given === undefined) return;
    if (!S3_PATH.test(path)) refuse("s3", "has no use with a folder: `path` does not begin with s3://");
    if ((given.accessKeyId === undefined) !== (given.secretAccessKey === undefined))
      refuse("s3", "has one of `accessKeyId` and `secretAccessKey`: set both, or none");
  });

export type FilesOptions = z.output<typeof definition>;

export const factory: SinkFactory<FilesOptions> = {
  create: async (context) => {
    const { FilesSink } = await import("./sink.ts");
    return new FilesSink(settingsOf(context));
  },
  check: async (context, signal) => {
    const { check } = await import("./check.ts");
    return await check(settingsOf(context), signal);
  },
  places: ({ folder, options: { path, s3: given } }) => {
    if (!S3_PATH.test(path)) return [`files below ${resolve(folder, path)}`];
    const server = given?.endpoint === undefined ? "" : ` at ${new URL(given.endpoint).host}`;
    return [`files below ${path.replace(/\/+$/, "")}${server}`];
  },
};

function settingsOf({ name, folder, options }: SinkContext<FilesOptions>): FilesSettings {
  const { path, format, roll: limits, memoryLimit } = options;
  return {
    name,
    format,
    roll: { rows: limits.rows, bytes: limits.bytes, ageMs: limits.age },
    memoryLimit,
    store: async () => {
      const bucket = S3_PATH.exec(path);
      if (bucket !== null) {
        const { S3Store } = await import("./store/s3.ts");
        return new S3Store(bucketOf(bucket, options));
      }
      const { FolderStore } = await import("./store/folder.ts");
      return new FolderStore(resolve(folder, path));
    },
  };
}

function bucketOf([, bucket = "", rest = ""]: RegExpExecArray, { s3: given }: FilesOptions): S3Settings {
  const prefix = rest.replace(/^\/+|\/+$/g, "");
  return {
    bucket,
    prefix: prefix === "" ? "" : `${prefix}/`,
    region: given?.region,
    endpoint: given?.endpoint,
    accessKeyId: given?.accessKeyId,
    secretAccessKey: given?.secretAccessKey,
    pathStyle: given?.pathStyle ?? false,
  };
}

/** The pattern was checked before. */
function measured(text: string, pattern: RegExp, units: Readonly<Record<string, number>>): number {
  const [, count, unit = ""] = pattern.exec(text) ?? [];
  return Number(count) * (units[unit] ?? Number.NaN);
}
