import { Client } from "pg";

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
