/**
 * `reconcile` and keys that only one side can hold: MySQL's odd ones are no drift, and a foreign one stops no table.
 * @module-tag heavy
 */
import { describe, expect, test } from "vitest";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { driftOf, reconcile } from "../../support/daemon/reconciled.ts";
import { freshDatabase, mysqlFlavours, postgres } from "../../support/run/services.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";

const FOREIGN = "日本";

/** Texts with NUL, which Postgres can't hold, and a label that the ENUM does not have. */
const ODD = [
  "create table nuls (k varchar(20) character set utf8mb4 collate utf8mb4_bin primary key, n int)",
  "insert into nuls values ('plain', 1), (concat('a', char(0), 'b'), 2), (concat('z', char(0)), 3)",
  "create table labels (k enum('a','b') not null, n int not null, primary key (k, n))",
  "set sql_mode = ''",
  "insert into labels values ('a', 1), ('no such label', 2), ('', 3)",
];

const WESTERN = [
  "create table western (k varchar(20) character set latin1 collate latin1_swedish_ci primary key, n int)",
  "insert into western values ('ä', 1), ('b', 2), ('?', 3)",
  "create table hours (k time primary key, n int)",
  "insert into hours values ('-12:00:00', 1), ('838:00:00', 2)",
];

describe.each(mysqlFlavours)("%s", (flavour) => {
  test("keys with NUL, and of a label that does not exist, are no drift", async () => {
    await using pipeline = await MysqlPipeline.start(flavour, ODD, { kinds: ["duckdb", "redis", "elasticsearch"] });
    await pipeline.settled();
    for (const mode of ["full", "fast"]) {
      const { exitCode, found } = await reconcile(pipeline.installation, "--mode", mode);
      expect({ mode, exitCode, drift: driftOf(found), rest: found.notComparable }).toEqual({
        mode,
        exitCode: 0,
        drift: {},
        rest: [],
      });
      expect(found.tables.map(({ sourceRows, sinkRows }) => [sourceRows, sinkRows])).toEqual(
        found.tables.map(() => [3, 3]),
      );
    }
  });

  test("a row under a key that the source's character set or type can't hold is extra, and goes by a repair", async () => {
    await using pipeline = await MysqlPipeline.start(flavour, WESTERN, { kinds: ["duckdb", "postgres", "redis"] });
    await pipeline.settled();
    const { name } = pipeline.source;
    const rows = [
      `insert into "${name}".western select '${FOREIGN}', n, _millrace_version, _millrace_commit_time from "${name}".western where k = 'b'`,
      `insert into "${name}".hours select 'noon', n, _millrace_version, _millrace_commit_time from "${name}".hours where n = 1`,
    ];
    await pipeline.sinks.target!.query(rows.join(";"));
    const drift = { postgres: [`${name}.hours noon extra`, `${name}.western ${FOREIGN} extra`] };
    const { exitCode, found } = await reconcile(pipeline.installation, "--repair", "--patience", "5s");
    expect({ exitCode, drift: driftOf(found), rest: found.notComparable }).toEqual({ exitCode: 3, drift, rest: [] });
    expect(found.tables.reduce((sum, { repaired }) => sum + repaired, 0)).toBe(2);
    const after = await reconcile(pipeline.installation, "--patience", "5s");
    expect({ exitCode: after.exitCode, drift: driftOf(after.found) }).toEqual({ exitCode: 0, drift: {} });
    expect(pipeline.daemon.said).not.toMatch(/can't be read beside the stream/);
  });
});

test("postgres: a row under a key that the source's encoding can't hold is extra, and goes by a repair", async () => {
  await using source = await freshDatabase(postgres(), "LATIN1");
  await using pipeline = await RunningPipeline.start(
    `create table western (k text primary key, n int); insert into western values ('ä', 1), ('b', 2)`,
    { kinds: ["duckdb", "postgres"], source },
  );
  await pipeline.settled();
  await pipeline.sinks.target!.query(
    `insert into western select '${FOREIGN}', n, _millrace_version, _millrace_commit_time from western where k = 'b'`,
  );
  const { exitCode, found } = await reconcile(pipeline.installation, "--repair", "--patience", "5s");
  expect({ exitCode, drift: driftOf(found), rest: found.notComparable }).toEqual({
    exitCode: 3,
    drift: { postgres: [`public.western ${FOREIGN} extra`] },
    rest: [],
  });
  const after = await reconcile(pipeline.installation, "--patience", "5s");
  expect({ exitCode: after.exitCode, drift: driftOf(after.found) }).toEqual({ exitCode: 0, drift: {} });
});
