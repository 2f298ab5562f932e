/** MySQL and MariaDB: the catalogue and the log say the same of a column, so that a table is not read again for its rows. */
import { expect, test, describe } from "vitest";
import { mariadbLine } from "../../scripts/services/mariadb-version.ts";
import { MysqlPipeline } from "../support/mysql-pipeline.ts";
import { type MysqlFlavour, mysqlFlavours } from "../support/services.ts";

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

function hasVectors(): boolean {
  const [major = 0, minor = 0] = mariadbLine().version.split(".").map(Number);
  return major > 11 || (major === 11 && minor >= 7);
}

function columns(flavour: MysqlFlavour): string[] {
  const labels = LABELS.map((label) => `'${label.replace(/'$/, "''")}'`).join(", ");
  const both = [
    `e enum(${labels}) character set utf8mb4`,
    `s set(${labels}) character set utf8mb4`,
    "l enum('größe', 'a\\\\b') character set latin1",
  ];
  if (flavour === "mysql") return [...both, "v vector(3)"];
  return [
    ...both,
    "c varchar(20) compressed character set latin1",
    "d varchar(300) compressed character set utf8mb4",
    "f text compressed character set latin1",
    "g varbinary(40) compressed",
    "h blob compressed",
    "i varchar(30) compressed character set ucs2",
    // From 11.7 on, where the log takes it for bytes.
    ...(hasVectors() ? ["v vector(3)"] : []),
  ];
}

describe.each(mysqlFlavours)("%s", (flavour) => {
  test("a table has one version, whatever its labels and how its columns are kept", async () => {
    await using pipeline = await MysqlPipeline.start(
      flavour,
      [`create table t (id int primary key, n int, ${columns(flavour).join(", ")})`],
      { kinds: ["duckdb", "redis"] },
    );
    const vector = flavour === "mariadb" && hasVectors() ? ", v = vec_fromtext('[1,2.5,-3]')" : "";
    const others = flavour === "mysql" ? "" : ", c = 'größe', d = '😀', f = 'größe', g = 'b', h = 'c', i = 'ü'";
    for (let i = 1; i <= LABELS.length; i++)
      await pipeline.run(
        `insert into t set id = ${i}, n = 0, e = ${i}, s = ${2 ** i - 1}, l = ${1 + (i % 2)}${others}${vector}`,
      );
    await pipeline.expectEqual("t");
    await pipeline.run("update t set n = n + 1");
    await pipeline.expectEqual("t");
    const { stdout } = await pipeline.installation.command("schema", "list", "--json");
    const { tables }: { tables: { table: string; version: number }[] } = JSON.parse(stdout);
    expect(tables).toMatchObject([{ table: `${pipeline.source.name}.t`, version: 1 }]);
    expect(pipeline.daemon.said).not.toContain("read beside the stream");
  });
});
