/** MySQL and MariaDB: values of which the log alone does not say what they are to become. */
import { describe, expect, test } from "vitest";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { Random, testSeed } from "../../support/run/random.ts";
import { isMysqlFrom, mysqlFlavours, ownMysql } from "../../support/run/services.ts";

const LENIENT = "set sql_mode = 'ALLOW_INVALID_DATES', time_zone = '+00:00'";
const DATES = "id int primary key, d date not null, t datetime(2), s timestamp null";
const ROWS = (first: number): string =>
  `(${first}, '0000-00-00', '2023-02-31 10:11:12.5', '0000-00-00 00:00:00'), (${first + 1}, '2024-02-29', null, '2024-07-01 03:00:01')`;
const KINDS = ["nulls", "epochs", "texts"] as const;

describe.each(mysqlFlavours)("%s", (flavour) => {
  test("dates that do not exist become what the table's rule says, and are counted", { tags: "heavy" }, async () => {
    await using pipeline = await MysqlPipeline.start(
      flavour,
      [
        LENIENT,
        ...KINDS.flatMap((name) => [`create table ${name} (${DATES})`, `insert into ${name} values ${ROWS(1)}`]),
      ],
      { kinds: ["duckdb"], rules: { epochs: { zeroDates: "epoch" }, texts: { zeroDates: "text" } } },
    );
    await pipeline.run(...KINDS.map((name) => `insert into ${name} values ${ROWS(3)}`));
    await pipeline.settled();
    const shown = async (table: string): Promise<unknown> => {
      const list = "id, d::text as d, t::text as t, (s at time zone 'UTC')::text as s";
      const sql = `select ${table === "texts" ? "id, d, t, s" : list} from "${pipeline.source.name}".${table} order by id`;
      const { stdout } = await pipeline.installation.command("query", sql, "--json");
      return JSON.parse(stdout);
    };
    const real = { d: "2024-02-29", t: null, s: "2024-07-01 03:00:01" };
    const epoch = { d: "1970-01-01", t: "1970-01-01 00:00:00", s: "1970-01-01 00:00:00" };
    const text = { d: "0000-00-00", t: "2023-02-31 10:11:12.50", s: "0000-00-00 00:00:00" };
    const rows = (none: object): object => ({
      rows: [1, 2, 3, 4].map((id) => ({ id, ...(id % 2 === 1 ? none : real) })),
    });
    const nothing = { d: null, t: null, s: null };
    expect([await shown("nulls"), await shown("epochs"), await shown("texts")]).toMatchObject([
      rows(nothing),
      rows(epoch),
      rows(text),
    ]);
    // In the rows of the copy and of the stream; what is text exists.
    await expect.poll(async () => (await pipeline.installation.status()).source.zeroDates).toBe(12);

    await pipeline.daemon.stop();
    pipeline.configure({}, { nulls: { zeroDates: "epoch" }, texts: { zeroDates: "text" } });
    await pipeline.start();
    await expect.poll(() => shown("nulls")).toMatchObject(rows(epoch));
    await expect.poll(() => shown("epochs")).toMatchObject(rows(nothing));
  });
});

/** What a server puts into a NOT NULL column of each type if a session that is not strict gives it nothing. */
const GIVEN_NOTHING: Readonly<Record<"both" | "mariadb", string>> = {
  both: "tinyint; bigint unsigned; decimal(10,3); float; double; bit(1); bit(9); year; date; datetime(3); timestamp(6); time(2); char(4); binary(4); varchar(9); varbinary(9); text; blob; enum('one','two'); set('one','two')",
  mariadb:
    "geometry; point; linestring; polygon; multipoint; geometrycollection; inet6; varchar(9) compressed; blob compressed; varchar(9) character set ucs2",
};

describe.each(mysqlFlavours)("%s", (flavour) => {
  test("what a column holds that was given nothing is the same in copies, in the stream, and in a second read", async () => {
    const own =
      flavour === "mysql"
        ? []
        : `${GIVEN_NOTHING.mariadb}${isMysqlFrom(flavour, "10.10") ? "; uuid; inet4" : ""}`.split("; ");
    const types = [...GIVEN_NOTHING.both.split("; "), ...own];
    const tables = types.map((_, i) => `given${i}`);
    const row = (id: number) => tables.map((table) => `insert ignore into ${table} (id) values (${id})`);
    await using pipeline = await MysqlPipeline.start(
      flavour,
      [
        "set sql_mode = ''",
        ...tables.map((table, i) => `create table ${table} (id int primary key, v ${types[i]} not null)`),
        ...row(1),
      ],
      { kinds: ["duckdb", "postgres"] },
    );
    await pipeline.run(...row(2), ...tables.map((table) => `update ${table} set id = 3 where id = 1`));
    // As a column that comes later.
    await pipeline.run("create table added (id int primary key)", "insert into added values (1)");
    await pipeline.run(...types.map((type, i) => `alter table added add column v${i} ${type} not null`));
    // Beside empty ones there are geometries, with and without a reference system.
    const shapes = ["point(1 2)", "geometrycollection(point(1 2),linestring(0 0,1 1))"].flatMap((shape) =>
      [0, 4326].map((srid) => `st_geomfromtext('${shape}', ${srid})`),
    );
    await pipeline.run(
      "create table places (id int primary key, g geometry)",
      `insert into places values (1, null), ${shapes.map((shape, i) => `(${i + 2}, ${shape})`).join(", ")}`,
    );
    tables.push("places");
    await pipeline.expectEqual(...tables, "added");
    await pipeline.readAgain(...tables, "added");
    await pipeline.run("update added set id = 2");
    await pipeline.expectEqual(...tables, "added");
    expect((await pipeline.installation.status()).tables.suspended).toEqual([]);
  });
});

