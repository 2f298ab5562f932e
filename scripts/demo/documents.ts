/**
 * `npm run example`: a shop in Postgres, its orders as documents in Redis, and what changes of other tables do to them. The
 * servers are those of the tests: found on this machine, in containers, or fetched once into the cache folder.
 */
import { spawn, spawnSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { cpSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { Client } from "pg";
import { definitionOf } from "../services/definitions.ts";

const EXAMPLE = join(import.meta.dirname, "../../examples/documents");
const MILLRACE = join(import.meta.dirname, "../../bin/millrace.js");
const FILES = ["millrace.yaml", "documents.ts", "shop.sql"];
const SUFFIX = randomUUID().slice(0, 8);
const DATABASE = `shop_documents_${SUFFIX}`;
const WITHIN_MS = 120_000;

await using stack = new AsyncDisposableStack();
const [postgres, cache] = await Promise.all(
  (["postgres", "redis"] as const).map(async (name) => stack.use(await definitionOf(name).start())),
);
const server = await connected(postgres!.url);
await server.query(`create database ${DATABASE}`);
stack.defer(async () => void (await server.query(`drop database ${DATABASE} with (force)`)));
const url = Object.assign(new URL(postgres!.url), { pathname: DATABASE }).href;
const shop = await connected(url);

const folder = mkdtempSync(join(tmpdir(), "millrace-documents-"));
stack.defer(() => rmSync(folder, { recursive: true }));
for (const file of FILES) cpSync(join(EXAMPLE, file), join(folder, file));
const prefix = `shop-${SUFFIX}`;
const env = { ...process.env, SHOP_DATABASE_URL: url, CACHE_URL: cache!.url, SHOP_PREFIX: prefix, SHOP_NAME: DATABASE };

await shop.query(readFileSync(join(folder, "shop.sql"), "utf8"));
const daemon = spawn(process.execPath, [MILLRACE, "run"], { cwd: folder, env, stdio: ["ignore", "ignore", "inherit"] });
const ended = new Promise<void>((resolve) => daemon.once("exit", () => resolve()));
stack.defer(async () => {
  daemon.kill("SIGTERM");
  await ended;
  millrace("teardown", "--yes");
});
const redis = new Redis(cache!.url);
stack.defer(async () => {
  const keys = await redis.keys(`${prefix}:*`);
  if (keys.length > 0) await redis.del(keys);
  await redis.quit();
});

await untilThere();
say("Order 1 in the cache, and the rows that it is made of (millrace documents show orders 1):");
say(millrace("documents", "show", "orders", "1"));
say("Order 2 is a draft (millrace documents show orders 2):");
say(millrace("documents", "show", "orders", "2"));

await change(
  "update products set title = 'Anvil, large' where id = 1; update customers set name = 'Ada L.' where id = 1",
);
say("A product and a customer have other names, and order 1 in the cache is:");
say(await cached());

await change("insert into order_items values (1, 3, 2, 1, 99.00); delete from order_tags where tag_id = 2");
say("A line more, a tag less:");
say(await cached());

say("millrace reconcile compares the nest with the database, and the cache with the nest:");
say(millrace("reconcile"));

async function connected(to: string): Promise<Client> {
  const client = new Client({ connectionString: to });
  await client.connect();
  stack.defer(() => client.end());
  return client;
}

async function untilThere(): Promise<void> {
  for (const untilMs = Date.now() + WITHIN_MS; Date.now() < untilMs; await sleep(200)) {
    if (daemon.exitCode !== null) break;
    if ((await redis.exists(`${prefix}:orders:1`)) > 0) return;
  }
  throw new Error("order 1 did not reach the cache");
}

async function change(sql: string): Promise<void> {
  await shop.query(sql);
  millrace("wait");
}

async function cached(): Promise<string> {
  const text = await redis.get(`${prefix}:orders:1`);
  // Without Millrace's own fields.
  const own = (name: string, value: unknown): unknown => (name.startsWith("_millrace_") ? undefined : value);
  return JSON.stringify(JSON.parse(text ?? "null", own), null, 2);
}

function millrace(...args: readonly string[]): string {
  const { stdout, stderr } = spawnSync(process.execPath, [MILLRACE, ...args], { cwd: folder, env, encoding: "utf8" });
  return `${stdout}${stderr}`.trimEnd();
}

function say(text: string): void {
  process.stdout.write(`${text}\n\n`);
}
