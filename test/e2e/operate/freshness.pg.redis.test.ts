/** docs/freshness.md: an application reads its own writes in a sink, by a token of its commit. */
import { setTimeout as sleep } from "node:timers/promises";
import { Client } from "pg";
import { expect, test } from "vitest";
import { freePort } from "../../../scripts/services/processes/port.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { eventually } from "../../support/run/waiting.ts";
import { SHOP_TABLES, shopDocuments } from "../../support/documents/shop-documents.ts";

const TOKEN = "select pg_current_wal_insert_lsn() as token";
const WRITERS = 8;
const COMMITS = 40;

interface Answer {
  readonly status: number;
  readonly body: {
    readonly reached?: boolean;
    readonly position?: string | null;
    readonly missing?: readonly string[];
    readonly error?: { readonly code: string; readonly message: string };
  };
}

async function start(
  prepare: string,
  change: object = {},
  untilStreaming = true,
): Promise<{ pipeline: RunningPipeline; port: number }> {
  const port = await freePort();
  const pipeline = await RunningPipeline.start(prepare, {
    kinds: ["redis"],
    untilStreaming,
    // No heartbeat helps.
    configure: (config) => ({
      ...config,
      source: { ...config.source, heartbeat: "1h" },
      admin: { listen: `127.0.0.1:${port}` },
      ...change,
    }),
  });
  return { pipeline, port };
}

async function fresh(port: number, query: Readonly<Record<string, string>>): Promise<Answer> {
  const response = await fetch(`http://127.0.0.1:${port}/api/v1/fresh?${new URLSearchParams(query).toString()}`);
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- every field is checked
  return { status: response.status, body: (await response.json()) as Answer["body"] };
}

async function client(url: string): Promise<Client & AsyncDisposable> {
  const connected = new Client({ connectionString: url });
  await connected.connect();
  return Object.assign(connected, { [Symbol.asyncDispose]: () => connected.end() });
}

async function tokenOf(session: Client): Promise<string> {
  const { rows } = await session.query<{ token: string }>(TOKEN);
  return rows[0]!.token;
}

test("no answer comes before the sink has the row, and none is lost, beside a transaction that stays open", async () => {
  const { pipeline, port } = await start("create table notes (id int primary key, note text)");
  await using _ = pipeline;
  await using open = await client(pipeline.source.url);
  await open.query("begin");
  await open.query("insert into notes values (0, 'not committed')");
  using cache = pipeline.cache();
  const write = async (writer: number): Promise<void> => {
    await using session = await client(pipeline.source.url);
    for (let i = 0; i < COMMITS; i++) {
      const id = 1 + writer * COMMITS + i;
      await session.query("insert into notes values ($1, $2)", [id, `note ${id}`]);
      const at = await tokenOf(session);
      const answer = await fresh(port, { at, sink: "redis", timeout: "60s" });
      const note = await cache.hget(`${pipeline.sinks.keyPrefix}public:notes:${id}`, "note");
      expect({ ...answer, note }).toMatchObject({
        status: 200,
        body: { reached: true, missing: [] },
        note: `note ${id}`,
      });
    }
  };
  await Promise.all(Array.from({ length: WRITERS }, (__, writer) => write(writer)));
  await open.query("rollback");
});

test("who asks while the daemon begins waits until the stream has begun", async () => {
  const { pipeline, port } = await start(
    "create table notes (id int primary key, note text); insert into notes values (1, 'one')",
    {},
    false,
  );
  await using _ = pipeline;
  const answers = await Promise.all([
    eventually(() => fresh(port, { sink: "redis", timeout: "60s" }), { everyMs: 5 }),
    eventually(() => fresh(port, { at: "0/1", timeout: "60s" }), { everyMs: 5 }),
  ]);
  for (const answer of answers) expect(answer).toMatchObject({ status: 200 });
});

