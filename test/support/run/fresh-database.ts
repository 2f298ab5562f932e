/** A database of its own for a test. */
import { randomUUID } from "node:crypto";
import { Client, type QueryResult, type QueryResultRow } from "pg";
import { eventually } from "./waiting.ts";

export interface PostgresAddress {
  /** Superuser, database `postgres`, over TCP. */
  readonly url: string;
  /** The folder of the Unix socket; undefined where the server is in a container or somebody else's. */
  readonly socketDir: string | undefined;
}

export interface FreshDatabase extends AsyncDisposable {
  readonly name: string;
  readonly url: string;
  /** The same database by Unix socket; undefined where there is none. */
  readonly socketUrl: string | undefined;
  /** One statement, or several without parameters, on a connection that is kept for this. */
  query<Row extends QueryResultRow = QueryResultRow>(
    sql: string,
    values?: readonly unknown[],
  ): Promise<QueryResult<Row>>;
  /** A further connection, closed by `await using`. */
  connect(): Promise<Client & AsyncDisposable>;
}

/** A new database on that server, dropped at the end together with its slots. `encoding`: another one than the server's. */
export async function createFreshDatabase(server: PostgresAddress, encoding?: string): Promise<FreshDatabase> {
  const name = `test_${randomUUID().replaceAll("-", "").slice(0, 12)}`;
  const form = encoding === undefined ? "" : ` encoding '${encoding}' locale 'C' template template0`;
  await onServer(server, (admin) => admin.query(`create database ${name}${form}`));
  const url = withDatabase(server.url, name);
  let kept: (Client & AsyncDisposable) | undefined;
  const keep = async (): Promise<Client & AsyncDisposable> => {
    const made = await connect(url);
    // The next one may lead to another server.
    made.once("end", () => {
      if (kept === made) kept = undefined;
    });
    return made;
  };
  return {
    name,
    url,
    socketUrl: server.socketDir === undefined ? undefined : overSocket(url, server.socketDir),
    async query<Row extends QueryResultRow>(sql: string, values?: readonly unknown[]) {
      kept ??= await keep();
      return values === undefined ? kept.query<Row>(sql) : kept.query<Row>(sql, [...values]);
    },
    connect: () => connect(url),
    async [Symbol.asyncDispose]() {
      await kept?.end();
      await onServer(server, (admin) => dropDatabase(admin, name));
    },
  };
}

/** Slots first: a database with a slot in use can't be dropped, and a walsender lets go only a moment after it is told. */
async function dropDatabase(admin: Client, name: string): Promise<void> {
  await eventually(async () => {
    await admin.query(
      "select pg_terminate_backend(active_pid) from pg_replication_slots where database = $1 and active_pid is not null",
      [name],
    );
    await admin.query(
      "select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = $1 and active_pid is null",
      [name],
    );
    await admin.query(`drop database if exists ${name} with (force)`);
  });
}

async function onServer(server: PostgresAddress, use: (admin: Client) => Promise<unknown>): Promise<void> {
  await using admin = await connect(server.url);
  await use(admin);
}

async function connect(url: string): Promise<Client & AsyncDisposable> {
  const client = new Client({ connectionString: url });
  // Tests end their server's sessions on purpose; the next query reports it.
  client.on("error", () => {});
  await client.connect();
  return Object.assign(client, { [Symbol.asyncDispose]: () => client.end() });
}

function withDatabase(url: string, name: string): string {
  const changed = new URL(url);
  changed.pathname = `/${name}`;
  return changed.href;
}

function overSocket(url: string, socketDir: string): string {
  const { username, port, pathname } = new URL(url);
  return `postgres://${username}@/${pathname.slice(1)}?host=${encodeURIComponent(socketDir)}&port=${port}`;
}
