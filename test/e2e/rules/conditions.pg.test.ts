/** Conditions of commands ask only what the rules show. */
import { expect, test } from "vitest";
import { type PipelineConfig, RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { eventually } from "../../support/run/waiting.ts";

const PREPARE = `create table person (id int primary key, mail text, secret text, note text, status text);
  create table plain (id int primary key, v text);
  insert into person select g, 'mail' || g, 'secret' || g, 'note' || g, case when g % 2 = 0 then 'test' else 'open' end
    from generate_series(1, 40) g;
  insert into plain select g, 'v' || g from generate_series(1, 40) g`;

const RULES = {
  "public.person": {
    columns: { mail: { mask: "redact" }, secret: { drop: true }, note: { rename: "remark" } },
    where: "status <> 'test'",
  },
};

const start = async ({ installation }: RunningPipeline, table: string, where: string) =>
  await installation.command("snapshot", "start", "--tables", table, "--where", where);

const reads = async ({ installation }: RunningPipeline) => {
  const { stdout } = await installation.command("snapshot", "list", "--json");
  const { snapshots }: { snapshots: { reason: string; state: string; rowsDone: number }[] } = JSON.parse(stdout);
  return snapshots.filter(({ reason }) => reason.startsWith("asked for"));
};

test("what rules hide can't be asked by --where, neither of its own table nor of another, with a daemon and without", async () => {
  await using pipeline = await RunningPipeline.start(PREPARE, {
    kinds: ["postgres"],
    configure: (config: PipelineConfig) => ({ ...config, tables: RULES }),
  });
  await pipeline.settled();
  const refused = [
    ["public.person", "mail = 'mail3'", /column "mail" is hidden/],
    ["public.person", "id = 3 and \"secret\" like 's%'", /column "secret" is hidden/],
    ["public.person", "id = length(mail)", /MR1323/],
    ["public.plain", "exists (select from person where id = 3 and secret like 's%')", /MR1323/],
    ["public.plain", "v = 'x' or person is not null", /MR1323/],
    ["public.person", "no_such = 1", /there is no column "no_such"/],
  ] as const;
  const expectRefused = async () => {
    for (const [table, where, why] of refused) {
      const { exitCode, stderr } = await start(pipeline, table, where);
      expect([where, exitCode, stderr]).toEqual([where, 1, expect.stringContaining("MR1323")]);
      expect(stderr).toMatch(why);
    }
    expect(await reads(pipeline)).toEqual([]);
  };
  await expectRefused();
  await pipeline.sinks.target!.query(
    "update person set remark = 'wrong' where id in (3, 5); update plain set v = 'wrong'",
  );
  // By the names at the source; of the rows that the filter leaves out, none counts.
  expect(await start(pipeline, "public.person", "note in ('note3', 'note4') or id = 4")).toMatchObject({ exitCode: 0 });
  expect(await start(pipeline, "public.plain", "id between 2 and 3")).toMatchObject({ exitCode: 0 });
  await pipeline.settled();
  expect(await reads(pipeline)).toMatchObject([
    { state: "done", rowsDone: 1 },
    { state: "done", rowsDone: 2 },
  ]);
  const wrong =
    "select id from person where remark = 'wrong' union all select -id from plain where v <> 'wrong' order by 1";
  const { rows } = await pipeline.sinks.target!.query(wrong);
  expect(rows).toEqual([{ id: -3 }, { id: -2 }, { id: 5 }]);
  await pipeline.daemon.stop();
  for (const [table, where] of refused)
    expect(await start(pipeline, table, where)).toMatchObject({
      exitCode: 1,
      stderr: expect.stringContaining("MR1323"),
    });
});

test("what is held back can't be asked either, when the rules that it stood under are gone", async () => {
  await using pipeline = await RunningPipeline.start(PREPARE, {
    kinds: ["postgres"],
    configure: (config: PipelineConfig) => ({ ...config, tables: RULES }),
  });
  await pipeline.settled();
  await pipeline.run("create table copied as select * from person; alter table copied add primary key (id)");
  const { installation, sinks, source } = pipeline;
  const heldBack = async () =>
    await eventually(async () => {
      const { tables } = await installation.status();
      expect(tables.suspended).toMatchObject([{ table: "public.copied", error: { code: "MR1033" } }]);
    });
  await heldBack();
  await pipeline.daemon.stop();
  const own = { kind: "postgres", url: source.url, heartbeat: "500ms" };
  installation.configure({ name: installation.name, source: own, sinks: sinks.config });
  const asks = "exists (select from copied where id = 3 and secret like 's%')";
  expect(await start(pipeline, "public.plain", asks)).toMatchObject({
    exitCode: 1,
    stderr: expect.stringContaining("MR1323"),
  });
  await pipeline.start();
  await heldBack();
  expect(await start(pipeline, "public.plain", asks)).toMatchObject({
    exitCode: 1,
    stderr: expect.stringContaining("MR1323"),
  });
  // Without it there is nothing to hide.
  await pipeline.run("drop table copied");
  await pipeline.daemon.stop();
  await pipeline.start();
  expect(await start(pipeline, "public.plain", "id = length('abc')")).toMatchObject({ exitCode: 0, stderr: "" });
});
