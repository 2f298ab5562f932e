/** Poolers: what they leave out of a login is set otherwise, and one that gives a session to several clients is refused. */
import { Client } from "pg";
import { expect, onTestFinished, test } from "vitest";
import { connect } from "../../src/postgres/connect.ts";
import { parsePostgresUrl } from "../../src/postgres/url.ts";
import { PostgresSink } from "../../connectors/postgres/sink/sink.ts";
import { exchange, StatementFailure } from "../../src/postgres/exchange.ts";
import { queryFrame } from "../../src/postgres/frames.ts";
import { openState } from "../../src/state/open.ts";
import { createLog, never, openSource } from "../support/postgres/postgres-source.ts";
import { lacksPgBouncer, startPgBouncer } from "../support/postgres/pgbouncer.ts";
import { freshDatabase } from "../support/run/services.ts";
import { eventually } from "../support/run/waiting.ts";
import { DEFAULT_FORM } from "../../connectors/warehouse/own-columns.ts";

const SHOWN = `select current_setting('statement_timeout') as timeout, current_setting('DateStyle') as date, current_setting('bytea_output') as bytes,
  current_setting('search_path') as path, current_setting('row_security') as secured, current_setting('transaction_timeout', true) as transaction,
  current_setting('synchronous_commit') as synchronous`;
const OURS = { timeout: "0", date: "ISO, DMY", bytes: "hex", path: "pg_catalog", secured: "off", synchronous: "local" };

function opened(url: string): PostgresSink {
  const address = parsePostgresUrl(url);
  const sink = new PostgresSink({
    name: "replica",
    checkpointName: "shop/replica",
    address,
    schema: undefined,
    form: DEFAULT_FORM,
  });
  onTestFinished(() => sink.close());
  return sink;
}

test.for([
  ["refuses the options of a login", "pool_mode = session"],
  ["drops the options of a login", "pool_mode = session\nignore_startup_parameters = options"],
  ["has room for one session", "pool_mode = session\nignore_startup_parameters = options\ndefault_pool_size = 1"],
])("one that %s: the settings are in force", async ([, settings], { skip }) => {
  const reason = await lacksPgBouncer();
  skip(reason !== null, reason ?? "");
  await using database = await freshDatabase();
  for (const hostile of [
    "statement_timeout = '2s'",
    "datestyle = 'SQL, DMY'",
    "bytea_output = 'escape'",
    "row_security = on",
  ])
    await database.query(`alter database ${database.name} set ${hostile}`);
  await using pooler = await startPgBouncer(database.url, settings!);
  const url = `${pooler.url}/${database.name}?sslmode=disable`;
  const { client } = await connect(parsePostgresUrl(url), { signal: never });
  try {
    const { transaction, ...shown } = (await client.query(SHOWN)).rows[0]!;
    expect(shown).toEqual(OURS);
    expect([null, "0"]).toContain(transaction);
  } finally {
    await client.end();
  }
  if (settings!.includes("pool_size")) return;
  expect(await opened(url).open(1, never)).toBeNull();
  const state = await openState(url, { name: "shop" });
  expect(await state.lease.acquire("me", 5_000)).toMatchObject({ taken: true });
  await state.close();
});

test("one that gives a session to several clients is refused, as sink, as state and as source", async ({ skip }) => {
  const reason = await lacksPgBouncer();
  skip(reason !== null, reason ?? "");
  await using database = await freshDatabase();
  await using pooler = await startPgBouncer(
    database.url,
    "pool_mode = transaction\nignore_startup_parameters = options",
  );
  const url = `${pooler.url}/${database.name}?sslmode=disable`;
  const told = {
    kind: "blocked",
    message: expect.stringContaining("several clients"),
    hint: expect.stringContaining("pool_mode = session"),
  };
  await expect(opened(url).open(1, never)).rejects.toMatchObject({ code: "MR2004", ...told });
  await expect(openState(url, { name: "shop" })).rejects.toMatchObject({ code: "MR1201", ...told });
  await using source = await openSource(database, { url });
  await expect(createLog(source)).rejects.toMatchObject({ code: "MR2004", kind: "fatal" });
  // Nothing of ours is left to other clients.
  const client = new Client({ connectionString: `${pooler.url}/${database.name}` });
  await client.connect();
  expect((await client.query("show search_path")).rows).toEqual([{ search_path: '"$user", public' }]);
  await client.end();
});

test("a session that a pooler has given to another client since is not ended", async ({ skip }) => {
  const reason = await lacksPgBouncer();
  skip(reason !== null, reason ?? "");
  await using database = await freshDatabase();
  const settings = "pool_mode = session\nignore_startup_parameters = options";
  await using pooler = await startPgBouncer(database.url, settings);
  const url = `${pooler.url}/${database.name}?sslmode=disable`;
  const first = opened(url);
  expect(await first.open(1, never)).toBeNull();
  await first.close();
  const idle = async () =>
    (
      await database.query<{ pid: number }>(
        "select backend as pid from _millrace.progress where backend in (select pid from pg_stat_activity where query = 'DISCARD ALL')",
      )
    ).rows;
  await eventually(async () => expect(await idle()).toHaveLength(1));
  const others = Array.from({ length: 3 }, () => new Client(url));
  for (const other of others) {
    other.on("error", () => {});
    onTestFinished(() => other.end());
    await other.connect();
  }
  const [written] = (await database.query<{ pid: number }>("select backend as pid from _millrace.progress")).rows;
  const pids = await Promise.all(
    others.map(async (other) => (await other.query("select pg_backend_pid() as pid")).rows[0].pid),
  );
  expect(pids).toContain(written!.pid);
  await opened(url).open(2, never);
  for (const other of others) expect((await other.query("select 1 as one")).rows).toEqual([{ one: 1 }]);
});

test("a statement that was not sent yet fails when the pooler says that its session is gone", async ({ skip }) => {
  const reason = await lacksPgBouncer();
  skip(reason !== null, reason ?? "");
  await using database = await freshDatabase();
  const settings = "pool_mode = session\nignore_startup_parameters = options";
  await using pooler = await startPgBouncer(database.url, settings);
  const { client } = await connect(parsePostgresUrl(`${pooler.url}/${database.name}?sslmode=disable`), {
    signal: never,
  });
  onTestFinished(() => void client.connection.stream.destroy());
  const asks = ["select pg_sleep(600)", "select 1"].map((sql) =>
    exchange(client, [queryFrame(sql)]).catch((error: unknown) => error),
  );
  const end =
    "select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database()";
  await eventually(async () => expect((await database.query(end)).rows).toHaveLength(1));
  for (const asked of asks) expect(await asked).toBeInstanceOf(StatementFailure);
});
