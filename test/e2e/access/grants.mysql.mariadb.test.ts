/**
 * What `grants` prints for MySQL and MariaDB, run as it is, is all that the daemon needs.
 * @module-tag heavy
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { randomUUID } from "node:crypto";
import { expect, test } from "vitest";
import { runCli } from "../../support/daemon/cli.ts";
import { Installation } from "../../support/daemon/daemon-process.ts";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { freshMysqlDatabase, type MysqlFlavour, mysqlFlavours, mysqlUrl } from "../../support/run/services.ts";
import { temporaryFolder } from "../../support/run/temporary-folder.ts";
import { eventually } from "../../support/run/waiting.ts";

test.each(mysqlFlavours)("%s: a user that is made by the script copies and follows", async (flavour) => {
  await using database = await freshMysqlDatabase(mysqlUrl(flavour));
  await using other = await freshMysqlDatabase(mysqlUrl(flavour));
  const user = `reader_${randomUUID().slice(0, 8)}`;
  await database.connection.query("create table orders (id int primary key, note varchar(20))");
  await database.connection.query("insert into orders values (1, 'a'), (2, 'b')");
  await database.connection.query("create table hidden (id int primary key)");
  await other.connection.query("create table further (id int primary key)");
  await other.connection.query("insert into further values (7)");
  const url = new URL(mysqlUrl(flavour));
  url.username = user;
  url.password = "";
  await using installation = new Installation({
    name: database.name,
    source: {
      kind: "mysql",
      url: url.href,
      passwordFile: "./password",
      tables: [`${database.name}.orders`, `${other.name}.*`],
    },
    sinks: { warehouse: { kind: "duckdb", path: "./w.duckdb" } },
  });
  try {
    const { stdout, stderr } = await installation.command("grants", "--source", "--json");
    const { scripts }: { scripts: readonly { script: string }[] } = JSON.parse(stdout || stderr);
    using empty = temporaryFolder();
    url.password = "canary";
    const globs = [`${database.name}.orders`, `${other.name}.*`];
    const before = await runCli(["grants", "--for", url.href, "--tables", ...globs, "--json"], { folder: empty.path });
    expect(JSON.parse(before.stdout)).toEqual({ scripts });
    expect(before.stdout + before.stderr).not.toContain("canary");
    const statements = (scripts[0]?.script ?? "").split("\n").filter((line) => !line.startsWith("--"));
    expect(statements.join("\n")).not.toMatch(/ALL|SELECT ON \*\.\*|hidden/);
    for (const statement of statements) await database.connection.query(statement);
    const rotated = async (password: string) => {
      await database.connection.query(`alter user '${user}'@'%' identified by '${password}'`);
      writeFileSync(join(installation.folder, "password"), password);
    };
    await rotated("of the first run");

    const copied = await installation.command("run", "--once", "--log-level", "error");
    expect(copied).toMatchObject({ exitCode: 0, stderr: "" });
    await rotated("of the second run");
    await database.connection.query("update orders set note = 'new' where id = 2");
    await other.connection.query("delete from further");
    const followed = await installation.command("run", "--once", "--log-level", "error");
    expect(followed).toMatchObject({ exitCode: 0, stderr: "" });
    const asked = await installation.command(
      "query",
      `select (select count(*) from "${other.name}"."further") as further, (select note from "${database.name}"."orders" where id = 2) as note`,
    );
    expect(asked.stdout).toMatch(/0 .* new/s);
  } finally {
    await database.connection.query(`drop user if exists '${user}'@'%'`);
  }
});

/** `readable`: what the user may read of the database: names of tables, or `*`. */
async function pipelineOf(flavour: MysqlFlavour, user: string, readable: readonly string[]): Promise<MysqlPipeline> {
  const monitor = flavour === "mariadb" ? "binlog monitor" : "replication client";
  return await MysqlPipeline.start(
    flavour,
    ["a", "z", "w"].flatMap((name) => [
      `create table ${name} (id int primary key)`,
      `insert into ${name} values (1), (2)`,
    ]),
    {
      kinds: ["duckdb"],
      through: async (name, own) => {
        await using other = await freshMysqlDatabase(mysqlUrl(flavour));
        await other.connection.query(`create user '${user}'@'%' identified by 'secret'`);
        await other.connection.query(`grant replication slave, ${monitor} on *.* to '${user}'@'%'`);
        for (const table of readable) await other.connection.query(`grant select on ${name}.${table} to '${user}'@'%'`);
        const url = new URL(own);
        url.username = user;
        url.password = "secret";
        return { kind: "mysql", url: url.href, heartbeat: "500ms", tables: [`${name}.*`] };
      },
    },
  );
}

