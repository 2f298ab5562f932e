/**
 * The servers of a test run, as tests see them. Use these inside tests and hooks, and take what a test needs for itself
 * alone: a database, a key prefix or an index prefix. Each is released by `await using`.
 */
import { randomUUID } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import {
  CreateBucketCommand,
  DeleteBucketCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  ListObjectsV2Command,
  S3Client,
} from "@aws-sdk/client-s3";
import { Redis } from "ioredis";
import { inject, type TestContext } from "vitest";
import { clickhouse as clickhouseServer } from "../../../scripts/services/servers/clickhouse.ts";
import { elasticsearch as elasticsearchServer } from "../../../scripts/services/servers/search/elasticsearch.ts";
import { kafka as kafkaServer, type KafkaOptions } from "../../../scripts/services/servers/kafka.ts";
import { mariadb as mariadbServer } from "../../../scripts/services/servers/mysql/mariadb.ts";
import { isMariadbChosen, mariadbLine } from "../../../scripts/services/servers/mysql/mariadb-version.ts";
import { mysql as mysqlServer } from "../../../scripts/services/servers/mysql/mysql.ts";
import { isMysqlChosen, mysqlLine } from "../../../scripts/services/servers/mysql/mysql-version.ts";
import type { MysqlOptions } from "../../../scripts/services/servers/mysql/mysql-server.ts";
import {
  postgres as postgresServer,
  type PostgresOptions,
  type RunningPostgres,
} from "../../../scripts/services/servers/postgres/postgres.ts";
import { redis as redisServer, type RedisOptions } from "../../../scripts/services/servers/redis.ts";
import { postgresLine } from "../../../scripts/services/servers/postgres/postgres-version.ts";
import { isFrom } from "../../../scripts/services/server-line.ts";
import type { SearchEngineOptions } from "../../../scripts/services/servers/search/search-engine.ts";
import { s3 as s3Server, S3_LOGIN } from "../../../scripts/services/servers/s3.ts";
import type { RunningService, ServiceName, StartOptions } from "../../../scripts/services/service.ts";
import { askClickhouse } from "../warehouses/clickhouse-values.ts";
import { createFreshDatabase, type FreshDatabase, type PostgresAddress } from "./fresh-database.ts";
import type { ProvidedService } from "./global-setup.ts";
import { createFreshMysqlDatabase, type FreshMysqlDatabase } from "../mysql/mysql-database.ts";
import { variantsOf } from "./service-suffixes.ts";

export type { FreshDatabase, FreshMysqlDatabase };

/** The shared servers. */
export function postgres(): PostgresAddress {
  const { url, socketDir } = provided("postgres");
  return { url, socketDir };
}

/** MySQL and MariaDB, in every form of a run: both suffixes must be in the test file's name. */
export type MysqlFlavour = "mysql" | "mariadb";
export const mysqlFlavours: readonly MysqlFlavour[] = isMariadbChosen()
  ? ["mariadb"]
  : isMysqlChosen()
    ? ["mysql"]
    : ["mysql", "mariadb"];

/** Whether the run's server is of this version or a later one. */
export function isMysqlFrom(flavour: MysqlFlavour, version: string): boolean {
  return isFrom(flavour === "mysql" ? mysqlLine() : mariadbLine(), version);
}

export function mysqlUrl(flavour: MysqlFlavour): string {
  return provided(flavour).url;
}

export function redisUrl(): string {
  return provided("redis").url;
}

/** host:port of the shared broker. */
export function kafkaBroker(): string {
  return new URL(provided("kafka").url).host;
}

export function clickhouseUrl(): string {
  return provided("clickhouse").url;
}

/** The address of the shared schema registry, with the path of Confluent's interface. */
export function registryUrl(): string {
  return provided("registry").url;
}

export interface FreshBucket extends AsyncDisposable {
  readonly bucket: string;
  /** For `s3` of a files sink. */
  readonly options: {
    readonly endpoint: string;
    readonly region: string;
    readonly accessKeyId: string;
    readonly secretAccessKey: string;
    readonly pathStyle: true;
  };
}

