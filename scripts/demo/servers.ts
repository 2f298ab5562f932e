/**
 * The real servers of the demo. It announces downloads before it starts them, and names servers that it can't start,
 * with the reason.
 */
import { randomUUID } from "node:crypto";
import { Admin } from "@platformatic/kafka";
import { Redis } from "ioredis";
import { cacheDir } from "../services/packages/cache.ts";
import { definitionOf } from "../services/definitions.ts";
import { describe, plan } from "../services/plan.ts";
import { ServiceUnavailableError, type RunningService, type ServiceName } from "../services/service.ts";
import { mysqlShop } from "./mysql-shop.ts";
import type { DemoOptions } from "./options.ts";
import { postgresShop } from "./postgres-shop.ts";
import { demoSource, type DemoSource, type SourceName } from "./sources.ts";

export interface Servers extends AsyncDisposable {
  readonly source: DemoSource;
  /** A database of Postgres. */
  readonly replicaUrl: string;
  readonly searchUrl: string | undefined;
  readonly cacheUrl: string | undefined;
  /** What lies between capturing and applying. */
  readonly kafka: { readonly broker: string; readonly prefix: string } | undefined;
  /** The start of the demo's keys and indices; empty on servers of its own. */
  readonly prefix: string;
}

/** A server that is not available, with a sentence that says what to do. */
export class MissingServerError extends Error {
  override readonly name = "MissingServerError";
}

const SEARCH = "elasticsearch";
const CACHE = "redis";
const BETWEEN = "kafka";

export function serversFor({ source, without, through }: DemoOptions): readonly ServiceName[] {
  const names: ServiceName[] = source === "postgres" ? [source] : [source, "postgres"];
  if (!without.includes("search")) names.push(SEARCH);
  if (!without.includes("cache")) names.push(CACHE);
  if (through !== null) names.push(BETWEEN);
  return names;
}

/** Says how each server is started here and what must be fetched; throws if one is not available. */
export async function announce(names: readonly ServiceName[], say: (line: string) => void): Promise<void> {
  const { services, downloads } = await plan(names);
  for (const { name, availability } of services) say(`  ${name.padEnd(14)} ${describe(availability)}`);
  for (const { name, availability } of services) {
    if (availability.kind === "unavailable") throw missing(name, availability.reason);
  }
  if (downloads.length === 0) return;
  say("");
  say(`To fetch first, once, into ${cacheDir()} (nothing is installed on the machine):`);
  for (const { what, from, megabytes } of downloads) say(`  ${what.padEnd(34)} about ${megabytes} MB from ${from}`);
  const total = downloads.reduce((sum, { megabytes }) => sum + megabytes, 0);
  say(`  ${"together".padEnd(34)} about ${total} MB`);
}

function missing(name: ServiceName, reason: string): MissingServerError {
  const sink = name === SEARCH ? "search" : name === CACHE ? "cache" : null;
  const way = sink === null ? "The demo can't run without it" : `To run without it: npm run demo -- --without ${sink}`;
  return new MissingServerError(`${name} can't be had here: ${reason}\n${way}`);
}

