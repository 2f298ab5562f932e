/**
 * Filters on dates, times, and floats with decimals let through what the server's own SQL lets through, in copies and in the
 * stream, whatever zone and style of dates the server has.
 */
import { DatabaseSync } from "node:sqlite";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { Installation } from "../../support/daemon/daemon-process.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";

/** By column, its type, its values, and what is asked of it. */
type Asked = readonly [type: string, values: readonly string[], conditions: readonly string[]];

const POSTGRES: Readonly<Record<string, Asked>> = {
  d: [
    "date",
    [
      "0001-01-01",
      "0044-03-15 BC",
      "4713-11-24 BC",
      "1999-12-31",
      "2024-02-29",
      "2024-03-01",
      "5874897-12-31",
      "infinity",
      "-infinity",
    ],
    [
      "d < '0001-01-02'",
      "d >= '2024-02-29'",
      "d > '5874897-12-30'",
      "d = 'infinity'",
      "d between '0044-03-15 BC' and '1999-12-31'",
      "not (d <= '2024-02-29')",
    ],
  ],
  t: [
    "time",
    ["00:00:00", "09:00:00", "9:59:59.999999", "23:59:59.999999", "24:00:00"],
    ["t < '9:30'", "t >= '24:00'", "t = '9:00'", "t > '23:59:59'", "t in ('00:00', '24:00:00')"],
  ],
  z: [
    "timetz",
    [
      "00:00:00+00",
      "09:00:00+01",
      "09:00:00-01",
      "10:00:00+02",
      "24:00:00-15:59:59",
      "00:00:00+15:59:59",
      "08:00:00+00",
    ],
    ["z < '08:00+00'", "z = '8:00'", "z >= '10:00+02'", "z > '24:00+00'", "z between '00:00+15:59:59' and '08:00+00'"],
  ],
  l: [
    "timestamp",
    [
      "0044-03-15 12:00:00 BC",
      "1999-12-31 23:59:59.999999",
      "2024-03-10 02:30:00",
      "2024-11-03 01:30:00",
      "294276-12-31 23:59:59.999999",
      "infinity",
      "-infinity",
    ],
    [
      "l < '2024-03-10 02:30'",
      "l >= '2024-11-03T01:30'",
      "l > '294276-12-31'",
      "l <> 'infinity'",
      "l <= '0044-03-15 12:00:00 BC'",
    ],
  ],
  w: [
    "timestamptz",
    [
      "2024-03-10 06:59:59+00",
      "2024-03-10 07:00:00+00",
      "2024-11-03 05:30:00+00",
      "2024-11-03 06:30:00+00",
      "0044-03-15 12:00:00+00 BC",
      "294276-12-31 23:59:59+00",
      "infinity",
      "1880-01-01 00:00:00+00",
    ],
    [
      "w < '2024-03-10 07:00'",
      "w >= '2024-11-03 01:30-05'",
      "w = '2024-11-03 01:30:00-04:00'",
      "w > '294276-12-31'",
      "w between '1879-12-31 23:00-01:00' and '2024-03-10T06:59:59Z'",
    ],
  ],
  i: [
    "interval",
    [
      "1 day",
      "24:00:00",
      "1 mon",
      "30 days",
      "1 year -1 mons 3 days -04:05:06.5",
      "-00:00:00.000001",
      "178000000 years",
      "0",
    ],
    ["i = '1 day'", "i < '00:00'", "i >= '30 days'", "i > '11 mons 02:00:00'", "i <= '-00:00:00.000001'"],
  ],
};

const MYSQL: Readonly<Record<string, Asked>> = {
  d: [
    "date",
    [
      "0000-00-00",
      "2024-00-00",
      "2024-02-00",
      "0001-01-01",
      "1000-01-01",
      "1999-12-31",
      "2024-02-29",
      "2024-03-01",
      "9999-12-31",
    ],
    [
      "d < '2000-01-01'",
      "d >= '2024-02-29'",
      "d <> '2024-02-29'",
      "d between '0001-01-01' and '1999-12-31'",
      "not (d > '2024-02-29')",
      "d is null",
    ],
  ],
  t: [
    "time(6)",
    [
      "00:00:00",
      "09:00:00",
      "-09:00:00.5",
      "-838:59:59",
      "838:59:59",
      "100:00:00",
      "-00:00:00.000001",
      "23:59:59.999999",
      "24:00:00",
    ],
    [
      "t < '9:00'",
      "t >= '24:00'",
      "t < '00:00'",
      "t > '99:59:59.999999'",
      "t between '-838:59:59' and '-0:00:00.000001'",
      "t = '-9:00:00.5'",
    ],
  ],
  l: [
    "datetime(6)",
    [
      "0000-00-00 00:00:00",
      "1000-01-01 00:00:00",
      "1999-12-31 23:59:59.999999",
      "2024-03-31 02:30:00",
      "2024-10-27 02:30:00",
      "9999-12-31 23:59:59.999999",
    ],
    ["l < '2024-03-31 02:30'", "l >= '2024-10-27T02:30'", "l > '9999-12-31 23:59:59'", "l is not null"],
  ],
  w: [
    "timestamp(6) null",
    [
      "0000-00-00 00:00:00",
      "1970-01-01 00:00:01",
      "2024-03-31 00:59:59.999999",
      "2024-03-31 01:00:00",
      "2024-10-27 00:30:00",
      "2024-10-27 01:30:00",
      "2038-01-19 03:14:07",
    ],
    ["w < '2024-03-31 01:00'", "w >= '2024-10-27T01:30'", "w = '2024-10-27 00:30:00'", "w > '2038-01-19'", "w is null"],
  ],
  f: [
    "float(7,2) unsigned",
    ["0", "1.10", "1.11", "12345.67", "99999.99"],
    ["f = 1.10", "f <= 1.1", "f < 1.11", "f <> 99999.99", "f between 1.1 and 12345.67"],
  ],
  g: ["double(9,3)", ["-0.35", "0.1", "999999.999"], ["g = 0.1", "g >= -0.35", "g > 999999.998", "g < f"]],
  y: ["year", ["0000", "1901", "1999", "2024", "2155"], ["y < 1999", "y >= 2024", "y = 0", "y between 1901 and 2024"]],
};

