/**
 * A MySQL or MariaDB server, and the state beside it, that are away when the daemon starts, are waited for, and named.
 * @module-tag heavy
 */
import { describe, expect, test } from "vitest";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { tcpProxy } from "../../support/network/proxy.ts";
import { freshDatabase, mysqlFlavours, mysqlUrl } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

describe.each(mysqlFlavours)("%s", (flavour) => {
  test("a first start and a later one wait for the state, then for the source, and rows flow", async () => {
    await using state = await freshDatabase();
    await using toSource = await tcpProxy(mysqlUrl(flavour));
    await using toState = await tcpProxy(state.url);
    await Promise.all([toSource.refuse(), toState.refuse()]);
    await using pipeline = await MysqlPipeline.start(
      flavour,
      ["create table t (id int primary key, n int)", "insert into t values (1, 1)"],
      {
        kinds: ["duckdb"],
        untilStreaming: false,
        state: toState.url(state.url),
        through: async (name) => {
          const url = new URL(toSource.url(mysqlUrl(flavour)));
          url.pathname = name;
          return { kind: "mysql", url: url.href, heartbeat: "500ms" };
        },
      },
    );
    const { port } = new URL(toSource.url(mysqlUrl(flavour)));
    const comes = async (): Promise<void> => {
      await eventually(() => expect(pipeline.daemon.said).toMatch(/MR1215/), { withinMs: 60_000 });
      await toState.resume();
      await eventually(
        async () => {
          const { stdout } = await pipeline.installation.command("status");
          expect(stdout).toMatch(new RegExp(`MR2001 .*127\\.0\\.0\\.1:${port}`));
        },
        { withinMs: 60_000 },
      );
      expect(pipeline.daemon.exited).toBe(false);
      await toSource.resume();
      await pipeline.daemon.streaming();
    };
    await comes();
    await pipeline.run("insert into t values (2, 2)");
    await pipeline.expectEqual("t");
    await pipeline.kill();
    await Promise.all([toSource.refuse(), toState.refuse()]);
    await pipeline.run("insert into t values (3, 3)");
    await pipeline.start(false);
    await comes();
    await pipeline.expectEqual("t");
    expect((await pipeline.daemon.stop()).exitCode).toBe(0);
  });
});
