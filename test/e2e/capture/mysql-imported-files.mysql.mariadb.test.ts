/**
 * Tables whose files somebody replaces (a backup of one table: FLUSH … FOR EXPORT, DISCARD and IMPORT TABLESPACE), whole or by
 * partitions: what no log tells is read again, and a copy of a table under rules stays back.
 * @module-tag heavy
 */
import { copyFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { CANARY, placesWith } from "../../support/daemon/canary.ts";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { mysqlFlavours } from "../../support/run/services.ts";
import { temporaryFolder } from "../../support/run/temporary-folder.ts";
import { eventually } from "../../support/run/waiting.ts";

const PREPARE = [
  ...["lived", "down"].flatMap((name) => [
    `create table ${name} (id int primary key, v varchar(80))`,
    `insert into ${name} values (1, 'old'), (2, 'old')`,
  ]),
  "create table users (id int primary key, mail varchar(80), note varchar(80))",
  `insert into users values (1, '${CANARY}', 'n')`,
  "create table saved (id int primary key, v varchar(80)) engine = MyISAM",
  "insert into saved values (1, 'old'), (2, 'old')",
  "create table parts (id int primary key, v varchar(80)) partition by range (id) (partition low values less than (10), partition high values less than (100))",
  "insert into parts values (1, 'old'), (50, 'old')",
];

test.each(mysqlFlavours)("%s", async (flavour) => {
  using kept = temporaryFolder();
  await using pipeline = await MysqlPipeline.start(flavour, PREPARE, {
    kinds: ["duckdb"],
    rules: { users: { columns: { mail: { mask: "redact" } } } },
  });
  const { source, installation } = pipeline;
  const found = JSON.stringify(await source.connection.query("select @@datadir"));
  const folder = join(/"(\/[^"]+)"/.exec(found)![1]!, source.name);
  const filesOf = (table: string, among: string) =>
    readdirSync(among).filter((name) => name.toLowerCase().startsWith(table) && /\.(?:ibd|cfg)$/.test(name));
  /** `what`: of its partitions. */
  const save = async (table: string, what = table) => {
    await pipeline.run(`flush tables ${table} for export`);
    for (const name of filesOf(what, folder)) copyFileSync(join(folder, name), kept.file(name));
    await pipeline.run("unlock tables");
  };
  const restore = async (table: string, part = "", from = table) => {
    await pipeline.run(`alter table ${table} discard ${part} tablespace`);
    for (const name of filesOf(from, kept.path)) {
      const as = part === "" ? name.replace(from, table) : name;
      copyFileSync(kept.file(name), join(folder, as));
    }
    await pipeline.run(`alter table ${table} import ${part} tablespace`);
  };
  await pipeline.settled();
  for (const table of ["lived", "down", "users"]) await save(table);
  await save("parts", "parts#p#low");
  for (const table of ["lived", "down", "parts"])
    await pipeline.run(`update ${table} set v = 'new'`, `insert into ${table} values (3, 'new')`);
  await pipeline.expectEqual("lived", "down", "parts");

  await restore("lived");
  // MariaDB has no such statement: there it is EXCHANGE PARTITION, which the log tells.
  if (flavour === "mysql") await restore("parts", "partition low");
  await pipeline.run("repair table saved", "optimize table saved", "optimize table lived");
  await pipeline.expectEqual("lived", "parts", "saved");
  await pipeline.daemon.stop();
  await restore("down");
  await pipeline.start();
  await pipeline.expectEqual("lived", "down", "parts", "saved");

  // While it has no rows it can't be read, and the others go on.
  await pipeline.run("alter table down discard tablespace", "insert into saved values (3, 'x')");
  await eventually(async () => {
    const { stdout } = await installation.command("status");
    expect(stdout).toContain("MR2027");
  });
  await pipeline.run("drop table down");
  await pipeline.expectEqual("saved");

  await pipeline.run("create table users_back like users");
  await restore("users_back", "", "users");
  await pipeline.run(`insert into users_back values (9, '${CANARY}', 'n')`);
  await eventually(async () => {
    const { tables } = await installation.status();
    expect(tables.suspended.map(({ table, error }) => [table, error.code])).toEqual([
      [`${source.name}.users_back`, "MR1033"],
    ]);
  });
  expect(await placesWith(CANARY, pipeline)).toEqual([]);
});
