/**
 * The source's server ends and comes back, again and again: the daemon goes on by itself, with all that was committed.
 * @module-tag heavy
 */
import { createConnection } from "mysql2/promise";
import { describe, expect, test } from "vitest";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { PatientWriter, type WriterSession } from "../../support/load/patient-writer.ts";
import { Random, testSeed } from "../../support/run/random.ts";
import { endAndComeBack } from "../../support/faults/server-ends.ts";
import { isLongForm } from "../../support/run/service-suffixes.ts";
import { mysqlFlavours, ownMysql } from "../../support/run/services.ts";

const SHORT = ["kill", "stop"] as const;
const LONG = ["kill", "stop", "kill", "pause", "kill", "stop", "stop", "kill"] as const;
const KEYS = 200;
const STATEMENT_MS_MAX = 5_000;

async function openSession(url: string, random: Random): Promise<WriterSession> {
  const connection = await createConnection({ uri: url, connectTimeout: 2_000 });
  // The next statement says it.
  connection.on("error", () => {});
  const run = (sql: string): Promise<unknown> => connection.query({ sql, timeout: STATEMENT_MS_MAX });
  return {
    async commit() {
      const id = random.below(KEYS);
      await run("begin");
      if (random.chance(0.1)) await run(`delete from t where id = ${id}`);
      else {
        const body = connection.escape(random.text(1_500));
        await run(`insert into t values (${id}, 0, ${body}) on duplicate key update n = n + 1, body = ${body}`);
      }
      await run("insert into log (t_id) values (last_insert_id())");
      await run("commit");
    },
    async end() {
      connection.destroy();
    },
  };
}

function copiesOf({ daemon }: MysqlPipeline): number {
  return daemon.said.match(/"msg":"table read"/g)?.length ?? 0;
}

describe.each(mysqlFlavours)("%s", (flavour) => {
  test("killed, shut down and frozen under load, and started again", async () => {
    await using server = await ownMysql(flavour);
    await using pipeline = await MysqlPipeline.start(
      flavour,
      [
        "create table t (id int primary key, n int, body text character set utf8mb4)",
        "create table log (id int auto_increment primary key, t_id bigint)",
      ],
      { kinds: ["postgres", "redis", "duckdb"], url: server.url },
    );
    const random = new Random(testSeed());
    await using writer = new PatientWriter(() => openSession(pipeline.url, random));
    await pipeline.settled();
    const copies = copiesOf(pipeline);
    writer.start();
    await endAndComeBack(isLongForm() ? LONG : SHORT, server, writer, pipeline, /^MR2[01]/);
    await writer.stop();
    await pipeline.reconnect();
    await pipeline.expectEqual("t", "log");
    expect(copiesOf(pipeline)).toBe(copies);
  });
});
