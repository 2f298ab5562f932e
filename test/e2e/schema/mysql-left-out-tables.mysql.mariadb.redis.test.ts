/** MySQL and MariaDB: tables that the configuration leaves out for a while, or that wait for somebody. */
import { describe, expect, test } from "vitest";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { mysqlFlavours } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

const TABLES = [
  "create table t (id int primary key, note varchar(20))",
  "create table u (id int primary key, note varchar(20))",
  "insert into t values (1, 'first'), (2, 'first')",
  "insert into u values (1, 'first'), (2, 'first')",
];

describe.each(mysqlFlavours)("%s", (flavour) => {
  test("a table that `source.tables` left out for a while has the changes since then", async () => {
    await using pipeline = await MysqlPipeline.start(flavour, TABLES, { kinds: ["redis"] });
    await pipeline.expectEqual("t", "u");
    const { name } = pipeline.source;
    await pipeline.daemon.stop();
    pipeline.configure({ tables: [`${name}.u`] });
    await pipeline.start();
    await pipeline.run(
      "insert into t values (3, 'unseen')",
      "delete from t where id = 1",
      "update u set note = 'seen'",
    );
    await pipeline.expectEqual("u");
    await pipeline.daemon.stop();
    pipeline.configure({ tables: [`${name}.*`] });
    await pipeline.start();
    await pipeline.expectEqual("t", "u");
  });

  test("where new tables wait, those of the first start are none, without a snapshot either", async () => {
    const rules = { "*": { schemaChange: "pause" } };
    const options = { kinds: ["redis"], rules, source: { snapshot: "none" } } as const;
    await using pipeline = await MysqlPipeline.start(flavour, TABLES, options);
    await pipeline.run("insert into t values (3, 'new')", "update u set note = 'new'");
    await pipeline.settled();
    await pipeline.run("create table late (id int primary key)", "insert into late values (1)");
    await eventually(async () => {
      const status = await pipeline.installation.ask<{ tables: { suspended: { table: string }[] } }>(
        "GET",
        "/api/v1/status",
      );
      expect(status?.tables.suspended.map(({ table }) => table)).toEqual([`${pipeline.source.name}.late`]);
    });
  });
});
