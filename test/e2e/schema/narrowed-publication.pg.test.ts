/** A publication that carried less for a while, and carries all again when somebody looks. */
import { test } from "vitest";
import type { FreshDatabase } from "../../support/run/fresh-database.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { needsPostgres } from "../../support/run/services.ts";

const PREPARE = `
  create table t (id int primary key, note text); insert into t select n, 'first' from generate_series(1, 50) n;
  create schema other; create table other.u (id int primary key, note text);
  insert into other.u select n, 'first' from generate_series(1, 50) n;`;
const CHANGES =
  "update t set note = 'later' where id < 20; delete from t where id > 40; update other.u set note = 'later'; delete from other.u where id < 10";

const publicationOf = (source: FreshDatabase) => `millrace_${source.name}`;

interface Narrowing {
  readonly what: string;
  readonly major?: number;
  /** The publication that is there before the daemon; by default its own. */
  readonly made?: string;
  readonly narrow: (publication: string) => string;
  readonly widen: (publication: string) => string;
}

const NARROWINGS: readonly Narrowing[] = [
  {
    what: "to inserts",
    narrow: (name) => `alter publication ${name} set (publish = 'insert')`,
    widen: (name) => `alter publication ${name} set (publish = 'insert, update, delete, truncate')`,
  },
  {
    what: "of all tables, to inserts",
    made: "for all tables with (publish_via_partition_root = true)",
    narrow: (name) => `alter publication ${name} set (publish = 'insert')`,
    widen: (name) => `alter publication ${name} set (publish = 'insert, update, delete, truncate')`,
  },
  {
    what: "by a schema",
    major: 15,
    made: "for tables in schema public, other with (publish_via_partition_root = true)",
    narrow: (name) => `alter publication ${name} drop tables in schema other`,
    widen: (name) => `alter publication ${name} add tables in schema other`,
  },
];

test.for([...NARROWINGS])("narrowed $what while the daemon is down", { tags: "heavy" }, async (narrowing, context) => {
  needsPostgres(narrowing.major ?? 14, context);
  await using pipeline = await started(narrowing);
  await pipeline.daemon.stop();
  await narrowed(pipeline, narrowing);
  await pipeline.start();
  await pipeline.expectEqual(["t", { schema: "other", table: "u" }]);
});

test.for([...NARROWINGS])("narrowed $what between two looks", async (narrowing, context) => {
  needsPostgres(narrowing.major ?? 14, context);
  await using pipeline = await started(narrowing);
  await narrowed(pipeline, narrowing);
  await pipeline.expectEqual(["t", { schema: "other", table: "u" }]);
});

test("a list of columns that comes and goes has the table read again", { tags: "heavy" }, async (context) => {
  needsPostgres(15, context);
  await using pipeline = await started(NARROWINGS[0]!);
  const name = publicationOf(pipeline.source);
  await pipeline.run(`alter publication ${name} set table t (id), other.u`);
  await pipeline.run(CHANGES);
  await pipeline.expectEqual([{ schema: "other", table: "u" }]);
  await pipeline.daemon.stop();
  await pipeline.run(`alter publication ${name} set table t, other.u`);
  await pipeline.start();
  await pipeline.expectEqual(["t", { schema: "other", table: "u" }]);
});

async function narrowed(pipeline: RunningPipeline, { narrow, widen }: Narrowing): Promise<void> {
  const name = publicationOf(pipeline.source);
  await pipeline.run(narrow(name));
  await pipeline.run(CHANGES);
  await pipeline.run(widen(name));
}

async function started({ made }: Narrowing): Promise<RunningPipeline> {
  const pipeline = await RunningPipeline.start(
    async (source) => {
      await source.query(PREPARE);
      if (made !== undefined) await source.query(`create publication ${publicationOf(source)} ${made}`);
    },
    {
      kinds: ["postgres"],
      configure: (config) => ({ ...config, source: { ...config.source, heartbeat: "60s" } }),
    },
  );
  await pipeline.expectEqual(["t", { schema: "other", table: "u" }]);
  return pipeline;
}