const conditionsOf = (all: Readonly<Record<string, Asked>>): readonly string[] =>
  Object.values(all).flatMap(([, , conditions]) => conditions);

/** One value in each row, first in the copy, then in the stream. */
function rowsOf(all: Readonly<Record<string, Asked>>): readonly string[] {
  const columns = Object.keys(all);
  let id = 0;
  return [0, 1].flatMap(() =>
    Object.entries(all).flatMap(([name, [, values]]) =>
      values.map(
        (value) => `(${[++id, ...columns.map((column) => (column === name ? `'${value}'` : "null"))].join(", ")})`,
      ),
    ),
  );
}

function shown({ folder }: Installation, table: string): unknown[] {
  using file = new DatabaseSync(join(folder, "replica.sqlite"), { readOnly: true });
  return file
    .prepare(`select id from "${table}" order by id`)
    .all()
    .map(({ id }) => id);
}

const POSTGRES_TABLE = `(id int primary key, ${Object.entries(POSTGRES)
  .map(([name, [type]]) => `${name} ${type}`)
  .join(", ")})`;
const MYSQL_TABLE = `(id int primary key, ${Object.entries(MYSQL)
  .map(([name, [type]]) => `${name} ${type}`)
  .join(", ")})`;

describe("times in filters", { tags: "heavy" }, () => {
  test.each([
    ["UTC", "ISO, MDY", "postgres"],
    ["America/New_York", "German, DMY", "sql_standard"],
    ["Asia/Kolkata", "SQL, DMY", "iso_8601"],
  ])(
    "postgres in zone %s, dates %s, intervals %s",
    async (zone, dates, intervals) => {
      const conditions = conditionsOf(POSTGRES);
      const rows = rowsOf(POSTGRES);
      const half = rows.length / 2;
      await using pipeline = await RunningPipeline.start(
        async (source) => {
          const [row] = (await source.query<{ name: string }>("select current_database() as name")).rows;
          for (const [setting, value] of [
            ["timezone", zone],
            ["datestyle", dates],
            ["intervalstyle", intervals],
          ])
            await source.query(`alter database "${row!.name}" set ${setting} = '${value}'`);
          await source.query(`create table every ${POSTGRES_TABLE}`);
          for (const i of conditions.keys())
            await source.query(
              `create table f${i} ${POSTGRES_TABLE}; alter table f${i} replica identity full; insert into f${i} values ${rows.slice(0, half).join(", ")}`,
            );
          await source.query(`insert into every values ${rows.join(", ")}`);
        },
        {
          kinds: ["sqlite"],
          configure: (config) => ({
            ...config,
            tables: Object.fromEntries(conditions.map((where, i) => [`public.f${i}`, { where }])),
          }),
        },
      );
      for (const i of conditions.keys()) await pipeline.run(`insert into f${i} values ${rows.slice(half).join(", ")}`);
      await pipeline.settled();
      await using client = await pipeline.source.connect();
      await client.query("set timezone = 'UTC'; set datestyle = 'ISO'; set intervalstyle = 'postgres'");
      for (const [i, where] of conditions.entries()) {
        const { rows: found } = await client.query<{ id: number }>(`select id from every where ${where} order by id`);
        const wanted = found.map(({ id }) => id);
        expect.soft({ where, ids: shown(pipeline.installation, `public.f${i}`) }).toEqual({ where, ids: wanted });
      }
    },
    200_000,
  );

  test.each(["mysql", "mariadb"] as const)(
    "%s",
    async (flavour) => {
      const conditions = conditionsOf(MYSQL);
      const rows = rowsOf(MYSQL);
      const half = rows.length / 2;
      const session = ["set time_zone = '+00:00'", "set sql_mode = 'ALLOW_INVALID_DATES'"];
      const prepare = [
        ...session,
        `create table every ${MYSQL_TABLE}`,
        `insert into every values ${rows.join(", ")}`,
        ...conditions.flatMap((_, i) => [
          `create table f${i} ${MYSQL_TABLE}`,
          `insert into f${i} values ${rows.slice(0, half).join(", ")}`,
        ]),
        // As filters take them: a date that does not exist is null.
        "update every set d = null where d < '0001-01-01' or month(d) = 0 or day(d) = 0",
        "update every set l = null where l < '0001-01-01'",
        "update every set w = null where w + 0 = 0",
      ];
      await using pipeline = await MysqlPipeline.start(flavour, prepare, {
        kinds: ["sqlite"],
        rules: Object.fromEntries(conditions.map((where, i) => [`f${i}`, { where }])),
      });
      for (const sql of session) await pipeline.source.connection.query(sql);
      for (const i of conditions.keys()) await pipeline.run(`insert into f${i} values ${rows.slice(half).join(", ")}`);
      await pipeline.settled();
      for (const [i, where] of conditions.entries()) {
        const wanted = (await pipeline.source.texts(`select id from every where ${where} order by id`)).map(([id]) =>
          Number(id),
        );
        expect
          .soft({ where, ids: shown(pipeline.installation, `${pipeline.source.name}.f${i}`) })
          .toEqual({ where, ids: wanted });
      }
    },
    200_000,
  );
});
