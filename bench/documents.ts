/**
 * Documents of orders with customer, lines and their products: first load and a backlog of changed lines into Elasticsearch,
 * against pgsync on the same servers and tree; what assembling a document costs; and how long a change of a line takes to be
 * seen in its order in Redis at 200 transactions a second.
 */
import { mkdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import type { Client } from "pg";
import { openExisting } from "../connectors/sqlite/file.ts";
import { readingOf, storedPlans } from "../connectors/nest/stored.ts";
import { DocumentRows, DocumentWriter } from "../connectors/nest/source/rows.ts";
import { shapeOf } from "../connectors/nest/source/tables.ts";
import { defineFunctions } from "../connectors/nest/values.ts";
import { postgres } from "../scripts/services/servers/postgres/postgres.ts";
import { redis } from "../scripts/services/servers/redis.ts";
import { elasticsearch } from "../scripts/services/servers/search/elasticsearch.ts";
import { Transforms } from "../src/documents/transforms.ts";
import { connected, createDatabases, withDatabase } from "./clients.ts";
import { MeasuredDaemon } from "./daemon.ts";
import { Pgsync } from "./pgsync.ts";
import { type BenchOptions, type BenchReport, type Line, median, percentile } from "./report.ts";
import { SETTINGS } from "./slot.ts";

const ORDERS = 50_000;
const LINES = 5;
const FIRST_LOAD_WANTED = 3;
const BACKLOG_WANTED = 10;
const ASSEMBLY_MICROSECONDS_MAX = 20;
const TRANSACTIONS_PER_SECOND = 200;
const SECONDS = 10;
const VISIBLE_MS_MAX = 5;
const DISK_MAX = 1.5;
const MIB = 1024 * 1024;
const SEEN_TIMEOUT_MS = 30_000;
const PREFIX = "bench:";
const BULK_DOCUMENTS = 1_000;

const TABLES = `create table customers (id int primary key, name text not null, email text);
  create table products (id int primary key, sku text not null, title text not null);
  create table orders (id int primary key, customer_id int references customers, status text not null, amount numeric(12,2));
  create table order_items (id int primary key, order_id int references orders, product_id int references products, quantity int not null);
  create index on order_items (order_id); create index on order_items (product_id); create index on orders (customer_id)`;

const DOCUMENTS = {
  orders: {
    from: "public.orders",
    columns: ["id", "status", "amount"],
    with: {
      customer: { from: "public.customers", columns: ["name", "email"] },
      items: {
        from: "public.order_items",
        many: true,
        columns: ["id", "quantity"],
        with: { product: { from: "public.products", columns: ["sku", "title"] } },
      },
    },
  },
};

/** The same tree as pgsync writes it. */
function pgsyncTree(database: string): object {
  const relationship = (type: string): object => ({ variant: "object", type });
  return {
    database,
    index: "pgsync-orders",
    nodes: {
      table: "orders",
      columns: ["id", "status", "amount"],
      children: [
        { table: "customers", label: "customer", columns: ["name", "email"], relationship: relationship("one_to_one") },
        {
          table: "order_items",
          label: "items",
          columns: ["id", "quantity"],
          relationship: relationship("one_to_many"),
          children: [
            {
              table: "products",
              label: "product",
              columns: ["sku", "title"],
              relationship: relationship("one_to_one"),
            },
          ],
        },
      ],
    },
  };
}

interface Measured {
  readonly firstLoad: number[];
  readonly backlog: number[];
  /** Seconds of the processor, of these. */
  readonly firstLoadCpu: number[];
  readonly backlogCpu: number[];
}

const nothing = (): Measured => ({ firstLoad: [], backlog: [], firstLoadCpu: [], backlogCpu: [] });

export async function run({ scale, runs, log }: BenchOptions): Promise<BenchReport> {
  const orders = Math.round(ORDERS * scale);
  const changes = orders * 2;
  await using source = await postgres.start({ own: true, settings: SETTINGS });
  await using cache = await redis.start({ own: true });
  await using search = await elasticsearch.start({ own: true, optimized: true });
  const own = nothing();
  const peer = nothing();
  const memory = { own: 0, peer: 0 };
  let disk = { nest: Number.NaN, columns: Number.NaN };
  let assembly = Number.NaN;
  let visible: readonly number[] = [];
  await warmEngine(search.url, orders);
  for (let round = 0; round < runs; round++) {
    const names = [`own${round}`, `peer${round}`] as const;
    await createDatabases(source.url, ...names);
    for (const name of names) await fill(withDatabase(source.url, name), orders);
    const sides = [
      async (): Promise<void> => {
        const url = withDatabase(source.url, names[0]);
        await using daemon = new MeasuredDaemon(
          configOf(names[0], url, { kind: "elasticsearch", url: search.url, prefix: `own${round}-` }),
        );
        own.firstLoad.push(await timed(() => daemon.catchUp()));
        own.firstLoadCpu.push(daemon.cpuSeconds);
        await change(url, changes);
        own.backlog.push(await timed(() => daemon.catchUp()));
        own.backlogCpu.push(daemon.cpuSeconds);
        await expectCount(search.url, `own${round}-orders`, orders);
        const nest = join(daemon.folder, ".millrace", `${names[0]}-documents.db`);
        assembly = assemblyMicroseconds(nest);
        memory.own = Math.max(memory.own, daemon.peakMiB);
        disk = { nest: statSync(nest).size, columns: await columnBytes(url) };
      },
      async (): Promise<void> => {
        const url = withDatabase(source.url, names[1]);
        await using place = new MeasuredDaemon({ name: "place" });
        mkdirSync(place.folder, { recursive: true });
        const pgsync = await Pgsync.open(
          { folder: place.folder, postgresUrl: url, redisUrl: cache.url, searchUrl: search.url },
          { ...pgsyncTree(names[1]), index: `pgsync${round}` },
        );
        await pgsync.bootstrap();
        peer.firstLoad.push(await pgsync.sync());
        peer.firstLoadCpu.push(pgsync.cpuSeconds);
        await change(url, changes);
        peer.backlog.push(await pgsync.sync());
        peer.backlogCpu.push(pgsync.cpuSeconds);
        await expectCount(search.url, `pgsync${round}`, orders);
        memory.peer = Math.max(memory.peer, pgsync.peakMiB);
      },
    ];
    for (const side of round % 2 === 0 ? sides : sides.toReversed()) await side();
    const rate = (count: number, seconds: number | undefined): string =>
      Math.round(count / (seconds ?? 1)).toLocaleString("en");
    log(
      `first load: millrace ${rate(orders, own.firstLoad.at(-1))} documents/s, pgsync ${rate(orders, peer.firstLoad.at(-1))}`,
    );
    log(
      `backlog: millrace ${rate(changes, own.backlog.at(-1))} changes/s, pgsync ${rate(changes, peer.backlog.at(-1))}`,
    );
  }
  visible = await visibleMs(
    withDatabase(source.url, "own0"),
    cache.url,
    orders,
    Math.max(3, Math.round(SECONDS * scale)),
  );
  const line = (work: string, who: string, figures: Line["figures"]): Line => ({ work, who, figures });
  const [ownLoad, peerLoad] = [median(own.firstLoad), median(peer.firstLoad)];
  const [ownBacklog, peerBacklog] = [median(own.backlog), median(peer.backlog)];
  const p50 = percentile(visible, 0.5);
  return {
    name: "documents",
    lines: [
      line("first load", "millrace", { "documents/s": orders / ownLoad, "CPU s": median(own.firstLoadCpu) }),
      line("first load", "pgsync", { "documents/s": orders / peerLoad, "CPU s": median(peer.firstLoadCpu) }),
      line("backlog of changed lines", "millrace", {
        "changes/s": changes / ownBacklog,
        "CPU s": median(own.backlogCpu),
      }),
      line("backlog of changed lines", "pgsync", {
        "changes/s": changes / peerBacklog,
        "CPU s": median(peer.backlogCpu),
      }),
      line(`assembling a document of ${LINES} lines`, "millrace", { µs: assembly }),
      line("peak of resident memory", "millrace", { MiB: memory.own }),
      line("peak of resident memory", "pgsync", { MiB: memory.peer }),
      line("the nest, and the columns that it holds in Postgres' form", "millrace", {
        MiB: disk.nest / MIB,
        columns: disk.columns / MIB,
      }),
      line(`commit to visible in Redis, ${TRANSACTIONS_PER_SECOND}/s`, "millrace", {
        "p50 ms": p50,
        "p99 ms": percentile(visible, 0.99),
      }),
    ],
    ratios: [
      { what: "first load: millrace / pgsync", value: peerLoad / ownLoad, target: FIRST_LOAD_WANTED, atLeast: true },
      { what: "backlog: millrace / pgsync", value: peerBacklog / ownBacklog, target: BACKLOG_WANTED, atLeast: true },
      { what: "µs a document", value: assembly, target: ASSEMBLY_MICROSECONDS_MAX, atLeast: false },
      { what: "bytes of the nest / of its columns", value: disk.nest / disk.columns, target: DISK_MAX, atLeast: false },
      { what: "ms from commit to visible, p50", value: p50, target: VISIBLE_MS_MAX, atLeast: false },
    ],
  };
}

function configOf(name: string, url: string, sink: object): object {
  return {
    name,
    source: { kind: "postgres", url },
    documents: DOCUMENTS,
    sinks: { target: { ...sink, documents: ["orders"] } },
  };
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const startedMs = performance.now();
  await work();
  return (performance.now() - startedMs) / 1000;
}

async function fill(url: string, orders: number): Promise<void> {
  const client = await connected(url);
  await client.query(TABLES);
  await client.query(`insert into customers select g, 'customer ' || g, 'c' || g || '@example.com' from generate_series(1, ${Math.ceil(orders / 10)}) g;
    insert into products select g, 'sku' || g, 'the title of product ' || g from generate_series(1, 3000) g;
    insert into orders select g, 1 + g % ${Math.ceil(orders / 10)}, 'new', g * 1.5 from generate_series(1, ${orders}) g;
    insert into order_items select g, 1 + (g - 1) / ${LINES}, 1 + g % 3000, 1 + g % 9 from generate_series(1, ${orders * LINES}) g;
    analyze`);
  await client.end();
}

/** Of the columns that the nest has, keys included, without what Postgres adds for each row. */
async function columnBytes(url: string): Promise<number> {
  const client = await connected(url);
  const { rows } = await client.query<{ bytes: string }>(`select sum(bytes)::text as bytes from (
    select sum(pg_column_size(id) + pg_column_size(name) + pg_column_size(email)) as bytes from customers
    union all select sum(pg_column_size(id) + pg_column_size(sku) + pg_column_size(title)) from products
    union all select sum(pg_column_size(id) + pg_column_size(customer_id) + pg_column_size(status) + pg_column_size(amount)) from orders
    union all select sum(pg_column_size(id) + pg_column_size(order_id) + pg_column_size(product_id) + pg_column_size(quantity)) from order_items) as tables`);
  await client.end();
  return Number(rows[0]?.bytes);
}

/** Each a transaction of its own, over lines of all orders. */
async function change(url: string, changes: number): Promise<void> {
  const client = await connected(url);
  await client.query(`create or replace procedure bench_change(changes int, lines int) language plpgsql as $$
    begin
      for i in 1..changes loop
        update order_items set quantity = quantity + 1 where id = 1 + (i * 7919) % lines;
        commit;
      end loop;
    end $$`);
  await client.query("set synchronous_commit = off");
  const { rows } = await client.query<{ count: string }>("select count(*) from order_items");
  await client.query("call bench_change($1, $2)", [changes, Number(rows[0]?.count)]);
  await client.end();
}

/** An engine's first documents cost it several times as much as later ones, whoever sends them. */
async function warmEngine(url: string, count: number): Promise<void> {
  for (let from = 0; from < count; from += BULK_DOCUMENTS) {
    const lines = Array.from({ length: BULK_DOCUMENTS }, (_, i) => {
      const items = Array.from({ length: LINES }, (__, line) => ({
        id: line,
        quantity: i % 9,
        product: { sku: `sku${i}`, title: `the title of product ${i}` },
      }));
      const id = from + i;
      return `{"index":{"_id":"${id}"}}\n${JSON.stringify({ id, status: "new", customer: { name: `customer ${i}` }, items })}\n`;
    });
    const headers = { "content-type": "application/x-ndjson" };
    await fetch(`${url}/warm/_bulk`, { method: "POST", headers, body: lines.join("") });
  }
  await fetch(`${url}/warm`, { method: "DELETE" });
}

async function expectCount(url: string, index: string, wanted: number): Promise<void> {
  await fetch(`${url}/${index}/_refresh`, { method: "POST" });
  const answer: unknown = await (await fetch(`${url}/${index}/_count`)).json();
  const count = typeof answer === "object" && answer !== null && "count" in answer ? answer.count : answer;
  if (count !== wanted) throw new Error(`${index} has ${JSON.stringify(count)} of ${wanted} documents`);
}

/** Processor time, as nothing else runs in this thread. */
function assemblyMicroseconds(path: string): number {
  const database = openExisting(path);
  if (database === null) throw new Error(`there is no nest ${path}`);
  try {
    defineFunctions(database);
    const planned = storedPlans(readingOf(database)).documents[0]!;
    const rows = new DocumentRows(database, planned, new Transforms());
    const writer = new DocumentWriter();
    const table = { ...shapeOf(planned), version: 1, since: { epoch: 1, commit: 0n, index: 0 } };
    const before = process.cpuUsage();
    let count = 0;
    for (const values of rows.range(null)) {
      writer.out.reset();
      rows.write(writer, table, values);
      count++;
    }
    const { user, system } = process.cpuUsage(before);
    return (user + system) / count;
  } finally {
    database.close();
  }
}

/** Of each transaction, from its commit until the key of its order was set. */
async function visibleMs(url: string, cacheUrl: string, orders: number, seconds: number): Promise<readonly number[]> {
  await using daemon = new MeasuredDaemon({
    ...configOf("visible", url, { kind: "redis", url: cacheUrl, prefix: PREFIX, format: "json" }),
  });
  await daemon.catchUp();
  const seen = new Map<string, number>();
  const listener = new Redis(cacheUrl);
  await listener.config("SET", "notify-keyspace-events", "K$");
  listener.on("pmessage", (_pattern, channel: string) => {
    const key = channel.slice(channel.indexOf(PREFIX));
    if (!seen.has(key)) seen.set(key, performance.now());
  });
  await listener.psubscribe(`__keyspace@0__:${PREFIX}orders:*`);
  daemon.start();
  const client = await connected(url);
  await warmUp(client, seen);
  const committed = new Map<string, number>();
  const beganMs = performance.now();
  for (let i = 0; i < seconds * TRANSACTIONS_PER_SECOND; i++) {
    const order = 2 + (i % (orders - 2));
    const dueMs = beganMs + (i * 1000) / TRANSACTIONS_PER_SECOND;
    if (dueMs > performance.now()) await sleep(dueMs - performance.now());
    await client.query("update order_items set quantity = quantity + 1 where id = $1", [(order - 1) * LINES + 1]);
    const key = `${PREFIX}orders:${order}`;
    if (!committed.has(key)) committed.set(key, performance.now());
  }
  const untilMs = performance.now() + SEEN_TIMEOUT_MS;
  while ([...committed.keys()].some((key) => !seen.has(key)) && performance.now() < untilMs) await sleep(50);
  await client.end();
  await listener.quit();
  await daemon.stop();
  return [...committed].map(([key, atMs]) => (seen.get(key) ?? Number.POSITIVE_INFINITY) - atMs);
}

async function warmUp(client: Client, seen: ReadonlyMap<string, number>): Promise<void> {
  await client.query("update order_items set quantity = quantity + 1 where id = 1");
  for (const untilMs = performance.now() + SEEN_TIMEOUT_MS; performance.now() < untilMs; await sleep(50))
    if (seen.has(`${PREFIX}orders:1`)) return;
  throw new Error("no change of a line reached Redis");
}
