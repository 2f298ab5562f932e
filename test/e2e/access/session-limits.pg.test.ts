/** Limits that administrators set for everybody's sessions end none of ours, or are named where they count. */
import { expect, test } from "vitest";
import { expectAllEqual } from "../../support/daemon/reconciled.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { eventually } from "../../support/run/waiting.ts";
import { freshDatabase, needsPostgres, type FreshDatabase } from "../../support/run/services.ts";

const ROW_COUNT = 60_000;

test("a first copy, a large transaction and a comparison outlast the timeouts of role and database", async (context) => {
  needsPostgres(17, context);
  const source = await freshDatabase();
  await using state = await freshDatabase();
  await using pipeline = await RunningPipeline.start(
    async () => {
      await source.query(
        `create table t (id int primary key, n int, body text);
         insert into t select g, 0, repeat('x', 400) from generate_series(1, ${ROW_COUNT}) g`,
      );
      await limit(source, TIMEOUTS);
      await limit(state, TIMEOUTS);
    },
    {
      source,
      kinds: ["postgres"],
      configure: (config) => ({ ...config, state: state.url }),
      untilStreaming: false,
    },
  );
  await limit(pipeline.sinks.target!, TIMEOUTS);
  await pipeline.daemon.streaming();
  await pipeline.run("update t set n = n + 1");
  await pipeline.settled();
  await expectAllEqual(pipeline, ROW_COUNT);
});

test(
  "a limit of temporary files is named, at the state and at the source, until it is raised",
  { tags: "heavy" },
  async () => {
    const source = await freshDatabase();
    await using state = await freshDatabase();
    // What does not fit into the memory would be put into files.
    const none = { temp_file_limit: "0", work_mem: "64kB" };
    await using pipeline = await RunningPipeline.start(
      async () => {
        await source.query("create table t (id int primary key, n int); insert into t values (1, 1)");
        await limit(source, none);
        await limit(state, none);
      },
      { source, kinds: ["duckdb"], configure: (config) => ({ ...config, state: state.url }), untilStreaming: false },
    );
    const limits = { source, state };
    for (const [at, code] of [
      ["state", "MR1215"],
      ["source", "MR2006"],
    ] as const) {
      await eventually(async () => {
        const { [at]: shown } = await pipeline.installation.status();
        expect(shown.error).toMatchObject({ code, hint: expect.stringContaining("SET temp_file_limit") });
      });
      for (const name of Object.keys(none)) await limits[at].query(`alter database ${limits[at].name} reset ${name}`);
    }
    await pipeline.daemon.streaming();
    await pipeline.expectEqual(["t"]);
  },
);

const TIMEOUTS = {
  transaction_timeout: "100ms",
  statement_timeout: "90ms",
  lock_timeout: "50ms",
  idle_in_transaction_session_timeout: "50ms",
  idle_session_timeout: "200ms",
  wal_sender_timeout: "300ms",
  tcp_user_timeout: "100",
  default_transaction_isolation: "serializable",
  default_transaction_deferrable: "on",
  default_transaction_read_only: "on",
};

/** Of the database, which count for all sessions that begin later. */
async function limit(database: FreshDatabase, settings: Readonly<Record<string, string>>): Promise<void> {
  for (const [name, value] of Object.entries(settings))
    await database.query(`alter database ${database.name} set ${name} = '${value}'`);
}
