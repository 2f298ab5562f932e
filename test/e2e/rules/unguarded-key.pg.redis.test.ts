/**
 * `key` at the operator's word, without a constraint that keeps rows apart: rows as they are, and what is met of others.
 */
import { afterAll, beforeAll, expect, test } from "vitest";
import type { TableName } from "../../support/compare/compare.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { eventually } from "../../support/run/waiting.ts";

/** Not compressible, and too long to stay in the row. */
const LONG = "(select string_agg(md5(random()::text || g || i), '') from generate_series(1, 90) i)";

const table = (name: string): TableName => ({ schema: "public", table: name, key: ["mail"] });
const GOOD = ["person", "loose"].map(table);
const BAD = ["twice", "without", "guarded"];

let pipeline: RunningPipeline;

beforeAll(async () => {
  const make = (name: string, primary: string): string =>
    `create table ${name} (id int ${primary}, mail text, n int, body text); alter table ${name} replica identity full;
     alter table ${name} alter body set storage external; create index on ${name} (mail);
     insert into ${name} select g, 'mail' || g, 0, ${LONG} from generate_series(1, 100) g`;
  pipeline = await RunningPipeline.start(
    `${make("person", "primary key")}; ${make("loose", "")}; ${BAD.map((name) => make(name, "primary key")).join(";")};
     insert into twice values (7000, 'mail70', 1, 'another'); update without set mail = null where id = 50;
     alter table guarded alter mail set not null, add constraint apart unique (mail)`,
    {
      kinds: ["duckdb", "postgres", "postgres-history", "redis"],
      configure: (config) => ({
        ...config,
        tables: Object.fromEntries(["person", "loose", ...BAD].map((name) => [`public.${name}`, { key: ["mail"] }])),
      }),
    },
  );
});

afterAll(async () => {
  await pipeline?.[Symbol.asyncDispose]();
});

/** By table, the code of the error that suspended it. */
async function suspended(): Promise<Readonly<Record<string, string>>> {
  const { tables } = await pipeline.installation.status();
  return Object.fromEntries(tables.suspended.map(({ table: id, error }) => [id, error.code]));
}

async function reinstate(name: string): Promise<void> {
  await eventually(async () => {
    const { exitCode } = await pipeline.installation.command("snapshot", "start", "--tables", `public.${name}`);
    return exitCode === 0;
  });
}

/** Rows come, go, and take each other's keys; two are alike only inside of transactions. */
async function move(name: string, from: number): Promise<void> {
  const m = (offset: number): string => `'mail${from + offset}'`;
  await pipeline.run(`update ${name} set n = n + 1 where id between ${from} and ${from + 9};
    delete from ${name} where mail = ${m(0)}; update ${name} set mail = 'other' || mail where mail = ${m(1)};
    insert into ${name} values (${from + 1000}, ${m(1)}, 5, 'in its place')`);
  await pipeline.run(
    `insert into ${name} values (${from + 2000}, ${m(2)}, 6, 'first a second one'); delete from ${name} where id = ${from + 2}`,
  );
  await pipeline.run(
    `update ${name} set mail = case mail when ${m(3)} then ${m(4)} else ${m(3)} end where mail in (${m(3)}, ${m(4)})`,
  );
  await pipeline.run(`insert into ${name} values (${from + 3000}, ${m(5)}, 7, 'comes and goes'); update ${name} set n = 9 where id = ${from + 5};
    delete from ${name} where id = ${from + 3000}`);
  await pipeline.run(`delete from ${name} where mail = ${m(6)}; update ${name} set n = n + 1 where mail = ${m(3)}`);
  await pipeline.run(`insert into ${name} values (${from + 4000}, ${m(6)}, 8, ${LONG.replaceAll("|| g ", "")})`);
}

test("rows that the key tells apart, and others in the first copy", async () => {
  await eventually(
    async () => {
      expect(await suspended()).toEqual({ "public.twice": "MR1313", "public.without": "MR1313" });
    },
    { withinMs: 60_000 },
  );
  for (const { table: name } of GOOD) {
    await move(name, 10);
    await move(name, 30);
  }
  await eventually(
    async () => {
      const { source, sinks, installation } = pipeline;
      expect(await sinks.differences(source.url, installation.folder, [...GOOD, table("guarded")])).toEqual([]);
    },
    { withinMs: 60_000 },
  );
  await pipeline.run("delete from twice where id = 7000; update without set mail = 'mail50' where id = 50");
  for (const name of ["twice", "without"]) await reinstate(name);
  await move("twice", 10);
  await pipeline.expectEqual([...GOOD, ...BAD.map(table)]);
});

test("two rows of one key, and a null, that come by the stream", async () => {
  await pipeline.run("insert into person values (8000, 'mail80', 1, 'another')");
  await pipeline.run("insert into loose values (8000, null, 1, 'without')");
  await pipeline.run("alter table guarded drop constraint apart; update guarded set mail = 'mail81' where id = 80");
  await eventually(
    async () => {
      expect(await suspended()).toEqual({
        "public.guarded": "MR1313",
        "public.loose": "MR1313",
        "public.person": "MR1313",
      });
    },
    { withinMs: 60_000 },
  );
  await move("twice", 40);
  await pipeline.run(
    `delete from person where id = 80; delete from loose where id = 8000; update guarded set mail = 'mail80' where id = 80`,
  );
  for (const name of ["person", "loose", "guarded"]) await reinstate(name);
  await move("guarded", 60);
  await move("loose", 60);
  await pipeline.expectEqual([...GOOD, ...BAD.map(table)]);
});
