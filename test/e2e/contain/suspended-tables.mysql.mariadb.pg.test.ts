/**
 * Columns whose names come back, and what one sink can't follow: one table of it stands, all else goes on.
 * @module-tag heavy
 */
import { describe, expect, test } from "vitest";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { mysqlFlavours } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

const KINDS = ["postgres", "duckdb"] as const;

test(
  "a dropped column's name comes back with other types, and its table under its name",
  { tags: "long" },
  async () => {
    await using pipeline = await RunningPipeline.start(
      `create table t (id int primary key, y text, n numeric(10,2), v varchar(10));
     insert into t select g, 'y' || g, g + 0.5, 'v' || g from generate_series(1, 20) g`,
      { kinds: [...KINDS, "postgres-soft", "duckdb-soft"] },
    );
    await pipeline.expectEqual(["t"]);
    const shapes = [
      "alter table t drop column y, drop column n, drop column v; delete from t where id > 18",
      "alter table t add column y int, add column n numeric(20,4), add column v varchar(20); update t set y = id, n = id, v = 'longer than ten'",
      "drop table t; create table t (id int primary key); insert into t values (1), (30)",
      "drop table t; create table t (id int primary key, y real, n text); insert into t values (1, 0.5, 'x'), (31, null, null)",
    ];
    for (const sql of shapes) {
      await pipeline.run(sql);
      await pipeline.expectEqual(["t"]);
    }
    await pipeline.daemon.stop();
    await pipeline.start();
    await pipeline.run("insert into t values (40, 1, 'after a restart')");
    await pipeline.expectEqual(["t"]);
  },
);

describe.each(mysqlFlavours)("%s", (flavour) => {
  test("a table comes back under its name with a column's name in another type", async () => {
    await using pipeline = await MysqlPipeline.start(
      flavour,
      ["create table t (id int primary key, a decimal(7,3))", "insert into t values (1, 1.125)"],
      { kinds: [...KINDS] },
    );
    await pipeline.expectEqual("t");
    for (const columns of ["z int", "a float", "a varchar(20)", "z int", "a date"]) {
      await pipeline.run(
        "drop table t",
        `create table t (id int primary key, ${columns})`,
        "insert into t values (2, null)",
      );
      await pipeline.expectEqual("t");
    }
  });

  test("a row whose key has a date that does not exist is a dead letter of each sink; its table goes on", async () => {
    const zeros = (n: number): string => `('0000-00-00', ${n}, 0), ('2024-00-02', ${n}, 0), ('2023-02-31', ${n}, 0)`;
    await using pipeline = await MysqlPipeline.start(
      flavour,
      [
        "set sql_mode = 'ALLOW_INVALID_DATES'",
        "create table t (d date, n int, v int, primary key (d, n))",
        `insert into t values ('2024-01-01', 1, 1), ${zeros(1)}`,
      ],
      { kinds: ["duckdb", "postgres", "duckdb-history"] },
    );
    const { installation, sinks, source } = pipeline;
    const id = `${source.name}.t`;
    const letters = async (): Promise<readonly string[]> => {
      const { stdout } = await installation.command("dlq", "list", "--json");
      const found: { letters: { sink: string; key: string; code: string; state: string }[] } = JSON.parse(stdout);
      return found.letters
        .filter(({ state }) => state === "waiting")
        .map(({ sink, key, code }) => `${sink} ${key} ${code}`)
        .toSorted();
    };
    const held = async (): Promise<readonly string[]> => {
      const { rows } = await sinks.target!.query<{ row: string }>(
        `select d || ' ' || n || ' ' || v as row from "${source.name}".t order by 1`,
      );
      return rows.map(({ row }) => row);
    };
    const ofEach = (...keys: readonly string[]): readonly string[] =>
      keys.flatMap((key) => ["duckdb", "duckdb-history", "postgres"].map((sink) => `${sink} ${key} MR3111`)).toSorted();
    await pipeline.settled();
    expect(await letters()).toEqual(ofEach("0000-00-00:1", "2024-00-02:1", "2023-02-31:1"));
    expect(await held()).toEqual(["2024-01-01 1 1"]);

    // Packed where the server can.
    if (flavour === "mysql") await pipeline.run("set session binlog_transaction_compression = on");
    await pipeline.run(
      "begin",
      `insert into t values ('2024-01-01', 3, 3), ('2024-01-01', 4, 4), ${zeros(2)}`,
      "update t set d = '2024-03-03' where d = '2023-02-31' and n = 1",
      "update t set d = '0000-00-00' where n = 4",
      "delete from t where d = '2024-00-02' and n = 1",
      "commit",
    );
    await pipeline.settled();
    const keys = ["0000-00-00:1", "0000-00-00:2", "0000-00-00:4", "2024-00-02:2", "2023-02-31:2"];
    expect(await letters()).toEqual(ofEach(...keys));
    expect(await held()).toEqual(["2024-01-01 1 1", "2024-01-01 3 3", "2024-03-03 1 0"]);
    const { tables, sinks: told } = await installation.status();
    expect([tables.suspended, told.map(({ state, deadLetters }) => [state, deadLetters])]).toEqual([
      [],
      [
        ["streaming", 5],
        ["streaming", 5],
        ["streaming", 5],
      ],
    ]);

    // What the letters name is told apart from drift, and reading the table again changes nothing.
    await pipeline.readAgain("t");
    await pipeline.settled();
    expect(await letters()).toEqual(ofEach(...keys));
    const compared = await installation.command("reconcile", "--json", "--tables", id);
    expect({ exitCode: compared.exitCode, report: JSON.parse(compared.stdout) }).toMatchObject({
      exitCode: 0,
      report: { drift: false },
    });

    await pipeline.kill();
    await pipeline.run("insert into t values ('0000-00-00', 9, 0), ('2024-09-09', 9, 9)");
    await pipeline.start();
    await pipeline.run("delete from t where v = 0 and (d < '2000-01-01' or n = 2)", "delete from t where n = 4");
    await pipeline.expectEqual("t");
    expect(await letters()).toEqual([]);
  });
});

