/** `mask: hash`: one value has one hash, whatever its type, its table, the way it came and the run of the daemon. */
import { createHmac } from "node:crypto";
import { expect, test } from "vitest";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { eventually } from "../../support/run/waiting.ts";

const KEY = "a-key-of-the-tests-0123456789";
/** Within the smallest type, and with a sign. */
const REFS = [7, 42, -700];
const CODES = REFS.map((_, i) => `0000000${i}-1111-4222-8333-abcdefabcdef`);

/** Table -> the types of what is hidden: a number and a UUID. */
const TABLES: Readonly<Record<string, readonly [ref: string, code: string]>> = {
  small_number: ["smallint", "uuid"],
  number: ["int", "uuid"],
  large_number: ["bigint", "uuid"],
  exact_number: ["numeric", "uuid"],
  limited_number: ["whole", "uuid"],
  word: ["text", "text"],
  limited_word: ["varchar(40)", "varchar(40)"],
  label: ["chosen", "text"],
};
const NAMES = Object.keys(TABLES);

/** One row for each of the values, in every table; `stage` tells in which way they come. */
const rows = (stage: number): string =>
  NAMES.map((name) => {
    const [ref, code] = TABLES[name]!;
    const values = REFS.map((value, i) => `(${stage * 10 + i}, '${value}'::${ref}, '${CODES[i]}'::${code})`);
    return `insert into ${name} values ${values.join(", ")};`;
  }).join("\n");

const hashOf = (value: string | number) => createHmac("sha256", KEY).update(String(value)).digest("hex");

test("equal values have one hash, by which tables are joined in a warehouse", async () => {
  await using pipeline = await RunningPipeline.start(
    `create domain whole as int; create type chosen as enum ('7', '42', '-700');
     ${NAMES.map((name) => `create table ${name} (id int primary key, ref ${TABLES[name]![0]}, code ${TABLES[name]![1]});`).join("\n")}
     ${rows(0)}`,
    {
      kinds: ["postgres", "duckdb"],
      configure: (config) => ({
        ...config,
        maskKey: KEY,
        tables: { "public.*": { columns: { ref: { mask: "hash" }, code: { mask: "hash" } } } },
      }),
    },
  );
  const expectWire = (isBinary: boolean) =>
    eventually(async () => {
      const { rows: found } = await pipeline.source.query<{ query: string }>(
        "select query from pg_stat_activity where datname = current_database() and query like 'START_REPLICATION%' and pid in (select active_pid from pg_replication_slots)",
      );
      expect(found.map(({ query }) => query.includes("binary"))).toEqual([isBinary]);
    });
  await expectWire(true);
  await pipeline.run(rows(1));
  await pipeline.settled();
  await pipeline.daemon.stop();
  await pipeline.run(rows(2));
  await pipeline.start();
  await pipeline.settled();
  await pipeline.kill();
  await pipeline.run(rows(3));
  await pipeline.start();
  // A type that has a text form only: from here on all values come as text.
  await pipeline.run("create table place (id int primary key, at inet); insert into place values (1, '10.0.0.1')");
  // The insert may have come before the table was published.
  await eventually(async () => expect((await pipeline.installation.status()).tables.captured).toBe(NAMES.length + 1));
  await pipeline.run("update place set at = '10.0.0.2'");
  await expectWire(false);
  await pipeline.run(rows(4));
  await pipeline.settled();
  await pipeline.restart();
  await expectWire(false);
  await pipeline.run(rows(5));
  await pipeline.readAgain("public.small_number", "public.word");
  await eventually(async () => expect((await pipeline.installation.status()).unfinishedSnapshots).toBe(0));
  await pipeline.settled();

  const expected = [0, 1, 2, 3, 4, 5].flatMap((stage) =>
    REFS.map((ref, i) => [stage * 10 + i, hashOf(ref), hashOf(CODES[i]!)]),
  );
  for (const name of NAMES) {
    const { rows: held } = await pipeline.sinks.target!.query<{ id: number; ref: string; code: string }>(
      `select id, ref, code from public.${name} order by id`,
    );
    expect({ name, held: held.map(({ id, ref, code }) => [id, ref, code]) }).toEqual({ name, held: expected });
  }
  const joins = NAMES.slice(1).map((name) => `join public.${name} using (id, ref, code)`);
  const joined = `select count(*) as n from public.${NAMES[0]} ${joins.join(" ")}`;
  const { rows: inPostgres } = await pipeline.sinks.target!.query(joined);
  expect(inPostgres).toEqual([{ n: String(expected.length) }]);
  const { stdout } = await pipeline.installation.command("query", "--json", joined);
  expect(JSON.parse(stdout)).toMatchObject({ rows: [{ n: expected.length }] });
});
