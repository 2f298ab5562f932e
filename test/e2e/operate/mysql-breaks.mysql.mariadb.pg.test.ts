/**
 * The breaks at a source of MySQL or MariaDB, each caused on a real server: what a person on call is told first leads to
 * its cure, and `status`, the exit codes, `wait`, `/readyz` and the webhook say the same. What breaks at sinks and the
 * state is in common-breaks.
 * @module-tag heavy
 */
import { afterAll, beforeAll, describe, test } from "vitest";
import type { RunningService } from "../../../scripts/services/service.ts";
import { ACT, ACT_UNREADY, OnCall, UNREADY } from "../../support/daemon/on-call.ts";
import { literally } from "../../support/daemon/told.ts";
import { type FreshMysqlDatabase, openMysqlDatabase } from "../../support/mysql/mysql-database.ts";
import {
  type FreshDatabase,
  freshDatabase,
  freshMysqlDatabase,
  mysqlFlavours,
  ownMysql,
} from "../../support/run/services.ts";

/** Where the source's password comes from. */
const VARIABLE = "MILLRACE_TEST_MYSQL_BREAKS_PASSWORD";

describe.each(mysqlFlavours)("%s", (flavour) => {
  let server: RunningService;
  let source: FreshMysqlDatabase;
  let target: FreshDatabase;
  let onCall: OnCall;
  let schema: string;

  const run = async (sql: string): Promise<unknown> => await source.connection.query(sql);

  beforeAll(async () => {
    server = await ownMysql(flavour);
    source = await freshMysqlDatabase(server.url);
    target = await freshDatabase();
    schema = source.name;
    for (const sql of [
      "create table item (id int primary key, n int)",
      "insert into item values (1, 1), (2, 2), (3, 3)",
      "create table guarded (id int primary key)",
      "create table keyed (region varchar(10), `No` int, primary key (region, `No`))",
      "insert into keyed values ('eu', 1)",
      "create user reader@'%' identified by 'first'",
      "grant all on *.* to reader@'%'",
    ])
      await run(sql);
    process.env[VARIABLE] = "first";
    const { host } = new URL(server.url);
    onCall = await OnCall.of({
      name: schema,
      source: { kind: "mysql", url: `mysql://reader:\${${VARIABLE}}@${host}/${schema}`, heartbeat: "500ms" },
      sinks: { warehouse: { kind: "postgres", url: target.url } },
      tables: { [`${schema}.guarded`]: { schemaChange: "pause" } },
    });
    onCall.installation.run();
    await onCall.expectWell();
  });

  afterAll(async () => {
    delete process.env[VARIABLE];
    await onCall?.[Symbol.asyncDispose]();
    await target?.[Symbol.asyncDispose]();
    await source?.[Symbol.asyncDispose]();
    await server?.[Symbol.asyncDispose]();
  });

  test("rows that a sink refuses", async () => {
    await target.query(`alter table "${schema}".item add constraint small check (n < 1000)`);
    await run("update item set n = 5000 where id in (1, 2)");
    const command = "dlq replay --sink warehouse --all";
    await onCall.expectTold(
      [/sink warehouse refused 2 rows/, /\.item: MR3111 .*constraint "small"/, literally(`millrace ${command}`)],
      "MR3111",
      ACT,
    );
    await target.query(`alter table "${schema}".item drop constraint small`);
    await onCall.installation.command(...command.split(" "));
    await onCall.expectWell();
  });

  test("a table that lost its key", async () => {
    await run("alter table keyed drop primary key");
    const fix = `ALTER TABLE \`${schema}\`.\`keyed\` ADD PRIMARY KEY (\`region\`, \`No\`);`;
    await onCall.expectTold(
      [literally(`table ${schema}.keyed is suspended`), /MR1309/, literally(fix)],
      "MR1309",
      ACT_UNREADY,
    );
    await run(fix);
    await onCall.expectWell();
  });

  test("a change that waits for approval", async () => {
    await run("alter table guarded add column more text");
    const command = `schema approve ${schema}.guarded`;
    await onCall.expectTold(
      [
        literally(`table ${schema}.guarded is suspended`),
        /MR1303 .*column added: "more"/,
        literally(`millrace ${command}`),
      ],
      "MR1303",
      ACT_UNREADY,
    );
    await onCall.installation.command(...command.split(" "));
    await onCall.expectWell();
  });

  test("a table that another session holds", async () => {
    const { connection: holder } = await openMysqlDatabase(server.url, schema);
    try {
      await holder.query("lock tables item write");
      await onCall.installation.command("snapshot", "start", "--tables", `${schema}.item`);
      await onCall.expectTold(
        [literally(`table ${schema}.item can't be read for warehouse`), /MR2026/, /KILL \d+/],
        "MR2026",
        ACT_UNREADY,
      );
      await holder.query("unlock tables");
      await onCall.expectWell();
    } finally {
      holder.destroy();
    }
  });

  test("the source's password was changed", async () => {
    await run("alter user reader@'%' identified by 'second'");
    for (const [id] of await source.texts("select id from information_schema.processlist where user = 'reader'"))
      await run(`kill ${id}`);
    await onCall.expectTold(
      [
        literally("MR2002 the source refuses the login"),
        literally(`${server.host}:${server.port}`),
        /user 'reader'@/,
        literally(`a restart is needed: \`\${${VARIABLE}}\` is read at the start`),
      ],
      "MR2002",
      ACT_UNREADY,
    );
    await run("alter user reader@'%' identified by 'first'");
    await onCall.expectWell();
  });

  test("the source takes no writes: that stops nothing", async () => {
    await run("set global read_only = 1");
    await run("update item set n = 11 where id = 1");
    await onCall.expectWell();
    // As after a failover: nobody may write, and what is read beside the stream is read all the same.
    if (flavour === "mysql") await run("set global super_read_only = 1");
    await onCall.installation.command("snapshot", "start", "--tables", `${schema}.item`);
    await onCall.expectWell();
    await run("set global read_only = 0");
  });

  test("the source is stopped", async () => {
    await server.stop();
    await onCall.expectTold(
      [
        /no connection to the source, connected until \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC/i,
        /the sinks are fine/,
        literally(`Nothing listens at ${server.host}:${server.port}`),
      ],
      "MR2001",
      UNREADY,
    );
    await server.start();
    source.connection.destroy();
    source = await openMysqlDatabase(server.url, schema);
    await onCall.expectWell();
  });
});
