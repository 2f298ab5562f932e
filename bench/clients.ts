import { spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { Client } from "pg";

export const TICKS_PER_SECOND = 200;
const SEEN_TIMEOUT_MS = 30_000;

export async function connected(url: string): Promise<Client> {
  const client = new Client({ connectionString: url });
  // A server that is stopped at the end reports that to idle connections; a running query throws by itself.
  client.on("error", () => undefined);
  await client.connect();
  return client;
}

export function withDatabase(url: string, database: string): string {
  const changed = new URL(url);
  changed.pathname = `/${database}`;
  return changed.href;
}

/** The same address as the keywords that a subscription needs. */
export function libpq(url: string): string {
  const { hostname, port, username, pathname } = new URL(url);
  return `host=${hostname} port=${port} user=${username} dbname=${pathname.slice(1)}`;
}

export async function createDatabases(url: string, ...names: readonly string[]): Promise<void> {
  const client = await connected(url);
  for (const name of names) await client.query(`create database ${name}`);
  await client.end();
}

/** A trigger at the target reports rows of `tick`, whoever writes them and without polling: by id, when it was heard. */
export async function listen(client: Client, seen: Map<number, number>): Promise<void> {
  client.on("notification", ({ payload }) => seen.set(Number(payload), performance.now()));
  await client.query(`
    create function told() returns trigger language plpgsql as $$ begin perform pg_notify('tick', new.id::text); return new; end $$;
    create trigger told after insert on tick for each row execute function told();
    alter table tick enable always trigger told;
    listen tick`);
}

/** Writes the rows from `first` to `end` (not itself) of `tick`, each in a transaction: by id, when it was committed. */
export async function writeTicks(
  client: Client,
  first: number,
  end: number,
  also?: (id: number) => string,
): Promise<ReadonlyMap<number, number>> {
  const committed = new Map<number, number>();
  const startedMs = performance.now();
  for (let id = first; id < end; id++) {
    const dueMs = startedMs + ((id - first) * 1000) / TICKS_PER_SECOND;
    if (dueMs > performance.now()) await sleep(dueMs - performance.now());
    if (also === undefined) await client.query("insert into tick values ($1, 'a row')", [id]);
    else await client.query(`insert into tick values (${id}, 'a row'); ${also(id)}`);
    committed.set(id, performance.now());
  }
  return committed;
}

/** Waits until all who listen have heard of a row of `tick`. */
export async function heardBy(listeners: readonly ReadonlyMap<number, number>[], id: number): Promise<void> {
  const deadlineMs = performance.now() + SEEN_TIMEOUT_MS;
  while (!listeners.every((seen) => seen.has(id))) {
    if (performance.now() > deadlineMs) throw new Error(`row ${id} was not seen in time`);
    await sleep(10);
  }
}

/** Milliseconds from the commit's answer to the notification of each row, which may come earlier; without the first ones. */
export function latencies(
  committed: ReadonlyMap<number, number>,
  seen: ReadonlyMap<number, number>,
  warmUpMs: number,
): readonly number[] {
  const [startedMs = 0] = committed.values();
  return [...committed].flatMap(([id, committedMs]) => {
    const seenMs = seen.get(id);
    if (seenMs === undefined) throw new Error(`row ${id} was never seen`);
    return committedMs - startedMs < warmUpMs ? [] : [Math.max(0, seenMs - committedMs)];
  });
}

/** How long Postgres' own program takes to read a table, and to keep nothing. */
export async function copyToNothing(url: string, table: string): Promise<number> {
  const startedMs = performance.now();
  const child = spawn("psql", ["-X", "-q", "-d", url, "-c", `copy ${table} to stdout`], {
    stdio: ["ignore", "ignore", "inherit"],
  });
  const [code] = await once(child, "exit");
  if (code !== 0) throw new Error(`psql ended with ${String(code)}; the peer of this benchmark needs it`);
  return (performance.now() - startedMs) / 1000;
}
