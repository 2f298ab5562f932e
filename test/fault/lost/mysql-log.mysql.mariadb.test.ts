/** MySQL and MariaDB: what ends a stream, what it goes on after, and what it must stop at. */
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { readDump } from "../../../connectors/mysql/source/wire/dump.ts";
import { startOf } from "../../../connectors/mysql/source/wire/position.ts";
import { Server } from "../../../connectors/mysql/source/wire/server.ts";
import { parseMysqlUrl } from "../../../connectors/mysql/url.ts";
import { run } from "../../support/mysql/mysql-hosts.ts";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import {
  freshMysqlDatabase,
  mysqlFlavours,
  mysqlUrl,
  ownMysql,
  type MysqlFlavour,
} from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

const KINDS = ["duckdb"] as const;
const TABLE = "create table t (id int primary key, v varchar(100))";

const reset = (flavour: MysqlFlavour): string => (flavour === "mysql" ? "reset binary logs and gtids" : "reset master");

describe.each(mysqlFlavours)("%s", (flavour) => {
  test("goes on after kills of the daemon and of its reader, through file after file", { tags: "long" }, async () => {
    await using pipeline = await MysqlPipeline.start(flavour, [TABLE], { kinds: KINDS });
    let next = 0;
    const load = async (count: number): Promise<void> => {
      for (let i = 0; i < count; i++) {
        const id = next++;
        await pipeline.run(
          `insert into t values (${id}, 'v${id}')`,
          `update t set v = 'w${id}' where id <= ${id} and id > ${id - 3}`,
        );
        if (id % 10 === 0) await pipeline.run("flush binary logs");
      }
    };
    for (let round = 0; round < 3; round++) {
      await load(15);
      await pipeline.kill();
      await load(15);
      await pipeline.start();
      const readers = await pipeline.source.texts(
        "select id from information_schema.processlist where command like 'Binlog Dump%'",
      );
      for (const [id] of readers) await pipeline.source.connection.query(`kill ${id}`).catch(() => undefined);
      await load(15);
      // A file that has no transaction yet.
      await pipeline.run("flush binary logs");
      await pipeline.readAgain("t");
      await pipeline.expectEqual("t");
    }
  });

  test(
    "a server that was killed comes back: everything it kept arrives, past its millionth file",
    { tags: "long" },
    async () => {
      await using server = await ownMysql(flavour);
      await run(server.url, `${reset(flavour)} to 999998`);
      await using pipeline = await MysqlPipeline.start(flavour, [TABLE], { kinds: KINDS, url: server.url });
      await pipeline.run("insert into t values (1, 'a')");
      await pipeline.expectEqual("t");
      await server.kill();
      await server.start();
      await pipeline.reconnect();
      await pipeline.run("insert into t values (2, 'b')", "update t set v = 'c' where id = 1");
      await pipeline.expectEqual("t");
      await pipeline.run("flush binary logs", "insert into t values (3, 'd')");
      await pipeline.expectEqual("t");
      const { position } = (await pipeline.installation.status()).source;
      expect(position).toMatch(/\.1000000:\d+$/);
      await pipeline.kill();
      await pipeline.run("update t set v = 'e' where id = 3", "flush binary logs", "delete from t where id = 1");
      await pipeline.start();
      await pipeline.expectEqual("t");
      expect((await pipeline.installation.status()).source).toMatchObject({
        lagBytes: 0,
        position: expect.any(String),
      });
    },
  );

  test("stops where its log is purged, reset, or another server's", async () => {
    await using server = await ownMysql(flavour);
    await using pipeline = await MysqlPipeline.start(flavour, [TABLE], { kinds: KINDS, url: server.url });
    await pipeline.run("insert into t values (1, 'a')");
    await pipeline.expectEqual("t");
    await pipeline.daemon.stop();
    await pipeline.run("insert into t values (2, 'b')", "flush binary logs", "insert into t values (3, 'c')");
    const last = (await pipeline.source.texts("show binary logs")).at(-1)?.[0] ?? "";
    // Files that the server needs itself, or whose reader it has not missed yet, are passed over.
    await eventually(async () => {
      await pipeline.run(`purge binary logs to '${last}'`);
      expect((await pipeline.source.texts("show binary logs")).at(0)?.[0]).toBe(last);
    });
    expect(await pipeline.refusal()).toMatchObject({ exitCode: 1, code: "MR2010" });

    // The same file names and positions come again: what tells them apart is when the files were begun.
    await pipeline.run(reset(flavour), "insert into t values (4, 'd'), (5, 'e')", "insert into t values (6, 'f')");
    for (let i = 7; i < 60; i++) await pipeline.run(`insert into t values (${i}, 'again')`);
    expect(await pipeline.refusal()).toMatchObject({ exitCode: 1, code: "MR2013" });

    await using other = await freshMysqlDatabase(mysqlUrl(flavour));
    pipeline.configure({ url: `${mysqlUrl(flavour)}/${other.name}` });
    expect(await pipeline.refusal()).toMatchObject({ exitCode: 1, code: expect.stringMatching(/MR201[036]/) });
  });

  test(
    "with semi-synchronous replication it is no replica that a commit waits for, and what waits is not read early",
    { tags: "long" },
    async () => {
      await using server = await ownMysql(flavour);
      const [word, client] = flavour === "mysql" ? ["source", "replica"] : ["master", "slave"];
      if (flavour === "mysql") await run(server.url, "install plugin rpl_semi_sync_source soname 'semisync_source.so'");
      await run(
        server.url,
        `set global rpl_semi_sync_${word}_timeout = 1500`,
        `set global rpl_semi_sync_${word}_wait_point = after_sync`,
        `set global rpl_semi_sync_${word}_wait_no_${client} = on`,
      );
      await using pipeline = await MysqlPipeline.start(flavour, [TABLE, "insert into t values (0, 'x')"], {
        kinds: KINDS,
        url: server.url,
      });
      for (let i = 1; i < 3; i++) {
        // Set anew, as the server gives it up when a wait has timed out.
        await pipeline.run(
          `set global rpl_semi_sync_${word}_enabled = off`,
          `set global rpl_semi_sync_${word}_enabled = on`,
        );
        const beganMs = performance.now();
        const committing = run(pipeline.url, `insert into t values (${i}, 'waits')`);
        await pipeline.readAgain("t");
        await committing;
        expect(performance.now() - beganMs).toBeGreaterThan(1_000);
        await pipeline.expectEqual("t");
      }
      const [clients] = await pipeline.source.texts(`show status like 'rpl_semi_sync_${word}_clients'`);
      expect(clients?.[1]).toBe("0");
    },
  );

  test("stops where its log is reset while it reads", { tags: "long" }, async () => {
    await using server = await ownMysql(flavour);
    await using pipeline = await MysqlPipeline.start(flavour, [TABLE], { kinds: KINDS, url: server.url });
    for (let i = 0; i < 5; i++) await pipeline.run(`insert into t values (${i}, 'before')`);
    await pipeline.expectEqual("t");
    await pipeline.run(reset(flavour));
    for (let i = 10; i < 30; i++) await pipeline.run(`insert into t values (${i}, 'after')`);
    const { exitCode } = await pipeline.daemon.ended;
    expect(exitCode).toBe(1);
    expect(pipeline.daemon.said).toMatch(/MR201[036]/);
  });

  test(
    "stops where its log is reset within the second in which its file was begun, and has an event at its place",
    { tags: "long" },
    async () => {
      await using server = await ownMysql(flavour);
      await using pipeline = await MysqlPipeline.start(flavour, [TABLE], { kinds: KINDS, url: server.url });
      const newest = async (): Promise<{ readonly number: number; readonly size: number }> => {
        const [name, size] = (await pipeline.source.texts("show binary logs")).at(-1) ?? [];
        return { number: Number(/\d+$/.exec(name ?? "")?.[0]), size: Number(size) };
      };
      const insert = (id: number, letters: number): string => `insert into t values (${id}, '${"v".repeat(letters)}')`;
      await pipeline.settled();
      await sleep(1_000 - (Date.now() % 1_000));
      await pipeline.run("flush binary logs");
      const before = await newest();
      await pipeline.run(insert(10, 1), insert(11, 1));
      await pipeline.settled();
      // It sees nothing of it before it is over.
      pipeline.daemon.signal("SIGSTOP");
      await pipeline.run(`${reset(flavour)} to ${before.number}`);
      const { size } = await newest();
      await pipeline.run(insert(20, 1 + before.size - size), insert(21, 1), insert(22, 1), insert(23, 1));
      pipeline.daemon.signal("SIGCONT");
      const { exitCode } = await pipeline.daemon.ended;
      expect(exitCode).toBe(1);
      expect(pipeline.daemon.said).toMatch(/MR2013/);
    },
  );

  test("a reader under our server id is told of", async () => {
    await using server = await ownMysql(flavour);
    const options = { kinds: KINDS, url: server.url, source: { serverId: 7001 } };
    await using pipeline = await MysqlPipeline.start(flavour, [TABLE], options);
    await pipeline.run("insert into t values (1, 'a')");
    await pipeline.expectEqual("t");
    // As a replica would: one that knows nothing of our locks.
    const target = new Server(parseMysqlUrl(server.url, "."), 1);
    const [[file = ""] = []] = await pipeline.source.texts("show binary logs");
    const from = startOf(target.names.learn(file ?? ""));
    const request = { from, readerId: 7001, isEndless: false };
    await readDump(target, request, () => true, "reading as another", new AbortController().signal);
    expect(await pipeline.daemon.ended).toMatchObject({
      exitCode: 4,
      stderr: expect.stringMatching(/MR2012: .*server id/),
    });
  });
});
