/** Several sinks of one daemon under test: what its configuration says of them, and where the comparison finds them. */
import { join } from "node:path";
import { duckdbExtensions } from "../../../scripts/services/packages/duckdb-extensions.ts";
import { compareSink, isEqual, type SinkAddress, type TableName } from "../compare/compare.ts";
import type { Kept } from "../compare/live-rows.ts";
import { KafkaTopics } from "../kafka/kafka-topics.ts";
import { type TcpProxy, tcpProxy } from "../network/proxy.ts";
import { isLongForm } from "../run/service-suffixes.ts";
import {
  clickhouseUrl,
  elasticsearchUrl,
  freshColumns,
  type FreshBucket,
  freshBucket,
  freshDatabase,
  freshIndexPrefix,
  freshKeyPrefix,
  kafkaBroker,
  redisUrl,
  type FreshDatabase,
} from "../run/services.ts";

export const SINK_KINDS = ["duckdb", "postgres", "redis", "elasticsearch"] as const;
/** For promises of the runtime, whatever the sink: a search engine costs as much as the others together. In the long form every kind. */
export const CHOSEN_KINDS = isLongForm() ? SINK_KINDS : (["duckdb", "postgres", "redis"] as const);
/** Warehouses in another form; those in Postgres lie in a schema of that name in the target of `postgres`, named before. */
export const KEPT_KINDS = ["postgres-soft", "postgres-history", "duckdb-soft", "duckdb-history"] as const;
/** Lakes, which take longer for a commit than the others. */
export const LAKE_KINDS = ["ducklake", "ducklake-history"] as const;
/** What passes changes on. Of the topics that it made, a test compares what a reader would hold. */
export const STREAM_KINDS = ["kafka"] as const;
/** In a database of the test's own each. */
export const COLUMN_KINDS = ["clickhouse", "clickhouse-soft", "clickhouse-history"] as const;
/** What applications ship with. */
export const EMBEDDED_KINDS = ["sqlite"] as const;
export type PlainKind = (typeof SINK_KINDS)[number];
/** A log of changes: what a test compares are the rows that they leave. */
export const LOG_KINDS = ["files"] as const;
/** The same, and a lake, in a bucket. */
export const BUCKET_KINDS = ["files-s3", "ducklake-s3"] as const;
export type SinkKind =
  | PlainKind
  | (typeof KEPT_KINDS)[number]
  | (typeof LAKE_KINDS)[number]
  | (typeof STREAM_KINDS)[number]
  | (typeof LOG_KINDS)[number]
  | (typeof EMBEDDED_KINDS)[number]
  | (typeof COLUMN_KINDS)[number]
  | (typeof BUCKET_KINDS)[number];

const BATCH_ROWS = [30, 50_000, 300];
let setCount = 0;

/** In place of shared ones. */
export interface OwnServers {
  /** A broker of Kafka. */
  readonly broker?: string | undefined;
  /** The URL of a search engine. */
  readonly search?: string | undefined;
}

export class SinkSet implements AsyncDisposable {
  /** For `sinks:` of millrace.yaml; each sink is named after its kind. */
  readonly config: Record<string, object> = {};
  readonly #addresses: ((folder: string) => SinkAddress)[] = [];
  readonly #owned: AsyncDisposable[] = [];
  readonly #broker: string | undefined;
  readonly #search: string | undefined;
  /** Where there is a Postgres sink: its target. */
  target: FreshDatabase | null = null;
  /** Where there is a Redis sink: its keys' prefix. */
  keyPrefix = "";
  indexPrefix = "";
  /** Where there are files in a bucket. */
  bucket: FreshBucket | null = null;
  /** Of the ClickHouse sinks, in their order. */
  readonly databases: string[] = [];
  /** Where there is a Kafka sink. */
  topics: KafkaTopics | null = null;

  /** By kind, where the daemon goes through them: they make a sink go away, or slow. The comparison does not. */
  readonly proxies = new Map<string, TcpProxy>();

