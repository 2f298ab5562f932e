/** `millrace verify` compares a database that another tool fills: here a native subscription, under 100 transactions a second. */
import { setTimeout as sleep } from "node:timers/promises";
import { Client } from "pg";
import { expect, test } from "vitest";
import { runCli, runHere } from "../../support/daemon/cli.ts";
import { subscribed } from "../../support/postgres/subscription.ts";
import { freshDatabase } from "../../support/run/services.ts";
import { temporaryFolder } from "../../support/run/temporary-folder.ts";

const TABLE =
  "create table orders (id int primary key, note text, amount numeric(12,2), at timestamptz, data jsonb, tags text[])";
const ROWS = 20_000;

test("it finds exactly what was planted, and nothing of what is on its way", { tags: "heavy" }, async () => {
  await using source = await freshDatabase();
  await using target = await freshDatabase();
  using folder = temporaryFolder();
  for (const one of [source, target]) await one.query(TABLE);
  await using _ = await subscribed(source, target, "orders");
  await source.query(
    `insert into orders select g, 'note ' || g, g * 1.5, now(), jsonb_build_object('b', g, 'a', 1.50), array['x', g::text] from generate_series(1, ${ROWS}) g`,
  );
  const stopping = new AbortController();
  const writer = new Client({ connectionString: source.url });
  await writer.connect();
  const writing = (async () => {
    for (let i = 0; !stopping.signal.aborted; i++) {
      const id = 1 + ((i * 7919) % (ROWS - 100));
      if (i % 5 === 0)
        await writer.query("insert into orders values ($1, 'new', 1, now(), null, null)", [ROWS + 10 + i]);
      else if (i % 5 === 1) await writer.query("delete from orders where id = $1", [ROWS + 9 + i]);
      else await writer.query("update orders set note = note || '.', amount = amount + 1 where id = $1", [id]);
      await sleep(8);
    }
  })();
  const verify = async () => {
    const args = [
      "verify",
      "--source",
      source.url,
      "--target",
      target.url,
      "--settle",
      "3s",
      "--sample",
      "50",
      "--json",
    ];
    const { exitCode, stdout, stderr } = await runCli(args, { folder: folder.path, timeoutMs: 120_000 });
    return { exitCode, found: exitCode === 1 ? stderr : JSON.parse(stdout) };
  };
  try {
    await sleep(500);
    expect(await verify()).toMatchObject({ exitCode: 0, found: { drift: false, notComparable: [] } });
    // Planted where the writer does not write.
    const planted = ROWS - 99;
    await target.query(`delete from orders where id in (${planted}, ${planted + 1})`);
    await target.query(`update orders set data = '{"a": 1.5, "b": 0}' where id = ${planted + 2}`);
    await target.query(`update orders set tags = null where id = ${planted + 3}`);
    await target.query(`insert into orders (id, note) values (-1, 'only here')`);
    const { exitCode, found } = await verify();
    expect(exitCode).toBe(3);
    expect(found.tables).toMatchObject([{ table: "public.orders", missing: 2, extra: 1, different: 2, moving: 0 }]);
    const sample = found.tables[0].sample.map(({ kind, key, columns }: Record<string, unknown>) => ({
      kind,
      key,
      columns,
    }));
    expect(sample).toEqual(
      expect.arrayContaining([
        { kind: "missing", key: { id: String(planted) }, columns: [] },
        { kind: "missing", key: { id: String(planted + 1) }, columns: [] },
        { kind: "different", key: { id: String(planted + 2) }, columns: ["data"] },
        { kind: "different", key: { id: String(planted + 3) }, columns: ["tags"] },
        { kind: "extra", key: { id: "-1" }, columns: [] },
      ]),
    );
  } finally {
    stopping.abort();
    await writing;
    await writer.end();
  }
});

test("what the servers' sums say is what the rows say, whatever types they have", async () => {
  await using source = await freshDatabase();
  await using target = await freshDatabase();
  using folder = temporaryFolder();
  const tables = {
    spans: ["interval", "'1 mon'", "'30 days'"],
    moods: ["mood", "'sad'", "'happy'"],
    grids: ["int[]", "'{{1,2}}'", "'{1,2}'"],
    texts: ["text", "'a'", "'A'"],
    sums: ["numeric", "1.50", "1.51"],
    bodies: ["jsonb", `'{"a": 1}'`, `'{"a": 2}'`],
    days: ["date", "null", "'2026-01-01'"],
  } as const;
  await source.query("create type mood as enum ('happy', 'sad')");
  // The same labels under other numbers.
  await target.query("create table other (x int); create type mood as enum ('happy', 'sad')");
  for (const [name, [type, value, other]] of Object.entries(tables)) {
    for (const one of [source, target]) {
      await one.query(`create table ${name} (id int primary key, v ${type})`);
      await one.query(`insert into ${name} select g, ${value} from generate_series(1, 50) g`);
    }
    await target.query(`update ${name} set v = ${other} where id = 7; delete from ${name} where id = 8`);
  }
  // Equal, but spelled in another way there.
  await source.query("create table alike (id int primary key, amount numeric, at timestamp)");
  await target.query("create table alike (id bigint primary key, amount float8, at timestamptz)");
  for (const one of [source, target]) await one.query("insert into alike values (1, 1.50, '2026-01-01 00:00:00')");
  const { stdout, stderr } = await runCli(
    ["verify", "--source", source.url, "--target", target.url, "--settle", "100ms", "--json"],
    { folder: folder.path },
  );
  expect(stdout, stderr).not.toBe("");
  const found = JSON.parse(stdout);
  expect(found.notComparable).toEqual([]);
  const counts: unknown[][] = found.tables.map((one: Record<string, unknown>) => [
    one["table"],
    one["sourceRows"],
    one["sinkRows"],
    one["missing"],
    one["different"],
    one["extra"],
  ]);
  expect(new Set(counts.map(String))).toEqual(
    new Set([...Object.keys(tables).map((name) => `public.${name},50,49,1,1,0`), "public.alike,1,1,0,0,0"]),
  );
});

test("where nothing can be compared nothing is said to be equal", async () => {
  await using source = await freshDatabase();
  await using target = await freshDatabase();
  using folder = temporaryFolder();
  const verify = async (...args: string[]) =>
    await runHere(["verify", "--source", source.url, "--target", target.url, "--settle", "1ms", ...args], {
      folder: folder.path,
    });
  expect(await verify()).toMatchObject({ exitCode: 2, stderr: expect.stringContaining("MR1110: --source: ") });
  for (const one of [source, target]) await one.query("create table orders (id int primary key)");
  expect(await verify("--tables", "pubic.orders", "public.orders")).toMatchObject({
    exitCode: 2,
    stderr: expect.stringContaining("no table of the source matches pubic.orders"),
  });
  expect(await verify("--tables", "public.ord*")).toMatchObject({ exitCode: 0 });
});
