/**
 * The breaks at a source of MySQL or MariaDB, each caused on a real server: what a person on call is told first, by `status`
 * and `explain` alone, leads to its cure. What breaks at sinks and the state is in common-breaks.
 * @module-tag heavy
 */
import { afterAll, beforeAll, describe, test } from "vitest";
import type { RunningService } from "../../../scripts/services/service.ts";
import { expectExplained, expectFirstSaid, expectWell, literally } from "../../support/daemon/told.ts";
import { openMysqlDatabase } from "../../support/mysql/mysql-database.ts";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { mysqlFlavours, ownMysql } from "../../support/run/services.ts";

/** Where the source's password comes from. */
const VARIABLE = "MILLRACE_TEST_MYSQL_BREAKS_PASSWORD";

describe.each(mysqlFlavours)("%s", (flavour) => {
  let server: RunningService;
  let pipeline: MysqlPipeline;
  let schema: string;

  beforeAll(async () => {
    server = await ownMysql(flavour);
    pipeline = await MysqlPipeline.start(
      flavour,
      [
        "create table item (id int primary key, n int)",
        "insert into item values (1, 1), (2, 2), (3, 3)",
        "create table guarded (id int primary key)",
        "create table keyed (region varchar(10), `No` int, primary key (region, `No`))",
        "insert into keyed values ('eu', 1)",
        "create user reader@'%' identified by 'first'",
        "grant all on *.* to reader@'%'",
      ],
      { kinds: ["postgres"], url: server.url, untilStreaming: false },
    );
    await pipeline.kill();
    schema = pipeline.source.name;
    process.env[VARIABLE] = "first";
    const url = new URL(pipeline.url);
    url.username = "reader";
    url.password = "PASSWORD";
    pipeline.configure(
      { url: url.href.replace("PASSWORD", `\${${VARIABLE}}`) },
      { guarded: { schemaChange: "pause" } },
    );
    await pipeline.start();
    await pipeline.settled();
  });

  afterAll(async () => {
    delete process.env[VARIABLE];
    await pipeline?.[Symbol.asyncDispose]();
    await server?.[Symbol.asyncDispose]();
  });

  async function expectTold(parts: readonly RegExp[], code: string): Promise<void> {
    await expectFirstSaid(pipeline.installation, parts);
    await expectExplained(pipeline.installation, code);
  }

  test("rows that a sink refuses", async () => {
    const { installation, sinks } = pipeline;
    await sinks.target!.query(`alter table "${schema}".item add constraint small check (n < 1000)`);
    await pipeline.run("update item set n = 5000 where id in (1, 2)");
    const command = "dlq replay --sink postgres --all";
    await expectTold(
      [/sink postgres refused 2 rows/, /\.item: MR3111 .*constraint "small"/, literally(`millrace ${command}`)],
      "MR3111",
    );
    await sinks.target!.query(`alter table "${schema}".item drop constraint small`);
    await installation.command(...command.split(" "));
    await expectWell(installation);
  });

  test("a table that lost its key", async () => {
    await pipeline.run("alter table keyed drop primary key");
    const fix = `ALTER TABLE \`${schema}\`.\`keyed\` ADD PRIMARY KEY (\`region\`, \`No\`);`;
    await expectTold([literally(`table ${schema}.keyed is suspended`), /MR1309/, literally(fix)], "MR1309");
    await pipeline.run(fix);
    await expectWell(pipeline.installation);
  });

  test("a change that waits for approval", async () => {
    await pipeline.run("alter table guarded add column more text");
    const command = `schema approve ${schema}.guarded`;
    await expectTold(
      [
        literally(`table ${schema}.guarded is suspended`),
        /MR1303 .*column added: "more"/,
        literally(`millrace ${command}`),
      ],
      "MR1303",
    );
    await pipeline.installation.command(...command.split(" "));
    await expectWell(pipeline.installation);
  });

  test("a table that another session holds", async () => {
    const { connection: holder } = await openMysqlDatabase(pipeline.url, schema);
    try {
      await holder.query("lock tables item write");
      await pipeline.readAgain("item");
      await expectTold([literally(`table ${schema}.item can't be read for postgres`), /MR2026/, /KILL \d+/], "MR2026");
      await holder.query("unlock tables");
      await expectWell(pipeline.installation);
    } finally {
      holder.destroy();
    }
  });

  test("the source's password was changed", async () => {
    await pipeline.run("alter user reader@'%' identified by 'second'");
    for (const [id] of await pipeline.source.texts(
      "select id from information_schema.processlist where user = 'reader'",
    ))
      await pipeline.run(`kill ${id}`);
    await expectTold(
      [
        literally("MR2002 the source refuses the login"),
        literally(`${server.host}:${server.port}`),
        /user 'reader'@/,
        literally(`a restart is needed: \`\${${VARIABLE}}\` is read at the start`),
      ],
      "MR2002",
    );
    await pipeline.run("alter user reader@'%' identified by 'first'");
    await expectWell(pipeline.installation);
  });

  test("the source takes no writes: that stops nothing", async () => {
    await pipeline.run("set global read_only = 1");
    await pipeline.run("update item set n = 11 where id = 1");
    await pipeline.settled();
    // As after a failover: nobody may write, and what is read beside the stream is read all the same.
    if (flavour === "mysql") await pipeline.run("set global super_read_only = 1");
    await pipeline.readAgain("item");
    await pipeline.settled();
    await expectWell(pipeline.installation);
    await pipeline.run("set global read_only = 0");
  });

  test("the source is stopped", async () => {
    await server.stop();
    await expectTold(
      [
        /no connection to the source, connected until \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC/i,
        /the sinks are fine/,
        literally(`Nothing listens at ${server.host}:${server.port}`),
      ],
      "MR2001",
    );
    await server.start();
    await pipeline.reconnect();
    await expectWell(pipeline.installation);
  });
});
