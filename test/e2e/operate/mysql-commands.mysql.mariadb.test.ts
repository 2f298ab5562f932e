/**
 * The commands on a source of MySQL or MariaDB: they say its words.
 * @module-tag heavy
 */
import { describe, expect, test } from "vitest";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { isMysqlFrom, mysqlFlavours, ownMysql } from "../../support/run/services.ts";

const PLACE = /^[\w-]+\.\d{6,}:\d+$/;

describe.each(mysqlFlavours)("%s", (flavour) => {
  test("check, status, offsets and tail", async () => {
    // Of its own: its log is read from the beginning.
    await using server = await ownMysql(flavour);
    await using pipeline = await MysqlPipeline.start(
      flavour,
      [
        "create table t (id int primary key, v varchar(20))",
        "create table told (id int primary key, v varchar(20))",
        "create table keyless (v int)",
        "create table child (id int primary key, parent int, constraint of_parent foreign key (parent) references t (id) on delete cascade on update set null)",
        `create table computed (id int primary key, at timestamp null, plain datetime, id2 int as (id + 1) virtual,
           hour_of int as (hour(at)) virtual, later int as (hour_of + 1) virtual, fine int as (hour(plain)) virtual)`,
      ],
      { kinds: ["duckdb"], url: server.url },
    );
    await pipeline.run("insert into t values (1, 'a')");
    await pipeline.settled();
    const status = await pipeline.installation.status();
    expect(status.source.kind).toBe("mysql");
    expect(status.source.position).toMatch(PLACE);
    expect(status.source.lagBytes).toBe(0);

    const checked = await pipeline.installation.command("check", "--json");
    expect(JSON.parse(checked.stdout)).toMatchObject({
      findings: expect.arrayContaining([
        expect.objectContaining({ id: "binlog", level: "ok" }),
        expect.objectContaining({ id: "tables", level: "warning", what: expect.stringContaining("keyless") }),
      ]),
    });

    const { findings }: { findings: readonly { id: string; level: string; what: string }[] } = JSON.parse(
      checked.stdout,
    );
    const dependent = findings.filter(({ id }) => id === "zone_columns");
    expect(
      dependent.map(({ level, what }) => `${level} ${/column (\w+) of \w+\.(\w+)/.exec(what)?.slice(1).join(" ")}`),
    ).toEqual(["warning hour_of computed", "warning later computed"]);

    // MySQL logs what its cascades change from 9.6 on.
    const cascades = [
      expect.objectContaining({
        id: "cascades",
        level: "warning",
        what: expect.stringMatching(/of_parent of \S+\.child \(ON DELETE CASCADE, ON UPDATE SET NULL\)/),
        fix: expect.stringContaining("millrace snapshot start --tables"),
      }),
    ];
    expect(JSON.parse(checked.stdout)).toMatchObject({
      findings:
        flavour === "mysql" && isMysqlFrom(flavour, "9.6")
          ? expect.not.arrayContaining(cascades)
          : expect.arrayContaining(cascades),
    });

    const from = status.source.position!;
    // MariaDB's log has whole seconds: what is looked for by its time must not lie in that of the log's first row.
    await pipeline.run("select sleep(1)");
    await pipeline.run("insert into told values (2, 'b'), (3, 'c')", "update told set v = 'd' where id = 2");
    const tables = `${pipeline.source.name}.told`;
    const { stdout } = await pipeline.installation.command("tail", "--from", from, "--tables", tables, "--limit", "3");
    const envelopes = stdout
      .trim()
      .split("\n")
      .map((line): { source?: { commitTime?: string } } => JSON.parse(line));
    expect(envelopes[0]).toMatchObject({
      op: "c",
      key: { id: 2 },
      after: { id: 2, v: "b" },
      source: { kind: "mysql", schema: pipeline.source.name, table: "told", index: 0, file: from.split(":")[0] },
    });
    expect(envelopes[2]).toMatchObject({ op: "u", before: { id: 2, v: "b" }, after: { id: 2, v: "d" } });
    expect(envelopes[2]).toMatchObject({
      source: {
        pos: expect.any(Number),
        gtid: expect.stringMatching(flavour === "mysql" ? /^[0-9a-f-]{36}:\d+$/ : /^\d+-\d+-\d+$/),
        serverId: expect.any(Number),
        commitTime: expect.any(String),
      },
    });

    // From the beginning of the server's log on, and from a time.
    const tail = async (...args: readonly string[]): Promise<unknown> => {
      const read = await pipeline.installation.command("tail", "--tables", tables, "--limit", "3", ...args);
      expect({ exitCode: read.exitCode, said: read.stderr }).toEqual({ exitCode: 0, said: "" });
      return read.stdout;
    };
    expect(await tail("--from", "earliest")).toBe(stdout);
    expect(await tail("--from", envelopes[0]?.source?.commitTime ?? "")).toBe(stdout);
    const wrong = await pipeline.installation.command("tail", "--from", "yesterday");
    expect(wrong).toMatchObject({
      exitCode: 2,
      stderr: expect.stringMatching(/MR1110.*binlog\.\d+:\d+, earliest, or a time/s),
    });

    await pipeline.run("flush binary logs");
    await pipeline.settled();
    await pipeline.daemon.stop();
    const offsets: unknown = JSON.parse((await pipeline.installation.command("offsets", "show", "--json")).stdout);
    expect(offsets).toMatchObject({
      source: { position: expect.stringMatching(PLACE) },
      sinks: [
        {
          name: "duckdb",
          position: expect.stringMatching(PLACE),
          gtids: {
            position: expect.stringMatching(PLACE),
            set: expect.stringMatching(flavour === "mysql" ? /^[0-9a-f-]{36}:1-\d+/ : /^0-1-\d+$/),
          },
        },
      ],
    });
    const back = await pipeline.installation.command("offsets", "reset", "--to", from, "--yes");
    // The bytes of both files, and not the distance of two positions.
    expect(back).toMatchObject({
      exitCode: 0,
      stdout: expect.stringMatching(/ \d{3,5} bytes of log are applied again/),
    });
    await pipeline.start();
    await pipeline.expectEqual("t", "told");
  });
});
