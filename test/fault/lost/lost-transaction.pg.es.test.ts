/**
 * The daemon is killed after a search engine has got the documents of a transaction, and before their checkpoint. The standby
 * that is promoted lacks the transaction, because nothing waited for it (Postgres 17 and newer: failover slots).
 * @module-tag heavy
 */
import { Client } from "pg";
import { beforeEach, expect, test } from "vitest";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { FailoverPair } from "../../support/faults/failover-pair.ts";
import { createFreshDatabase } from "../../support/run/fresh-database.ts";
import { needsPostgres } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

const PREPARED = `create table t (id int primary key, v text);
  insert into t (id, v) values (1, 'a'), (2, 'b'), (3, 'c')`;

beforeEach((context) => needsPostgres(17, context));

test("what the sink holds of the transaction goes with it", async () => {
  await using pair = await FailoverPair.start({ waits: false });
  const source = await createFreshDatabase(pair);
  await using pipeline = await RunningPipeline.start(PREPARED, {
    kinds: ["elasticsearch"],
    source,
    // What it writes itself must not move it on past the standby.
    configure: (config) => ({ ...config, source: { ...config.source, heartbeat: "60s" } }),
  });
  const { installation } = pipeline;
  await pair.addStandby();
  await pipeline.settled();
  await eventually(
    async () => {
      await pipeline.run("insert into t (id, v) values (5, 'e') on conflict (id) do update set v = t.v || '.'");
      return (await pair.slotState(`millrace_${installation.name}`)) === "ready";
    },
    { withinMs: 90_000, everyMs: 1_000 },
  );
  await pipeline.settled();
  await pipeline.daemon.stop();
  const daemon = installation.run({ MILLRACE_FAILPOINTS: "elasticsearch.rows-written=kill" });
  await daemon.streaming();
  await eventually(async () => await hasAll(pair), { withinMs: 30_000 });
  await pair.standby.stop();
  await pipeline.run(`begin; update t set v = 'lost' where id = 2; delete from t where id = 3;
    insert into t (id, v) values (4, 'lost'); commit`);
  expect(await daemon.ended).toMatchObject({ signal: "SIGKILL" });
  // Not before: it would catch up.
  await pair.losePrimary();
  await pair.standby.start();
  await pipeline.start(false);
  await eventually(async () => (await installation.status())?.source.error?.code === "MR2031", { withinMs: 60_000 });
  await pair.promote();
  // The session of before is gone with the primary.
  await using session = await source.connect();
  await session.query("insert into t (id, v) values (99, 'of the new history')");
  const isCompared = (): boolean => /"tables":1,"msg":"[^"]*its tables are compared"/.test(pipeline.daemon.said);
  await eventually(isCompared, { withinMs: 60_000 });
  await pipeline.daemon.streaming();
  await pipeline.expectEqual(["t"]);
});

/** Whether the standby has replayed what the primary has written. */
async function hasAll(pair: FailoverPair): Promise<boolean> {
  const [end] = await ask(pair.primary.url, "select pg_current_wal_lsn()::text as at");
  const [row] = await ask(
    pair.standby.url,
    `select pg_last_wal_replay_lsn() >= '${String(end?.["at"])}'::pg_lsn as has_all`,
  );
  return row?.["has_all"] === true;
}

async function ask(url: string, sql: string): Promise<Record<string, unknown>[]> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query<Record<string, unknown>>(sql)).rows;
  } finally {
    await client.end();
  }
}