/** Calls `fill` with the source's URL as soon as its server is up, because a search engine takes longer to start. */
export async function startServers(
  source: SourceName,
  names: readonly ServiceName[],
  fill: (sourceUrl: string) => Promise<void>,
): Promise<Servers> {
  await using stack = new AsyncDisposableStack();
  const suffix = randomUUID().slice(0, 8);
  const start = async (name: ServiceName): Promise<RunningService> => {
    try {
      return stack.use(await definitionOf(name).start());
    } catch (error) {
      throw error instanceof ServiceUnavailableError ? missing(name, error.reason) : error;
    }
  };
  const makeDatabase = async (server: RunningService, name: string): Promise<string> => {
    const database = isOwn(server) ? name : `${name}_${suffix}`;
    await onServer(server, `create database ${database}`);
    if (!isOwn(server)) stack.defer(() => dropDatabase(server, database));
    return withDatabase(server.url, database);
  };
  const startDatabases = async (): Promise<Pick<Servers, "source" | "replicaUrl">> => {
    const postgres = await start("postgres");
    const server = source === "postgres" ? postgres : await start(source);
    const url = await makeDatabase(server, "shop");
    await fill(url);
    return { source: demoSource(source, url), replicaUrl: await makeDatabase(postgres, "replica") };
  };
  const startOther = async (name: ServiceName): Promise<RunningService | undefined> =>
    names.includes(name) ? start(name) : undefined;
  // Waits for all, so that if one fails the others are stopped.
  const starting = [startDatabases(), startOther(SEARCH), startOther(CACHE), startOther(BETWEEN)] as const;
  for (const result of await Promise.allSettled(starting)) if (result.status === "rejected") throw result.reason;
  const [urls, search, cache, between] = await Promise.all(starting);

  // On servers with other data the demo uses separate names, and cleans up.
  const isShared = [search, cache].some((server) => server !== undefined && !isOwn(server));
  const prefix = isShared ? `demo-${suffix}-` : "";
  if (isShared) {
    stack.defer(() => deleteKeys(cache?.url, prefix));
    stack.defer(() => deleteIndices(search?.url, prefix));
  }
  const broker = between === undefined ? undefined : new URL(between.url).host;
  const topics = between === undefined || isOwn(between) ? "" : `demo-${suffix}-`;
  if (broker !== undefined && topics !== "") stack.defer(() => deleteTopics(broker, topics));
  const kept = stack.move();
  return {
    ...urls,
    searchUrl: search?.url,
    cacheUrl: cache?.url,
    kafka: broker === undefined ? undefined : { broker, prefix: topics },
    prefix,
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  };
}

/** A borrowed server has neither process nor data folder here; one in a container disappears with it. */
function isOwn({ name }: RunningService): boolean {
  return (process.env[`MILLRACE_TEST_${name.toUpperCase()}_URL`] ?? "") === "";
}

function withDatabase(url: string, name: string): string {
  const changed = new URL(url);
  changed.pathname = `/${name}`;
  return changed.href;
}

async function onServer({ name, url }: RunningService, ...statements: readonly string[]): Promise<void> {
  const session = await (name === "postgres" ? postgresShop : mysqlShop).connect(url);
  try {
    for (const sql of statements) await session.query(sql);
  } finally {
    await session.end();
  }
}

async function dropDatabase(server: RunningService, name: string): Promise<void> {
  if (server.name !== "postgres") return onServer(server, `drop database if exists ${name}`);
  // First its slots: a database with a slot can't be dropped.
  const slots = `select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = '${name}' and not active`;
  await onServer(server, slots, `drop database if exists ${name} with (force)`);
}

async function deleteKeys(url: string | undefined, prefix: string): Promise<void> {
  if (url === undefined) return;
  const client = new Redis(url);
  try {
    for await (const keys of client.scanStream({ match: `${prefix}*`, count: 1_000 })) {
      if (Array.isArray(keys) && keys.length > 0) await client.unlink(...keys.map(String));
    }
  } finally {
    client.disconnect();
  }
}

async function deleteIndices(url: string | undefined, prefix: string): Promise<void> {
  if (url === undefined) return;
  const listed = await fetch(`${url}/_cat/indices/${prefix}*?h=index&expand_wildcards=all`);
  const names = (await listed.text()).split("\n").filter((name) => name.startsWith(prefix));
  for (const name of names) {
    const deleted = await fetch(`${url}/${encodeURIComponent(name)}`, { method: "DELETE" });
    await deleted.body?.cancel();
  }
}

async function deleteTopics(broker: string, prefix: string): Promise<void> {
  const admin = new Admin({ clientId: "demo", bootstrapBrokers: [broker] });
  try {
    const topics = (await admin.listTopics()).filter((name) => name.startsWith(prefix));
    if (topics.length > 0) await admin.deleteTopics({ topics });
  } finally {
    await admin.close();
  }
}
