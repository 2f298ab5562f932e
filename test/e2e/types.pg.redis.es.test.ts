/**
 * Every built-in type of Postgres with its edge values, through the first copy, the stream and chunks, into every sink:
 * what lands is the value, or what the sink's type table says of it. The source's own output settings don't matter.
 */
import { expect, test } from "vitest";
import { EDGE_TYPES, edgeValues } from "../support/postgres-edge-values.ts";
import { FURTHER_TYPES, furtherValues } from "../support/postgres-further-values.ts";
import { RunningPipeline } from "../support/running-pipeline.ts";
import type { FreshDatabase } from "../support/services.ts";

type Values = readonly (readonly [native: string, values: readonly string[], ...rest: unknown[]])[];

/** Settings of the source that change how a session prints, reads or finds values. */
const SETTINGS = `
  set DateStyle = 'SQL, DMY'; set IntervalStyle = 'sql_standard'; set bytea_output = 'escape'; set extra_float_digits = -3;
  set TimeZone = 'Asia/Kolkata'; set search_path = 'nowhere'; set xmloption = 'document'; set array_nulls = off;
  set quote_all_identifiers = on; set default_transaction_read_only = on; set default_transaction_isolation = 'serializable'`;

async function setDefaults(database: FreshDatabase): Promise<void> {
  for (const setting of SETTINGS.split(";")) await database.query(`alter database ${database.name} ${setting}`);
}

async function makeTable(database: FreshDatabase, name: string, values: Values): Promise<void> {
  const columns = values.map(([native], i) => `c${i} ${native}`);
  await database.query(
    `create table ${name} (id int primary key, touched int not null default 0, ${columns.join(", ")})`,
  );
}

/** One row per value, each in its own column, the others null; and a row of nulls. */
async function fill(database: FreshDatabase, name: string, values: Values, isUpdate = false): Promise<void> {
  let id = 1;
  for (const [i, [native, texts]] of values.entries()) {
    const given = `unnest($2::text[]) with ordinality as v (text, n)`;
    if (isUpdate)
      await database.query(`update ${name} set c${i} = text::${native} from ${given} where id = $1 + n`, [id, texts]);
    else
      await database.query(`insert into ${name} (id, c${i}) select $1 + n, text::${native} from ${given}`, [id, texts]);
    id += texts.length;
  }
  if (!isUpdate) await database.query(`insert into ${name} (id) values (0)`);
}

async function roundTrip(values: Values, prepare: (source: FreshDatabase) => Promise<unknown>): Promise<void> {
  await using pipeline = await RunningPipeline.start(async (source) => {
    await prepare(source);
    for (const name of ["copied", "inserted", "updated"]) await makeTable(source, name, values);
    await fill(source, "copied", values);
    await setDefaults(source);
  });
  const { source } = pipeline;
  await pipeline.expectEqual(["copied"]);

  await fill(source, "inserted", values);
  const count = values.reduce((sum, [, texts]) => sum + texts.length, 1);
  await source.query(`insert into updated (id) select generate_series(0, ${count})`);
  await pipeline.settled();
  await fill(source, "updated", values, true);
  await source.query("begin");
  await makeTable(source, "chunked", values);
  await fill(source, "chunked", values);
  await source.query("commit");
  await pipeline.expectEqual(["inserted", "updated"]);

  await source.query(
    "update copied set touched = 1; update inserted set touched = 1; update updated set touched = touched + 1",
  );
  await source.query("update inserted set id = -id");
  await pipeline.expectEqual(["copied", "inserted", "updated"]);
  await expect.poll(async () => (await pipeline.installation.status()).tables.captured, { timeout: 15_000 }).toBe(4);
  await pipeline.expectEqual(["chunked"]);
  expect((await pipeline.installation.status()).sinks.map(({ deadLetters }) => deadLetters)).toEqual([0, 0, 0, 0]);
}

test("all types, carried as text where one of them has no other form", async () => {
  await roundTrip([...edgeValues, ...furtherValues], async (source) => source.query(`${EDGE_TYPES}; ${FURTHER_TYPES}`));
});

/** Types of which core reads the binary form: without any other the stream is binary. */
const OPAQUE =
  /^(interval|money|inet|cidr|mac|timetz|int4.*range|tstzrange|point|path|bit|varbit|ts|xml|pair|pg_lsn|"char"|jsonpath|oid)/;

test("types that are carried in binary", async () => {
  const binary = edgeValues.filter(([native]) => !OPAQUE.test(native));
  await roundTrip(binary, async (source) => source.query(EDGE_TYPES));
});
