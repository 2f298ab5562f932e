/**
 * Tables that leave the configuration, of the source or of one sink, and come back to it: no change is missed.
 * @module-tag heavy
 */
import { test } from "vitest";
import { type PipelineConfig, RunningPipeline } from "../../support/daemon/running-pipeline.ts";

const PUBLICATIONS = ["made by the daemon", "of all tables, made by somebody else"];

test.each(PUBLICATIONS)("a table that was left out for a while is read again: publication %s", async (kind) => {
  let whole: PipelineConfig | undefined;
  await using pipeline = await RunningPipeline.start(
    `create table a (id int primary key, n int); insert into a select g, 0 from generate_series(1, 20) g;
     create table b (id int primary key, n int); insert into b select g, 0 from generate_series(1, 20) g;
     create publication everything for all tables`,
    {
      kinds: ["duckdb", "redis"],
      configure: (config) =>
        (whole =
          kind === PUBLICATIONS[0] ? config : { ...config, source: { ...config.source, publication: "everything" } }),
    },
  );
  await pipeline.expectEqual(["a", "b"]);
  const { name, source, sinks } = whole!;
  const restartWith = async (config: PipelineConfig): Promise<void> => {
    await pipeline.daemon.stop();
    pipeline.installation.configure(config);
    await pipeline.start();
  };
  const change =
    "update a set n = n + 1 where id < 5; delete from a where id = (select max(id) from a); update b set n = n + 1";

  await restartWith({ name, source: { ...source, tables: ["public.*", "!public.a"] }, sinks });
  await pipeline.run(change);
  await pipeline.expectEqual(["b"]);
  await restartWith({ name, source, sinks });
  await pipeline.expectEqual(["a", "b"]);

  const narrowed = Object.entries(sinks).map(([sink, options]) => [
    sink,
    { ...options, tables: ["public.*", "!public.a"] },
  ]);
  await restartWith({ name, source, sinks: Object.fromEntries(narrowed) });
  await pipeline.run(change);
  await pipeline.expectEqual(["b"]);
  await restartWith({ name, source, sinks });
  await pipeline.expectEqual(["a", "b"]);
});