  private constructor({ broker, search }: OwnServers) {
    this.#broker = broker;
    this.#search = search;
  }

  /** Every kind on the shared servers, in a place of its own. */
  static async create(kinds: readonly SinkKind[], isProxied = false, own: OwnServers = {}): Promise<SinkSet> {
    const set = new SinkSet(own);
    for (const kind of kinds) await set.#add(kind, isProxied);
    return set;
  }

  get kinds(): readonly string[] {
    return Object.keys(this.config);
  }

  /** One line per table (by itself: in `public`) and sink that is not equal to the source. `folder` is where millrace.yaml lies. */
  async differences(source: string, folder: string, tables: readonly (string | TableName)[]): Promise<string[]> {
    const names = tables.map((table) => (typeof table === "string" ? { schema: "public", table } : table));
    const lines: string[] = [];
    for (const address of this.#addresses) {
      const sink = address(folder);
      for (const result of await compareSink({ source, sink, tables: names })) {
        if (isEqual(result)) continue;
        const { table, missing, extra, different, samples } = result;
        const counts = `${missing} missing, ${extra} extra, ${different} different`;
        const kept = "kept" in sink ? `${sink.kind} ${sink.kept}`.trim() : sink.kind;
        lines.push(`${kept} ${table}: ${counts} (${samples.join("; ")})`);
      }
    }
    return lines;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const owned of this.#owned.toReversed()) await owned[Symbol.asyncDispose]();
  }

