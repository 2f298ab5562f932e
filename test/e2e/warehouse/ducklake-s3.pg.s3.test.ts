/**
 * Postgres into a lake whose data files are in a bucket.
 * @module-tag heavy
 */
import { expect, test } from "vitest";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { removeBucket } from "../../support/run/services.ts";
import { sinkOf } from "../../support/faults/sink-loss.ts";
import { eventually } from "../../support/run/waiting.ts";

const SINK = "ducklake-s3";
/** More rows than the catalogue keeps itself. */
const PREPARE = `create table item (id int primary key, body text);
  insert into item select g, repeat('i', g % 50) from generate_series(1, 1000) g`;
const NOTICED = { withinMs: 60_000, everyMs: 250 };

async function stopsWith(pipeline: RunningPipeline, code: string): Promise<void> {
  await eventually(async () => {
    const { error } = await sinkOf(pipeline, SINK);
    expect({ code: error?.code, hint: error?.hint ?? "" }).toEqual({ code, hint: expect.stringMatching(/./) });
  }, NOTICED);
}

test("a lake in a bucket is filled, killed and queried; wrong keys and a bucket that is gone are told, and nothing is lost", async () => {
  await using pipeline = await RunningPipeline.start(PREPARE, { kinds: [SINK] });
  const { installation, source, sinks } = pipeline;
  await pipeline.expectEqual(["item"]);
  await pipeline.run("update item set body = 'u' where id % 2 = 0; delete from item where id % 10 = 0");
  await pipeline.kill();
  await pipeline.run("insert into item select g, 'more' from generate_series(2001, 2400) g");
  await pipeline.start();
  await pipeline.expectEqual(["item"]);
  const asked = await installation.command("query", "select count(*) as n from public.item", "--json");
  expect(JSON.parse(asked.stdout)).toMatchObject({ rows: [{ n: 1300 }] });

  const configured = installation.text;
  await pipeline.daemon.stop();
  installation.text = configured.replace(/secretAccessKey: .*/, "secretAccessKey: wrong-secret");
  await pipeline.start(false);
  await pipeline.run("insert into item select g, 'late' from generate_series(3001, 3400) g");
  await stopsWith(pipeline, "MR2002");
  expect(pipeline.daemon.said).not.toContain("wrong-secret");
  await pipeline.daemon.stop();
  installation.text = configured;
  await pipeline.start();
  await pipeline.expectEqual(["item"]);

  await removeBucket(sinks.bucket!.bucket, sinks.bucket!.options);
  const { rows } = await source.query<{ tip: string }>("select pg_current_wal_lsn()::text as tip");
  await pipeline.run("insert into item select g, 'kept in the log' from generate_series(4001, 4400) g");
  await stopsWith(pipeline, "MR3229");
  const { acknowledged } = (await installation.status()).source;
  const kept = await source.query("select $1::pg_lsn <= $2::pg_lsn as kept", [acknowledged, rows[0]!.tip]);
  expect(kept.rows).toEqual([{ kept: true }]);
});
