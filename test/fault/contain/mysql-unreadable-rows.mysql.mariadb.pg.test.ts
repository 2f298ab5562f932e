/**
 * MySQL and MariaDB: rows that a session logs in a form that can't be read concern their table alone.
 * @module-tag heavy
 */
import { createConnection } from "mysql2/promise";
import { describe, expect, test } from "vitest";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { isMysqlFrom, mysqlFlavours, ownMysql } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

async function inSession(url: string, ...statements: readonly string[]): Promise<void> {
  const connection = await createConnection({ uri: url });
  try {
    for (const sql of statements) await connection.query(sql);
  } finally {
    await connection.end();
  }
}

/** The history, which got rows in place of changes, and nobody else. */
async function expectLost({ installation }: MysqlPipeline, ...tables: readonly string[]): Promise<void> {
  const { conditions } = await installation.status();
  const lost = conditions.filter(({ kind }) => kind === "sink.lost-changes");
  expect(lost).toMatchObject([{ sink: "postgres-history", level: "act" }]);
  for (const table of tables) expect(lost[0]!.what).toContain(table);
  expect(await installation.command("resume", "--sink", "postgres-history")).toMatchObject({ exitCode: 0 });
}

describe.each(mysqlFlavours)("%s", (flavour) => {
  test("rows without names or with few columns suspend their table until it is read again", async () => {
    await using server = await ownMysql(flavour);
    await using pipeline = await MysqlPipeline.start(
      flavour,
      [
        "create table t (id int primary key, v varchar(20), w int)",
        "create table other (id int primary key)",
        "insert into t values (1, 'a', 1), (2, 'b', 2), (3, 'c', 3)",
      ],
      { kinds: ["duckdb", "postgres", "postgres-history"], url: server.url },
    );
    const table = `${pipeline.source.name}.t`;
    const other = { schema: pipeline.source.name, table: "other" };
    await pipeline.expectEqual("t", "other");

    const expectSuspended = async (code: string, row: number): Promise<void> => {
      await eventually(async () => {
        const { tables } = await pipeline.installation.status();
        expect(tables.suspended).toMatchObject([{ table, error: { code } }]);
      });
      await pipeline.run(`insert into other values (${row})`);
      await eventually(async () => {
        const { url, sinks, installation } = pipeline;
        expect(await sinks.differences(url, installation.folder, [other])).toEqual([]);
      });
      // As the error's page says.
      const read = await pipeline.installation.command("snapshot", "start", "--tables", table);
      expect(read, read.stderr).toMatchObject({ exitCode: 0 });
      await pipeline.expectEqual("t", "other");
      await expectLost(pipeline, table);
    };

    const few = ["set session binlog_row_image = 'MINIMAL'", "update t set w = 20 where id = 2"];
    await inSession(pipeline.url, ...few, "delete from t where id = 1", "insert into t (id) values (4)");
    await expectSuspended("MR2103", 1);
    // Under the same table map.
    await inSession(pipeline.url, ...few.slice(0, 1), "update t set w = 21 where id = 2");
    await expectSuspended("MR2103", 2);

    await inSession(pipeline.url, "set global binlog_row_metadata = 'MINIMAL'", "update t set w = 30 where id = 3");
    await inSession(pipeline.url, "set global binlog_row_metadata = 'FULL'", "update t set v = 'd' where id = 3");
    await expectSuspended("MR2103", 3);
    await pipeline.kill();
    await pipeline.start();
    await pipeline.run("update t set w = 40");
    await pipeline.expectEqual("t", "other");
  });

  test("a history whose filter needs a value that the log leaves out has each version, or is suspended", async () => {
    const images = flavour === "mariadb" && isMysqlFrom(flavour, "11.8") ? ["FULL_NODUP"] : [];
    const names = ["FULL", ...images, "NOBLOB", "MINIMAL"];
    await using pipeline = await MysqlPipeline.start(
      flavour,
      names.map((name) => `create table ${name.toLowerCase()} (id int primary key, big text, n int)`),
      {
        kinds: ["duckdb"],
        rules: Object.fromEntries(names.map((name) => [name.toLowerCase(), { where: "big like 'a%'" }])),
        sinks: ({ duckdb }) => ({ duckdb: { ...duckdb, mode: "history" } }),
      },
    );
    const { installation, source } = pipeline;
    await pipeline.settled();
    // Rows of the second in which their table was made count as older than it, and are read again.
    await pipeline.run("do sleep(1.1)");
    const body = "repeat('a', 20000)";
    for (const name of names) {
      const table = name.toLowerCase();
      await inSession(
        pipeline.url,
        `set session binlog_row_image = '${name}'`,
        `insert into ${table} values (1, ${body}, 0), (2, 'b', 0)`,
        ...[1, 2, 3].map((n) => `update ${table} set n = ${n}`),
        `delete from ${table}`,
      );
    }
    const isWhole = (name: string): boolean => name.startsWith("FULL");
    const lacking = names.filter((name) => !isWhole(name)).map((name) => `${source.name}.${name.toLowerCase()}`);
    await eventually(async () => {
      const { suspended } = (await installation.status()).tables;
      const found = new Map(suspended.map(({ table, error }) => [table, error.code]));
      expect(found).toEqual(new Map(lacking.map((table) => [table, "MR2103"])));
    });
    for (const name of names.filter(isWhole)) {
      const told = `string_agg(_millrace_op || coalesce(n, -1), ' ' order by _millrace_version)`;
      const sql = `select ${told} as told from "${source.name}"."${name.toLowerCase()}"`;
      await eventually(async () =>
        expect((await installation.command("query", sql)).stdout, name).toContain("c0 u1 u2 u3 d3"),
      );
    }
  });

  test("rows that can't be read and are older than the last change of their table suspend nothing: it is read again", async () => {
    const isLogged = flavour === "mysql" || !isMysqlFrom(flavour, "11.8");
    const names = ["computed", "few", "dropped", "replaced", "other"];
    await using pipeline = await MysqlPipeline.start(
      flavour,
      [
        "create table computed (id int primary key, v int, g int as (v * 2) stored, w int)",
        "insert into computed (id, v) values (1, 1), (2, 2), (3, 3)",
        ...names.slice(1).map((name) => `create table ${name} (id int primary key, v int, w int)`),
        ...names.slice(1).map((name) => `insert into ${name} values (1, 1, 1), (2, 2, 2), (3, 3, 3)`),
      ],
      { kinds: ["duckdb", "postgres", "postgres-history"] },
    );
    await pipeline.expectEqual(...(isLogged ? names : names.slice(1)));
    await pipeline.daemon.stop();
    await inSession(
      pipeline.url,
      "update computed set v = 10 where id = 1",
      "delete from computed where id = 2",
      "insert into computed (id, v) values (4, 4)",
      "alter table computed modify g int",
      "update computed set g = 7 where id = 3",
      "set session binlog_row_image = 'MINIMAL'",
      ...["few", "dropped", "replaced"].map((name) => `update ${name} set w = 20 where id = 2`),
      "set session binlog_row_image = 'FULL'",
      "alter table few add column more int default 5",
      "update few set more = 6 where id = 1",
      "drop table dropped",
      "drop table replaced",
      "create table replaced (id int primary key, v int, w int)",
      "insert into replaced values (2, 3, 4)",
    );
    await pipeline.start();
    await pipeline.expectEqual(...names.filter((name) => name !== "dropped"));
    expect((await pipeline.installation.status()).tables.suspended).toEqual([]);
    const { name } = pipeline.source;
    await expectLost(pipeline, `${name}.few`, ...(isLogged ? [] : [`${name}.computed`]));
  });

  test("generated columns that the log leaves out of changes are in no sink, and check says so", async ({ skip }) => {
    skip(flavour === "mysql" || !isMysqlFrom(flavour, "11.8"), "the server logs them");
    const mid = "id int primary key, v int, g int as (v * 2)";
    await using pipeline = await MysqlPipeline.start(
      flavour,
      [
        "create table t (id int primary key, v int, w int)",
        `create table vs (${mid} virtual, w datetime, unique (g))`,
        "create table st (id int primary key, v text, g text as (upper(v)) stored, w int, h text as (g) virtual)",
        `create table kept (${mid} stored, w int, t text unique) with system versioning`,
        `create table masked (${mid} stored, w int)`,
        `create table ruled (${mid} stored, w int)`,
        `create table filtered (${mid} stored, w int)`,
        "insert into st (id, v) values (9, 'read')",
      ],
      {
        kinds: ["duckdb", "postgres"],
        rules: { masked: { columns: { v: { mask: "null" } } } },
      },
    );
    const names = ["t", "vs", "st", "kept"];
    const rules = { masked: { columns: { v: { mask: "null" } } } };
    pipeline.configure({}, { ...rules, ruled: { columns: { g: { mask: "null" } } }, filtered: { where: "g > 1" } });
    const { stdout } = await pipeline.installation.command("check", "--json");
    pipeline.configure({}, rules);
    const { findings }: { findings: readonly { id: string; level: string; what: string }[] } = JSON.parse(stdout);
    const about = (one: string): string | undefined => findings.find(({ id }) => id === one)?.what;
    for (const left of ["vs (g)", "st (g, h)", "kept (g)", "masked (g)"])
      expect(about("generated")).toContain(`${pipeline.source.name}.${left}`);
    expect(findings.filter(({ level }) => level === "error").map(({ what }) => what)).toEqual([
      expect.stringMatching(/there is no column "g" in the log: the source computes it from "v", and logs only those/),
      expect.stringMatching(/ruled has no column "g" in the log: the source computes it from "v"/),
    ]);
    const write = [
      ...[...names, "masked"].map((name) => `insert into ${name} (id, v) values (1, 1), (2, null), (3, 3)`),
      ...[...names, "masked"].map((name) => `update ${name} set w = null, v = concat(v, 1) where id <> 3`),
      ...names.map((name) => `replace into ${name} (id, v) values (1, 70)`),
      ...names.map((name) => `delete from ${name} where id = 3`),
    ];
    /** But for the columns that are left out, which a sink that never had them shows as null. */
    const expectEqual = async (): Promise<void> => {
      await pipeline.settled();
      const { url, sinks, installation } = pipeline;
      const tables = names.map((table) => ({ schema: pipeline.source.name, table }));
      const found = await sinks.differences(url, installation.folder, tables);
      const others = found.filter(
        (one) => !/ 0 missing, 0 extra, \d+ different \((different \d+: [gh](, h)?(; )?)+\)$/.test(one),
      );
      expect({ others, said: others.length === 0 ? [] : pipeline.complaints() }).toEqual({ others: [], said: [] });
    };
    await pipeline.run(...write);
    await expectEqual();
    expect((await pipeline.installation.status()).tables.suspended).toEqual([]);
  });
});
