/** Values that are equal though they are written otherwise, in MySQL's and MariaDB's types; what can't be joined exactly is refused. */
import { describe, expect, test } from "vitest";
import { equalityOf } from "../../../connectors/mysql/source/catalog/catalog.ts";
import { driftOf, reconcile } from "../../support/daemon/reconciled.ts";
import { OddDocuments } from "../../support/documents/odd-documents.ts";
import { freshMysqlDatabase, mysqlFlavours, mysqlUrl } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

const BINARY = "character set utf8mb4 collate utf8mb4_bin";
const GENERAL = "character set utf8mb4 collate utf8mb4_general_ci";
const SWEDISH = "character set utf8mb4 collate utf8mb4_swedish_ci";
const TABLES = [
  "create table pairs (a int, b int, n int, primary key (a, b))",
  `create table owners (id int primary key, code varchar(8) ${BINARY}, fixed char(6) ${BINARY}, big bigint unsigned, rate decimal(12,4),
     whole decimal(20,0), at datetime, moment timestamp null, bin binary(4), kind enum('a', 'b', 'c'), day date, flag bit(1),
     loose varchar(8), general varchar(8) ${GENERAL}, tongue varchar(8) ${SWEDISH},
     latin varchar(8) character set latin1 collate latin1_bin, other enum('x', 'A'), ratio double)`,
  `create table things (id int primary key, code varchar(20) ${BINARY}, fixed char(8) ${BINARY}, small int, rate decimal(20,2),
     whole bigint, at datetime(6), moment timestamp(3) null, bin varbinary(6), kind enum('b', 'a'), day date, flag bit(1),
     loose varchar(8), general varchar(8) ${GENERAL}, tongue varchar(8) ${SWEDISH},
     latin varchar(8) character set latin1 collate latin1_bin, other enum('a', 'x'), ratio double,
     a int, b int, foreign key (a, b) references pairs (a, b))`,
  "insert into pairs values (0, 0, 1), (0, 1, 2), (1, 0, 3)",
  `insert into owners (id, code, fixed, big, rate, whole, at, moment, bin, kind, day, flag, latin) values
     (1, 'ab', 'ab', 1, 1.5, 7, '2024-01-01 10:00:00', '2024-01-01 10:00:00', 'ab', 'a', '2024-01-01', 1, 'ä'),
     (2, 'AB', 'AB ', 18446744073709551615, 0, 18446744073709551615, '2024-01-01 10:00:00', null, 'ab\\0\\0', 'b', '2024-01-02', 0, 'Ä'),
     (3, 'ab  ', '', 0, -7, -1, null, '2024-01-01 10:00:01', '', 'c', null, null, 'a '),
     (4, '', null, null, null, null, null, null, null, null, null, null, null)`,
  `insert into things (id, code, fixed, small, rate, whole, at, moment, bin, kind, day, flag, latin, a, b) values
     (1, 'ab ', 'ab   ', 1, 1.50, 7, '2024-01-01 10:00:00.000000', '2024-01-01 10:00:00.000', 'ab', 'b', '2024-01-01', 1, 'ä ', 0, 0),
     (2, 'AB', 'AB', -1, 0.00, -1, '2024-01-01 10:00:00.000001', null, 'ab\\0\\0', 'a', '2024-01-02', 0, 'ä', 0, null),
     (3, 'áb', 'áb', 0, -7.00, 0, null, '2024-01-01 10:00:01', '\\0\\0\\0\\0', 'a', null, null, 'a', null, 1),
     (4, '  ', '', null, null, null, '2024-01-01 10:00:00', null, '', null, null, 1, 'Ä', 1, 0),
     (5, 'ab\\t', 'ab', 1, 1.51, 7, '2024-01-01 10:00:00', '2024-01-01 10:00:00.500', 'ab\\0', 'b', '2024-01-01', 0, null, 9, null)`,
];

/** Columns of things by those of owners. */
const JOINS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  by_code: { code: "code" },
  by_fixed: { fixed: "fixed" },
  by_both: { fixed: "code" },
  by_number: { small: "big" },
  by_rate: { rate: "rate" },
  by_whole: { whole: "whole" },
  by_whole_rate: { small: "rate" },
  by_time: { at: "at" },
  by_moment: { moment: "moment" },
  by_bytes: { bin: "bin" },
  by_kind: { kind: "kind" },
  by_day: { day: "day" },
  by_flag: { flag: "flag" },
  by_latin: { latin: "latin" },
  by_loose: { loose: "loose" },
  by_general: { general: "general" },
};

const documents = (database: string) => ({
  owners: {
    from: `${database}.owners`,
    columns: ["id"],
    with: Object.fromEntries(
      Object.entries(JOINS).map(([name, on]) => [name, { from: `${database}.things`, many: true, on, value: "id" }]),
    ),
  },
  things: {
    from: `${database}.things`,
    columns: ["id"],
    with: { pair: { from: `${database}.pairs`, columns: ["n"] } },
  },
});
const EXPECTED = {
  owners: `select id, ${Object.entries(JOINS)
    .map(([name, on]) => {
      const condition = Object.entries(on).map(([below, above]) => `t.${below} = o.${above}`);
      return `coalesce((select concat('[', group_concat(t.id order by t.id), ']') from things t where ${condition.join(" and ")}), '[]') as ${name}`;
    })
    .join(", ")} from owners o order by id`,
  things: `select id, (select cast(json_object('n', n) as char) from pairs p where p.a = t.a and p.b = t.b) as pair from things t order by id`,
};

