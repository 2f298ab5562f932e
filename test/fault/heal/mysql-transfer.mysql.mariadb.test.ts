/**
 * MySQL and MariaDB: logs without checksums, events that take long to arrive, and servers that fall silent.
 * @module-tag heavy
 */
import { describe, expect, test } from "vitest";
import { startOf } from "../../../connectors/mysql/source/wire/position.ts";
import { Server } from "../../../connectors/mysql/source/wire/server.ts";
import { readDump } from "../../../connectors/mysql/source/wire/dump.ts";
import { parseMysqlUrl } from "../../../connectors/mysql/url.ts";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { tcpProxy } from "../../support/network/proxy.ts";
import { mysqlFlavours, mysqlUrl, ownMysql } from "../../support/run/services.ts";
import { patient } from "../../support/run/waiting.ts";

const KINDS = ["duckdb"] as const;
const TABLE = "create table t (id int primary key, v longtext)";

describe.each(mysqlFlavours)("%s", (flavour) => {
  test("a log without checksums is read from its midst, and so is one that changes while it is read", async () => {
    await using server = await ownMysql(flavour, { settings: { "binlog-checksum": "NONE" } });
    await using pipeline = await MysqlPipeline.start(flavour, [TABLE, "insert into t values (0, 'copied')"], {
      kinds: KINDS,
      url: server.url,
    });
    let id = 1;
    const write = async (): Promise<void> => {
      await pipeline.run(`insert into t values (${id}, 'new')`, `update t set v = 'w' where id = ${id++ - 1}`);
      await pipeline.expectEqual("t");
    };
    await write();
    await pipeline.kill();
    await pipeline.run(`insert into t values (${id++}, 'while nobody read')`);
    await pipeline.start();
    await write();
    for (const [i, algorithm] of ["CRC32", "NONE", "CRC32", "NONE"].entries()) {
      await pipeline.run(`set global binlog_checksum = '${algorithm}'`);
      await write();
      if (i % 2 === 0) continue;
      await pipeline.kill();
      await pipeline.run(`insert into t values (${id++}, 'while nobody read')`);
      await pipeline.start();
      await write();
    }
    expect(pipeline.daemon.said).not.toMatch(/MR2[01]/);
  });

  test(
    "an event that takes longer than a silence may last arrives, also where somebody waits for it",
    { tags: "long" },
    async () => {
      await using proxy = await tcpProxy(mysqlUrl(flavour));
      await using pipeline = await MysqlPipeline.start(flavour, [TABLE], { kinds: KINDS, url: mysqlUrl(flavour) });
      await pipeline.daemon.stop();
      pipeline.configure({ url: proxy.url(pipeline.url) });
      await pipeline.start();
      await pipeline.run("insert into t values (1, 'first')");
      await pipeline.expectEqual("t");
      proxy.limit(100_000);
      await pipeline.run("insert into t values (2, repeat('x', 1800000))", "insert into t values (3, 'behind')");
      // Whoever waits has a mark behind it, which the stream comes to within five seconds elsewhere.
      await pipeline.settled(60_000);
      await proxy.resume();
      await pipeline.expectEqual("t");
      expect(pipeline.daemon.said).not.toContain("MR2022");
    },
  );

  test("a dump that is looked through ends where the server falls silent", { tags: "long" }, async () => {
    await using proxy = await tcpProxy(mysqlUrl(flavour));
    const target = new Server(parseMysqlUrl(proxy.url(mysqlUrl(flavour)), ""), 1);
    const signal = AbortSignal.timeout(patient(60_000));
    const session = await target.open(signal);
    const [row] = await session.query("show binary logs");
    session.destroy();
    const request = { from: startOf(target.names.learn(row?.[0] ?? "")) };
    const take = (): boolean => {
      proxy.stall("toClient");
      return true;
    };
    await expect(readDump(target, request, take, "looking", signal)).rejects.toMatchObject({
      code: "MR2022",
      kind: "retryable",
      message: expect.stringContaining(`${proxy.host}:${proxy.port}`),
    });
  });
});
