/** MySQL and MariaDB: starts that must not succeed say why, and those with least privileges and other settings work. */
import { describe, expect, test } from "vitest";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { mysqlFlavours, ownMysql, type MysqlFlavour } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

const KINDS = ["duckdb"] as const;
const TABLES = ["create table t (id int primary key, v varchar(40))", "insert into t values (1, 'a'), (2, 'b')"];

const monitor = (flavour: MysqlFlavour): string => (flavour === "mysql" ? "replication client" : "binlog monitor");

/** A daemon waits for what a person has to put right at the source, and `status` names it. */
async function expectToWait({ installation, url }: MysqlPipeline, code: string, hint = /./): Promise<void> {
  const daemon = installation.run();
  await eventually(
    async () =>
      expect((await installation.status()).source).toMatchObject({
        error: {
          code,
          message: expect.stringContaining(new URL(url).host),
          hint: expect.stringMatching(hint),
        },
        needsPerson: true,
      }),
    { withinMs: 60_000 },
  );
  expect(daemon.exited).toBe(false);
  await daemon.stop();
}

describe.each(mysqlFlavours)("%s", (flavour) => {
  test(
    "a role with a password and the least that is needed; without one of it the message names it",
    { tags: "heavy" },
    async () => {
      await using server = await ownMysql(flavour);
      await using pipeline = await MysqlPipeline.start(flavour, TABLES, { kinds: KINDS, url: server.url });
      await pipeline.daemon.stop();
      const { name } = pipeline.source;
      await pipeline.run(
        "create user plain@'%' identified by 'se:cr/et'",
        `grant replication slave, ${monitor(flavour)} on *.* to plain@'%'`,
        `grant select on ${name}.* to plain@'%'`,
      );
      const url = new URL(pipeline.url);
      url.username = "plain";
      url.password = encodeURIComponent("se:cr/et");
      pipeline.configure({ url: url.href });
      await pipeline.start();
      await pipeline.run("insert into t values (3, 'c')");
      await pipeline.expectEqual("t");
      expect((await pipeline.installation.command("check")).exitCode).toBe(0);
      await pipeline.daemon.stop();

      await pipeline.run("revoke replication slave on *.* from plain@'%'");
      const checked = await pipeline.installation.command("check");
      expect(checked).toMatchObject({
        exitCode: 1,
        stdout: expect.stringContaining("GRANT REPLICATION SLAVE ON *.* TO 'plain'@'%';"),
      });
      await expectToWait(pipeline, "MR2008", /GRANT REPLICATION SLAVE ON \*\.\* TO 'plain'@'%';/);
      await pipeline.run("grant replication slave on *.* to plain@'%'", `revoke select on ${name}.* from plain@'%'`);
      expect(await pipeline.installation.command("check")).toMatchObject({
        exitCode: 1,
        stdout: expect.stringContaining(`GRANT SELECT ON \`${name}\`.* TO 'plain'@'%';`),
      });
      await expectToWait(pipeline, "MR2008", /GRANT SELECT ON `\w+`\.\* TO 'plain'@'%';/);

      await pipeline.run(`grant select on ${name}.* to plain@'%'`);
      url.password = "wrong";
      pipeline.configure({ url: url.href });
      await expectToWait(pipeline, "MR2002", /set it at the server \(ALTER USER … IDENTIFIED BY …\)/);

      url.password = encodeURIComponent("se:cr/et");
      pipeline.configure({ url: url.href });
      await pipeline.run("alter user plain@'%' account lock");
      await expectToWait(pipeline, "MR2002", /ALTER USER … ACCOUNT UNLOCK/);
      await pipeline.run("alter user plain@'%' account unlock", "alter user plain@'%' password expire");
      await expectToWait(
        pipeline,
        "MR2002",
        /password of the user of `source.url` has expired: set it again at the server/,
      );
    },
  );

  test("settings under which rows can't be read are refused; a server id must be free", async () => {
    await using server = await ownMysql(flavour);
    await using pipeline = await MysqlPipeline.start(flavour, TABLES, { kinds: KINDS, url: server.url });
    await pipeline.daemon.stop();
    for (const [name, value, usual] of [
      ["binlog_row_metadata", "MINIMAL", "FULL"],
      ["binlog_row_image", "MINIMAL", "FULL"],
      ["binlog_format", "STATEMENT", "ROW"],
      ["binlog_format", "MIXED", "ROW"],
    ]) {
      await pipeline.run(`set global ${name} = '${value}'`);
      expect(await pipeline.refusal()).toMatchObject({ exitCode: 1, code: "MR2005" });
      await pipeline.run(`set global ${name} = '${usual}'`);
    }
    pipeline.configure({ serverId: 1 });
    expect(await pipeline.refusal()).toMatchObject({ exitCode: 4, code: "MR2012" });
  });

  test("without GTIDs, and files of another name: a copy, a stream, reads beside it, positions without a daemon", async () => {
    const settings = { "log-bin": "shop-bin", ...(flavour === "mysql" ? { "gtid-mode": "OFF" } : {}) };
    await using server = await ownMysql(flavour, { settings });
    await using pipeline = await MysqlPipeline.start(flavour, TABLES, { kinds: KINDS, url: server.url });
    await pipeline.run("insert into t values (3, 'c')", "update t set v = 'd' where id = 1");
    await pipeline.expectEqual("t");
    await pipeline.readAgain("t");
    await pipeline.expectEqual("t");
    await pipeline.daemon.stop();
    const { stdout } = await pipeline.installation.command("offsets", "show");
    expect(stdout).toMatch(/shop-bin\.\d{6}:\d+/);
  });

  test("tables without a key are refused where they are named", async () => {
    await using pipeline = await MysqlPipeline.start(flavour, ["create table keyless (v int)"], {
      kinds: KINDS,
      untilStreaming: false,
    });
    await pipeline.kill();
    pipeline.configure({ tables: [`${pipeline.source.name}.keyless`] });
    expect(await pipeline.refusal()).toMatchObject({ exitCode: 1, code: "MR2020" });
  });
});
