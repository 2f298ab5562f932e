/**
 * The daemon is killed after a search engine has got the documents of a transaction, and before their checkpoint. The host that
 * takes over lacks the transaction.
 * @module-tag heavy
 */
import { expect, test } from "vitest";
import { MysqlHosts, run } from "../../support/mysql/mysql-hosts.ts";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";

const PREPARED = [
  "create table t (id int primary key, v varchar(40))",
  "insert into t (id, v) values (1, 'a'), (2, 'b'), (3, 'c')",
];

/** It keeps its table. */
const COMPARED = /"tables":1,"msg":"[^"]*its tables are compared"/;

test("what the sink holds of the transaction goes with it", async () => {
  await using hosts = await MysqlHosts.start("mysql");
  await using pipeline = await MysqlPipeline.start("mysql", PREPARED, { kinds: ["elasticsearch"], url: hosts.url });
  const { installation } = pipeline;
  await pipeline.settled();
  // What the tables' names stand for is stored with the next position.
  await pipeline.run("insert into t (id, v) values (5, 'e')");
  await pipeline.settled();
  await hosts.caughtUp();
  await hosts.part();
  await pipeline.daemon.stop();
  const daemon = installation.run({ MILLRACE_FAILPOINTS: "elasticsearch.rows-written=kill" });
  await daemon.streaming();
  await pipeline.run(
    "begin",
    "update t set v = 'lost' where id = 2",
    "delete from t where id = 3",
    "insert into t (id, v) values (4, 'lost')",
    "commit",
  );
  expect(await daemon.ended).toMatchObject({ signal: "SIGKILL" });
  await run(hosts.replica.url, `insert into ${pipeline.source.name}.t (id, v) values (99, 'on the new host')`);
  hosts.lead();
  const { stderr, signal } = await installation.run({ MILLRACE_FAILPOINTS: "reset.noted=kill" }).ended;
  expect({ signal, stderr }).toMatchObject({ signal: "SIGKILL", stderr: expect.stringMatching(COMPARED) });
  await pipeline.start();
  await pipeline.reconnect();
  await pipeline.expectEqual("t");
});
