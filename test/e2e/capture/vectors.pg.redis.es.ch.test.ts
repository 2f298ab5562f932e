/**
 * pgvector's types: copied, streamed in binary, read back by reconcile, in every sink; and which types they get there.
 * @module-tag heavy
 */
import { expect, test } from "vitest";
import { driftOf, reconcile } from "../../support/daemon/reconciled.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { COLUMN_KINDS, EMBEDDED_KINDS, SINK_KINDS } from "../../support/daemon/sink-set.ts";
import { vectorServer } from "../../support/postgres/vector-server.ts";
import { createFreshDatabase } from "../../support/run/fresh-database.ts";

const COLUMNS = "one vector(3), plain vector, half halfvec(3), sparse sparsevec(5)";
const ROWS = [
  `'[1,-2.5,0.1]', '[0.25]', '[1,-2.5,0.1]', '{1:1.5,4:-0.1}/5'`,
  `'[0,0,0]', '[-0,1e-45,1e10,1e5]', '[65504,6.1e-5,5.96e-8]', '{}/5'`,
  `'[0.1,0.2,0.3]', '[3e18,999999.94,1000000]', '[0,1,0.33325195]', '{5:1e20}/5'`,
  "null, null, null, null",
];

test("vectors of Postgres", async (context) => {
  await using server = await vectorServer(context);
  const source = await createFreshDatabase(server);
  await using target = await createFreshDatabase(server);
  // Where the target has the extension in another schema than the source.
  await target.query("create schema ext; create extension vector schema ext");
  await using pipeline = await RunningPipeline.start(
    async () => {
      await source.query(`create extension vector; create table v (id int primary key, ${COLUMNS}, n int)`);
      for (const [i, row] of ROWS.entries()) await source.query(`insert into v values (${i}, ${row}, 0)`);
    },
    {
      source,
      kinds: [...SINK_KINDS, ...EMBEDDED_KINDS, COLUMN_KINDS[0]],
      configure: (config) => ({
        ...config,
        sinks: { ...config.sinks, extended: { kind: "postgres", url: target.url } },
      }),
    },
  );
  for (const [i, row] of ROWS.entries()) await source.query(`insert into v values (${i + 10}, ${row}, 0)`);
  await source.query("update v set one = '[3,2,1]' where id in (1, 11); update v set n = n + 1");
  await pipeline.expectEqual(["v"]);

  // The stream is binary.
  const { rows: sessions } = await source.query<{ query: string }>(
    "select query from pg_stat_activity where backend_type = 'walsender'",
  );
  expect(sessions.map(({ query }) => query).join()).toMatch(/binary 'true'/);

  const texts = "select id, one::text, plain::text, half::text, sparse::text, n from v order by id";
  await target.query("set search_path = public, ext");
  expect((await target.query(texts)).rows).toEqual((await source.query(texts)).rows);
  const { rows: types } = await target.query<{ type: string }>(
    "select format_type(atttypid, atttypmod) as type from pg_attribute where attrelid = 'public.v'::regclass and attnum > 0 and not attisdropped and attname <> all (array['id', 'n']) and attname !~ '^_millrace' order by attnum",
  );
  expect(types.map(({ type }) => type)).toEqual(["vector(3)", "vector", "halfvec(3)", "sparsevec(5)"]);

  const { exitCode, found } = await reconcile(pipeline.installation);
  expect({ exitCode, drift: driftOf(found) }).toEqual({ exitCode: 0, drift: {} });
});
