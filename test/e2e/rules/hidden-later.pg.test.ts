/**
 * Postgres: what is hidden and shows itself later, or elsewhere: before the first row, in rows that are older than the
 * catalogue, in a column that the log left out until then, in another table's column, behind a condition that asks another
 * column.
 */
import { expect, test } from "vitest";
import { CANARY, expectHidden, placesWith, SHOWN } from "../../support/daemon/canary.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { freshDatabase } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

const PLAIN = `create table plain (id int generated always as identity primary key, v text); insert into plain (v) values ('${SHOWN}');`;

async function started(sql: string, tables: object): Promise<RunningPipeline> {
  return await RunningPipeline.start(PLAIN + sql, {
    kinds: ["files"],
    configure: (config) => ({ ...config, tables }),
  });
}

async function passed(pipeline: RunningPipeline): Promise<void> {
  const mark = `mark ${performance.now()}.`;
  await pipeline.run(`insert into plain (v) values ('${mark}')`);
  await eventually(async () => expect((await placesWith(mark, pipeline)).length).toBeGreaterThan(0));
}

async function expectSuspended(pipeline: RunningPipeline, expected: Readonly<Record<string, string>>): Promise<void> {
  await eventually(async () => {
    const { tables } = await pipeline.installation.status();
    expect(Object.fromEntries(tables.suspended.map(({ table, error }) => [table, error.code]))).toEqual(expected);
  });
  await passed(pipeline);
  await expectHidden(pipeline);
}

test("tables and columns that get another name while the first start waits for older transactions", async () => {
  const source = await freshDatabase();
  await source.query(`${PLAIN} create table users (id int primary key, mail text); insert into users values (1, 'a@${CANARY}');
    create table cards (id int primary key, mail text, note text); insert into cards values (1, 'c@${CANARY}', 'n')`);
  await using writer = await source.connect();
  await writer.query("begin; select pg_current_xact_id()");
  await using pipeline = await RunningPipeline.start("", {
    source,
    kinds: ["files"],
    untilStreaming: false,
    configure: (config) => ({
      ...config,
      tables: {
        "public.users": { columns: { mail: { mask: "redact" } } },
        "public.c*": { columns: { "*mail*": { drop: true } } },
      },
    }),
  });
  await eventually(async () => {
    const { rows } = await source.query<{ count: number }>(
      "select count(*)::int as count from pg_stat_activity where query like 'CREATE_REPLICATION_SLOT%' and datname = current_database() and state = 'active'",
    );
    expect(rows[0]?.count).toBe(1);
  });
  await source.query("alter table users rename to people; alter table cards rename mail to post");
  await writer.query("commit");
  await pipeline.daemon.streaming();
  await expectSuspended(pipeline, { "public.cards": "MR1025", "public.people": "MR1033" });
});
