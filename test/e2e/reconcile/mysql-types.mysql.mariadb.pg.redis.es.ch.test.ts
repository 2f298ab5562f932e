/**
 * `reconcile` and every type of MySQL and MariaDB with its edge values, in every form of sink: right rows are no drift.
 * @module-tag heavy
 */
import { expect, test } from "vitest";
import { driftOf, reconcile } from "../../support/daemon/reconciled.ts";
import type { SinkKind } from "../../support/daemon/sink-set.ts";
import { EDGE_TYPES } from "../../support/mysql/mysql-edge-values.ts";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { freshKeyPrefix, isMysqlFrom, mysqlFlavours } from "../../support/run/services.ts";

const KINDS: readonly SinkKind[] = [
  "clickhouse",
  "clickhouse-history",
  "duckdb",
  "ducklake",
  "elasticsearch",
  "postgres",
  "redis",
  "sqlite",
];
const LENIENT = "set sql_mode = 'ALLOW_INVALID_DATES,NO_ENGINE_SUBSTITUTION', time_zone = '+00:00', names utf8mb4";

test.each(mysqlFlavours)("%s: rows of every type are no drift, copied and from the log", async (flavour) => {
  const types = EDGE_TYPES.filter(
    ({ only = flavour, since }) => only === flavour && (since === undefined || isMysqlFrom(flavour, since)),
  );
  const columns = types.map(({ native }, i) => `c${i} ${native}${native.startsWith("timestamp") ? " null" : ""}`);
  const fill = (table: string): string[] =>
    types.flatMap(({ values }, i) => values.map((value) => `insert into ${table} (c${i}) values (${value})`));
  const make = (table: string): string =>
    `create table ${table} (id int auto_increment primary key, ${columns.join(", ")}) character set utf8mb4`;
  await using texts = freshKeyPrefix();
  await using pipeline = await MysqlPipeline.start(
    flavour,
    [LENIENT, make("copied"), make("streamed"), ...fill("copied")],
    {
      kinds: KINDS,
      sinks: (config) => ({ ...config, texts: { ...config["redis"], prefix: texts.prefix, format: "json" } }),
    },
  );
  await pipeline.run(LENIENT, ...fill("streamed"));
  await pipeline.settled();
  const { exitCode, found } = await reconcile(pipeline.installation);
  const typed = Object.fromEntries(
    Object.entries(driftOf(found)).map(([sink, lines]) => [
      sink,
      lines.map((line) => line.replaceAll(/\bc(\d+)\b/g, (_, i: string) => types[Number(i)]!.native)),
    ]),
  );
  expect({ exitCode, drift: typed, rest: found.notComparable }).toEqual({ exitCode: 0, drift: {}, rest: [] });
  expect(found.tables).toHaveLength(2 * (KINDS.length + 1));
});
