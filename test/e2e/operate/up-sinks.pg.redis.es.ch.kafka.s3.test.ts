/**
 * `millrace up` with the URL of each kind of sink: it shows what a reader finds in the target, and how to find it.
 * @module-tag heavy
 */
import { randomUUID } from "node:crypto";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { chmodSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { delimiter } from "node:path";
import { Redis } from "ioredis";
import { afterAll, beforeAll, expect, test } from "vitest";
import { duckdbExtensions } from "../../../scripts/services/packages/duckdb-extensions.ts";
import { runCli } from "../../support/daemon/cli.ts";
import { S3_LOGIN } from "../../../scripts/services/servers/s3.ts";
import { PROGRAM } from "../../support/run/program.ts";
import {
  clickhouseUrl,
  deleteIndices,
  elasticsearchUrl,
  type FreshBucket,
  freshBucket,
  freshDatabase,
  type FreshDatabase,
  kafkaBroker,
  redisUrl,
} from "../../support/run/services.ts";
import { type TemporaryFolder, temporaryFolder } from "../../support/run/temporary-folder.ts";
import { eventually } from "../../support/run/waiting.ts";

/** Also what targets are named after: each server is shared by tests. */
const SCHEMA = `up_${randomUUID().slice(0, 8)}`;

let source: FreshDatabase;
let replica: FreshDatabase;
let bucket: FreshBucket;

beforeAll(async () => {
  source = await freshDatabase();
  replica = await freshDatabase();
  bucket = await freshBucket();
  await source.query(`
    create schema ${SCHEMA};
    create table ${SCHEMA}.people (id bigint primary key, name text, paid numeric(30, 2));
    insert into ${SCHEMA}.people values (9007199254740993, 'ada', 12345678901234567.25), (2, 'O''Hara', null);
    create table ${SCHEMA}.empty (id int primary key)`);
});

afterAll(async () => {
  await source?.[Symbol.asyncDispose]();
  await replica?.[Symbol.asyncDispose]();
  await bucket?.[Symbol.asyncDispose]();
  const redis = new Redis(redisUrl());
  for await (const keys of redis.scanStream({ match: `${SCHEMA}:*`, count: 1_000 }))
    if (Array.isArray(keys) && keys.length > 0) await redis.unlink(...keys.map(String));
  redis.disconnect();
  await deleteIndices(elasticsearchUrl(), SCHEMA);
  await fetch(clickhouseUrl(), { method: "POST", body: `DROP DATABASE IF EXISTS ${SCHEMA} SYNC` });
});

/** The file that `up` would write, with one more option of the sink. */
async function initWith(folder: TemporaryFolder, args: readonly string[], option: string): Promise<void> {
  const made = await runCli(["init", "--source", source.url, ...args], { folder: folder.path });
  expect(made).toMatchObject({ exitCode: 0 });
  const file = folder.file("millrace.yaml");
  writeFileSync(file, readFileSync(file, "utf8").replace(/^( +)kind: ducklake$/m, `$&\n$1${option}`));
}

function ended(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}

test.each<[kind: string, url: () => string, sink: string | null, run: boolean]>([
  ["duckdb", () => "./w.duckdb", "warehouse", true],
  ["sqlite", () => "./r.sqlite", "embedded", true],
  ["ducklake", () => "ducklake:./shop.ducklake", "lake", true],
  ["postgres", () => replica.url, "replica", true],
  ["clickhouse", () => clickhouseUrl().replace(/^http:/, "clickhouse:"), "columns", true],
  ["elasticsearch", () => elasticsearchUrl(), "search", true],
  ["redis", () => redisUrl(), "cache", false],
  ["kafka", () => `kafka://${kafkaBroker()}`, null, false],
  ["files", () => "./files/", null, false],
  [
    "s3",
    () => `s3://${bucket.bucket}/shop?endpoint=${bucket.options.endpoint}&region=${bucket.options.region}`,
    null,
    false,
  ],
])(
  "%s",
  async (kind, urlOf, sink, isRun) => {
    using folder = temporaryFolder();
    const command = folder.file("millrace");
    writeFileSync(command, `#!/bin/sh\nexec '${process.execPath}' '${PROGRAM}' "$@"\n`);
    chmodSync(command, 0o700);
    const { PATH = "", HOME, NODE_COMPILE_CACHE } = process.env;
    const login = { AWS_ACCESS_KEY_ID: S3_LOGIN.accessKeyId, AWS_SECRET_ACCESS_KEY: S3_LOGIN.secretAccessKey };
    const path = `${folder.path}${delimiter}${PATH}`;
    const options = { cwd: folder.path, env: { PATH: path, HOME, NODE_COMPILE_CACHE, ...login } };
    const args = ["up", source.url, "--sink", urlOf(), "--name", `${SCHEMA}_${kind}`];
    // Without the network DuckDB does not find its extension.
    if (kind === "ducklake") await initWith(folder, args.slice(2), `extensions: ${await duckdbExtensions()}`);
    const up = spawn(command, args, { ...options, stdio: ["ignore", "pipe", "pipe"] });
    try {
      let said = "";
      for (const stream of [up.stdout, up.stderr]) stream.on("data", (text) => (said += String(text)));
      await eventually(() => expect(said + (ended(up) ? " (ended)" : "")).toMatch(/following every change|\(ended\)/), {
        withinMs: 90_000,
      });
      const place = sink === null ? "at the source" : `in ${sink}`;
      expect(said).toMatch(new RegExp(`^${SCHEMA}\\.people ${place}`, "m"));
      expect(said).toMatch(/9007199254740993 +│ ada/);
      expect(said).toContain("O'Hara");
      expect(said).toContain("12345678901234567.25");
      expect(said).toContain(`${SCHEMA}.empty ${place}: no rows`);
      expect(said).not.toContain("_millrace_");
      const [, shown = ""] = /^ {2}\w+ \(\w+\) +(.+)$/m.exec(said) ?? [];
      const wanted = isRun ? shown.replace(`${SCHEMA}.empty`, `${SCHEMA}.people`) : "true";
      const read = spawnSync("bash", ["-c", wanted], { ...options, encoding: "utf8" });
      expect({ wanted, status: read.status, stderr: read.status === 0 ? "" : read.stderr }).toMatchObject({
        status: 0,
      });
      if (isRun) expect(read.stdout).toContain("ada");
      expect(readdirSync(folder.path)).toContain("millrace.yaml");
    } finally {
      const closed = once(up, "close");
      up.kill("SIGINT");
      await closed;
    }
  },
  150_000,
);
