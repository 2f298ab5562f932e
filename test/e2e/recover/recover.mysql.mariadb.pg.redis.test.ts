/**
 * `recover` from MySQL and MariaDB: the binary log was purged, or begun anew.
 * @module-tag heavy
 */
import { describe, expect, test } from "vitest";
import { run } from "../../support/mysql/mysql-hosts.ts";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { mysqlFlavours, ownMysql } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

const PREPARED = [
  "create table t (id int primary key, v varchar(40), n int not null default 0)",
  "create table u (a varchar(10), b int, primary key (a, b))",
  `insert into t (id, v) values ${Array.from({ length: 500 }, (_, i) => `(${i}, 'v${i}')`).join(", ")}`,
  "insert into u values ('a', 1), ('A', 2), ('', 3)",
];
const BETWEEN = [
  "update t set v = 'moved' where id in (3, 4)",
  "update t set id = 1000 where id = 5",
  "delete from t where id in (6, 7)",
  "insert into u values ('b', 9)",
];
const AFTER = ["update t set n = 1 where id in (3, 8)", "delete from u where b = 1"];

describe.each(mysqlFlavours)("%s", (flavour) => {
  test.for(["purged", "reset"])("after the log was %s", async (how) => {
    await using server = await ownMysql(flavour);
    await using pipeline = await MysqlPipeline.start(flavour, PREPARED, {
      kinds: ["postgres", "duckdb", "redis"],
      url: server.url,
    });
    const { installation } = pipeline;
    await pipeline.settled();
    await pipeline.daemon.stop();
    await pipeline.run(...BETWEEN);
    if (how === "purged") {
      await pipeline.run("flush binary logs");
      const last = (await pipeline.source.texts("show binary logs")).at(-1)?.[0] ?? "";
      // Files whose reader the server has not missed yet are passed over.
      await eventually(async () => {
        await pipeline.run(`purge binary logs to '${last}'`);
        expect((await pipeline.source.texts("show binary logs")).at(0)?.[0]).toBe(last);
      });
    } else await run(server.url, flavour === "mysql" ? "reset binary logs and gtids" : "reset master");
    const { exitCode: refused, code } = await pipeline.refusal();
    // A first file made within the same second, which is all that its time stamp tells, is only too short.
    expect({ refused, code }).toEqual({
      refused: 1,
      code: expect.stringMatching(how === "purged" ? /^MR2010$/ : /^MR201[36]$/),
    });
    const { exitCode, stdout, stderr } = await installation.command("recover", "--yes", "--json");
    expect({ exitCode, stderr: exitCode === 0 ? "" : stderr }).toEqual({ exitCode: 0, stderr: "" });
    const found: { mended: { table: string; sink: string; rows: number }[] } = JSON.parse(stdout);
    expect(found).toMatchObject({ lost: { code }, epoch: 2 });
    const mended = found.mended.map(({ table, sink, rows }) => `${sink} ${table.split(".")[1]} ${rows}`).toSorted();
    expect(mended).toEqual(["duckdb t 6", "duckdb u 1", "postgres t 6", "postgres u 1", "redis t 6", "redis u 1"]);
    await pipeline.start();
    await pipeline.run(...AFTER);
    await pipeline.expectEqual("t", "u");
  });
});
