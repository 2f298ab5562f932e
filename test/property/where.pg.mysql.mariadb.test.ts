/**
 * Row filters against the servers' own answers: random conditions over a column of each type, for rows of edge values.
 * Both sides get the condition as the same text.
 */
import { expect, test } from "vitest";
import { CatalogReader } from "../../connectors/mysql/source/catalog/catalog.ts";
import { catalogShape } from "../../connectors/mysql/source/catalog/shapes.ts";
import { columnType, type PgType } from "../../connectors/postgres/source/catalog/types.ts";
import { ByteWriter } from "../../src/core/bytes.ts";
import type { Column } from "../../src/core/model/schema.ts";
import { TupleWriter } from "../../src/core/model/tuple.ts";
import { bindWhere, TRUE } from "../../src/rules/where/condition.ts";
import { parseWhere } from "../../src/rules/where/syntax.ts";
import { ConditionRow } from "../../src/rules/where/values.ts";
import { Random, testSeed } from "../support/run/random.ts";
import { freshDatabase, freshMysqlDatabase, mysqlFlavours, mysqlUrl } from "../support/run/services.ts";
import { isLongForm } from "../support/run/service-suffixes.ts";

const ROWS = 60;
const CONDITIONS = isLongForm() ? 5000 : 400;

/** A column's type and its values as literals; those that follow are asked for, and stand in no row. */
type Typed = readonly [native: string, values: readonly string[], asked?: readonly string[]];

const quoted = (...texts: readonly string[]): string[] => texts.map((text) => `'${text.replaceAll("'", "''")}'`);

const WHOLE = ["0", "-1", "7", "10", "9"];
const DECIMALS = ["0.00", "-1.50", "7.25", "10.00", "9.99", "99999999.99"];
const TEXTS = quoted("", "a", "A", "ab", "b", "ä", "Z", "it's", "100%", "a_b", "\u{1f600}", "\uffff");
const DAYS = quoted("2024-02-29", "1999-12-31", "2024-03-01", "9999-12-31");
const MOMENTS = quoted("2024-02-29 12:00:00", "2024-02-29 12:00:00.5", "1999-12-31 23:59:59", "2024-02-29 00:00:00");
const CLOCKS = quoted("09:00:00", "10:00:00", "09:59:59.5", "00:00:00", "23:59:59");
/** Can only be tested for null. */
const CLOSED = new Set(["bytea", "jsonb", "integer[]", "money", "int4range", "point", "blob", "json"]);

