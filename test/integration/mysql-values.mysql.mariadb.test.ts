import type { Connection } from "mysql2/promise";
import { describe, expect, test } from "vitest";
import type { RowPlan } from "../../connectors/mysql/source/values/cell-plan.ts";
import { sqlExpression, writeSqlCell } from "../../connectors/mysql/source/snapshot/selected-rows.ts";
import { ByteWriter } from "../../src/core/bytes.ts";
import { TupleWriter } from "../../src/core/model/tuple.ts";
import { EDGE_TYPES } from "../support/mysql/mysql-edge-values.ts";
import { endOfLog, readLog } from "../support/mysql/mysql-log.ts";
import { decodeLog, rawCells } from "../support/mysql/mysql-rows.ts";
import { Random, testSeed } from "../support/run/random.ts";
import {
  freshMysqlDatabase,
  isMysqlFrom,
  mysqlFlavours,
  mysqlUrl,
  type MysqlFlavour,
} from "../support/run/services.ts";

const LENIENT = "set sql_mode = 'ALLOW_INVALID_DATES', time_zone = '+00:00', names utf8mb4";

/** Every row as a SELECT by the text protocol gives it, in cells. */
async function selectedCells(connection: Connection, plan: RowPlan, columnCount: number): Promise<string[][]> {
  const names = ["id", ...Array.from({ length: columnCount }, (_, i) => `c${i}`)];
  const [rows] = await connection.query({
    sql: `select ${names.map((name, i) => sqlExpression(plan, i, name)).join(", ")} from every order by id`,
    rowsAsArray: true,
    typeCast: (field) => field.buffer(),
  });
  const out = new ByteWriter();
  const tuples = new TupleWriter(out);
  return (Array.isArray(rows) ? rows : []).map((row: unknown) => {
    out.reset();
    tuples.begin(names.length);
    const values: readonly unknown[] = Array.isArray(row) ? row : [];
    values.forEach((value, i) => {
      if (value instanceof Uint8Array) writeSqlCell(out, plan, i, value, 0, value.length);
      else tuples.null();
    });
    return rawCells(out.bytes, 0);
  });
}

function typesOf(flavour: MysqlFlavour) {
  return EDGE_TYPES.filter(
    ({ only = flavour, since }) => only === flavour && (since === undefined || isMysqlFrom(flavour, since)),
  );
}

describe.each(mysqlFlavours)("%s", (flavour) => {
  test("every value of every type is what the server says that it is", async () => {
    await using database = await freshMysqlDatabase(mysqlUrl(flavour));
    const { connection } = database;
    await connection.query(LENIENT);
    await connection.query(`alter database ${database.name} character set utf8mb4`);
    const types = typesOf(flavour);
    const from = await endOfLog(mysqlUrl(flavour));
    const columns = types.map(({ native }, i) => `c${i} ${native} null`);
    await connection.query(`create table every (id int primary key, ${columns.join(", ")})`);
    const rowCount = Math.max(...types.map(({ values }) => values.length));
    for (let row = 0; row < rowCount; row++) {
      const values = types.map((type) => type.values[row] ?? "null");
      await connection.query(`insert into every values (${row}, ${values.join(", ")})`);
    }
    const oracles = types.map(({ oracle }, i) => oracle?.(`c${i}`) ?? `c${i}`);
    // From a session elsewhere in the world: what is in the log does not depend on it.
    const printed = await database.texts(`select id, ${oracles.join(", ")} from every order by id`);

    const { rows, maps } = decodeLog(await readLog(mysqlUrl(flavour), from), { schema: database.name });
    expect(rows).toHaveLength(rowCount);
    const wrong = printed.flatMap((row, r) =>
      types.flatMap(({ native, canonical, values }, i) => {
        const said = row[i + 1] ?? null;
        const expected = said === null ? null : (canonical ?? ((text: string) => text))(said);
        const found = rows[r]?.after?.[i + 1];
        return found === expected ? [] : [{ native: native.slice(0, 60), value: values[r], expected, found }];
      }),
    );
    expect(wrong).toEqual([]);

    // The same rows by SELECT are the same bytes.
    const selected = await selectedCells(database.connection, maps[0]!.plan!, types.length);
    const other = selected.flatMap((row, r) =>
      row.flatMap((cell, i) =>
        cell === rows[r]?.afterCells[i] ? [] : [{ native: types[i - 1]?.native.slice(0, 60), row: r, cell }],
      ),
    );
    expect(other).toEqual([]);
  });

  test("a number keeps the digits that its column no longer prints", async () => {
    await using database = await freshMysqlDatabase(mysqlUrl(flavour));
    const { connection } = database;
    await connection.query("create table every (id int primary key, c0 double, c1 float)");
    await connection.query("insert into every values (1, 1.23456, 1.23456), (2, -123456789.98765, 0.1), (3, 0, 0)");
    await connection.query("alter table every modify c0 double(20,1), modify c1 float(7,1)");
    const from = await endOfLog(mysqlUrl(flavour));
    await connection.query("update every set id = id + 10");
    const { rows, maps } = decodeLog(await readLog(mysqlUrl(flavour), from), { schema: database.name });
    const selected = await selectedCells(connection, maps[0]!.plan!, 2);
    expect(selected.map(([, ...cells]) => cells)).toEqual(rows.map(({ afterCells: [, ...cells] }) => cells));
  });

  test("random numbers and times are what the server says that they are", async () => {
    const random = new Random(testSeed());
    const digits = (count: number): string => Array.from({ length: count }, () => random.below(10)).join("");
    const two = (below: number): string => String(random.below(below)).padStart(2, "0");
    const decimals = Array.from({ length: 12 }, () => {
      const precision = 1 + random.below(65);
      return { precision, scale: random.below(Math.min(precision, 30) + 1) };
    });
    const row = (): string[] => [
      ...decimals.map(({ precision, scale }) => {
        const whole = digits(random.below(precision - scale + 1));
        return `${random.chance(0.5) ? "-" : ""}${whole === "" ? "0" : whole}${scale === 0 ? "" : `.${digits(scale)}`}`;
      }),
      `0x${Buffer.from(Array.from({ length: 8 }, () => random.below(256))).toString("hex")} + 0`,
      `'${String(random.below(10_000)).padStart(4, "0")}-${two(13)}-${two(32)} ${two(24)}:${two(60)}:${two(60)}.${digits(6)}'`,
      `'${random.chance(0.5) ? "-" : ""}${random.below(838)}:${two(60)}:${two(60)}.${digits(4)}'`,
    ];
    await using database = await freshMysqlDatabase(mysqlUrl(flavour));
    await database.connection.query(LENIENT);
    const from = await endOfLog(mysqlUrl(flavour));
    const columns = decimals.map(({ precision, scale }, i) => `d${i} decimal(${precision},${scale})`);
    await database.connection.query(
      `create table t (id int auto_increment primary key, ${columns.join(", ")}, b bigint unsigned, at datetime(6), span time(4))`,
    );
    const values = Array.from({ length: 200 }, () => `(null, ${row().join(", ")})`);
    await database.connection.query(`insert into t values ${values.join(", ")}`);
    const printed = await database.texts("select * from t order by id");
    const { rows } = decodeLog(await readLog(mysqlUrl(flavour), from), { schema: database.name, zeroDates: "text" });
    expect(rows.map(({ after }) => after)).toEqual(printed);
  });
});
