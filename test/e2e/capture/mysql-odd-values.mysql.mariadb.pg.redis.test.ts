/** MySQL and MariaDB: values of which the log alone does not say what they are to become. */
import { describe, expect, test } from "vitest";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { Random, testSeed } from "../../support/run/random.ts";
import { isMysqlFrom, mysqlFlavours } from "../../support/run/services.ts";

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
    await expect
      .poll(async () => (await pipeline.installation.status()).source.zeroDates, { timeout: 60_000 })
      .toBe(12);

    await pipeline.daemon.stop();
    pipeline.configure({}, { nulls: { zeroDates: "epoch" }, texts: { zeroDates: "text" } });
    await pipeline.start();
    await expect.poll(() => shown("nulls"), { timeout: 60_000 }).toMatchObject(rows(epoch));
    await expect.poll(() => shown("epochs"), { timeout: 60_000 }).toMatchObject(rows(nothing));
  });
});

describe("mariadb", () => {
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
