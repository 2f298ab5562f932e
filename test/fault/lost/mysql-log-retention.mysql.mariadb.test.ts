/**
 * How long the server keeps what is still needed, as `status` tells it.
 * @module-tag heavy
 */
import { describe, expect, test } from "vitest";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { mysqlFlavours, ownMysql } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

const KEPT_SECONDS = 1_000;

describe.each(mysqlFlavours)("%s", (flavour) => {
  test("the time is told until the file that a sink needs may be deleted, and warned of when it is near", async () => {
    await using server = await ownMysql(flavour, { settings: { "binlog-expire-logs-seconds": KEPT_SECONDS } });
    await using pipeline = await MysqlPipeline.start(flavour, ["create table t (id int primary key)"], {
      kinds: ["duckdb"],
      url: server.url,
    });
    const { installation } = pipeline;
    const source = async () => (await installation.status()).source;
    await pipeline.run("insert into t values (1)");
    await pipeline.settled();
    // In the file that is written to.
    expect(await source()).toMatchObject({ safeSeconds: null, warnings: [] });
    await installation.ask("POST", "/api/v1/pause", { sink: "duckdb" });
    await pipeline.run("insert into t values (2)", "flush binary logs", "insert into t values (3)");
    await eventually(async () => expect((await source()).safeSeconds).toBeGreaterThan(KEPT_SECONDS / 2));
    expect(await source()).toMatchObject({ warnings: [] });
    expect((await source()).safeSeconds).toBeLessThanOrEqual(KEPT_SECONDS);
    expect((await installation.command("status")).stdout).toMatch(/may delete it in \d+/);

    // Seconds have passed since: almost none are left.
    await pipeline.run("set global binlog_expire_logs_seconds = 1");
    await eventually(async () => expect(await source()).toMatchObject({ safeSeconds: 0 }));
    expect((await source()).warnings).toEqual([expect.stringMatching(/a sink still needs, may be deleted in 0 min/)]);
    await pipeline.run("set global binlog_expire_logs_seconds = 0");
    await eventually(async () => expect(await source()).toMatchObject({ safeSeconds: null, warnings: [] }));
    await installation.ask("POST", "/api/v1/resume", { sink: "duckdb" });
    await pipeline.expectEqual("t");
  });

  test("a prepared transaction that waits for its outcome is named, with what ends it", async () => {
    await using server = await ownMysql(flavour);
    await using pipeline = await MysqlPipeline.start(flavour, ["create table t (id int primary key)"], {
      kinds: ["duckdb"],
      url: server.url,
    });
    const { installation } = pipeline;
    await pipeline.run("xa start 'forgotten', 'b', 3", "insert into t values (1)", "xa end 'forgotten', 'b', 3");
    await pipeline.run("xa prepare 'forgotten', 'b', 3");
    const said = /XA ROLLBACK 'forgotten', ?'b', ?3;/;
    await eventually(
      async () => expect((await installation.status()).source.hints).toEqual([expect.stringMatching(said)]),
      { withinMs: 30_000 },
    );
    expect((await installation.command("check")).stdout).toMatch(said);
    // Its session ends.
    await pipeline.reconnect();
    await eventually(
      async () =>
        expect((await installation.status()).source.hints).toEqual([
          expect.stringMatching(
            /^the prepared transaction 'forgotten'.* \(begun \d+ (?:s|min) ago, its session is gone\) waits/,
          ),
        ]),
      { withinMs: 30_000 },
    );
    await pipeline.run("xa rollback 'forgotten', 'b', 3");
    await eventually(async () => expect((await installation.status()).source.hints).toEqual([]), {
      withinMs: 30_000,
    });
  });
});
