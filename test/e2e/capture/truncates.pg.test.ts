/** Tables that are emptied and filled in the same transactions, among other tables: each step of a sink holds what fits into it. */
import { expect, test } from "vitest";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { Random, testSeed } from "../../support/run/random.ts";

const KINDS = [
  "duckdb",
  "postgres",
  "sqlite",
  "duckdb-soft",
  "postgres-soft",
  "duckdb-history",
  "postgres-history",
] as const;
const TABLES = ["a", "b", "c", "d"];
const KEYS = 12;

/** A large value stays out of the log where an update leaves it alone. */
const LARGE = "(select string_agg(md5(random()::text), '') from generate_series(1, 100))";

function statement(random: Random): string {
  const table = random.pick(TABLES);
  const id = random.below(KEYS);
  if (random.chance(0.15)) return `truncate ${random.chance(0.5) ? table : TABLES.join()}`;
  return random.pick([
    `insert into ${table} values (${id}, 'i', ${LARGE}) on conflict (id) do update set note = 'again'`,
    `insert into ${table} values (${id}, 'i', ${LARGE}) on conflict do nothing`,
    `update ${table} set note = note || 'u' where id <= ${id}`,
    `update ${table} set id = ${id} where id = (select max(id) from ${table}) and not exists (select from ${table} where id = ${id})`,
    `delete from ${table} where id = ${id}`,
  ]);
}

test("what is left after transactions that empty tables in between is in every form of sink", async () => {
  const seed = testSeed();
  const random = new Random(seed);
  await using pipeline = await RunningPipeline.start(
    TABLES.map((name) => `create table ${name} (id int primary key, note text, large text)`).join(";"),
    { kinds: KINDS },
  );
  for (let i = 0; i < 150; i++) {
    const statements = Array.from({ length: 1 + random.below(6) }, () => statement(random));
    await pipeline.run(statements.join(";"));
  }
  await pipeline.expectEqual(TABLES);
  expect(pipeline.complaints(), `seed ${seed}`).toEqual([]);
});
