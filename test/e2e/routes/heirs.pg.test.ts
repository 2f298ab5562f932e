/** Tables that inherit from one are one table by two routes, also one that comes later. */
import { expect, test } from "vitest";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";

test("a tree of tables is one table", { tags: "heavy" }, async () => {
  const prepare = `
    create table measures (id int primary key, value text); insert into measures values (1, 'parent');
    create table measures_a (primary key (id)) inherits (measures); insert into measures_a values (1, 'a')`;
  await using pipeline = await RunningPipeline.start(prepare, {
    kinds: ["postgres", "sqlite"],
    configure: (config) => ({
      ...config,
      source: { ...config.source, tables: ["public.measures*"] },
      tables: {
        "public.measures": { into: "all.measures", add: { part: "" } },
        "public.measures_*": { into: "all.measures", add: { part: "$1" } },
      },
    }),
  });
  await pipeline.run(`
    create table measures_b (more int, primary key (id)) inherits (measures); insert into measures_b values (1, 'b', 5), (2, 'c', 6);
    update measures set value = value || '!'; delete from measures where id = 2`);
  await pipeline.settled();
  const { rows } = await pipeline.sinks.target!.query('select part, id, value, more from "all".measures order by part');
  expect(rows).toEqual([
    { part: "", id: "1", value: "parent!", more: null },
    { part: "a", id: "1", value: "a!", more: null },
    { part: "b", id: "1", value: "b!", more: "5" },
  ]);
  const { exitCode, stdout } = await pipeline.installation.command("reconcile");
  expect({ exitCode }, stdout).toEqual({ exitCode: 0 });
});