const WORK = [
  `update owners set loose = elt(id, 'ab', 'AB', 'ab ', 'a-b'), general = elt(id, 'ab', 'AB', 'ab ', 'a-b'); update things set loose = elt(id, 'Ab', 'aB  ', 'ab\t', 'A-B', 'a_b'), general = elt(id, 'Ab', 'aB  ', 'ab\t', 'A-B', 'a_b')`,
  "update things set code = concat(trim(code), '   '), fixed = 'AB', rate = rate + 1, at = '2024-01-01 10:00:00.0' where id < 4",
  "update owners set code = concat(code, ' '), big = 1, rate = 1.5000, whole = whole * 1, bin = 'ab', kind = 'a' where id > 1",
  "update things set whole = 18446744073, kind = 'b', bin = 'ab\\0\\0'; update owners set whole = 18446744073.0 where id = 4",
  "delete from things where id = 2; insert into things (id, code, fixed, small, a, b) values (2, 'AB     ', 'AB', 1, 1, null)",
  "set foreign_key_checks = 0; update pairs set a = 9 where a = 0 and b = 0; update pairs set a = 0 where a = 1; update pairs set a = 1 where a = 9; update things set b = 0 where a = 1; set foreign_key_checks = 1",
];
/** What no comparison of ours decides as the source does: columns of things and owners, and what is said. */
const REFUSED = [
  [
    "tongue",
    "tongue",
    /tongue \(varchar\(8\), \w+_ci\) and tongue .* can't be joined: the source takes texts for equal/,
  ],
  ["code", "loose", /the source takes texts for equal/],
  ["other", "other", /other \(enum\('a','x'\), \w+_ci\) and other .* the source takes texts for equal/],
  ["ratio", "ratio", /ratio \(double\) and ratio \(double\) can't be joined by their values/],
  ["kind", "code", /can't be joined by their values/],
  ["day", "at", /can't be joined by their values/],
  ["at", "moment", /can't be joined by their values/],
] as const;

describe.each(mysqlFlavours)("%s", (flavour) => {
  test("collations that ignore case take no other texts of ASCII for equal", async () => {
    await using source = await freshMysqlDatabase(mysqlUrl(flavour));
    const name = flavour === "mariadb" ? "full_collation_name" : "collation_name";
    const all = await source.texts(
      `select character_set_name, ${name} from information_schema.collation_character_set_applicability`,
    );
    const folded = all.filter(([, collation]) => equalityOf(collation!)?.alike?.isFolded === true);
    const names = folded.map(([, collation]) => collation);
    expect(names).toEqual(expect.arrayContaining(["utf8mb4_general_ci", "utf8mb4_unicode_ci", "latin1_swedish_ci"]));
    const codes = [9, 10, 11, 12, 13, ...Array.from({ length: 95 }, (_, i) => 32 + i)];
    await source.connection.query(`create table letters (c varchar(1) ${BINARY})`);
    await source.connection.query(`insert into letters values ${codes.map((code) => `(char(${code}))`).join(",")}`);
    for (const [charset, collation] of folded) {
      const text = `convert(concat(one.c, other.c) using ${charset}) collate ${collation}`;
      const small = "lower(concat(one.c, other.c))";
      const isPadded = equalityOf(collation!)?.alike?.isPadded === true;
      const alike = `concat(${isPadded ? `rtrim(${small})` : small}, '.') collate utf8mb4_bin`;
      const [counts] = await source.texts(
        `select count(distinct ${text}), count(distinct ${alike}), count(distinct ${text}, ${alike})
         from letters one join letters other`,
      );
      expect([collation, ...counts!]).toEqual([collation, counts![1], counts![1], counts![1]]);
    }
  });

  test("documents are what the source's own SQL makes, or are refused", async () => {
    await using followed = await OddDocuments.startMysql(flavour, TABLES, documents, EXPECTED);
    await followed.expectEqual("the first copy");
    for (const sql of WORK) {
      await followed.run(sql);
      await eventually(() => followed.expectEqual(sql));
    }
    const { installation } = followed.pipeline;
    // What a text with other letters is equal to is known to the server alone.
    await followed.run("update things set loose = 'áb' where id = 1");
    await eventually(async () => {
      const letters = await installation.command("dlq", "list", "--json");
      expect(letters.stdout).toMatch(/other letters than ASCII's in .+loose.+, by which documents join/);
    });
    await followed.run("update things set loose = 'ab' where id = 1");
    await eventually(() => followed.expectEqual("a text that no longer has them"));
    const { exitCode, found } = await reconcile(installation, "--deep", "--tables", "documents.*");
    expect({ exitCode, drift: driftOf(found), not: found.notComparable }).toEqual({ exitCode: 0, drift: {}, not: [] });

    const database = followed.pipeline.source.name;
    const things = (on: object): object => ({ from: `${database}.things`, many: true, on, value: "id" });
    const refused = REFUSED.map(([below, above], i) => [
      `r${i}`,
      { from: `${database}.owners`, columns: ["id"], with: { things: things({ [below]: above }) } },
    ]);
    expect(await followed.refusals(Object.fromEntries(refused))).toEqual(
      Object.fromEntries(REFUSED.map(([, , said], i) => [`r${i}`, expect.stringMatching(said)])),
    );
  });
});
