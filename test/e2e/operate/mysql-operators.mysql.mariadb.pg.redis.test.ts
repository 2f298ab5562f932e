/** What operators do on a source of MySQL or MariaDB: a first config, a change that waits, a pause, another machine. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { runCli } from "../../support/daemon/cli.ts";
import { type CommandResult, Installation } from "../../support/daemon/daemon-process.ts";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { freshMysqlDatabase, mysqlFlavours, mysqlUrl } from "../../support/run/services.ts";
import { temporaryFolder } from "../../support/run/temporary-folder.ts";
import { eventually } from "../../support/run/waiting.ts";

describe.each(mysqlFlavours)("%s", (flavour) => {
  test("init looks at the source; what it writes passes check, and runs", async () => {
    const server = mysqlUrl(flavour);
    await using source = await freshMysqlDatabase(server);
    const { connection, name } = source;
    await connection.query("create table customers (id int primary key, e_mail varchar(50))");
    await connection.query("create table `line\nbreak: x` (id int primary key)");
    await connection.query("create table keyless (v int)");
    await connection.query("insert into customers values (1, 'a'), (2, 'b')");
    using folder = temporaryFolder();
    const url = new URL(server);
    url.pathname = `/${name}`;
    const made = await runCli(["init", "--source", url.href, "--sink", "./w.duckdb", "--json"], {
      folder: folder.path,
    });
    expect(made, made.stderr).toMatchObject({ exitCode: 0, stderr: "" });
    expect(JSON.parse(made.stdout)).toMatchObject({
      name,
      tables: [`${name}.customers`, `${name}.line\nbreak: x`],
      refused: [{ id: `${name}.keyless` }],
    });
    const config = readFileSync(folder.file("millrace.yaml"), "utf8");
    expect(config).toMatch(/kind: mysql[^]*2 tables can be followed, 1 can't[^]*customers, line break: x/);
    const checked = await runCli(["check", "--json"], { folder: folder.path });
    expect(checked, checked.stdout).toMatchObject({ exitCode: 0 });
    expect(await runCli(["run", "--once"], { folder: folder.path })).toMatchObject({ exitCode: 0 });
    const found = await runCli(["query", `select count(*) as n from "${name}"."customers"`, "--json"], {
      folder: folder.path,
    });
    expect(found, found.stderr).toMatchObject({ exitCode: 0, stdout: expect.stringMatching(/"?2"?/) });
  });

  test(
    "a change that waits for approval, a paused sink, a table read again, and another machine",
    { tags: "heavy" },
    async () => {
      await using pipeline = await MysqlPipeline.start(
        flavour,
        [
          "create table waits (id int primary key, a varchar(20))",
          "create table flows (id int primary key, a varchar(20))",
          "insert into waits values (1, 'x')",
          "insert into flows values (1, 'x'), (2, 'y')",
        ],
        { kinds: ["postgres", "redis"], rules: { waits: { schemaChange: "pause" } } },
      );
      const { installation, source } = pipeline;
      const waits = `${source.name}.waits`;
      const command = async (exitCode: number, ...args: readonly string[]): Promise<CommandResult> => {
        const result = await installation.command(...args);
        expect(result, `${args.join(" ")}\n${result.stdout}\n${result.stderr}`).toMatchObject({ exitCode });
        return result;
      };
      await pipeline.settled();

      await pipeline.run("alter table waits add column c int", "insert into waits values (2, 'y', 3)");
      await eventually(async () => {
        const { suspended } = (await installation.status()).tables;
        expect(suspended.map(({ table, error }) => [table, error.code])).toEqual([[waits, "MR1303"]]);
      });
      expect((await command(0, "schema", "list")).stdout).toContain('column added: "c"');
      expect((await command(0, "schema", "diff", waits, "1", "2")).stdout).toMatch(
        /column added: "c"[^]*backward|full/,
      );
      await command(0, "schema", "approve", waits);
      await eventually(async () => expect((await installation.status()).tables.suspended).toEqual([]));
      await pipeline.expectEqual("waits", "flows");

      await command(0, "pause", "--sink", "redis");
      await pipeline.run("update flows set a = 'z'", "insert into waits values (3, 'z', 4)");
      const place = (await installation.status()).source.position;
      expect(place).toMatch(/^[\w.-]+:\d+$/);
      await command(0, "resume", "--sink", "redis");
      await command(0, "snapshot", "start", "--tables", `${source.name}.flows`);
      await pipeline.expectEqual("waits", "flows");

      await pipeline.daemon.stop();
      const read = (await command(0, "snapshot", "list")).stdout;
      await command(0, "offsets", "export", "offsets.json");
      await pipeline.run("update flows set a = 'later' where id = 2", "delete from waits where id = 1");
      await using elsewhere = new Installation({
        name: source.name,
        source: { kind: "mysql", url: pipeline.url, heartbeat: "500ms" },
        sinks: pipeline.sinks.config,
        tables: { [waits]: { schemaChange: "pause" } },
      });
      const file = join(installation.folder, "offsets.json");
      const plan = await elsewhere.command("offsets", "import", file);
      expect(plan, plan.stderr).toMatchObject({
        exitCode: 4,
        stdout: expect.stringContaining("there is no state yet"),
      });
      const imported = await elsewhere.command("offsets", "import", file, "--yes");
      expect(imported, imported.stderr).toMatchObject({ exitCode: 0 });
      const daemon = elsewhere.run();
      await daemon.streaming();
      expect(await elsewhere.command("wait")).toMatchObject({ exitCode: 0 });
      const tables = ["waits", "flows"].map((table) => ({ schema: source.name, table }));
      expect(await pipeline.sinks.differences(pipeline.url, elsewhere.folder, tables)).toEqual([]);
      // It went on in the log: nothing was read again.
      expect((await elsewhere.command("snapshot", "list")).stdout).toBe(read);
    },
  );
});
