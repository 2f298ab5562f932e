/** A column that the server computes from a masked one is not shown, also before its transaction is visible to a SELECT. */
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { CANARY, placesWith } from "../../support/daemon/canary.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { createFreshDatabase } from "../../support/run/fresh-database.ts";
import { ownPostgres } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

/** A fault would have shown the row by then. */
const SHOWN_WITHIN_MS = 1_000;

test("a generated column that is added and written in one transaction shows nothing of its mask", async () => {
  await using server = await ownPostgres();
  const source = await createFreshDatabase(server);
  for (const sql of ["alter role postgres set synchronous_commit = local", "set synchronous_commit = local"])
    await source.query(sql);
  const prepare = async (): Promise<void> => {
    await source.query("create table users (id int primary key, mail text)");
    // Generated columns are published only by hand.
    await source.query(
      `create publication millrace_${source.name} for table users with (publish_generated_columns = stored)`,
    );
  };
  await using pipeline = await RunningPipeline.start(prepare, {
    source,
    kinds: ["files"],
    configure: (config) => ({ ...config, tables: { "public.users": { columns: { mail: { mask: "redact" } } } } }),
  });
  await pipeline.settled();
  // The commit is in the log, and waits for a standby.
  await source.query("alter system set synchronous_standby_names = 'nobody'");
  await source.query("select pg_reload_conf()");
  await eventually(async () => {
    const { rows } = await source.query<{ names: string }>("show synchronous_standby_names");
    return Object.values(rows[0] ?? {})[0] === "nobody";
  });
  await using writer = await source.connect();
  await writer.query("set synchronous_commit = on");
  const waiting = writer.query(
    `begin; alter table users add column shown text generated always as (mail || '!') stored; insert into users values (1, 'a ${CANARY}'); commit`,
  );
  await eventually(async () => {
    const { rows } = await source.query<{ count: number }>(
      "select count(*)::int as count from pg_stat_activity where wait_event = 'SyncRep'",
    );
    return rows[0]?.count === 1;
  });
  await sleep(SHOWN_WITHIN_MS);
  expect(await placesWith(CANARY, pipeline)).toEqual([]);
  await source.query("alter system reset synchronous_standby_names");
  await source.query("select pg_reload_conf()");
  await waiting;
  await eventually(async () => {
    const { tables } = await pipeline.installation.status();
    expect(tables.suspended).toMatchObject([{ table: "public.users", error: { code: "MR1025" } }]);
  });
  expect(await placesWith(CANARY, pipeline)).toEqual([]);
});