test("what a target does not allow suspends one table of one sink, by name and number, until it is read again", async () => {
  await using pipeline = await RunningPipeline.start(
    `create table t (id int primary key, a int); insert into t values (1, 1), (2, 2);
     create table other (id int primary key, a int); insert into other values (1, 1)`,
    { kinds: KINDS },
  );
  const { installation } = pipeline;
  await pipeline.expectEqual(["t", "other"]);
  const target = pipeline.sinks.target!;
  await target.query("create view public.shows as select a from public.t");
  await pipeline.run("alter table t alter column a type text using 'n' || a; insert into t values (3, 'three')");
  await pipeline.run("insert into other values (2, 2)");
  const suspended = async () => (await installation.status()).tables.suspended;
  await eventually(async () => (await suspended()).length === 1);
  const named = { table: "public.t", sink: "postgres", error: { code: "MR3122" } };
  expect(await suspended()).toMatchObject([named]);
  await pipeline.run("insert into t values (4, 'four'); insert into other values (3, 3)");
  const waited = await installation.command("wait", "--timeout", "5s");
  expect(waited).toMatchObject({ exitCode: 5 });
  expect(waited.stdout.trim().split("\n").slice(1)).toEqual([
    expect.stringMatching(/public\.t is suspended in sink postgres, which lacks it: MR3122/),
  ]);
  const { sinks } = await installation.status();
  expect(sinks.map(({ state, error }) => [state, error])).toEqual([
    ["streaming", null],
    ["streaming", null],
  ]);
  const count = await target.query<{ n: string }>("select count(*) as n from public.other");
  expect(count.rows[0]?.n).toBe("3");
  const said = await installation.command("status");
  expect(said.stdout).toMatch(
    /public\.t is suspended in sink postgres[\s\S]*snapshot start --tables public\.t --sink postgres/,
  );
  await pipeline.daemon.stop();
  expect(await installation.command("run", "--once")).toMatchObject({ exitCode: 1 });
  expect((await installation.command("status")).stdout).toMatch(/public\.t is suspended in sink postgres/);
  await pipeline.start();
  // As long as nothing has changed in the target, it is refused again.
  await installation.command("schema", "approve", "public.t");
  await eventually(async () => (await suspended()).length === 1);
  await target.query("drop view public.shows");
  expect(await installation.command("schema", "approve", "public.t")).toMatchObject({ exitCode: 0 });
  await pipeline.expectEqual(["t", "other"]);
  expect(await suspended()).toEqual([]);
});
