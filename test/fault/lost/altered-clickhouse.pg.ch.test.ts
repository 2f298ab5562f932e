/** Somebody changes a ClickHouse sink's tables by hand: they are filled again, or a number says what is owed. */
import { expect, test } from "vitest";
import { askClickhouse, nameIn } from "../../support/warehouses/clickhouse-values.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { clickhouseUrl } from "../../support/run/services.ts";
import { sinkOf } from "../../support/faults/sink-loss.ts";
import { eventually } from "../../support/run/waiting.ts";

const PREPARE = `create table kept (id int primary key, body text, n int);
  insert into kept select g, repeat('k', g), g from generate_series(1, 100) g;
  create table moving (id int primary key)`;
const NOTICED = { withinMs: 60_000, everyMs: 250 };
const SINK = "clickhouse";

async function byHand({ sinks }: RunningPipeline, ...statements: readonly string[]): Promise<void> {
  const [database = ""] = sinks.databases;
  for (const sql of statements) {
    await askClickhouse(
      clickhouseUrl(),
      sql.replaceAll(/\bkept\w*/g, (table) => nameIn(database, table)),
    );
  }
}

/** No row of the table moves meanwhile. */
async function becomesEqual({ sinks, source, installation }: RunningPipeline): Promise<void> {
  await eventually(
    async () => expect(await sinks.differences(source.url, installation.folder, ["kept"])).toEqual([]),
    NOTICED,
  );
}

/** Statements after which the table does not hold what was written to it. */
const CHANGES = {
  renamed: ["RENAME TABLE kept TO kept_away"],
  "replaced by an empty one like it": ["CREATE TABLE kept_new AS kept", "EXCHANGE TABLES kept_new AND kept"],
  emptied: ["TRUNCATE TABLE kept"],
  "without one of its columns": ["ALTER TABLE kept DROP COLUMN body"],
  "with a column under another name": ["ALTER TABLE kept RENAME COLUMN body TO corpus"],
} as const;

/** The same, also where rows of the table stay, or come. */
const ROWS_GONE = {
  emptied: CHANGES.emptied,
  "emptied, with another row": ["TRUNCATE TABLE kept", "INSERT INTO kept (id, body) VALUES (1, 'by hand')"],
  "replaced by a part of it": [
    "CREATE TABLE kept_part AS kept",
    "INSERT INTO kept_part SELECT * FROM kept WHERE id <= 50",
    "EXCHANGE TABLES kept_part AND kept",
  ],
  "dropped and made again": [
    "CREATE TABLE kept_copy AS kept",
    "DROP TABLE kept SYNC",
    "CREATE TABLE kept AS kept_copy",
  ],
  "detached by its partition": ["ALTER TABLE kept DETACH PARTITION tuple()"],
  "put back as it was": [
    "CREATE TABLE kept_old AS kept",
    "INSERT INTO kept_old SELECT * FROM kept WHERE id <= 50",
    "ALTER TABLE kept REPLACE PARTITION tuple() FROM kept_old",
  ],
} as const;

test(
  "a table that moves no row is filled again when somebody renames, replaces, empties or alters it",
  { tags: "heavy" },
  async () => {
    await using pipeline = await RunningPipeline.start(PREPARE, { kinds: [SINK] });
    await pipeline.settled();
    for (const statements of Object.values(CHANGES)) {
      await byHand(pipeline, ...statements);
      await becomesEqual(pipeline);
    }
    expect(await sinkOf(pipeline, SINK)).toMatchObject({ needsPerson: false });
  },
);

test("a table whose view lost its target is suspended, and the others go on", { tags: "heavy" }, async () => {
  await using pipeline = await RunningPipeline.start(PREPARE, { kinds: [SINK] });
  const { installation } = pipeline;
  await pipeline.settled();
  await byHand(
    pipeline,
    "CREATE TABLE kept_days (id Int32) ENGINE = MergeTree ORDER BY id",
    "CREATE MATERIALIZED VIEW kept_view TO kept_days AS SELECT id FROM kept",
    "DROP TABLE kept_days SYNC",
  );
  await pipeline.run("update kept set n = 0 where id = 1; insert into moving values (1)");
  const moving = nameIn(pipeline.sinks.databases[0]!, "moving");
  await eventually(async () => {
    const { suspended } = (await installation.status()).tables;
    expect(suspended).toMatchObject([{ table: "public.kept", sink: SINK, error: { code: "MR1324" } }]);
    expect(await askClickhouse(clickhouseUrl(), `SELECT id FROM ${moving} FINAL`)).toHaveLength(1);
  });
  await byHand(pipeline, "DROP VIEW kept_view SYNC");
  const asked = await installation.command("snapshot", "start", "--tables", "public.kept", "--sink", SINK);
  expect(asked, asked.stderr).toMatchObject({ exitCode: 0 });
  await pipeline.expectEqual(["kept", "moving"]);
  expect(await sinkOf(pipeline, SINK)).toMatchObject({ needsPerson: false });
});