test.each(mysqlFlavours)("%s: a database that may not be read any more is named until it may", async (flavour) => {
  const user = `reader_${randomUUID().slice(0, 8)}`;
  await using pipeline = await pipelineOf(flavour, user, ["*"]);
  const { name, connection } = pipeline.source;
  const suspended = async () => (await pipeline.installation.status()).tables.suspended.map(({ error }) => error.code);
  try {
    await pipeline.expectEqual("a", "z", "w");
    // The daemon's sessions stay as they are.
    await pipeline.run(`revoke select on ${name}.* from '${user}'@'%'`);
    await eventually(async () => expect(await suspended()).toEqual(["MR1309", "MR1309", "MR1309"]));
    await pipeline.run("insert into a values (5)", `grant select on ${name}.* to '${user}'@'%'`);
    await eventually(async () => expect(await suspended()).toEqual([]));
    await pipeline.expectEqual("a", "z", "w");
  } finally {
    await connection.query(`drop user if exists '${user}'@'%'`);
  }
});

test.each(mysqlFlavours)("%s: a table that may not be read any more is named until it may", async (flavour) => {
  const user = `reader_${randomUUID().slice(0, 8)}`;
  await using pipeline = await pipelineOf(flavour, user, ["a", "z", "w"]);
  const { installation, source } = pipeline;
  const id = `${source.name}.z`;
  const grant = `GRANT SELECT ON \`${source.name}\`.\`z\` TO '${user}'@'%';`;
  const suspended = async () => (await installation.status()).tables.suspended;
  const named = [{ table: id, error: { code: "MR1309", hint: expect.stringContaining(grant) } }];
  try {
    await pipeline.expectEqual("a", "z", "w");
    // A table that is dropped lacks nothing.
    await pipeline.run("drop table w", `revoke select on z from '${user}'@'%'`, "insert into z values (5)");
    await pipeline.run("insert into a values (5)");
    await eventually(async () => (await suspended()).length > 0);
    expect(await suspended()).toMatchObject(named);
    expect(await installation.command("status", "--exit-code")).toMatchObject({
      exitCode: 3,
      stdout: expect.stringContaining(grant),
    });
    expect(await installation.command("reconcile")).toMatchObject({
      stdout: expect.stringMatching(
        /known: .*z is suspended: MR1309 .* may not read it\nwhat was compared is equal: 1 table is suspended/,
      ),
    });
    await pipeline.daemon.stop();
    await pipeline.start();
    await eventually(async () => (await suspended()).length > 0);
    expect(await suspended()).toMatchObject(named);
    await pipeline.run(grant, "delete from z where id = 1");
    await eventually(async () => (await suspended()).length === 0);
    await pipeline.expectEqual("a", "z");
  } finally {
    await source.connection.query(`drop user if exists '${user}'@'%'`);
  }
});

test.each(mysqlFlavours)(
  "%s: a table of which the user may read some columns is left out until it may read all",
  async (flavour) => {
    const user = `reader_${randomUUID().slice(0, 8)}`;
    await using pipeline = await pipelineOf(flavour, user, ["a", "z"]);
    const { installation, source } = pipeline;
    const { name } = source;
    const to = `to '${user}'@'%'`;
    const made = ["listed", "unseen", "written", "emptied"];
    const tables = ["z", ...made];
    const suspended = async () =>
      new Map((await installation.status()).tables.suspended.map((one) => [one.table, one]));
    try {
      await pipeline.expectEqual("a", "z");
      await pipeline.run(
        "alter table z add column t text",
        ...made.map((table) => `create table ${table} (id int primary key, n int, t text)`),
        "alter table unseen modify t text invisible",
      );
      await pipeline.run(
        `grant select (id, n) on listed ${to}`,
        `grant select (id, n) on unseen ${to}`,
        `grant insert on written ${to}`,
        `grant select (id, n), delete on emptied ${to}`,
        `revoke select on z from '${user}'@'%'`,
        `grant select (id), insert (t) on z ${to}`,
        ...made.map((table) => `insert into ${table} (id, n, t) values (1, 1, 'x')`),
        "insert into z values (7, 'x')",
      );
      await eventually(async () => {
        const found = await suspended();
        expect(found.get(`${name}.z`)?.error).toMatchObject({
          code: "MR1309",
          message: expect.stringContaining("the user may not read all of its columns"),
          hint: expect.stringContaining(`GRANT SELECT ON \`${name}\`.\`z\` TO '${user}'@'%';`),
        });
      });
      const { stdout } = await installation.command("check");
      for (const table of tables)
        expect(stdout).toMatch(
          new RegExp(`${table} is left out: the user may not read all of its columns[^]*GRANT SELECT ON`),
        );
      await pipeline.run("insert into a values (9)", ...tables.map((table) => `grant select on ${table} ${to}`));
      await eventually(async () => expect((await suspended()).size).toBe(0));
      await pipeline.expectEqual("a", ...tables);
      // Their rows were passed by before.
      await pipeline.run(...made.map((table) => `insert into ${table} (id, n, t) values (2, 2, 'y')`));
      await pipeline.expectEqual("a", ...tables);
    } finally {
      await source.connection.query(`drop user if exists '${user}'@'%'`);
    }
  },
);
