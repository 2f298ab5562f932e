/**
 * `reconcile` and keys of MySQL and MariaDB whose ids are digests, of types that stores spell otherwise: right rows are no drift.
 * @module-tag heavy
 */
import { expect, test } from "vitest";
import { driftOf, reconcile } from "../../support/daemon/reconciled.ts";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { freshKeyPrefix, mysqlFlavours } from "../../support/run/services.ts";

const PARTS: Readonly<Record<string, readonly string[]>> = {
  bytes: ["varbinary(20)", "x'00ff'", "x''"],
  fixed: ["binary(4)", "x'0100'"],
  yes: ["bit(1)", "b'1'", "b'0'"],
  bits: ["bit(10)", "b'1010101010'"],
  clock: ["time(6)", "'-838:59:59'", "'12:34:56.1'", "'00:00:00'"],
  plain_seen: ["datetime(6)", "'2020-01-02 03:04:05.6'"],
  seen: ["timestamp(3) not null default current_timestamp(3)", "'2020-01-02 03:04:05.6'"],
  day: ["date", "'2020-01-02'", "'0001-01-01'"],
  year: ["year", "1901", "2155"],
  chosen: ["enum('a','b:c','')", "'a'", "'b:c'", "''"],
  several: ["set('a','b')", "'a,b'", "''"],
  amount: ["decimal(65,30)", "1.5", "-0.000", "99999999999999999999999999999999999.999999999999999999999999999999"],
  large: ["bigint unsigned", "18446744073709551615"],
  tiny: ["tinyint(1)", "1", "0", "5"],
  single: ["float", "0.1", "16777216", "-1e-30"],
  double: ["double", "0.1", "1e300", "-0e0"],
  blanks: ["char(10)", "'a'", "'B '"],
  latin: ["varchar(20) character set latin1", "'ä'"],
};
const OF_MARIADB: typeof PARTS = {
  uuid: ["uuid", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"],
  address: ["inet6", "'::ffff:1.2.3.4'"],
};
const LONG = "x".repeat(600);

test.each(mysqlFlavours)("%s: right rows are no drift, whatever their keys are made of", async (flavour) => {
  const parts = Object.entries(flavour === "mariadb" ? { ...PARTS, ...OF_MARIADB } : PARTS);
  await using texts = freshKeyPrefix();
  await using pipeline = await MysqlPipeline.start(
    flavour,
    parts.flatMap(([part, [type, ...values]]) => [
      `create table k_${part} (k ${type}, filler varchar(600) character set latin1, n int, primary key (k, filler))`,
      `insert into k_${part} values ${values.map((value) => `(${value}, '${LONG}', 1)`).join(", ")}`,
    ]),
    {
      kinds: ["duckdb", "postgres", "redis", "elasticsearch", "sqlite"],
      sinks: (config) => ({ ...config, texts: { ...config["redis"], prefix: texts.prefix, format: "json" } }),
    },
  );
  await pipeline.run(...parts.map(([part]) => `update k_${part} set n = 2`));
  await pipeline.settled();
  const { exitCode, found } = await reconcile(pipeline.installation);
  expect({ exitCode, drift: driftOf(found), rest: found.notComparable }).toEqual({
    exitCode: 0,
    drift: {},
    rest: [],
  });
  expect(found.tables).toHaveLength(6 * parts.length);
});