test.for(Object.entries(ROWS_GONE))(
  "a table that was %s while the daemon was down is filled again, though no row moves",
  { tags: "heavy" },
  async ([, statements]) => {
    await using pipeline = await RunningPipeline.start(PREPARE, { kinds: [SINK] });
    await pipeline.settled();
    await pipeline.daemon.stop();
    await byHand(pipeline, ...statements);
    await pipeline.start(false);
    await becomesEqual(pipeline);
    expect(await sinkOf(pipeline, SINK)).toMatchObject({ needsPerson: false });
  },
);

test(
  "a table that somebody empties is filled again, also if a row comes before the sink looks",
  { tags: "heavy" },
  async () => {
    await using pipeline = await RunningPipeline.start(PREPARE, {
      kinds: [SINK],
      configure: (config) => ({ ...config, source: { ...config.source, heartbeat: "5s" } }),
    });
    await pipeline.settled();
    await byHand(pipeline, "TRUNCATE TABLE kept");
    await pipeline.run("update kept set n = 0 where id = 1");
    await becomesEqual(pipeline);
  },
);

test(
  "merges, mutations and what an operator may add are no reason to fill a table again",
  { tags: "heavy" },
  async () => {
    await using pipeline = await RunningPipeline.start(PREPARE, { kinds: [SINK] });
    for (const id of [1, 2, 3]) {
      await pipeline.run(`update kept set n = 0 where id = ${id}; delete from kept where id = 10 + ${id}`);
      await pipeline.settled();
    }
    const before = await pipeline.lastRead();
    const harmless = [
      "ALTER TABLE kept UPDATE body = body WHERE id % 2 = 0",
      "OPTIMIZE TABLE kept FINAL",
      "ALTER TABLE kept ADD INDEX by_n n TYPE minmax",
      "ALTER TABLE kept MATERIALIZE INDEX by_n",
      "ALTER TABLE kept MODIFY SETTING allow_experimental_replacing_merge_with_cleanup = 1",
      "OPTIMIZE TABLE kept FINAL CLEANUP",
    ];
    await byHand(pipeline, ...harmless);
    await pipeline.run("update kept set n = 0 where id = 4");
    await pipeline.settled();
    await pipeline.daemon.stop();
    await byHand(pipeline, ...harmless.filter((sql) => !sql.includes("INDEX")));
    await pipeline.start();
    await pipeline.run("update kept set n = 0 where id = 5");
    await pipeline.expectEqual(["kept", "moving"]);
    expect(await pipeline.lastRead()).toBe(before);
  },
);

test("a history that somebody empties while the daemon is down stops by number", { tags: "heavy" }, async () => {
  await using pipeline = await RunningPipeline.start(PREPARE, { kinds: ["clickhouse-history"] });
  await pipeline.settled();
  await pipeline.daemon.stop();
  await byHand(pipeline, "TRUNCATE TABLE kept");
  await pipeline.start(false);
  await eventually(async () => {
    const { state, error } = await sinkOf(pipeline, "clickhouse-history");
    expect({ state, code: error?.code }).toEqual({ state: "failed", code: "MR1315" });
  }, NOTICED);
});

test(
  "a column that somebody gave another type of the same width takes no row, and the table is suspended by number",
  { tags: "heavy" },
  async () => {
    await using pipeline = await RunningPipeline.start(PREPARE, { kinds: [SINK] });
    await pipeline.settled();
    await byHand(pipeline, "ALTER TABLE kept MODIFY COLUMN n Nullable(Float32)");
    await pipeline.run("update kept set n = 1000 where id = 1");
    await eventually(async () => {
      const { conditions } = await pipeline.installation.status();
      expect(JSON.stringify(conditions)).toContain("MR3107");
    }, NOTICED);
    const [database = ""] = pipeline.sinks.databases;
    const stored = await askClickhouse(
      clickhouseUrl(),
      `SELECT n FROM ${nameIn(database, "kept_current")} WHERE id = 1`,
    );
    expect(stored).toEqual([["1"]]);
  },
);

test("a history that somebody empties, or robs of a column, stops by number", { tags: "heavy" }, async () => {
  await using pipeline = await RunningPipeline.start(PREPARE, { kinds: ["clickhouse-history"] });
  await pipeline.settled();
  await byHand(pipeline, "ALTER TABLE kept DROP COLUMN body");
  const stops = async (): Promise<void> =>
    await eventually(async () => {
      const { state, error } = await sinkOf(pipeline, "clickhouse-history");
      expect({ state, code: error?.code }).toEqual({ state: "failed", code: "MR1315" });
    }, NOTICED);
  await stops();
  await pipeline.installation.command("snapshot", "start", "--sink", "clickhouse-history");
  await becomesEqual(pipeline);
  // A history that is not complete yet is read again instead.
  await pipeline.settled();
  await byHand(pipeline, "TRUNCATE TABLE kept");
  await stops();
});
