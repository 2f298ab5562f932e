/**
 * A first start that waits for a forgotten transaction says for which; so do `status` and `check`. One that is killed while it
 * waits leaves a session at the server that waits on: the next start waits for that one.
 * @module-tag heavy
 */
import { Client } from "pg";
import { expect, test } from "vitest";
import { createFreshDatabase } from "../../support/run/fresh-database.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { ownPostgres } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

test("a start that follows one that was killed while it waited streams once that transaction has ended", async () => {
  await using server = await ownPostgres();
  await using other = await createFreshDatabase(server);
  await other.query("create table held (id int primary key)");
  const session = new Client({ connectionString: other.url, application_name: "forgotten shell" });
  session.on("error", () => undefined);
  await session.connect();
  await session.query("begin; insert into held values (1)");
  const source = await createFreshDatabase(server);
  await using pipeline = await RunningPipeline.start("create table t (id int primary key); insert into t values (1)", {
    source,
    kinds: ["duckdb"],
    untilStreaming: false,
  });
  await eventually(async () => expect(pipeline.daemon.said).toContain("creating the slot waits"), { withinMs: 40_000 });
  await pipeline.kill();
  await pipeline.start(false);
  await eventually(
    async () => {
      const { error } = (await pipeline.installation.status()).source;
      expect(error).toMatchObject({
        code: "MR2012",
        message: expect.stringMatching(/is not finished: process \d+ is creating it; .* application forgotten shell/),
      });
    },
    { withinMs: 40_000 },
  );
  await session.end();
  await pipeline.daemon.streaming();
  await pipeline.expectEqual(["t"]);
});

test("a session, then a prepared transaction of another database, is named with its owner, its age and what ends it", async () => {
  await using server = await ownPostgres({ settings: { max_prepared_transactions: 5 } });
  await using other = await createFreshDatabase(server);
  await other.query("create table held (id int primary key)");
  const session = new Client({ connectionString: other.url, application_name: "forgotten shell" });
  await session.connect();
  session.on("error", () => undefined);
  await session.query("begin; insert into held values (1)");
  await other.query("begin; insert into held values (2); prepare transaction 'it''s forgotten'");
  const { rows: own } = await session.query<{ pid: number }>("select pg_backend_pid() as pid");
  const { pid } = own[0]!;
  const source = await createFreshDatabase(server);
  await using pipeline = await RunningPipeline.start("create table t (id int primary key); insert into t values (1)", {
    source,
    kinds: ["duckdb"],
    untilStreaming: false,
  });
  const { installation, daemon } = pipeline;
  const isNamed = async (text: string): Promise<void> => {
    const named = expect.stringMatching(new RegExp(text));
    await eventually(
      async () => {
        expect(daemon.said).toEqual(named);
        const status = await installation.status();
        expect(status.source.hints).toEqual([named]);
        expect(status.source["oldestTransactionSeconds"]).toBeGreaterThan(0);
      },
      { withinMs: 40_000 },
    );
  };
  const ends = `SELECT pg_terminate_backend(${pid});`;
  await isNamed(
    `the oldest is pid ${pid} \\(role \\w+, database ${other.name}, application forgotten shell, its transaction is \\d+ (?:s|min) old, idle in transaction, last statement: .*\\). End it where it was begun, or by ${ends.replace(/[()]/g, "\\$&")}`,
  );
  await other.query(ends);
  await isNamed(
    `prepared transaction 'it''s forgotten' \\(role \\w+, database ${other.name}, \\d+ (?:s|min) old\\). In database ${other.name}: COMMIT PREPARED 'it''s forgotten'; or ROLLBACK PREPARED 'it''s forgotten';`,
  );
  const checked = await installation.command("check");
  expect(checked.stdout).toContain("the first start waits until it has ended");
  expect(checked.stdout).toContain("ROLLBACK PREPARED 'it''s forgotten'");
  await other.query("rollback prepared 'it''s forgotten'");
  await daemon.streaming();
  await pipeline.expectEqual(["t"]);
});
