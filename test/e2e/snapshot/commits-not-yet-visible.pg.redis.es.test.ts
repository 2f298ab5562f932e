/**
 * A commit is in the log, and delivered, before other sessions see it; while the source waits for a synchronous standby
 * that does not answer, for as long as that takes. Rows read meanwhile must not undo what was delivered.
 */
import type { Client } from "pg";
import { expect, test } from "vitest";
import { createFreshDatabase } from "../../support/run/fresh-database.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { isLongForm } from "../../support/run/service-suffixes.ts";
import { ownPostgres } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

/** Commits that wait; they end with the wait. */
async function waitingCommits(clients: readonly Client[], statements: readonly string[]): Promise<Promise<unknown>[]> {
  for (const client of clients) await client.query("set synchronous_commit = on");
  // They end badly where the test fails before.
  return statements.map((sql, i) => clients[i]!.query(sql).catch((error: unknown) => error));
}

async function cell(pipeline: RunningPipeline, id: number): Promise<string | null> {
  using cache = pipeline.cache();
  return await cache.hget(`${pipeline.sinks.keyPrefix}public:item:${id}`, "body");
}

test.for(["while the daemon runs", "after the daemon was started again"])(
  "rows read while a delivered commit is not visible yet: %s",
  async (when, { skip }) => {
    skip(!isLongForm() && !when.startsWith("while"), "it is part of the long form");
    await using server = await ownPostgres();
    const source = await createFreshDatabase(server);
    await source.query("alter role postgres set synchronous_commit = local");
    await source.query("set synchronous_commit = local");
    await using pipeline = await RunningPipeline.start(
      "create table item (id int primary key, body text); insert into item select g, 'old' from generate_series(1, 50) g",
      { source },
    );
    await pipeline.settled();
    await source.query("alter system set synchronous_standby_names = 'nobody'");
    await source.query("select pg_reload_conf()");
    await eventually(async () => {
      const { rows } = await source.query<{ names: string }>(
        "select current_setting('synchronous_standby_names') as names",
      );
      return rows[0]?.names === "nobody";
    });
    await using a = await source.connect();
    await using b = await source.connect();
    await using c = await source.connect();
    const waiting = await waitingCommits(
      [a, b, c],
      [
        "update item set body = 'new' where id = 1",
        "insert into item values (100, 'new')",
        "delete from item where id = 2",
      ],
    );
    await eventually(async () => {
      expect([await cell(pipeline, 1), await cell(pipeline, 100), await cell(pipeline, 2)]).toEqual([
        "new",
        "new",
        null,
      ]);
    });
    if (when.startsWith("after")) await pipeline.restart();
    await pipeline.readAgain("public.item");
    await pipeline.run("insert into item values (101, 'goes on')");
    const during = await pipeline.installation.ask<{ reached: boolean }>("POST", "/api/v1/wait", { timeoutMs: 2_500 });
    expect(during?.reached).toBe(false);
    expect([await cell(pipeline, 1), await cell(pipeline, 100), await cell(pipeline, 2)]).toEqual(["new", "new", null]);
    expect(await cell(pipeline, 101)).toBe("goes on");

    await source.query("alter system reset synchronous_standby_names");
    await source.query("select pg_reload_conf()");
    await Promise.all(waiting);
    await pipeline.expectEqual(["item"]);
    expect((await pipeline.installation.status()).unfinishedSnapshots).toBe(0);
  },
);