test("what a sink lacks is named with 504 until it has it; a token of no such log is refused with 409", async () => {
  const { pipeline, port } = await start(
    "create table notes (id int primary key, note text); create table others (id int primary key)",
  );
  await using _ = pipeline;
  const { installation } = pipeline;
  await using session = await client(pipeline.source.url);
  await session.query("insert into notes values (1, 'one')");
  const first = await tokenOf(session);
  expect(await fresh(port, { at: first, sink: "redis", timeout: "60s" })).toMatchObject({ status: 200 });
  expect(await fresh(port, { at: first, timeout: "60s", table: "public.notes" })).toMatchObject({ status: 200 });

  await installation.command("pause", "--sink", "redis");
  // What it has, it has.
  expect(await fresh(port, { at: first, sink: "redis", timeout: "1ms" })).toMatchObject({ status: 200 });
  await session.query("insert into notes values (2, 'two')");
  const second = await tokenOf(session);
  expect(await fresh(port, { at: second, sink: "redis", timeout: "500ms" })).toMatchObject({
    status: 504,
    body: { reached: false, missing: ["sink redis is paused"] },
  });
  const waiting = fresh(port, { at: second, sink: "redis", timeout: "60s" });
  await installation.command("resume", "--sink", "redis");
  expect(await waiting).toMatchObject({ status: 200 });

  // A table that the sink lacks is waited for only by those who read it.
  await installation.command("pause", "--sink", "redis", "--tables", "public.others");
  await session.query("insert into others values (1)");
  const third = await tokenOf(session);
  expect(await fresh(port, { at: third, sink: "redis", timeout: "500ms" })).toMatchObject({
    status: 504,
    body: { missing: [expect.stringContaining("public.others")] },
  });
  const both = await fresh(port, { at: third, sink: "redis", table: "public.notes", timeout: "60s" });
  expect(both).toMatchObject({ status: 200 });
  const command = ["wait", "--at", third, "--sink", "redis"];
  expect(await installation.command(...command, "--timeout", "500ms")).toMatchObject({
    exitCode: 5,
    stdout: expect.stringContaining("public.others"),
  });
  expect(await installation.command(...command, "--tables", "public.notes")).toMatchObject({ exitCode: 0 });
  await installation.command("resume", "--sink", "redis", "--tables", "public.others");
  expect(await installation.command(...command)).toMatchObject({ exitCode: 0 });
  expect(await installation.command("wait", "--sink", "redis")).toMatchObject({ exitCode: 0 });

  // So is one that is read again.
  await using holder = await client(pipeline.source.url);
  await holder.query("begin; lock table others in access exclusive mode");
  await installation.command("snapshot", "start", "--sink", "redis", "--tables", "public.others");
  expect(await fresh(port, { at: third, sink: "redis", timeout: "500ms" })).toMatchObject({ status: 504 });
  expect(await fresh(port, { at: third, sink: "redis", table: "public.notes", timeout: "60s" })).toMatchObject({
    status: 200,
  });
  expect(await fresh(port, { at: third, sink: "redis", timeout: "1ms" })).toMatchObject({ status: 504 });
  await holder.query("rollback");

  for (const at of ["FFFFF/0", "17", "5f0c-1:7", "x"]) {
    const refused = await fresh(port, { at, sink: "redis", timeout: "30s" });
    expect(refused).toMatchObject({ status: 409, body: { error: { code: "MR1336" } } });
    expect(refused.body.error?.message).toContain(at);
  }
  expect(await installation.command("wait", "--at", "x")).toMatchObject({
    exitCode: 4,
    stderr: expect.stringContaining("MR1336"),
  });
  expect(await fresh(port, { at: third, sink: "none" })).toMatchObject({ status: 409 });
  expect(await fresh(port, { at: third, timeout: "soon" })).toMatchObject({ status: 400 });

  // The daemon's end answers who waits.
  await installation.command("pause", "--sink", "redis");
  await session.query("insert into notes values (3, 'three')");
  const last = fresh(port, { at: await tokenOf(session), sink: "redis", timeout: "60s" }).catch(
    (error: unknown) => error,
  );
  await sleep(200);
  await pipeline.daemon.stop();
  await last;
});

test("a sink of documents has the rows of the token in its documents", async () => {
  const port = await freePort();
  await using pipeline = await RunningPipeline.start(SHOP_TABLES.join(";"), {
    kinds: ["redis"],
    configure: (config) => ({
      ...config,
      sinks: { redis: { ...config.sinks["redis"], format: "json", documents: ["orders"] } },
      documents: shopDocuments("public"),
      admin: { listen: `127.0.0.1:${port}` },
    }),
  });
  await using session = await client(pipeline.source.url);
  using cache = pipeline.cache();
  await session.query(
    "insert into customers values (1, 'ada', null, null); insert into orders values (1, 1, 'new', 1)",
  );
  for (let i = 0; i < 30; i++) {
    await session.query("update customers set name = $1", [`ada ${i}`]);
    const answer = await fresh(port, { at: await tokenOf(session), sink: "redis", timeout: "60s" });
    const document = await cache.get(`${pipeline.sinks.keyPrefix}orders:1`);
    expect({ ...answer, document }).toMatchObject({ status: 200, document: expect.stringContaining(`"ada ${i}"`) });
  }
});
