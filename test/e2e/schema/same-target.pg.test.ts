/** Tables of one name in several schemas, where the sink puts all into one. */
import { expect, test } from "vitest";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { eventually } from "../../support/run/waiting.ts";

test("a table gets the target of one that was dropped, with its own rows alone", async () => {
  await using pipeline = await RunningPipeline.start(
    `create schema a; create table a.item (id int primary key, body text, size int);
     insert into a.item select i, 'former', i from generate_series(1, 20) i`,
    {
      kinds: ["postgres"],
      configure: (config) => ({
        ...config,
        sinks: { postgres: { ...config.sinks["postgres"], schema: "one" } },
      }),
    },
  );
  const held = async (): Promise<unknown[]> =>
    (await pipeline.sinks.target!.query("select id, note from one.item order by id")).rows;
  await pipeline.settled();
  await pipeline.run("drop table a.item; create schema b; create table b.item (id int primary key, note text)");
  await pipeline.run("insert into b.item values (2, 'own'), (30, 'own')");
  await eventually(async () => {
    expect(await held()).toEqual([
      { id: 2, note: "own" },
      { id: 30, note: "own" },
    ]);
  });
  const { tables } = await pipeline.installation.status();
  expect(tables.suspended).toEqual([]);
});
