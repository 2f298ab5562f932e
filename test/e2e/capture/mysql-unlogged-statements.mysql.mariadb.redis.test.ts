/**
 * Statements of MySQL and MariaDB that change rows and log none: the tables are read again, also where no catalogue tells.
 * @module-tag heavy
 */
import { describe, expect, test } from "vitest";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { type MysqlFlavour, mysqlFlavours } from "../../support/run/services.ts";

const KINDS = ["duckdb", "redis"] as const;
const PARTS =
  "partition by range (id) (partition low values less than (10), partition middle values less than (20), partition high values less than maxvalue)";

/** The daemon goes on as one that has no more than what the README names: not PROCESS, by which tables could be told apart. */
async function leastPrivileged(pipeline: MysqlPipeline, flavour: MysqlFlavour): Promise<AsyncDisposable> {
  await pipeline.daemon.stop();
  const { name } = pipeline.source;
  const user = `'u_${name}'@'%'`;
  const monitor = flavour === "mysql" ? "replication client" : "binlog monitor";
  await pipeline.run(
    `create user ${user} identified by 'secret'`,
    `grant replication slave, ${monitor} on *.* to ${user}`,
    `grant select on ${name}.* to ${user}`,
  );
  const url = new URL(pipeline.url);
  url.username = `u_${name}`;
  url.password = "secret";
  pipeline.configure({ url: url.href });
  await pipeline.start();
  return { [Symbol.asyncDispose]: () => pipeline.run(`drop user ${user}`) };
}

describe.each(mysqlFlavours)("%s", (flavour) => {
  test("partitions that are emptied, exchanged, dropped; a column that is dropped and made again", async () => {
    await using pipeline = await MysqlPipeline.start(
      flavour,
      [
        `create table parts (id int primary key, v varchar(20)) ${PARTS}`,
        "create table beside (id int primary key, v varchar(20))",
        "create table plain (id int primary key, v int, w int)",
        "insert into parts values (1, 'a'), (2, 'b'), (11, 'c'), (12, 'd'), (21, 'e')",
        "insert into beside values (3, 'x'), (4, 'y')",
        "insert into plain values (1, 1, 1), (2, 2, 2)",
      ],
      { kinds: KINDS },
    );
    await using _ = await leastPrivileged(pipeline, flavour);
    await pipeline.expectEqual("parts", "beside", "plain");
    await pipeline.run("alter table`parts`truncate partition`middle`");
    await pipeline.expectEqual("parts");
    await pipeline.run("alter table`parts`/* it's both */exchange partition`low`with table`beside`");
    await pipeline.expectEqual("parts", "beside");
    await pipeline.run("alter table parts drop partition high", "insert into parts values (13, 'after')");
    await pipeline.expectEqual("parts");
    await pipeline.run("alter table plain drop column v, add column v int default 7 after id");
    await pipeline.expectEqual("plain");
    await pipeline.run("alter table plain drop column v", "alter table plain add column v int default 8 after id");
    await pipeline.expectEqual("plain");

    // While nobody reads, and when the daemon dies before what it saw was stored with its positions.
    await pipeline.kill();
    await pipeline.run("alter table parts truncate partition low", "insert into beside values (9, 'z')");
    await pipeline.start();
    await pipeline.expectEqual("parts", "beside");
    await pipeline.run("insert into plain values (3, 3, 3)", "alter table`parts`truncate partition`middle`");
    await pipeline.run("insert into plain values (4, 4, 4)");
    await pipeline.kill();
    await pipeline.start();
    await pipeline.expectEqual("parts", "plain");
    expect(await pipeline.source.texts("select count(*) from parts")).toEqual([["0"]]);
  });

  test(
    "whatever way it is written; names that go round, tables made anew, and columns computed in another way",
    { tags: "long" },
    async () => {
      const isMaria = flavour === "mariadb";
      const made = ["a", "b", "c", "gone", "twins", "computed", "lossy"];
      await using pipeline = await MysqlPipeline.start(
        flavour,
        [
          `create table parts (id int primary key, v varchar(20)) ${PARTS}`,
          "insert into parts values (1, 'a'), (11, 'b'), (21, 'c')",
          ...["a", "b", "c", "gone"].map((name) => `create table ${name} (id int primary key, v varchar(20))`),
          "create table twins (id int primary key, v int)",
          "create table computed (id int primary key, v int, g int as (v * 2) virtual)",
          "create table lossy (id int primary key, v varchar(20) character set utf8mb4)",
          "insert into lossy values (7, '日本')",
          ...["a", "b", "c", "gone", "lossy"].map((name) => `insert into ${name} values (1, '${name} é'), (2, 'x')`),
          "insert into twins values (1, 1), (2, 1), (3, 2)",
          "insert into computed (id, v) values (1, 1), (2, 2)",
        ],
        { kinds: KINDS },
      );
      await pipeline.expectEqual("parts", ...made);
      const batch = async (...statements: readonly string[]): Promise<void> => {
        await pipeline.run(...statements);
        await pipeline.expectEqual("parts", ...made);
      };
      // All of it twice: by the numbers of the tables, and where nothing tells tables apart but the second they were made in.
      for (const round of [1, 2]) {
        await using _ = round === 1 ? undefined : await leastPrivileged(pipeline, flavour);
        const setting = isMaria ? "set statement lock_wait_timeout = 5 for " : "";
        await batch(
          "/*!50100 alter table parts truncate partition low */",
          `${setting}alter table -- which one\n parts # this one\n truncate partition middle`,
          `insert into parts values (${round}, 'again'), (${round + 10}, 'again')`,
          `${setting}truncate /*!50000 table */ gone`,
          `insert into gone values (${round}, 'after')`,
        );
        await batch(
          "rename table a to away",
          `insert into away values (${round + 20}, 'while it was away')`,
          "alter table away rename to a",
          "rename table a to x, b to a, c to b, x to c",
          `insert into a values (${round + 30}, 'in the other')`,
        );
        await batch(
          "drop table gone",
          "create table gone (id int primary key, v varchar(20))",
          `insert into gone values (${round + 40}, 'anew')`,
          `alter table computed modify g int as (v * ${round + 2}) virtual`,
        );
        await batch(
          "set session sql_mode = ''",
          `alter table lossy modify v varchar(20) character set ${round === 1 ? "latin1" : "ascii"}`,
          "set session sql_mode = default",
          ...(isMaria ? ["alter ignore table twins add unique (v)", "alter table twins drop index v"] : []),
          ...(isMaria ? ["create or replace table gone (id int primary key, v varchar(20))"] : []),
          "insert into twins values (4 + 10 * rand(), 2) on duplicate key update v = 2",
        );
      }
    },
  );
});