const POSTGRES: readonly Typed[] = [
  ["smallint", WHOLE],
  ["bigint", [...WHOLE, "9007199254740993", "9007199254740992"], ["9007199254740992.5"]],
  ["numeric(10,2)", DECIMALS, ["7.250", "1e3"]],
  ["numeric", [...DECIMALS, "'NaN'", "1e30", "'Infinity'", "'-Infinity'"]],
  // A number without quotes is a double to the server, whatever the column is.
  ["real", quoted("0.5", "0.1", "-1.5", "NaN", "16777217")],
  ["double precision", ["0.5", "-1.5", "'NaN'", "'Infinity'", "1e300", "0.1"]],
  ["boolean", ["true", "false"]],
  ['text collate "C"', TEXTS],
  ['varchar(20) collate "C"', TEXTS],
  ['character(4) collate "C"', quoted("", "a", "ab", "ab c", "b"), quoted("a ", "ab  ")],
  ["uuid", quoted("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "00000000-0000-0000-0000-000000000000")],
  ["date", [...DAYS, ...quoted("infinity", "-infinity", "0044-03-15 BC")]],
  ["time", CLOCKS, quoted("9:00", "10:00", "24:00:00")],
  [
    "timetz",
    quoted("09:00+00", "10:00+01", "11:00:00.5+02", "09:00-05:30", "10:00+00", "23:00-15", "01:00+15:59"),
    quoted("9:00", "10:00+01:00"),
  ],
  [
    "timestamp",
    [...MOMENTS, ...quoted("infinity", "0044-03-15 12:00:00 BC")],
    quoted("2024-02-29", "2024-02-29 12:00"),
  ],
  ["timestamptz", [...MOMENTS, "'-infinity'"], quoted("2024-02-29T13:00:00.5+01:00", "2024-02-29 12:00+00")],
  [
    "interval",
    quoted(
      "1 day",
      "24:00:00",
      "1 mon",
      "30 days",
      "29 days 24:00:00",
      "-1 days +02:03:04.5",
      "1 year 2 mons",
      "10:00:00",
    ),
    quoted("2 days", "9:00", "-1 years"),
  ],
  ["interval day to minute", quoted("1 day", "2 days 10:00:00"), quoted("1 day 24:00:00")],
  [
    "inet",
    quoted(
      "10.0.0.1",
      "9.0.0.1",
      "10.0.0.0/8",
      "10.1.0.0/16",
      "10.0.0.5/8",
      "::1",
      "fe80::1:2/64",
      "::ffff:1.2.3.4",
      "2001:db8::",
    ),
    quoted("10.0.0.1/32", "0:0:0:0:0:0:0:1", "FE80::1:2/64"),
  ],
  ["cidr", quoted("10.0.0.0/8", "10.1.0.0/16", "9.0.0.0/8", "2001:db8::/32")],
  ["macaddr", quoted("08:00:2b:01:02:03", "ff:00:00:00:00:00"), quoted("08-00-2B-01-02-03")],
  ["bit(4)", quoted("0000", "0001", "1000", "1111")],
  ["bit varying", quoted("", "0", "1", "101", "1010", "1011", "0000000001")],
  ["mood", quoted("low", "high", "mid", "A")],
  ["bytea", quoted("\\x00", "\\xff")],
  ["jsonb", quoted("{}", "null")],
  ["integer[]", quoted("{1}", "{}")],
  ["money", quoted("9", "10")],
  ["int4range", quoted("[1,3)", "empty")],
  ["point", quoted("(1,2)")],
];

const mysqlTypes = (flavour: "mysql" | "mariadb"): readonly Typed[] => [
  ["tinyint", WHOLE],
  ["bigint", [...WHOLE, "9007199254740993", "9007199254740992"], ["9007199254740992.5"]],
  ["bigint unsigned", ["0", "18446744073709551615", "18446744073709551614"]],
  ["decimal(10,2)", DECIMALS, ["7.250"]],
  ["double", ["0.5", "-1.5", "0.25", "1e300"]],
  ["float", ["0.5", "0.1", "-1.5"], ["'0.1'"]],
  ["bit(1)", ["true", "false"]],
  ["bit(12)", ["0", "9", "10", "4095"]],
  ["year", ["1999", "2024", "2155"]],
  ["varchar(20)", TEXTS],
  ["char(4)", quoted("a", "ab", "ab c", "b"), quoted("a ", "ab  ")],
  ["enum('low','mid','high','A')", quoted("low", "high", "mid", "A")],
  ["set('b','a','z')", quoted("", "a", "b", "b,a", "b,a,z")],
  ["date", DAYS],
  [
    "time(1)",
    quoted("09:00:00", "10:00:00", "-10:00:00.5", "-838:59:59", "838:59:59", "100:00:00", "00:00:00"),
    quoted("9:00", "99:30"),
  ],
  ["datetime(1)", MOMENTS, quoted("2024-02-29 12:00")],
  ["timestamp(1) null", MOMENTS],
  ["blob", quoted("a")],
  ["json", quoted("{}")],
  ...(flavour === "mariadb"
    ? [["inet6", quoted("::1", "fe80::1:2", "::ffff:1.2.3.4"), quoted("FE80::1:2")] as const]
    : []),
];

class Conditions {
  readonly #random: Random;
  readonly #types: readonly Typed[];
  readonly #isMysql: boolean;

  constructor(random: Random, types: readonly Typed[], isMysql: boolean) {
    this.#random = random;
    this.#types = types;
    this.#isMysql = isMysql;
  }

  next(depth = 2): string {
    if (depth === 0 || this.#random.chance(0.3)) return this.#leaf();
    if (this.#random.chance(0.2)) return `not (${this.next(depth - 1)})`;
    return `(${this.next(depth - 1)}) ${this.#random.pick(["and", "or"])} (${this.next(depth - 1)})`;
  }

  #leaf(): string {
    const i = this.#random.below(this.#types.length);
    const [native, values, asked = []] = this.#types[i]!;
    const column = `c${i}`;
    if (CLOSED.has(native)) return `${column} is ${this.#random.pick(["", "not "])}null`;
    const value = () => this.#random.pick([...values, ...asked]);
    const isText = TEXTS === values;
    const forms = [
      () => `${column} ${this.#comparison()} ${value()}`,
      () => `${column} ${this.#comparison()} ${value()}`,
      () => `${value()} ${this.#comparison()} ${column}`,
      () =>
        `${column} ${this.#not()}in (${[value(), value(), ...(this.#random.chance(0.2) ? ["null"] : [])].join(", ")})`,
      () => `${column} ${this.#not()}between ${value()} and ${value()}`,
      () => `${column} is ${this.#not()}null`,
      () => `${column} ${this.#comparison()} ${column}`,
      ...(this.#isMysql ? [] : [() => `${column} is ${this.#not()}distinct from ${value()}`]),
      ...(isText
        ? [
            () =>
              `${column} ${this.#not()}like ${this.#random.pick(quoted("%a%", "_", "a%", "%", "%|%", "a|_b"))} escape '|'`,
          ]
        : []),
      ...(value() === "true" ? [() => column, () => `${column} is ${this.#not()}true`] : []),
    ];
    return this.#random.pick(forms)();
  }

  #comparison(): string {
    return this.#random.pick(["=", "<>", "<", "<=", ">", ">="]);
  }

  #not(): string {
    return this.#random.pick(["", "not "]);
  }
}

function insertions(random: Random, types: readonly Typed[]): string {
  const rows = Array.from({ length: ROWS }, (_, id) => {
    const cells = types.map(([, values]) => (random.chance(0.1) ? "null" : random.pick(values)));
    return `(${[id, ...cells].join(", ")})`;
  });
  return `insert into t values ${rows.join(", ")}`;
}

/** Ids of the rows for which the condition is true. */
function kept(where: string, columns: readonly Column[], rows: readonly (readonly (string | null)[])[]): number[] {
  const { evaluate } = bindWhere(parseWhere(where), columns);
  const out = new ByteWriter();
  const tuple = new TupleWriter(out);
  const row = new ConditionRow();
  return rows.flatMap((cells) => {
    out.reset();
    tuple.begin(cells.length);
    for (const cell of cells) {
      if (cell === null) tuple.null();
      else tuple.text(Buffer.from(cell), 0, Buffer.byteLength(cell));
    }
    row.set(out.view(), 0, -1);
    return evaluate(row) === TRUE ? [Number(cells[0])] : [];
  });
}

test("Postgres agrees", async () => {
  const random = new Random(testSeed());
  await using database = await freshDatabase();
  await using client = await database.connect();
  const columns = POSTGRES.map(([native], i) => `c${i} ${native}`).join(", ");
  await client.query("set timezone = 'UTC'; create type mood as enum ('low', 'mid', 'A', 'high')");
  await client.query(`create table t (id int primary key, ${columns})`);
  await client.query(insertions(random, POSTGRES));
  const asPrinted = async (text: string): Promise<(string | null)[][]> =>
    (await client.query({ text, rowMode: "array", types: { getTypeParser: () => String } })).rows;
  const types = new Map<number, PgType>();
  for (const [oid, name, kind, element, labels] of await asPrinted(
    "select oid, typname, typtype, case when typcategory = 'A' then typelem else 0 end, (select string_agg(enumlabel, ',' order by enumsortorder) from pg_enum where enumtypid = t.oid) from pg_type t",
  )) {
    const base = {
      send: null,
      base: 0,
      baseModifier: -1,
      bounds: 0,
      attributes: [],
      tables: [],
      labels: labels?.split(",") ?? [],
    };
    types.set(Number(oid), { ...base, oid: Number(oid), name: name!, kind: kind!, element: Number(element) });
  }
  const shape = await asPrinted(
    "select attname, atttypid, atttypmod, format_type(atttypid, atttypmod) from pg_attribute where attrelid = 't'::regclass and attnum > 0 order by attnum",
  );
  const shown = shape.map(([name, oid, modifier, native], i): Column => {
    const type = columnType(Number(oid), Number(modifier), (wanted) => types.get(wanted));
    return { name: name!, type, native: native!, nullable: true, identity: i + 1 };
  });
  const rows = await asPrinted("select * from t order by id");
  const conditions = new Conditions(random, POSTGRES, false);
  for (let i = 0; i < CONDITIONS; i++) {
    const where = conditions.next();
    const expected = (await asPrinted(`select id from t where ${where} order by id`)).map(([id]) => Number(id));
    expect(kept(where, shown, rows), where).toEqual(expected);
  }
});

test.each(mysqlFlavours)("%s agrees", async (flavour) => {
  const random = new Random(testSeed());
  const types = mysqlTypes(flavour);
  await using database = await freshMysqlDatabase(mysqlUrl(flavour));
  await database.connection.query("set time_zone = '+00:00'");
  const columns = types.map(([native], i) => `c${i} ${native}`).join(", ");
  await database.connection.query(`create table t (id int primary key, ${columns}) collate utf8mb4_bin`);
  await database.connection.query(insertions(random, types));
  const server = { rows: (_: string, sql: string) => database.texts(sql) };
  const catalog = new CatalogReader(server, ["CHECK_CONSTRAINTS", "INNODB_TABLESPACES", "INNODB_SYS_TABLES"]);
  const tables = await catalog.read(null, AbortSignal.timeout(100_000));
  const table = tables.find(({ schema }) => schema === database.name)!;
  const shown = catalogShape(table, { zeroDates: () => "null", chosenKey: () => null })!.columns;
  const bits = shown.flatMap(({ type, native }) => (native.startsWith("bit") ? [type.kind] : []));
  expect(bits).toEqual(["bool", "int"]);
  const cells = shown.map(({ name, native, type }) => {
    if (type.kind === "bool") return `case ${name} when 1 then 't' when 0 then 'f' end`;
    return native.startsWith("bit") ? `${name} + 0` : name;
  });
  const rows = await database.texts(`select ${cells.join(", ")} from t order by id`);
  const conditions = new Conditions(random, types, true);
  for (let i = 0; i < CONDITIONS; i++) {
    const where = conditions.next();
    const expected = (await database.texts(`select id from t where ${where} order by id`)).map(([id]) => Number(id));
    expect(kept(where, shown, rows), where).toEqual(expected);
  }
});