describe("mariadb", () => {
  test("times in the format of before MariaDB 10.1 are followed where they have no fractions, and refused where they have", async () => {
    await using server = await ownMysql("mariadb", { settings: { "mysql56-temporal-format": "OFF" } });
    const old = (digits: string) =>
      `(id int primary key, t time${digits}, d datetime${digits}, s timestamp${digits} null, v int)`;
    const values = (id: number) => `(${id}, '-12:34:56.7', '2024-05-06 07:08:09.1', '2024-05-06 07:08:09.2', 1)`;
    await using pipeline = await MysqlPipeline.start(
      "mariadb",
      [
        "set time_zone = '+00:00'",
        `create table whole ${old("")}`,
        `create table parts ${old("(3)")}`,
        `insert into whole values ${values(1)}`,
      ],
      { kinds: ["duckdb"], url: server.url },
    );
    await pipeline.run(`insert into whole values ${values(2)}`, `insert into parts values ${values(1)}, ${values(2)}`);
    await pipeline.expectEqual("whole");
    const { stdout } = await pipeline.installation.command("check", "--json");
    expect(stdout).toContain("SET GLOBAL mysql56_temporal_format = ON; ALTER TABLE");
    // As `check` says.
    await pipeline.run(
      "set global mysql56_temporal_format = ON",
      "alter table parts force",
      `insert into parts values ${values(3)}`,
    );
    await pipeline.expectEqual("whole", "parts");
  });

  test("UUID, INET4, INET6 and JSON are what the server prints, from the log and beside it", async ({ skip }) => {
    skip(!isMysqlFrom("mariadb", "10.10"), "it is about types that MariaDB has from 10.10 on");
    const random = new Random(testSeed());
    const word = (): string => (random.chance(0.5) ? "0" : random.below(65_536).toString(16));
    const address = (): string =>
      random.chance(0.2)
        ? `::${random.chance(0.5) ? "ffff:" : ""}10.${random.below(256)}.0.7`
        : Array.from({ length: 8 }, word).join(":");
    const digits = (count: number): string =>
      Array.from({ length: count }, () => random.below(16).toString(16)).join("");
    const uuid = (): string =>
      `${digits(8)}-${digits(4)}-${[1, 4, 6, 7][random.below(4)]}${digits(3)}-9${digits(3)}-${digits(12)}`;
    const rows = (count: number): string =>
      Array.from(
        { length: count },
        () =>
          `('${uuid()}', '${address()}', '10.${random.below(256)}.0.${random.below(256)}', '{"a": [1, null, "ü"], "b": {"c": ${random.below(100)}}}', '{no json')`,
      ).join(", ");
    await using pipeline = await MysqlPipeline.start(
      "mariadb",
      [
        "create table t (u uuid, b inet6 not null, a inet4, j json, n longtext, primary key (u, b)) character set utf8mb4",
        `insert into t values ${rows(100)}`,
      ],
      { kinds: ["duckdb", "postgres", "redis"] },
    );
    await pipeline.run(
      `insert into t values ${rows(100)}`,
      "insert into t values ('00000000-0000-0000-0000-000000000000', '::', '0.0.0.0', 'null', null), ('ffffffff-ffff-ffff-ffff-ffffffffffff', '::1', null, null, null)",
      "update t set j = '[]', b = '1:2:3:0:5:6:7:8' where u like 'a%'",
    );
    await pipeline.expectEqual("t");
    await pipeline.readAgain("t");
    await pipeline.run("delete from t where u like 'b%'");
    await pipeline.expectEqual("t");
    const { stdout } = await pipeline.installation.command(
      "query",
      `select distinct typeof(u) as u, typeof(b) as b, typeof(a) as a, typeof(j) as j, typeof(n) as n from "${pipeline.source.name}".t`,
      "--json",
    );
    expect(JSON.parse(stdout)).toMatchObject({
      rows: [{ u: "UUID", b: "VARCHAR", a: "VARCHAR", j: "JSON", n: "VARCHAR" }],
    });
  });
});
