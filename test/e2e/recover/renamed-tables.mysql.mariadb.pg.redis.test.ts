/**
 * `recover` where tables were renamed, swapped, made again, altered and emptied in the log that is lost: every sink equals the
 * source, and nothing untrue is said of those that only pass changes on.
 * @module-tag heavy
 */
import { expect, test } from "vitest";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import type { SinkKind } from "../../support/daemon/sink-set.ts";
import { run } from "../../support/mysql/mysql-hosts.ts";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { mysqlFlavours, ownMysql } from "../../support/run/services.ts";

const KINDS: readonly SinkKind[] = ["postgres", "files", "postgres-history", "duckdb", "redis"];
const create = (table: string): string => `create table ${table} (id int primary key, v varchar(40))`;
const BEFORE = ["kept", "renamed", "remade", "x", "y", "widened", "dropped", "cycled", "emptied", "altered"];
const PREPARED = BEFORE.flatMap((table) => [
  create(table),
  `insert into ${table} values (1, '${table} a'), (2, '${table} b'), (3, '${table} c')`,
]);
const rename = (from: string, to: string): string => `alter table ${from} rename to ${to}`;
const BETWEEN = [
  "update kept set v = 'moved' where id = 1",
  "drop table remade",
  create("remade"),
  "insert into remade values (1, 'another'), (9, 'new')",
  "alter table widened add column w int default 7",
  "update widened set w = 8 where id = 2",
  "drop table dropped",
  "insert into x values (10, 'x')",
  "insert into y values (11, 'y')",
  rename("x", "third"),
  rename("y", "x"),
  rename("third", "y"),
  rename("renamed", "other"),
  rename("cycled", "former"),
  create("cycled"),
  "insert into cycled values (5, 'new')",
  "truncate table emptied",
  "alter table altered rename column v to word",
  "update altered set word = 'w' where id = 2",
  create("fresh"),
  "insert into fresh values (1, 'f')",
];
const AFTER = [
  "insert into other values (50, 'z')",
  "update remade set v = 'at last' where id = 1",
  "insert into altered values (77, 'k')",
];
const TABLES = ["kept", "other", "remade", "x", "y", "widened", "former", "cycled", "emptied", "altered", "fresh"];

async function recovered({ installation }: RunningPipeline | MysqlPipeline): Promise<void> {
  const { exitCode, stdout, stderr } = await installation.command("recover", "--yes");
  expect({ exitCode, stdout, stderr }).toMatchObject({ exitCode: 0, stdout: expect.stringContaining("is recovered") });
  expect(stderr).not.toContain("could not be compared");
}

test("postgres", async () => {
  await using pipeline = await RunningPipeline.start(PREPARED.join("; "), { kinds: KINDS });
  await pipeline.settled();
  await pipeline.daemon.stop();
  await pipeline.run(BETWEEN.join("; "));
  await pipeline.run(
    "select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = current_database()",
  );
  await recovered(pipeline);
  await pipeline.start();
  await pipeline.run(AFTER.join("; "));
  await pipeline.expectEqual(TABLES);
});

test.each(mysqlFlavours)("%s", async (flavour) => {
  await using server = await ownMysql(flavour);
  await using pipeline = await MysqlPipeline.start(flavour, PREPARED, { kinds: KINDS, url: server.url });
  await pipeline.settled();
  await pipeline.daemon.stop();
  await pipeline.run(...BETWEEN);
  await run(server.url, flavour === "mysql" ? "reset binary logs and gtids" : "reset master");
  await recovered(pipeline);
  await pipeline.start();
  await pipeline.run(...AFTER);
  await pipeline.expectEqual(...TABLES);
});
