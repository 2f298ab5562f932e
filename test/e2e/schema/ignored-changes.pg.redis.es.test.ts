/** `schemaChange: ignore`: sinks keep the shape that they have, and rows go on flowing. */
import { afterAll, beforeAll, expect, test } from "vitest";
import type { TableName } from "../../support/compare/compare.ts";
import { type PipelineConfig, RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { redactedSql } from "../../support/model/rules-view.ts";
import { eventually } from "../../support/run/waiting.ts";
import { CHOSEN_KINDS } from "../../support/daemon/sink-set.ts";

/** Not compressible, and too long to stay in the row. */
const LONG = "(select string_agg(md5(random()::text || g || i), '') from generate_series(1, 90) i)";

const RULES = {
  "public.kept": { schemaChange: "ignore" },
  "public.hidden": {
    schemaChange: "ignore",
    columns: { a: { mask: "redact" }, b: { rename: "n" } },
    where: "b < 1000",
  },
  "public.wider": { schemaChange: "ignore" },
};

/** As the sinks had them at the start, out of what the source has now; `c` is what it was in rows that did not move since. */
const view = (name: string, a: string): string => `create view ${name}_as_kept as
  select k.id, ${name === "hidden" ? redactedSql(`k.${a}`) : `k.${a}`} as a, k.b::int as ${name === "hidden" ? "n" : "b"},
    (select t.c from ${name}_then t where t.id = k.id and not k.moved) as c, k.body from ${name} k where k.b < 1000`;

const asKept = (name: string): TableName => ({
  schema: "public",
  table: name,
  key: ["id"],
  shownBy: `${name}_as_kept`,
});
const KEPT = [asKept("kept"), asKept("hidden"), "wider", "plain"];

let pipeline: RunningPipeline;

beforeAll(async () => {
  const made = ["kept", "hidden"].map(
    (name) => `create table ${name} (id int primary key, a text, b int, c numeric(10,2), body text);
      alter table ${name} alter body set storage external;
      insert into ${name} select g, 'a' || g, g, g / 100.0, ${LONG} from generate_series(1, 100) g;
      create view ${name}_as_kept as select id, ${name === "hidden" ? `${redactedSql("a")} as a, b as n` : "a, b"}, c, body from ${name};
      create table ${name}_then as select id, c from ${name}`,
  );
  pipeline = await RunningPipeline.start(
    `${made.join(";")}; create table wider (id int primary key, n int, t text); insert into wider values (1, 1, 'x'), (2, 2, 'y');
     create table plain (id int primary key, n int); insert into plain values (1, 1)`,
    {
      kinds: CHOSEN_KINDS,
      configure: (config: PipelineConfig) => ({
        ...config,
        source: { ...config.source, tables: ["public.kept", "public.hidden", "public.wider", "public.plain"] },
        tables: RULES,
      }),
    },
  );
});

afterAll(async () => {
  await pipeline?.[Symbol.asyncDispose]();
});

async function versions(): Promise<unknown> {
  const { stdout } = await pipeline.installation.command("schema", "list", "--json");
  const { tables }: { tables: { table: string; version: number; ignored: boolean }[] } = JSON.parse(stdout);
  return Object.fromEntries(tables.map(({ table, version, ignored }) => [table, [version, ignored]]));
}

const NOTHING_FOLLOWED = {
  "public.hidden": [1, true],
  "public.kept": [1, true],
  "public.plain": [1, false],
  "public.wider": [1, true],
};

test("columns that come, go and get other names and types, with rows before and after", async () => {
  await pipeline.expectEqual(KEPT);
  for (const name of ["kept", "hidden"]) {
    await pipeline.run(`drop view ${name}_as_kept; alter table ${name} add column moved bool not null default false`);
    await pipeline.run(
      `begin; update ${name} set b = b + 1, moved = true where id < 10; alter table ${name} drop column c; alter table ${name} rename a to z;
       insert into ${name} (id, z, b, body, moved) select g, 'z' || g, g, ${LONG}, true from generate_series(101, 110) g;
       update ${name} set z = 'Z' || z, moved = true where id between 11 and 20; delete from ${name} where id = 21;
       update ${name} set id = id + 1000, moved = true where id = 22; commit`,
    );
    await pipeline.run(
      `update ${name} set b = 2000, moved = true where id = 23; update ${name} set b = 900, moved = true where id = 24`,
    );
    await pipeline.run(`delete from ${name} where b = 2000 and '${name}' = 'kept'; update ${name} set moved = true where id between 1 and 9;
      ${view(name, "z")}`);
  }
  await pipeline.run(
    "alter table wider alter n type smallint, alter t type varchar(40); insert into wider values (4, 4, 'z')",
  );
  await pipeline.expectEqual(KEPT);
  expect(await versions()).toEqual(NOTHING_FOLLOWED);
  const { stdout } = await pipeline.installation.command("schema", "show", "public.kept");
  expect(stdout).toContain("changes are ignored");
});

test("changes while the daemon is down, and rows that are read again", async () => {
  await pipeline.daemon.stop();
  for (const name of ["kept", "hidden"]) {
    await pipeline.run(`drop view ${name}_as_kept; alter table ${name} rename z to y; alter table ${name} add column later int default 5;
      update ${name} set moved = true, y = y || '!' where id between 30 and 35; insert into ${name} values (200, 'new', 200, 'x', true, 1);
      ${view(name, "y")}`);
  }
  await pipeline.start();
  await pipeline.run("update kept set moved = true, later = 6 where id between 40 and 45");
  await pipeline.expectEqual(KEPT);
  await pipeline.run("update kept set moved = true");
  await pipeline.readAgain("public.kept");
  await pipeline.expectEqual(KEPT);
  expect(await versions()).toEqual(NOTHING_FOLLOWED);
  expect(await pipeline.installation.command("check")).toMatchObject({
    stdout: expect.stringContaining("the rules fit"),
  });
});

test("what can't be ignored suspends its table; the others go on, and all is followed again when asked", async () => {
  await pipeline.run("alter table wider alter n type bigint; insert into wider values (3, 5000000000)");
  await pipeline.run("update plain set n = 2; update kept set b = 7 where id = 50");
  await eventually(async () => {
    const { tables } = await pipeline.installation.status();
    expect(tables.suspended.map(({ table, error }) => [table, error.code])).toEqual([["public.wider", "MR1027"]]);
  });
  await eventually(async () => {
    const { source, sinks, installation } = pipeline;
    expect(await sinks.differences(source.url, installation.folder, ["plain", asKept("kept")])).toEqual([]);
  });
  const { installation, source, sinks } = pipeline;
  await pipeline.daemon.stop();
  const own = {
    kind: "postgres",
    url: source.url,
    heartbeat: "500ms",
    tables: ["public.kept", "public.wider", "public.plain"],
  };
  installation.configure({ name: installation.name, source: own, sinks: sinks.config });
  await pipeline.start();
  await eventually(async () => {
    const { exitCode } = await installation.command("snapshot", "start", "--tables", "public.wider");
    return exitCode === 0;
  });
  await pipeline.expectEqual(["kept", "wider", "plain"]);
});
