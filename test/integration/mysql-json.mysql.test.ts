import { expect, test } from "vitest";
import { endOfLog, readLog } from "../support/mysql/mysql-log.ts";
import { decodeLog } from "../support/mysql/mysql-rows.ts";
import { Random, testSeed } from "../support/run/random.ts";
import { freshMysqlDatabase, mysqlUrl } from "../support/run/services.ts";

const url = (): string => mysqlUrl("mysql");

/** Numbers near where the server begins to write exponents, and numbers of any size. */
function doubles(random: Random): string[] {
  const near = Array.from({ length: 61 }, (_, i) => i - 30).flatMap((exponent) =>
    ["1", "1.5", "-1.2345678901234567", "9.999999999999999"].map((mantissa) => `${mantissa}e${exponent}`),
  );
  const bits = new DataView(new ArrayBuffer(8));
  const any = Array.from({ length: 500 }, () => {
    for (let i = 0; i < 8; i++) bits.setUint8(i, random.below(256));
    return bits.getFloat64(0);
  });
  const large = Array.from({ length: 500 }, () => 1e15 + random.next() * 9e15);
  return [...near, ...[...any, ...large].filter(Number.isFinite).map((value) => value.toExponential())];
}

function anyDocument(random: Random, depth: number): unknown {
  const kind = random.below(depth > 5 ? 5 : 8);
  if (kind === 0) return random.pick([null, true, false]);
  if (kind === 1) return random.below(2 ** 33) - 2 ** 32;
  if (kind === 2) return random.text(random.below(300));
  if (kind === 3) return random.next() * 10 ** random.below(20);
  if (kind === 4)
    return random.pick([{}, [], "", 0, 65_535, 65_536, -32_769, 4_294_967_295, "\u0001\u001f\u007f\u2028𝄞"]);
  if (kind === 5) return Array.from({ length: random.below(6) }, () => anyDocument(random, depth + 1));
  const names = Array.from({ length: random.below(6) }, () => random.text(random.below(12)));
  return Object.fromEntries(names.map((name) => [name, anyDocument(random, depth + 1)]));
}

test("documents are printed byte for byte as the server prints them", async () => {
  const random = new Random(testSeed());
  await using database = await freshMysqlDatabase(url());
  const { connection } = database;
  const from = await endOfLog(url());
  await connection.query("create table t (id int auto_increment primary key, j json)");
  const large = Object.fromEntries(
    Array.from({ length: 3_000 }, (_, i) => [`k${i}`, [i, i * 1e5, "v".repeat(40), { a: i }]]),
  );
  const documents = [
    ...doubles(random),
    "-0.0",
    "18446744073709551615",
    "-9223372036854775808",
    "9223372036854775807",
    "-2147483648",
    "4294967296",
    ...Array.from({ length: 300 }, () => JSON.stringify(anyDocument(random, 0))),
    `${"[".repeat(99)}1${"]".repeat(99)}`,
    JSON.stringify(large),
  ];
  for (let first = 0; first < documents.length; first += 500) {
    const part = documents.slice(first, first + 500);
    await connection.query(`insert into t (j) values ${part.map(() => "(?)").join(",")}`, part);
  }
  // Decimals of more digits than a column has, with a fraction and without.
  for (let digitCount = 60; digitCount <= 81; digitCount++) {
    const digits = "1234567890".repeat(9).slice(0, digitCount);
    for (const text of [digits, `-${digits}`, `${digits.slice(0, -7)}.${digits.slice(-7)}`, `0.${digits.slice(0, 30)}`])
      await connection.query(`insert into t (j) values (json_array(${text}))`);
  }
  for (const sql of OPAQUE) await connection.query(`insert into t (j) values (${sql})`);
  const printed = await database.texts("select id, j from t order by id");
  const { rows } = decodeLog(await readLog(url(), from), { schema: database.name });
  expect(rows.map(({ after }) => after)).toEqual(printed);
});

/** Values of SQL types that JSON has none for. */
const OPAQUE = [
  "json_object('d', date'2015-01-15', 't', cast('-23:24:25.5' as time(6)), 'dt', cast('2015-01-15 23:24:25.12' as datetime(6)))",
  "json_array(cast('838:59:59' as time), timestamp'2015-01-15 23:24:25', cast(2024 as year))",
  "json_array(cast(1.10 as decimal(10,2)), cast(-0.5 as decimal(5,3)), cast('12345678901234567890.12345678901' as decimal(65,11)), cast(0 as decimal(5,0)))",
  "json_array(x'00ff', cast('abc' as binary), b'101', cast('' as binary))",
  "json_array(cast(repeat('x', 57) as binary), cast(repeat('x', 58) as binary), cast(repeat('x', 200) as binary))",
  "json_array(st_geomfromtext('point(1 2)'), cast(0.1 as float))",
];
