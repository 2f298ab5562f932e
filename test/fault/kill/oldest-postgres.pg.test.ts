/**
 * The oldest Postgres that is captured from, in every run: copy, stream, types and kills. The long form runs all others.
 */
import { expect, test } from "vitest";
import { Load, Victim } from "../../support/faults/fault-load.ts";
import { createFreshDatabase, type FreshDatabase } from "../../support/run/fresh-database.ts";
import { EDGE_TYPES, edgeValuesOf } from "../../support/postgres/postgres-edge-values.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { OLDEST, oldestPostgres } from "../../support/postgres/oldest-postgres.ts";

const KILLS = 2;

test(`Postgres ${OLDEST} under load, through kills`, { tags: "long" }, async (context) => {
  await using server = await oldestPostgres(context);
  await using load = await Load.create(21, 200, await createFreshDatabase(server));
  await using victim = await Victim.create(load, "v", ["postgres", "duckdb"]);
  let daemon = victim.run();
  await daemon.streaming();
  load.start(15);
  for (let i = 0; i < KILLS; i++) {
    await load.workload.written(150);
    await victim.kill(daemon);
    daemon = victim.run();
    await daemon.streaming();
  }
  await load.stop();
  expect((await victim.verdict(daemon)).faults).toEqual([]);
});

test(`Postgres ${OLDEST} with values of every type, copied and streamed`, async (context) => {
  await using server = await oldestPostgres(context);
  const prepare = async (source: FreshDatabase): Promise<void> => {
    await source.query(EDGE_TYPES);
    await makeEdges(source, "copied");
  };
  const source = await createFreshDatabase(server);
  await using pipeline = await RunningPipeline.start(prepare, { source, kinds: ["postgres", "duckdb"] });
  await makeEdges(source, "streamed");
  await pipeline.expectEqual(["copied", "streamed"]);
});

/** One row per value, each in its own column. */
async function makeEdges(source: FreshDatabase, name: string): Promise<void> {
  const values = edgeValuesOf(OLDEST);
  const columns = values.map(([native], i) => `c${i} ${native}`).join(", ");
  await source.query(`create table ${name} (id serial primary key, ${columns})`);
  for (const [i, [native, texts]] of values.entries()) {
    await source.query(`insert into ${name} (c${i}) select text::${native} from unnest($1::text[]) as v (text)`, [
      texts,
    ]);
  }
}