/** A bucket of a test's own, by default on the shared server; emptied and removed at the end. */
export async function freshBucket(endpoint: string = provided("s3").url): Promise<FreshBucket> {
  const bucket = `test-${shortName()}`;
  const options = { endpoint, region: "us-east-1", ...S3_LOGIN, pathStyle: true } as const;
  using opened = s3Client(options);
  await opened.client.send(new CreateBucketCommand({ Bucket: bucket }));
  return { bucket, options, [Symbol.asyncDispose]: () => removeBucket(bucket, options) };
}

/** A client that shares nothing with the product's settings. */
export function s3Client({ endpoint, region, accessKeyId, secretAccessKey }: FreshBucket["options"]) {
  const credentials = { accessKeyId, secretAccessKey };
  const client = new S3Client({ endpoint, region, credentials, forcePathStyle: true });
  return { client, [Symbol.dispose]: () => client.destroy() };
}

/** Every object as a file below the folder. */
export async function mirrorBucket({ bucket, options }: FreshBucket, folder: string): Promise<void> {
  using opened = s3Client(options);
  for (let next: string | undefined, isFirst = true; isFirst || next !== undefined; isFirst = false) {
    const page = { Bucket: bucket, ContinuationToken: next };
    const { Contents = [], NextContinuationToken } = await opened.client.send(new ListObjectsV2Command(page));
    for (const { Key = "" } of Contents) {
      const { Body } = await opened.client.send(new GetObjectCommand({ Bucket: bucket, Key }));
      mkdirSync(dirname(join(folder, Key)), { recursive: true });
      writeFileSync(join(folder, Key), (await Body?.transformToByteArray()) ?? "");
    }
    next = NextContinuationToken;
  }
}

export async function emptyBucket({ bucket, options }: FreshBucket): Promise<void> {
  using opened = s3Client(options);
  const { Contents = [] } = await opened.client.send(new ListObjectsV2Command({ Bucket: bucket }));
  for (const { Key } of Contents) await opened.client.send(new DeleteObjectCommand({ Bucket: bucket, Key }));
}

export async function removeBucket(bucket: string, options: FreshBucket["options"]): Promise<void> {
  using opened = s3Client(options);
  const { client } = opened;
  for (;;) {
    const listed = client.send(new ListObjectsV2Command({ Bucket: bucket }));
    const { Contents = [] } = await listed.catch((error: unknown) => {
      // A test has removed it.
      if (error instanceof Error && error.name === "NoSuchBucket") return { Contents: null };
      throw error;
    });
    if (Contents === null) return;
    if (Contents.length === 0) break;
    for (const { Key } of Contents) await client.send(new DeleteObjectCommand({ Bucket: bucket, Key }));
  }
  await client.send(new DeleteBucketCommand({ Bucket: bucket }));
}

export function ownS3(): Promise<RunningService> {
  return s3Server.start({ own: true });
}

/** Where the browser is driven from. */
export function chromiumUrl(): string {
  return provided("chromium").url;
}

export function elasticsearchUrl(): string {
  return provided("elasticsearch").url;
}

/** The line of Postgres that this run has; known also while test files are read. */
export function postgresMajor(): number {
  const service = inject("services").postgres;
  return service?.kind === "up" ? Math.floor(service.version / 10_000) : postgresLine().major;
}

/** Skips a test where the run's Postgres is older than what it is about; the summary says so. */
export function needsPostgres(major: number, { skip }: Pick<TestContext, "skip">): void {
  const own = postgresMajor();
  skip(own < major, `it is about Postgres ${major}, and this one is ${own}`);
}

/** A database of a test's own, by default on the shared server; dropped at the end together with its slots. */
export async function freshDatabase(server: PostgresAddress = postgres(), encoding?: string): Promise<FreshDatabase> {
  return createFreshDatabase(server, encoding);
}

/** The same of MySQL or MariaDB. */
export async function freshMysqlDatabase(url: string): Promise<FreshMysqlDatabase> {
  return createFreshMysqlDatabase(url);
}

/** One of the servers that a test is to be run against, for `describe.each`. */
export interface Variant {
  readonly name: ServiceName;
  /** To be called inside tests and hooks. */
  readonly url: () => string;
}

