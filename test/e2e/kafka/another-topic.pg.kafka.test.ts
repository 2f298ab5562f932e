/** One topic for all tables, under another name at the next start. */
import { expect, test } from "vitest";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { restartWith } from "../../support/faults/sink-loss.ts";
import { eventually } from "../../support/run/waiting.ts";

test(
  "another `topic` is another place: it gets every row of every table, also when the first one comes back",
  { tags: "heavy" },
  async () => {
    let options: Readonly<Record<string, unknown>> = {};
    await using pipeline = await RunningPipeline.start(
      `create table item (id int primary key, v text); insert into item select g, 'first' from generate_series(1, 5) g;
    create table side (id int primary key); insert into side select g from generate_series(1, 3) g`,
      {
        kinds: ["kafka"],
        configure: (config) => {
          options = { ...config.sinks["kafka"], topic: "one" };
          return { ...config, sinks: { kafka: options } };
        },
      },
    );
    const rowsIn = async (topic: string) => {
      const records = await pipeline.sinks.topics!.read(`${String(options["prefix"])}${topic}`);
      const read = records.map(({ key, value }) => [key, JSON.parse(value!).after] as const);
      return new Map(read.filter(([, row]) => row != null));
    };
    await eventually(async () => expect((await rowsIn("one")).size).toBe(8));
    for (const [topic, v] of [
      ["two", "second"],
      ["one", "third"],
    ] as const) {
      await restartWith(pipeline, { kafka: { ...options, topic } });
      await pipeline.run(
        `insert into side values (${topic === "two" ? 4 : 5}); update item set v = '${v}' where id = 1`,
      );
      const size = topic === "two" ? 9 : 10;
      await eventually(async () => {
        const rows = await rowsIn(topic);
        expect([rows.size, [...rows.values()].filter((row) => row.v === v)]).toEqual([size, [{ id: 1, v }]]);
      });
    }
  },
);
