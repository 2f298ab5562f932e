/** Values on their ways from Postgres into sinks: the first copy, inserts, updates, deletes and chunks. */
import { expect } from "vitest";
import { RunningPipeline } from "../daemon/running-pipeline.ts";
import type { FreshDatabase } from "../run/services.ts";
import type { SinkKind } from "../daemon/sink-set.ts";
import { ThroughKafka } from "../kafka/through-kafka.ts";

export type Values = readonly (readonly [native: string, values: readonly string[], ...rest: unknown[]])[];

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

/** `types`: statements that make the types of these values. */
export async function roundTrip(values: Values, types: string, kinds: readonly SinkKind[]): Promise<void> {
  await using pipeline = await RunningPipeline.start(beforehand(values, types), { kinds });
  await pass(pipeline, values, kinds);
}

/** The same for sinks of a daemon that follows a log in Kafka. */
export async function roundTripThroughKafka(values: Values, types: string, kinds: readonly SinkKind[]): Promise<void> {
  await using through = await ThroughKafka.start(beforehand(values, types), { kinds });
  await pass(through.applying, values, kinds);
}

function beforehand(values: Values, types: string): (source: FreshDatabase) => Promise<void> {
  return async (source) => {
    await source.query(types);
    for (const name of ["copied", "inserted", "updated"]) await makeTable(source, name, values);
    await fill(source, "copied", values);
    await setDefaults(source);
  };
}

async function pass(pipeline: RunningPipeline, values: Values, kinds: readonly SinkKind[]): Promise<void> {
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
  await expect.poll(async () => (await pipeline.installation.status()).tables.captured).toBe(4);
  await pipeline.expectEqual(["chunked"]);
  expect((await pipeline.installation.status()).sinks.map(({ deadLetters }) => deadLetters)).toEqual(
    kinds.map(() => 0),
  );
}
