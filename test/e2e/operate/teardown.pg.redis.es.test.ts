/** `teardown`: what Millrace made goes, what it found stays. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { isLeastMode } from "../../support/postgres/least-mode.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { SINK_KINDS } from "../../support/daemon/sink-set.ts";
import { freshDatabase } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

const TABLE = "create table orders (id int primary key, n int); insert into orders values (1, 1)";

async function left({ source }: RunningPipeline): Promise<readonly string[]> {
  const { rows } = await source.query<{ name: string }>(
    `select 'slot' as name from pg_replication_slots where slot_name = $1
     union all select 'publication' from pg_publication where pubname = $1 order by 1`,
    [`millrace_${source.name}`],
  );
  return rows.map(({ name }) => name);
}

test("is refused while a daemon runs, says its plan, and removes all that was made, once and again", async () => {
  await using pipeline = await RunningPipeline.start(TABLE, { kinds: SINK_KINDS });
  const { installation } = pipeline;
  await pipeline.settled();
  expect(await installation.command("teardown", "--yes")).toMatchObject({ exitCode: 4 });
  await pipeline.daemon.stop();
  const plan = await installation.command("teardown", "--sink-metadata");
  expect(plan).toMatchObject({ exitCode: 4, stdout: expect.stringContaining("slot") });
  expect(await left(pipeline)).toEqual(["publication", "slot"]);

  // As after a crash half-way: the slot is gone already.
  await pipeline.source.query("select pg_drop_replication_slot($1)", [`millrace_${pipeline.source.name}`]);
  const done = await installation.command("teardown", "--sink-metadata", "--yes");
  expect(done, done.stderr).toMatchObject({ exitCode: 0 });
  // Under the grants of `check` an administrator has made it.
  expect(await left(pipeline)).toEqual(isLeastMode ? ["publication"] : []);
  expect(existsSync(join(installation.folder, ".millrace", `${pipeline.source.name}.db`))).toBe(false);
  const schemas = await pipeline.sinks.target!.query("select 1 from pg_namespace where nspname = '_millrace'");
  expect(schemas.rows).toEqual([]);
  const rows = await pipeline.sinks.target!.query("select id from public.orders");
  expect(rows.rows, "rows stay").toHaveLength(1);
  using cache = pipeline.cache();
  expect(await cache.keys(`${pipeline.sinks.keyPrefix}_millrace:*`)).toEqual([]);
  expect(await installation.command("teardown", "--yes")).toMatchObject({ exitCode: 0 });
});

test("nothing is removed while one sink does not answer; the daemon can still go on where it was", async () => {
  await using pipeline = await RunningPipeline.start(TABLE, { kinds: ["postgres", "redis"], isProxied: true });
  const { installation, source, sinks } = pipeline;
  await pipeline.settled();
  const lastRead = await pipeline.lastRead();
  await pipeline.daemon.stop();
  await source.query("update orders set n = 2");
  await sinks.proxies.get("redis")!.refuse();
  const refused = await installation.command("teardown", "--sink-metadata", "--yes");
  expect(refused).toMatchObject({ exitCode: 1, stderr: expect.stringContaining("MR2001") });
  expect(await left(pipeline)).toEqual(["publication", "slot"]);
  await sinks.proxies.get("redis")!.resume();
  await pipeline.start();
  await pipeline.expectEqual(["orders"]);
  expect(await pipeline.readers(lastRead)).toEqual({});
  await pipeline.daemon.stop();
  // The rows of a table alone: an action of an operator's as any other; its plan, and what finds no table, is none.
  const audited = async () => JSON.parse((await installation.command("audit", "list", "--json")).stdout);
  expect(await installation.command("teardown", "--tables", "public.*")).toMatchObject({ exitCode: 4 });
  expect(await installation.command("teardown", "--tables", "none.*", "--yes")).toMatchObject({ exitCode: 0 });
  expect(JSON.stringify(await audited())).not.toContain("teardown");
  expect(await installation.command("teardown", "--tables", "public.*", "--yes")).toMatchObject({ exitCode: 0 });
  expect(JSON.stringify(await audited())).toMatch(
    /"via":"command line","action":"teardown","subject":\{"tables":\["public\.orders"\]\}.*"removed":2.*"error":null/,
  );
  const done = await installation.command("teardown", "--sink-metadata", "--yes");
  expect(done, done.stderr).toMatchObject({ exitCode: 0 });
});

test("keeps a slot and a publication that Millrace found there; a state on Postgres goes too", async () => {
  await using state = await freshDatabase();
  await using source = await freshDatabase();
  await source.query(TABLE);
  await source.query(`create publication "millrace_${source.name}" for all tables`);
  await source.query("select pg_create_logical_replication_slot($1, 'pgoutput')", [`millrace_${source.name}`]);
  await source.query("insert into orders values (2, 2)");
  await using pipeline = await RunningPipeline.start("select 1", {
    source,
    kinds: ["duckdb"],
    configure: (config) => ({ ...config, source: { ...config.source, snapshot: "none" }, state: state.url }),
    environment: { MILLRACE_FAILPOINTS: "source.announced=kill" },
    untilStreaming: false,
  });
  // A first start that does not end makes none of it its own.
  await pipeline.killed("source.announced");
  const slot = `the replication slot millrace_${source.name}: Millrace did not make it`;
  const plan = await pipeline.installation.command("teardown");
  expect(plan, plan.stderr).toMatchObject({ exitCode: 4, stdout: expect.stringContaining(slot) });
  await pipeline.start();
  await pipeline.settled();
  const read = await pipeline.installation.command("query", "--json", "select id from public.orders");
  expect(JSON.parse(read.stdout), "what followed where the slot was").toMatchObject({ rows: [{ id: 2 }] });
  // Another start must not forget who made the slot.
  await pipeline.restart();
  await pipeline.settled();
  await pipeline.daemon.stop();
  const done = await pipeline.installation.command("teardown", "--yes");
  expect(done, done.stderr).toMatchObject({ exitCode: 0, stdout: expect.stringContaining("did not make it") });
  expect(await left(pipeline)).toEqual(["publication", "slot"]);
  expect((await state.query("select 1 from millrace.state union all select 1 from millrace.state_row")).rows).toEqual(
    [],
  );
  await source.query("select pg_drop_replication_slot($1)", [`millrace_${source.name}`]);
});

test("rows of tables go only from the sinks that take them, or took them: in others the target is somebody else's", async () => {
  const folder = (path: string) => ({ kind: "files", path, format: "ndjson" });
  await using pipeline = await RunningPipeline.start(
    `${TABLE}; create table notes (id int primary key); create table second (id int primary key, n int)`,
    {
      kinds: ["postgres"],
      configure: (config) => ({
        ...config,
        sinks: {
          copy: { ...config.sinks["postgres"], tables: ["public.orders", "public.second"] },
          changes: { ...folder("./changes"), tables: ["public.orders"] },
          all: { ...folder("./all"), tables: ["!public.second"] },
        },
        // The one under its own name has it; the other one waits.
        tables: { "public.second": { into: "public.orders" } },
      }),
    },
  );
  const { installation, sinks } = pipeline;
  const count = async (name: string) =>
    Number((await sinks.target!.query(`select count(*) from ${name}`)).rows[0]?.count);
  await eventually(async () => {
    const { suspended } = (await installation.status()).tables;
    expect(suspended.map(({ table, error }) => [table, error.code])).toEqual([["public.second", "MR1305"]]);
  });
  await eventually(async () => expect(await count("orders")).toBe(1));
  await pipeline.daemon.stop();
  const second = await installation.command("teardown", "--tables", "public.second", "--yes", "--json");
  expect(JSON.parse(second.stdout)).toMatchObject({
    nothingLeft: true,
    keeps: expect.arrayContaining([expect.stringMatching(/public\.second in sink copy: .* of public\.orders are/)]),
  });
  expect(await count("orders")).toBe(1);
  // As another daemon would have made it.
  const other = "create table notes (like orders including all); insert into notes select * from orders";
  await sinks.target!.query(other);
  const removed = await installation.command("teardown", "--tables", "public.*", "--yes", "--json");
  expect(removed, removed.stderr).toMatchObject({ exitCode: 0 });
  const { removes }: { removes: readonly string[] } = JSON.parse(removed.stdout);
  expect(removes.toSorted()).toEqual([
    "the rows of public.notes in sink all",
    "the rows of public.orders in sink all",
    "the rows of public.orders in sink changes",
    "the rows of public.orders in sink copy",
    "the rows of public.second in sink copy",
  ]);
  const { rows } = await sinks.target!.query(
    "select count(*)::int as count from notes union all select count(*) from orders",
  );
  expect(rows.map(({ count }) => Number(count))).toEqual([1, 0]);
});