  async #add(kind: SinkKind, isProxied: boolean): Promise<void> {
    switch (kind) {
      case "duckdb":
        this.config[kind] = { kind, path: "./warehouse.duckdb" };
        this.#addresses.push((folder) => ({ kind, path: join(folder, "warehouse.duckdb") }));
        return;
      case "sqlite":
        this.config[kind] = { kind, path: "./replica.sqlite" };
        this.#addresses.push((folder) => ({ kind, path: join(folder, "replica.sqlite") }));
        return;
      case "ducklake":
      case "ducklake-history": {
        const kept = kind === "ducklake" ? undefined : "history";
        const files = { catalog: `sqlite:./${kind}.db`, data: `./${kind}` };
        const maintenance = { every: "10s", keepSnapshots: "20s" };
        const options = { ...files, maintenance, extensions: await duckdbExtensions() };
        this.config[kind] = { kind: "ducklake", ...options, ...(kept === undefined ? {} : { mode: kept }) };
        this.#addresses.push((folder) => ({
          kind: "ducklake",
          catalog: join(folder, `${kind}.db`),
          ...(kept === undefined ? {} : { kept }),
        }));
        return;
      }
      case "postgres": {
        const target = (this.target = await freshDatabase());
        this.#owned.push(target);
        // Small batches follow each other while the one before is in flight, as under load.
        const batch = { rows: BATCH_ROWS[setCount++ % BATCH_ROWS.length] };
        this.config[kind] = { kind, url: await this.#reached(kind, target.url, isProxied), batch };
        this.#addresses.push(() => ({ kind, url: target.url }));
        return;
      }
      case "postgres-soft":
      case "postgres-history": {
        if (this.target === null) throw new Error(`${kind} lies in the target of postgres: name that first`);
        const [kept, options] = keptOf(kind);
        const { url } = this.target;
        this.config[kind] = { kind: "postgres", url, schema: kept, ...options };
        this.#addresses.push(() => ({ kind: "postgres", url, schema: kept, kept }));
        return;
      }
      case "duckdb-soft":
      case "duckdb-history": {
        const [kept, options] = keptOf(kind);
        this.config[kind] = { kind: "duckdb", path: `./${kept}.duckdb`, ...options };
        this.#addresses.push((folder) => ({ kind: "duckdb", path: join(folder, `${kept}.duckdb`), kept }));
        return;
      }
      case "redis": {
        const keys = freshKeyPrefix();
        this.#owned.push(keys);
        this.keyPrefix = keys.prefix;
        const url = await this.#reached(kind, redisUrl(), isProxied);
        this.config[kind] = { kind, url, prefix: keys.prefix };
        this.#addresses.push(() => ({ kind, url: redisUrl(), prefix: keys.prefix }));
        return;
      }
      case "elasticsearch": {
        const own = this.#search ?? elasticsearchUrl();
        const indices = freshIndexPrefix(own);
        this.#owned.push(indices);
        this.indexPrefix = indices.prefix;
        const url = await this.#reached(kind, own, isProxied);
        this.config[kind] = { kind, url, prefix: indices.prefix, replicas: 0 };
        this.#addresses.push(() => ({ kind, url: own, prefix: indices.prefix }));
        return;
      }
      case "files":
        // Files of some hundred changes, and of those that waited for a heartbeat.
        this.config[kind] = { kind, path: "./changes", roll: { rows: 400, age: "1s" } };
        this.#addresses.push((folder) => ({ kind, path: join(folder, "changes") }));
        return;
      case "clickhouse":
      case "clickhouse-soft":
      case "clickhouse-history": {
        const database = freshColumns();
        this.#owned.push(database);
        const [kept, options] = kind === "clickhouse" ? [undefined, {}] : keptOf(kind);
        const url = await this.#reached(kind, clickhouseUrl(), isProxied);
        const schema = database.prefix;
        this.databases.push(schema);
        this.config[kind] = { kind: "clickhouse", url, schema, ...options };
        const address = { kind: "clickhouse", url: clickhouseUrl(), schema } as const;
        this.#addresses.push(() => (kept === undefined ? address : { ...address, kept }));
        return;
      }
      case "files-s3": {
        const bucket = (this.bucket = await freshBucket());
        this.#owned.push(bucket);
        const path = `s3://${bucket.bucket}/changes`;
        this.config[kind] = { kind: "files", path, s3: bucket.options, roll: { rows: 400, age: "1s" } };
        this.#addresses.push(() => ({ kind: "files", bucket, path: "changes" }));
        return;
      }
      case "ducklake-s3": {
        const bucket = (this.bucket = await freshBucket());
        this.#owned.push(bucket);
        const files = { catalog: `sqlite:./${kind}.db`, data: `s3://${bucket.bucket}/lake`, s3: bucket.options };
        const maintenance = { every: "10s", keepSnapshots: "20s" };
        this.config[kind] = { kind: "ducklake", ...files, maintenance, extensions: await duckdbExtensions() };
        this.#addresses.push((folder) => ({ kind: "ducklake", catalog: join(folder, `${kind}.db`), bucket }));
        return;
      }
      case "kafka": {
        if (isProxied) throw new Error("brokers tell clients their own addresses, not a proxy's");
        const topics = (this.topics = new KafkaTopics(this.#broker ?? kafkaBroker()));
        this.#owned.push(topics);
        const { broker, prefix } = topics;
        const batch = { rows: BATCH_ROWS[setCount++ % BATCH_ROWS.length] };
        this.config[kind] = { kind, brokers: [broker], prefix, transactions: true, topics: { partitions: 3 }, batch };
        this.#addresses.push(() => ({ kind, broker, prefix }));
        return;
      }
      default:
        kind satisfies never;
    }
  }

  async #reached(kind: SinkKind, url: string, isProxied: boolean): Promise<string> {
    if (!isProxied) return url;
    const proxy = await tcpProxy(url);
    this.#owned.push(proxy);
    this.proxies.set(kind, proxy);
    return proxy.url(url);
  }
}

function keptOf(kind: (typeof KEPT_KINDS)[number] | (typeof COLUMN_KINDS)[number]): [kept: Kept, options: object] {
  return kind.endsWith("soft") ? ["soft", { deletes: "soft" }] : ["history", { mode: "history" }];
}
