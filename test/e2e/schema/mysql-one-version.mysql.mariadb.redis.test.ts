/** MySQL and MariaDB: the catalogue and the log say the same of a column, so that a table is not read again for its rows. */
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test, describe } from "vitest";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { isMysqlFrom, type MysqlFlavour, mysqlFlavours, ownMysql } from "../../support/run/services.ts";

/** Each escaped by the catalogue, or not to be had from it. */
const LABELS = [
  "back\\\\slash",
  "new\\nline",
  "nu\\0l",
  "return\\r",
  "it''s",
  "tab\tbed",
  "com;ma",
  "?",
  "😀",
  "é\\\\'",
  "",
];

function hasVectors(flavour: MysqlFlavour): boolean {
  return isMysqlFrom(flavour, flavour === "mysql" ? "9.0" : "11.7");
}

function columns(flavour: MysqlFlavour): string[] {
  const labels = LABELS.map((label) => `'${label.replace(/'$/, "''")}'`).join(", ");
  const both = [
    "f2 float(7,2) unsigned",
    "d3 double(9,3)",
    `e enum(${labels}) character set utf8mb4`,
    `s set(${labels}) character set utf8mb4`,
    "l enum('größe', 'a\\\\b') character set latin1",
  ];
  const vectors = hasVectors(flavour) ? ["v vector(3)"] : [];
  if (flavour === "mysql") return [...both, ...vectors];
  return [
    ...both,
    "c varchar(20) compressed character set latin1",
    "d varchar(300) compressed character set utf8mb4",
    "f text compressed character set latin1",
    "g varbinary(40) compressed",
    "h blob compressed",
    "i varchar(30) compressed character set ucs2",
    "j json compressed",
    // The log has the hashes of unique texts as columns of their own.
    "u text unique",
    "w varbinary(4000) unique",
    // The log takes it for bytes.
    ...vectors,
  ];
}

/** Without a primary key the server takes the first unique index in its own order for one, and names that in the log. */
const KEYLESS = {
  daily: "day date not null, shop int not null, n int, unique (day, shop)",
  pairs: "a int not null, b int not null, c datetime not null, n int, unique pair (a, b), unique one (c)",
  halves:
    "a int, b int not null, c int not null, n int, unique nullable (a), unique key_of (b, c), unique with_null (a, b)",
};

