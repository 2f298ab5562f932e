/** Documents equal what the source's own SQL makes of the same rows, whatever happens to the rows, the daemon and the nest. */
import { copyFileSync, existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import * as z from "zod";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { driftOf, reconcile } from "../../support/daemon/reconciled.ts";
import { eventually } from "../../support/run/waiting.ts";
import {
  documentsInSqlite,
  expectSame,
  POSTGRES_DOCUMENTS,
  SHOP_TABLES,
  shopDocuments,
} from "../../support/documents/shop-documents.ts";

const ROWS = `insert into customers select g, 'c' || g, case when g % 3 > 0 then 'c' || g || '@x' end, nullif(g / 2, 0) from generate_series(1, 20) g;
  insert into products select g, 'sku' || g, 'title ' || g from generate_series(1, 10) g;
  insert into tags select g, 'tag' || g from generate_series(1, 6) g;
  insert into orders select g, 1 + g % 20, 'new', g * 1.5 from generate_series(1, 100) g;
  insert into order_items select o, l, 1 + (o + l) % 10, l from generate_series(1, 100) o, generate_series(1, 4) l where (o + l) % 5 > 0;
  insert into order_tags select o, t from generate_series(1, 100) o, generate_series(1, 6) t where (o * t) % 4 = 0;`;

const ITEMS = SHOP_TABLES[3]!;
/** Each a transaction. */
const CHANGES = [
  "update order_items set quantity = quantity + 1 where line_no = 1",
  "update order_items set order_id = order_id + 1, line_no = line_no + 10 where order_id % 10 = 3",
  "update customers set name = name || '!', referrer_id = null where id % 4 = 0",
  "update products set title = null where id = 2; update tags set name = 'a' || name where id = 4",
  "delete from order_tags where tag_id = 4; insert into order_tags select g, 1 from generate_series(1, 100, 7) g on conflict do nothing",
  "insert into orders values (201, 3, 'late', null), (202, null, 'nobody', 1); insert into order_items values (201, 1, null, 9)",
  "delete from order_items where order_id = 11; delete from order_tags where order_id = 11; delete from orders where id = 11; insert into orders values (11, 2, 'again', 7)",
  "update orders set customer_id = 1 + customer_id % 20 where id % 9 = 0",
  "update orders set id = id + 1000 where id between 90 and 95",
  "begin; update customers set email = 'many' where id = 5; update customers set email = 'more' where id = 5; delete from order_items where line_no = 2; commit",
  "truncate order_tags",
];

/** What people do to the tables; between two of them the documents are compared. */
const TABLES_CHANGED = [
  ["drop table order_items", ITEMS, "insert into order_items select o, 1, 1, o from generate_series(1, 50) o"],
  [
    `begin; drop table order_items; ${ITEMS}; insert into order_items select o, 2, 2, o from generate_series(1, 60) o; commit`,
  ],
  ["alter table order_items rename to items_before", ITEMS, "insert into order_items values (3, 3, 3, 3)"],
  [
    "begin; alter table order_items rename to items_after; alter table items_before rename to order_items; commit",
    "update order_items set quantity = quantity + 5",
  ],
  ["alter table customers alter column id type bigint", "update customers set name = name || '?'"],
  ["truncate orders cascade", "insert into orders select g, 1 + g % 20, 'again', g from generate_series(1, 30) g"],
  [
    `begin; drop table order_tags; drop table items_after; drop table order_items; drop table orders;
     ${SHOP_TABLES[1]}; ${ITEMS}; ${SHOP_TABLES[5]};
     insert into orders select g, 1 + g % 20, 'third', g from generate_series(1, 30) g; commit`,
    "insert into order_tags values (7, 3)",
  ],
];

async function shop(): Promise<RunningPipeline> {
  return RunningPipeline.start(
    async (source) => {
      for (const sql of SHOP_TABLES) await source.query(sql);
      await source.query(ROWS);
    },
    {
      kinds: ["sqlite"],
      configure: (config) => ({
        ...config,
        documents: shopDocuments("public"),
        sinks: { sqlite: { ...config.sinks["sqlite"], documents: ["orders"] } },
      }),
    },
  );
}

async function expectEqual(pipeline: RunningPipeline): Promise<void> {
  await pipeline.settled();
  const { rows } = await pipeline.source.query<{ document: unknown }>(POSTGRES_DOCUMENTS);
  expectSame(
    documentsInSqlite(join(pipeline.installation.folder, "replica.sqlite")),
    rows.map(({ document }) => document),
  );
}

/** The file and its log; what the source lacks, the target has no more. */
function replace(target: string, source?: string): void {
  for (const suffix of ["", "-wal", "-shm"]) {
    rmSync(target + suffix, { force: true });
    if (source !== undefined && existsSync(source + suffix)) copyFileSync(source + suffix, target + suffix);
  }
}

test("children move, keys change, tables are truncated, the daemon is killed, the nest is lost or an older one", async () => {
  await using pipeline = await shop();
  const { installation } = pipeline;
  const nest = join(installation.folder, `.millrace/${pipeline.source.name}-documents.db`);
  const older = join(installation.folder, "older.db");
  await expectEqual(pipeline);
  for (const sql of CHANGES) await pipeline.run(sql);
  await expectEqual(pipeline);
  expect(driftOf((await reconcile(installation)).found)).toEqual({});

  await pipeline.run("update order_items set quantity = 7 where line_no = 3");
  await pipeline.kill();
  replace(older, nest);
  await pipeline.run("update products set title = 'killed' where id = 3; delete from order_items where order_id = 20");
  await pipeline.start();
  await expectEqual(pipeline);

  await pipeline.kill();
  replace(nest);
  await pipeline.run("update customers set name = 'after' where id = 7; delete from orders where id = 202");
  await pipeline.start();
  await expectEqual(pipeline);

  await pipeline.kill();
  replace(nest, older);
  await pipeline.run("update customers set name = 'older' where id = 8; delete from order_tags where order_id = 9");
  await pipeline.start();
  await expectEqual(pipeline);
  const { stdout } = await installation.command("check", "--json");
  expect(JSON.parse(stdout)).toMatchObject({ ok: true });
});

test("tables are dropped, renamed, truncated and made again", { tags: "heavy" }, async () => {
  await using pipeline = await shop();
  await expectEqual(pipeline);
  for (const statements of TABLES_CHANGED) {
    for (const sql of statements) await pipeline.run(sql);
    await eventually(() => expectEqual(pipeline));
  }
  expect(driftOf((await reconcile(pipeline.installation)).found)).toEqual({});
});

test("foreign keys may go, columns may come; a document is shown by its key, and the next start is foreseen", async () => {
  const wide = { from: "public.orders", with: { customer: { from: "public.customers" } } };
  await using pipeline = await RunningPipeline.start(
    async (source) => {
      for (const sql of SHOP_TABLES) await source.query(sql);
      await source.query(
        "insert into customers values (1, 'ada', null, null); insert into orders values (7, 1, 'new', 1.5)",
      );
    },
    {
      kinds: ["sqlite"],
      configure: (config) => ({
        ...config,
        documents: { wide },
        sinks: { sqlite: { ...config.sinks["sqlite"], documents: ["wide"] } },
      }),
    },
  );
  const { installation } = pipeline;
  const shown = async (): Promise<unknown> => {
    const { stdout } = await installation.command("documents", "show", "wide", "7", "--json");
    return z.object({ document: z.unknown() }).parse(JSON.parse(stdout)).document;
  };
  await pipeline.settled();
  expect(await shown()).toEqual({
    id: 7,
    customer_id: 1,
    status: "new",
    amount: "1.50",
    customer: { id: 1, name: "ada", email: null, referrer_id: null },
  });
  await pipeline.run(
    "alter table orders add column note text default 'n'; alter table customers rename column name to called",
  );
  await pipeline.run("update orders set note = 'x' where id = 7");
  await eventually(async () => {
    expect(await shown()).toEqual({
      id: 7,
      customer_id: 1,
      status: "new",
      amount: "1.50",
      note: "x",
      customer: { id: 1, called: "ada", email: null, referrer_id: null },
    });
  });
  await pipeline.settled();
  await pipeline.daemon.stop();
  await pipeline.run("alter table orders drop constraint orders_customer_id_fkey; update customers set called = 'bob'");
  await pipeline.start();
  await pipeline.settled();
  expect(await shown()).toMatchObject({ customer: { called: "bob" } });
  const plan = await installation.command("documents", "plan", "--json");
  expect(plan).toMatchObject({ exitCode: 2, stdout: expect.stringContaining("MR1040") });
  await pipeline.run("alter table orders add foreign key (customer_id) references customers (id)");
  const { stdout } = await installation.command("documents", "plan", "--json");
  expect(JSON.parse(stdout)).toMatchObject({ documents: [{ name: "wide", change: "same", reads: [] }] });
  expect(await installation.command("documents", "show", "wide", "8")).toMatchObject({ exitCode: 1 });
  await pipeline.run("alter table customers add column large bigint default 9007199254740993");
  await eventually(async () => {
    const { stdout } = await installation.command("documents", "show", "wide", "7", "--json");
    expect(stdout).toContain("9007199254740993");
  });
  await pipeline.daemon.stop();
  await pipeline.run("insert into orders values (8, null, 'alone', null)");
  expect(await installation.command("run", "--once")).toMatchObject({ exitCode: 0 });
  expect(await shown()).toMatchObject({ id: 7 });
  const offsets = await installation.command("offsets", "show", "--json");
  expect(JSON.parse(offsets.stdout)).toMatchObject({
    sinks: [
      { name: "sqlite", position: expect.stringMatching(/^\d+$/) },
      { name: "documents", position: expect.stringMatching(/^[0-9A-F]+\/[0-9A-F]+$/) },
    ],
  });
  const reset = await installation.command("offsets", "reset", "--to", "earliest", "--sink", "sqlite");
  expect(reset).toMatchObject({ exitCode: 4, stderr: expect.stringMatching(/MR1127/) });
  expect(await installation.command("recover")).toMatchObject({ exitCode: 0 });
});

test("the rows of documents are a sink by itself, for each command that takes one", { tags: "heavy" }, async () => {
  await using pipeline = await shop();
  const { installation } = pipeline;
  const done = async (...words: readonly string[]): Promise<string> => {
    const { exitCode, stdout, stderr } = await installation.command(...words);
    expect({ words, exitCode, stderr }).toMatchObject({ words, exitCode: 0 });
    return stdout;
  };
  const paused = async (): Promise<readonly string[]> => {
    const { sinks } = await installation.status();
    return sinks.filter(({ state }) => state === "paused").map(({ name }) => name);
  };
  await expectEqual(pipeline);
  for (const isRunning of [true, false]) {
    if (!isRunning) await pipeline.daemon.stop();
    const { stdout } = await installation.command("status");
    expect(stdout).toContain("documents (nest)");
    await done("pause", "--sink", "documents");
    await eventually(async () => expect(await paused()).toEqual(["documents"]));
    expect((await installation.command("status")).stdout).toContain("-> millrace resume --sink documents");
    await done("resume", "--sink", "documents");
    await eventually(async () => expect(await paused()).toEqual([]));
    expect(await done("pause")).toContain("sqlite, documents");
    await eventually(async () => expect(await paused()).toHaveLength(2));
    await done("resume");
    await done("pause", "--tables", "public.tags", "--sink", "documents");
    expect((await installation.status()).tables.suspended).toMatchObject([{ table: "public.tags", sink: "documents" }]);
    await pipeline.run("insert into tags values (77, 'of a pause') on conflict (id) do update set name = 'again'");
    await done("resume", "--tables", "public.tags", "--sink", "documents");
    await done("snapshot", "start", "--sink", "documents");
    await done("dlq", "replay", "--all", "--sink", "documents");
    expect(await done("offsets", "show")).toContain("documents");
  }
  for (const words of ["offsets reset --to latest", "recover"])
    expect(await installation.command(...words.split(" "), "--sink", "documents")).toMatchObject({
      stderr: expect.stringContaining("MR1127: sink documents is Millrace's own"),
    });
  await pipeline.start();
  await pipeline.run("update tags set name = name || '+'");
  await expectEqual(pipeline);
  expect(driftOf((await reconcile(installation, "--sink", "documents")).found)).toEqual({});
});
