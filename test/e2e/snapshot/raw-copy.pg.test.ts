/**
 * Large tables pass from Postgres to Postgres undecoded, by several sessions at once: what lands is what the source has, as
 * if it had been decoded, and a table whose cells are needed is decoded.
 */
import { renameSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { ServiceUnavailableError } from "../../../scripts/services/service.ts";
import { createFreshDatabase } from "../../support/run/fresh-database.ts";
import { EDGE_TYPES, edgeValues, edgeValuesOf } from "../../support/postgres/postgres-edge-values.ts";
import type { Values } from "../../support/postgres/postgres-round-trip.ts";
import { FURTHER_TYPES, furtherValues } from "../../support/postgres/postgres-further-values.ts";
import { LARGE, undecodedTables } from "../../support/postgres/large-tables.ts";
import { Installation } from "../../support/daemon/daemon-process.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { type FreshDatabase, freshDatabase, ownPostgres } from "../../support/run/services.ts";
import { SinkSet } from "../../support/daemon/sink-set.ts";

const OLDEST = 14;

/** Their bytes hold oids or depend on a setting, or only the server can parse their text. */
const DECODED =
  /^(mood\[\]|pair\[\]|jsonpath|tsquery|xml|money|money\[\]|positive\[\]|money_amount\[\]|nested\[\]|corners|(pg|txid)_snapshot)$/;

async function fill(source: FreshDatabase, table: string, all: Values, isDecoded: boolean): Promise<void> {
  const values = all.filter(([native]) => DECODED.test(native) === isDecoded);
  const columns = values.map(([native], i) => `c${i} ${native}`).join(", ");
  await source.query(`create table ${table} (id int primary key, ${columns}, ${LARGE.column})`);
  await source.query(LARGE.external(table));
  let id = 1;
  for (const [i, [native, texts]] of values.entries()) {
    await source.query(
      `insert into ${table} (id, c${i}) select $1::int + n, text::${native} from unnest($2::text[]) with ordinality as v (text, n)`,
      [id, texts],
    );
    id += texts.length;
  }
  await source.query(
    `insert into ${table} (id, large) select -g, ${LARGE.value} from generate_series(1, ${LARGE.rows}) g`,
  );
}

test("the types of which the other server has the same are not decoded, the others are", async () => {
  const prepare = async (source: FreshDatabase): Promise<void> => {
    await source.query(`${EDGE_TYPES}; ${FURTHER_TYPES}`);
    const all = [...edgeValues, ...furtherValues];
    await fill(source, "same", all, false);
    await fill(source, "other", all, true);
  };
  await using pipeline = await RunningPipeline.start(prepare, { kinds: ["postgres"] });
  await pipeline.expectEqual(["same", "other"]);
  expect(undecodedTables(pipeline)).toEqual(["public.same"]);
});

test("the same from the oldest Postgres to this one", { tags: "long" }, async ({ skip }) => {
  const server = await ownPostgres({ major: OLDEST }).catch((error: unknown) => {
    if (process.env["CI"] === "true" || !(error instanceof ServiceUnavailableError)) throw error;
    return skip(error.message);
  });
  await using _ = server;
  const prepare = async (source: FreshDatabase): Promise<void> => {
    await source.query(EDGE_TYPES);
    await fill(source, "same", edgeValuesOf(OLDEST), false);
  };
  const source = await createFreshDatabase(server);
  await using pipeline = await RunningPipeline.start(prepare, { source, kinds: ["postgres"] });
  await pipeline.expectEqual(["same"]);
  expect(undecodedTables(pipeline)).toEqual(["public.same"]);
});

const NAMED = `"we""ird; drop"."tab'le $1 %s"`;

/** 20 MB and so several parts, with changes of all kinds in each. */
const BUSY = `create table busy (id int primary key, n int not null default 0, note text);
  insert into busy select g, 0, repeat('note', 80) from generate_series(1, 50000) g`;

function change(n: number): string {
  const id = `(${n} * 7919 + g * 1009) % 50000`;
  return `update busy set n = ${n} where id in (select ${id} from generate_series(1, 20) g);
    delete from busy where id in (select (${id}) + 7 from generate_series(1, 3) g);
    update busy set id = -id where id in (select (${id}) + 11 from generate_series(1, 3) g) and id > 0;
    insert into busy values (${100_000 + n}, ${n}, 'new')`;
}

test("names, generated columns, partitions and changes that go on meanwhile are right, rules are kept", async () => {
  const filled = (name: string, columns: string): string =>
    `insert into ${name} (${columns}, large) select g, ${LARGE.value} from generate_series(1, ${LARGE.rows}) g`;
  const prepare = `${BUSY};
    create schema "we""ird; drop"; create table ${NAMED} ("i""d" int primary key, "pg_class" int generated always as ("i""d" * 2) stored, ${LARGE.column});
    ${LARGE.external(NAMED)}; ${filled(NAMED, `"i""d"`)};
    create table parted (id int primary key, ${LARGE.column}) partition by range (id);
    create table parted_low partition of parted for values from (minvalue) to (300);
    create table parted_high (large text, id int not null); alter table parted attach partition parted_high for values from (300) to (maxvalue);
    ${LARGE.external("parted_low")}; ${LARGE.external("parted_high")}; ${filled("parted", "id")};
    create table ruled (id int primary key, ${LARGE.column}, secret text default 'hidden'); ${LARGE.external("ruled")}; ${filled("ruled", "id")};
    create table little (id int primary key); insert into little select generate_series(1, 100)`;
  await using pipeline = await RunningPipeline.start(prepare, {
    kinds: ["postgres", "postgres-soft"],
    untilStreaming: false,
    configure: (config) => ({
      ...config,
      source: { ...config.source, copySessions: 3 },
      sinks: {
        postgres: { ...config.sinks["postgres"], tables: ["*.*", "!public.parted"] },
        "postgres-soft": { ...config.sinks["postgres-soft"], tables: ["public.parted", "public.little"] },
      },
      tables: { "public.ruled": { columns: { secret: { drop: true } } } },
    }),
  });
  const streaming = pipeline.daemon.streaming();
  const seen = { streaming: false };
  void streaming.finally(() => (seen.streaming = true));
  for (let n = 1; n < 20 || !seen.streaming; n++) await pipeline.run(change(n));
  await streaming;
  await pipeline.settled();
  const { sinks, source } = pipeline;
  const target = sinks.target!;
  for (const [table, there, columns] of [
    ["busy", "busy", "id, n, note"],
    [NAMED, NAMED, `"i""d", large`],
    ["parted", "soft.parted", "id, large"],
    ["ruled", "ruled", "id, large"],
    ["little", "little", "id"],
  ] as const) {
    const sum = (name: string): string =>
      `select count(*)::text, sum(hashtextextended((${columns})::text, 0))::text from ${name}`;
    const [own, theirs] = await Promise.all([source.query(sum(table)), target.query(sum(there))]);
    expect({ table, rows: theirs.rows }).toEqual({ table, rows: own.rows });
  }
  const { rows } = await target.query("select column_name from information_schema.columns where table_name = 'ruled'");
  expect(rows).not.toContainEqual({ column_name: "secret" });
  expect(undecodedTables(pipeline)).toEqual(["public.busy", "public.parted", `we\\"ird; drop.tab'le $1 %25s`]);
});

test("a row that the target refuses is a dead letter, all others arrive", async () => {
  const prepare = `create table refused (id int primary key, ${LARGE.column}); ${LARGE.external("refused")};
    insert into refused select g, ${LARGE.value} from generate_series(1, ${LARGE.rows}) g`;
  await using source = await freshDatabase();
  await source.query(prepare);
  await using sinks = await SinkSet.create(["postgres"]);
  const target = sinks.target!;
  await target.query(
    "create table refused (id int primary key check (id <> 13), large text, _millrace_version bigint not null, _millrace_commit_time timestamptz)",
  );
  const config = { name: source.name, source: { kind: "postgres", url: source.url }, sinks: sinks.config };
  await using installation = new Installation(config);
  const daemon = installation.run();
  await daemon.streaming();
  const { rows } = await target.query("select count(*)::int as n from refused");
  expect(rows).toEqual([{ n: LARGE.rows - 1 }]);
  expect((await installation.status()).sinks[0]).toMatchObject({ deadLetters: 1 });
  expect(undecodedTables({ daemon })).toEqual([]);
});

test(
  "over the rows of an earlier epoch a table is decoded, and rows that are gone are removed",
  { tags: "long" },
  async () => {
    const prepare = `create table big (id int primary key, ${LARGE.column}); ${LARGE.external("big")};
    insert into big select g, ${LARGE.value} from generate_series(1, ${LARGE.rows * 2}) g`;
    await using pipeline = await RunningPipeline.start(prepare, { kinds: ["postgres"] });
    await pipeline.expectEqual(["big"]);
    await pipeline.daemon.stop();
    const { source, installation } = pipeline;
    await source.query("select pg_drop_replication_slot($1)", [`millrace_${source.name}`]);
    await source.query(`delete from big where id % 3 = 0; update big set large = 'changed' where id % 3 = 1;
    insert into big select g, ${LARGE.value} from generate_series(10001, 10001 + ${LARGE.rows}) g`);
    const state = join(installation.folder, ".millrace", `${source.name}.db`);
    renameSync(state, `${state}.old`);
    await pipeline.start();
    await pipeline.expectEqual(["big"]);
    expect(undecodedTables(pipeline)).toEqual([]);
  },
);
