/**
 * MySQL and MariaDB: two daemons of one name or server id on one source, and sessions that outlive their daemon.
 * @module-tag heavy
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { Installation } from "../../support/daemon/daemon-process.ts";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { tcpProxy } from "../../support/network/proxy.ts";
import { mysqlFlavours, mysqlUrl } from "../../support/run/services.ts";

const KINDS = ["duckdb"] as const;
const TABLE = "create table t (id int primary key, v varchar(20))";
const HELD = /MR2012: another daemon of this name, .* reads the log: connection \d+ of the server \(root from \S+\)/;

/** Another folder, with a warehouse of its own. */
function elsewhere({ source, url }: MysqlPipeline, name = source.name, serverId?: number): Installation {
  return new Installation({
    name,
    source: { kind: "mysql", url, heartbeat: "500ms", ...(serverId === undefined ? {} : { serverId }) },
    sinks: { duckdb: { kind: "duckdb", path: "./other.duckdb" } },
  });
}

describe.each(mysqlFlavours)("%s", (flavour) => {
  test("a second daemon of the same name exits 4 and names the holder, with a state of before too; the first goes on", async () => {
    await using pipeline = await MysqlPipeline.start(flavour, [TABLE], { kinds: KINDS });
    await using second = elsewhere(pipeline);
    expect(await second.command("run")).toMatchObject({ exitCode: 4, stderr: expect.stringMatching(HELD) });
    const check = await second.command("check", "--json");
    expect(check).toMatchObject({ exitCode: 1, stdout: expect.stringContaining("MR2012") });
    await pipeline.daemon.stop();
    expect(await second.command("run", "--once")).toMatchObject({ exitCode: 0 });
    await pipeline.start();
    expect(await second.command("run")).toMatchObject({ exitCode: 4, stderr: expect.stringMatching(HELD) });
    await pipeline.run("insert into t values (1, 'a')");
    await pipeline.expectEqual("t");
    expect(pipeline.complaints()).toEqual([]);
  });

  test("a stranger is refused before it touches its sink, with a state of before too", { tags: "long" }, async () => {
    await using pipeline = await MysqlPipeline.start(flavour, [TABLE], { kinds: KINDS });
    await pipeline.daemon.stop();
    await using second = elsewhere(pipeline);
    expect(await second.command("run", "--once")).toMatchObject({ exitCode: 0 });
    const target = join(second.folder, "other.duckdb");
    const before = readFileSync(target);
    await pipeline.start();
    expect(await second.command("run")).toMatchObject({ exitCode: 4, stderr: expect.stringMatching(HELD) });
    expect(readFileSync(target).equals(before)).toBe(true);
  });

  test("one of another name under the same server id is kept out too", { tags: "long" }, async () => {
    const serverId = 7_102;
    await using pipeline = await MysqlPipeline.start(flavour, [TABLE], { kinds: KINDS, source: { serverId } });
    await using second = elsewhere(pipeline, `${pipeline.source.name}_b`, serverId);
    expect(await second.command("run")).toMatchObject({ exitCode: 4, stderr: expect.stringMatching(HELD) });
    await using third = elsewhere(pipeline, `${pipeline.source.name}_b`, serverId + 1);
    expect(await third.command("run", "--once")).toMatchObject({ exitCode: 0 });
    await pipeline.run("insert into t values (1, 'a')");
    await pipeline.expectEqual("t");
    expect(pipeline.complaints()).toEqual([]);
  });

  test(
    "a daemon that comes back ends the session that it left behind, which the server takes for alive",
    { tags: "long" },
    async () => {
      await using proxy = await tcpProxy(mysqlUrl(flavour));
      await using pipeline = await MysqlPipeline.start(flavour, [TABLE], { kinds: KINDS });
      await pipeline.daemon.stop();
      pipeline.configure({ url: proxy.url(pipeline.url) });
      await pipeline.start();
      for (const end of [() => pipeline.kill(), () => pipeline.daemon.stop()]) {
        await pipeline.run("insert into t values (floor(rand() * 1000000000), 'a')");
        await pipeline.expectEqual("t");
        // Whoever closes a connection now is not noticed by the other side.
        proxy.stall();
        await end();
        pipeline.configure({});
        await pipeline.start();
        await pipeline.run("insert into t values (floor(rand() * 1000000000), 'b')");
        await pipeline.expectEqual("t");
        await using second = elsewhere(pipeline);
        expect(await second.command("run")).toMatchObject({ exitCode: 4 });
        await pipeline.daemon.stop();
        await proxy.resume();
        proxy.cut();
        pipeline.configure({ url: proxy.url(pipeline.url) });
        await pipeline.start();
      }
    },
  );
});