/** Redis; in the long form Redis 8 and Valkey too. */
export function caches(): Variant[] {
  return variants("redis");
}

/** Elasticsearch; in the long form its newer line and both of OpenSearch too. */
export function searchEngines(): Variant[] {
  return variants("es");
}

/** A server for one test alone, to be killed, paused and restarted; stopped and deleted by `await using`. */
export function ownPostgres(options: PostgresOptions = {}): Promise<RunningPostgres> {
  return postgresServer.start({ ...options, own: true });
}

export function ownMysql(flavour: MysqlFlavour, options: MysqlOptions = {}): Promise<RunningService> {
  return (flavour === "mysql" ? mysqlServer : mariadbServer).start({ ...options, own: true });
}

export function ownRedis(options: RedisOptions = {}): Promise<RunningService> {
  return redisServer.start({ ...options, own: true });
}

export function ownKafka(options: KafkaOptions = {}): Promise<RunningService> {
  return kafkaServer.start({ ...options, own: true });
}

export function ownClickhouse(options: StartOptions = {}): Promise<RunningService> {
  return clickhouseServer.start({ ...options, own: true });
}

export function ownElasticsearch(options: SearchEngineOptions = {}): Promise<RunningService> {
  return elasticsearchServer.start({ ...options, own: true });
}

export interface FreshPrefix extends AsyncDisposable {
  readonly prefix: string;
}

/** A prefix for keys of one test; what was stored below it is deleted at the end. */
export function freshKeyPrefix(url: string = redisUrl()): FreshPrefix {
  const prefix = `test-${shortName()}:`;
  return {
    prefix,
    async [Symbol.asyncDispose]() {
      const client = new Redis(url);
      try {
        for await (const keys of client.scanStream({ match: `${prefix}*`, count: 1_000 })) {
          if (Array.isArray(keys) && keys.length > 0) await client.unlink(...keys.map(String));
        }
      } finally {
        client.disconnect();
      }
    },
  };
}

/** A prefix for indices of one test; those whose names begin with it are deleted at the end. */
export function freshIndexPrefix(url: string = elasticsearchUrl()): FreshPrefix {
  const prefix = `test-${shortName()}-`;
  return {
    prefix,
    [Symbol.asyncDispose]: () => deleteIndices(url, prefix),
  };
}

export async function deleteIndices(url: string, prefix: string): Promise<void> {
  const listed = await fetch(`${url}/_cat/indices/${prefix}*?h=index&expand_wildcards=all`);
  // By full names, for a server may refuse to delete by pattern.
  const names = (await listed.text()).split("\n").filter((name) => name.startsWith(prefix));
  for (const name of names) {
    const deleted = await fetch(`${url}/${encodeURIComponent(name)}`, { method: "DELETE" });
    await deleted.body?.cancel();
  }
}

/** A database of ClickHouse for one test; dropped at the end. */
export function freshColumns(url: string = clickhouseUrl()): FreshPrefix {
  const prefix = `test_${shortName()}`;
  return {
    prefix,
    async [Symbol.asyncDispose]() {
      await askClickhouse(url, `DROP DATABASE IF EXISTS ${prefix} SYNC`);
    },
  };
}

function shortName(): string {
  return randomUUID().replaceAll("-", "").slice(0, 12);
}

/** A missing first one has its tests skipped by the runner, or failed in CI; a missing variant is named in the summary. */
function variants(suffix: "redis" | "es"): Variant[] {
  const [first, ...others] = variantsOf(suffix);
  const there = others.filter((name) => process.env["CI"] === "true" || inject("services")[name]?.kind === "up");
  return [...(first === undefined ? [] : [first]), ...there].map((name) => ({ name, url: () => provided(name).url }));
}

function provided(name: ServiceName): Extract<ProvidedService, { kind: "up" }> {
  const service = inject("services")[name];
  if (service === undefined) throw new Error(`${name} was not started: the test file's name must ask for it`);
  if (service.kind === "unavailable") throw new Error(service.reason);
  return service;
}