describe.each(mysqlFlavours)("%s", (flavour) => {
  test("a table has one version, whatever its labels and how its columns are kept", async () => {
    await using pipeline = await MysqlPipeline.start(
      flavour,
      [
        `create table t (id int primary key, n int, ${columns(flavour).join(", ")})`,
        ...Object.entries(KEYLESS).map(([name, list]) => `create table ${name} (${list})`),
      ],
      { kinds: ["duckdb", "redis"] },
    );
    await pipeline.run(
      "insert into daily values ('2024-02-29', 1, 1), ('2024-02-29', 2, 2)",
      "insert into pairs values (1, 1, '2024-02-29', 1), (1, 2, '2024-03-01', 2)",
      "insert into halves values (null, 1, 1, 1), (2, 1, 2, 2)",
    );
    const vector = flavour === "mariadb" && hasVectors(flavour) ? ", v = vec_fromtext('[1,2.5,-3]')" : "";
    const others =
      flavour === "mysql"
        ? ""
        : ", c = 'größe', d = '😀', f = 'größe', g = 'b', h = 'c', i = 'ü', j = '{\"a\": [1, 2]}'";
    // Now and then without a value, as all of its kind.
    const unique = (i: number): string => (flavour === "mysql" || i % 3 === 0 ? "" : `, u = 'u${i}', w = 'w${i}'`);
    for (let i = 1; i <= LABELS.length; i++)
      await pipeline.run(
        `insert into t set id = ${i}, n = 0, e = ${i}, s = ${2 ** i - 1}, l = ${1 + (i % 2)}${others}${vector}${unique(i)}`,
      );
    await pipeline.expectEqual("t");
    const tables = ["t", ...Object.keys(KEYLESS)];
    await pipeline.run(...tables.map((name) => `update ${name} set n = n + 1`));
    await pipeline.expectEqual(...tables);
    const { stdout } = await pipeline.installation.command("schema", "list", "--json");
    const list: { tables: { table: string; version: number }[] } = JSON.parse(stdout);
    expect(list.tables.map(({ table, version }) => `${table} ${version}`).toSorted()).toEqual(
      tables.map((name) => `${pipeline.source.name}.${name} 1`).toSorted(),
    );
    expect(pipeline.daemon.said).not.toContain("read beside the stream");
  });

  test(
    "where they can't say the same, the log's word counts: the table is read again once, and not after a restart",
    { tags: "long" },
    async () => {
      // Of its own: a statement that alters anything, of another test, leaves open what was altered.
      await using server = await ownMysql(flavour);
      const rows = Array.from({ length: 40 }, (_, i) => `(${i}, 0, x'62')`).join();
      await using pipeline = await MysqlPipeline.start(
        flavour,
        [
          "create table t (id int primary key, n int, e enum(x'61ff', x'62') character set binary)",
          `insert into t values ${rows}`,
        ],
        { kinds: ["duckdb", "redis"], url: server.url },
      );
      const looks = async (count: number): Promise<void> => {
        for (let i = 0; i < count; i++) {
          await pipeline.run(`update t set n = n + 1 where id = ${i}`, `delete from t where id = ${39 - i}`);
          // For which the catalogue is looked at.
          await pipeline.settled();
        }
      };
      const version = async (): Promise<number | undefined> => {
        const { stdout } = await pipeline.installation.command("schema", "list", "--json");
        const { tables }: { tables: { table: string; version: number }[] } = JSON.parse(stdout);
        return tables[0]?.version;
      };
      const readCount = (): number => pipeline.daemon.said.split("table read beside the stream").length - 1;
      await sleep(1_500);
      await looks(8);
      await pipeline.expectEqual("t");
      expect({ version: await version(), reads: readCount() / 2 }).toEqual({ version: 2, reads: 1 });
      expect(pipeline.daemon.said.split("MR2133").length - 1).toBe(1);
      await pipeline.daemon.stop();
      await pipeline.start();
      await sleep(1_500);
      await looks(3);
      expect({ version: await version(), reads: readCount() }).toEqual({ version: 2, reads: 0 });
      // A change of the table is one as ever.
      await pipeline.run("alter table t add column v int default 7", "update t set n = n + 1 where id < 9");
      await looks(2);
      const altered = await version();
      await looks(3);
      await pipeline.expectEqual("t");
      expect(await version()).toBe(altered);
    },
  );

  // MySQL's catalogue hides a key that the server made; the log of MariaDB has the times of a history.
  test(
    "columns that only the log shows, and that go: the table is read without a further row",
    { tags: "heavy" },
    async () => {
      const isOwn = flavour === "mysql";
      const settings = {
        "sql-generate-invisible-primary-key": "ON",
        "show-gipk-in-create-table-and-information-schema": "OFF",
      };
      await using server = isOwn ? await ownMysql(flavour, { settings }) : undefined;
      await using pipeline = await MysqlPipeline.start(
        flavour,
        [
          ...(isOwn
            ? ["create table t (a int not null, v int)", "alter table t add unique (a)"]
            : ["create table t (a int primary key, v int) with system versioning"]),
          "insert into t (a, v) values (1, 1), (2, 2)",
        ],
        { kinds: ["duckdb"], ...(server === undefined ? {} : { url: server.url }) },
      );
      for (let i = 0; i < 4; i++) {
        await pipeline.run("update t set v = v + 1", `insert into t (a, v) values (${i + 3}, 0)`);
        await pipeline.settled();
      }
      expect(pipeline.daemon.said).not.toContain("MR2133");
      await pipeline.run(
        isOwn ? "alter table t drop primary key, drop column my_row_id" : "alter table t drop system versioning",
      );
      await pipeline.readAgain("t");
      await pipeline.expectEqual("t");
      expect((await pipeline.installation.command("reconcile")).exitCode).toBe(0);
    },
  );
});
