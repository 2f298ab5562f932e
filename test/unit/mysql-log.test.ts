/** Places of the log, statements in it, and addresses of its servers. */
import { deflateSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { LogFilter } from "../../connectors/mysql/source/wire/log-files.ts";
import { askedOffset } from "../../connectors/mysql/source/wire/dump.ts";
import {
  EventHeader,
  HEADER_BYTES,
  MARIADB_QUERY_COMPRESSED,
  QUERY,
  SIZE_AT,
} from "../../connectors/mysql/source/wire/event-header.ts";
import { CatalogReader } from "../../connectors/mysql/source/catalog/catalog.ts";
import { Alterations } from "../../connectors/mysql/source/catalog/source-tables.ts";
import {
  bytesBetween,
  LogCursor,
  LogNames,
  packPosition,
  unpackPosition,
} from "../../connectors/mysql/source/wire/position.ts";
import { Programs, type Uncertain } from "../../connectors/mysql/source/statements/programs.ts";
import { readStatement } from "../../connectors/mysql/source/events/log-events.ts";
import { kindOfStatement, rowsOfAny, type StatementKind } from "../../connectors/mysql/source/statements/statements.ts";
import { unfitSettings } from "../../connectors/mysql/source/wire/server-facts.ts";
import type { TableName } from "../../src/core/contracts/connector.ts";
import { parseMysqlUrl } from "../../connectors/mysql/url.ts";

test.each([
  ["", "", "shop", undefined],
  ["", "mysql,test", "shop", undefined],
  ["", "mysql,test", "test", "binlog-ignore-db"],
  ["", "Test", "test", "binlog-ignore-db"],
  ["", "other,a,b", "a,b", "binlog-ignore-db"],
  ["shop", "", "shop", undefined],
  ["Shop", "", "shop", "binlog-do-db"],
  ["shop,test", "shop", "shop", undefined],
  ["a,b", "", "a,b", "binlog-do-db"],
])("a server with binlog-do-db %j and binlog-ignore-db %j leaves out %s: %s", (only, ignored, schema, setting) => {
  expect(new LogFilter(only, ignored).excludes(schema)).toBe(setting);
});

const SIGNS = {
  renamed: ">",
  exchanged: "<>",
  copied: "=>",
  "perhaps copied": "?>",
  made: "*",
  "perhaps made": "?*",
} as const;

describe("a table whose last change is not in the log", () => {
  /** Looks at positions 10, 20, 30 …, each with the time of the table's last change; the stream is where the look begins. */
  function looked(times: readonly string[], act: (alterations: Alterations, i: number) => void, behind = 0n): string[] {
    const alterations = new Alterations();
    return times.map((altered, i) => {
      const before = BigInt(i + 1) * 10n;
      act(alterations, i);
      const tables = new Map([["t", { generation: "#1", altered }]]);
      return alterations.looked({ before, tables, filled: [] }, before + 1n, before - behind).get("t") ?? "";
    });
  }
  const nothing = (): void => {};

  test("has another generation as soon as the stream has shown that it is not", () => {
    expect(looked(["a", "a", "b", "b", "b"], nothing)).toEqual(["#1", "#1", "#1", "#1 b", "#1 b"]);
    expect(looked(["a", "a", "b", "b", "b", "b"], nothing, 15n)).toEqual(["#1", "#1", "#1", "#1", "#1 b", "#1 b"]);
    expect(looked(["a", "a", "b", "b", "c", "c"], nothing).slice(3)).toEqual(["#1 b", "#1 b", "#1 c"]);
  });

  test("keeps its generation if the log has a statement, or begins", () => {
    const said = (place: bigint) => (alterations: Alterations, i: number) => {
      if (i === 3) alterations.defined(place);
    };
    expect(looked(["a", "a", "b", "b", "b"], said(25n)).at(-1)).toBe("#1");
    // Written to the log before the last look, and in the catalogue after it.
    expect(looked(["a", "a", "b", "b", "b"], said(19n)).at(-1)).toBe("#1");
    expect(looked(["a", "a", "b", "b", "b"], said(9n)).at(-1)).toBe("#1 b");
    const begun = (alterations: Alterations, i: number): void => (i === 2 ? alterations.begin() : undefined);
    expect(looked(["a", "a", "b", "b", "b"], begun).at(-1)).toBe("#1");
  });

  test("has another generation while it is filled, if it was made again, emptied or was not there", () => {
    const made = (
      numbers: readonly string[],
      filledAt: number,
      said?: (alterations: Alterations) => void,
    ): (string | undefined)[] => {
      const alterations = new Alterations();
      said?.(alterations);
      return numbers.map((generation, i) => {
        const before = BigInt(i + 1) * 10n;
        const tables = new Map(generation === "" ? [] : [["t", { generation, altered: "a" }]]);
        const filled = i === filledAt ? ["t"] : [];
        return alterations.looked({ before, tables, filled }, before + 1n, before + 1n).get("t");
      });
    };
    expect(made(["#1", "#1", "#2", "#2", "#2"], 4)).toEqual(["#1", "#1", "#2 filling", "#2 filling", "#2"]);
    expect(made(["", "", "#1", "#1"], 3)).toEqual([undefined, undefined, "#1 filling", "#1"]);
    expect(made(["#1", "#1", "#2", "", "#3"], 9)).toEqual(["#1", "#1", "#2 filling", undefined, "#3 filling"]);
    const logged = ["#1", "#1", "#2", "#2"];
    expect(made(logged, 9, (alterations) => alterations.defined(15n))).toEqual(logged);
    expect(made(logged, 9, (alterations) => alterations.truncated("t", 15n))).toEqual(logged);
    expect(made(logged, 9, (alterations) => alterations.truncated("u", 15n))).not.toEqual(logged);
    // A stream that is further behind tells of an earlier statement.
    const twice = (alterations: Alterations): void => [15n, 5n].forEach((at) => alterations.truncated("t", at));
    expect(made(logged, 9, twice)).toEqual(logged);
    // Another process looks at the table that the one before found being filled.
    const stored = (alterations: Alterations): void => alterations.load('["t"]');
    expect(made(["#2", "#2", "#2"], 2, stored)).toEqual(["#2 filling", "#2 filling", "#2"]);
    // At the first looks nothing is known of what was there before.
    expect(made(["#1", "#2", "#2"], 9)).toEqual(["#1", "#2", "#2"]);
  });
});

test("a table with rows whose last change the server has forgotten is quiet if it stays so", async () => {
  let row: readonly (string | null)[] = [];
  const catalog = new CatalogReader({ rows: async (_, sql) => (sql.startsWith("SELECT") ? [[...row]] : []) });
  const tables = [{ id: "shop.t", schema: "shop", table: "t" }];
  const quiet = async (isBefore: string | null, hasRows: string, now: number, figures = "2/16384/0") => {
    row = [isBefore, hasRows, String(now), figures];
    return (await catalog.quietTables("mysql", tables, AbortSignal.timeout(1_000))).length > 0;
  };
  expect([await quiet("0", "1", 1), await quiet("1", "1", 12)]).toEqual([false, true]);
  // Nobody has written to it yet.
  expect([await quiet(null, "0", 20), await quiet(null, "0", 40)]).toEqual([false, false]);
  // As after the server began again, or left the table out of its cache.
  expect([await quiet(null, "1", 50), await quiet(null, "1", 55), await quiet(null, "1", 61)]).toEqual([
    false,
    false,
    true,
  ]);
  expect([await quiet("0", "1", 62), await quiet(null, "1", 63), await quiet(null, "1", 72)]).toEqual([
    false,
    false,
    false,
  ]);
  // A transaction that fills it has not committed yet.
  expect([await quiet(null, "1", 74, "9/16384/0"), await quiet(null, "1", 84, "9/32768/0")]).toEqual([false, false]);
  expect(await quiet(null, "1", 94, "9/32768/0")).toBe(true);
});

test.each([
  ["a replica", { log_slave_updates: "OFF" }, true, ["log_slave_updates"]],
  ["a node of Galera", { log_slave_updates: "OFF", wsrep_on: "ON" }, false, ["log_slave_updates"]],
  ["a node that logs it", { log_slave_updates: "ON", wsrep_on: "ON" }, false, []],
  ["a server by itself", { log_slave_updates: "OFF", wsrep_on: "OFF" }, false, []],
])("%s must log what comes from other servers", (_, settings, isReplica, unfit) => {
  const variables = new Map(Object.entries({ ...FIT, ...settings }));
  const facts = { flavour: "mariadb", version: "10.11", uuid: "", serverId: 1, hasGtids: false } as const;
  expect(unfitSettings({ ...facts, variables, isReplica }).map(({ id }) => id)).toEqual(unfit);
});

test.each([
  ["0", []],
  ["1", []],
  ["2", ["lower_case_table_names"]],
])("a server whose lower_case_table_names is %s logs names of tables as they are, or is refused", (value, unfit) => {
  const variables = new Map(Object.entries({ ...FIT, log_replica_updates: "ON", lower_case_table_names: value }));
  const facts = { flavour: "mysql", version: "8.4", uuid: "", serverId: 1, hasGtids: true, isReplica: false } as const;
  expect(unfitSettings({ ...facts, variables }).map(({ id }) => id)).toEqual(unfit);
});

const FIT = { log_bin: "ON", binlog_format: "ROW", binlog_row_image: "FULL", binlog_row_metadata: "FULL" };

describe("places", () => {
  test("files and offsets keep their order, past a million files and four gigabytes", () => {
    const places = [packPosition(1, 4), packPosition(1, 5 * 2 ** 30), packPosition(2, 4), packPosition(1_000_000, 4)];
    expect(places).toEqual(places.toSorted((a, b) => (a < b ? -1 : 1)));
    expect(places.map(unpackPosition)).toContainEqual({ file: 1, offset: 5 * 2 ** 30 });
    for (const place of places) expect(place < 2n ** 55n).toBe(true);
    expect(() => packPosition(2 ** 22, 4)).toThrow(expect.objectContaining({ code: "MR2035" }));
    expect(() => packPosition(1, 2 ** 33)).toThrow(expect.objectContaining({ code: "MR2035" }));
  });

  test("are spelled as the server spells them", () => {
    const names = new LogNames("binlog");
    expect(names.format(packPosition(42, 12_345))).toBe("binlog.000042:12345");
    expect(names.learn("shop-bin.1000000")).toBe(1_000_000);
    expect(names.format(packPosition(1_000_000, 4))).toBe("shop-bin.1000000:4");
    expect(names.parse("shop-bin.000007:99")).toBe(packPosition(7, 99));
    expect(() => names.parse("0/1A2B")).toThrow(RangeError);
  });

  test("the bytes between two are those of the files", () => {
    const files = [
      { file: 1, size: 1_000 },
      { file: 2, size: 500 },
      { file: 3, size: 104 },
    ];
    expect(bytesBetween(files, packPosition(1, 900), packPosition(3, 104))).toBe(100 + 496 + 100);
    expect(bytesBetween(files, packPosition(3, 104), packPosition(1, 900))).toBe(0);
    expect(bytesBetween(files, packPosition(1, 1_000), packPosition(2, 4))).toBe(0);
    // Of a transaction that no position lies in: the server begins another file behind it.
    const long = [{ file: 0, size: 9e9 }, ...files, { file: 4, size: 9e9 }, { file: 5, size: 1e3 }];
    expect(bytesBetween(long, packPosition(1, 900), packPosition(3, 104))).toBe(100 + 496 + 100);
    expect(bytesBetween(long, packPosition(3, 104), packPosition(5, 4))).toBe(9e9 - 4);
    expect(bytesBetween([], packPosition(9, 10), packPosition(9, 30))).toBe(20);
  });
});

describe("events in a file that passes four gigabytes", () => {
  const GB4 = 2 ** 32;
  /** As the server writes it: where the next event begins, in 32 bits. */
  const event = (next: number, size: number, flags = 0): EventHeader =>
    Object.assign(new EventHeader(), { type: 30, flags, size, nextPosition: next % GB4 });

  test("lie where they lie, though their headers count from nought again", () => {
    const cursor = new LogCursor(packPosition(7, 4));
    let at = 4;
    for (const size of [2 ** 31 - 4, 2 ** 30, 2 ** 30 - 100, 60, 200, 31, 2 ** 31 - 50, 99]) {
      cursor.take(event(at + size, size));
      expect([unpackPosition(cursor.start), unpackPosition(cursor.next)]).toEqual([
        { file: 7, offset: at },
        { file: 7, offset: at + size },
      ]);
      at += size;
    }
    expect(at).toBeGreaterThan(GB4 + 2 ** 31);
  });

  test("are found again from a place behind it, where the server is asked from the beginning of the file", () => {
    const place = packPosition(7, GB4 + 5_000);
    expect([askedOffset(GB4 + 5_000), askedOffset(5_000)]).toEqual([4, 5_000]);
    const cursor = new LogCursor(place);
    // What the server makes up first: the file's name, with the offset that was asked for.
    cursor.rotate({ file: "binlog.000007", offset: 4 }, new LogNames("binlog"));
    cursor.take(event(0, 120, 0x20));
    cursor.take(event(2 ** 31, 2 ** 31 - 4));
    cursor.take(event(GB4 - 10, 2 ** 31 - 10));
    cursor.take(event(GB4 + 5_000, 5_010));
    expect(cursor.next).toBe(place);
  });
});

/** A statement with other words between its texts and names in quotes. */
function outside(sql: string, change: (words: string) => string): string {
  return sql
    .split(/('(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`)/)
    .map((part, i) => (i % 2 === 0 ? change(part) : part))
    .join("");
}

const RENAMING: readonly (readonly [sql: string, renames: readonly string[]])[] = [
  ["RENAME TABLE a TO b, x.`c d` TO y.e", ["shop.a>shop.b", "x.c d>y.e"]],
  ["rename tables if exists a wait 5 to b", ["shop.a>shop.b"]],
  ["ALTER TABLE t RENAME u", ["shop.t>shop.u"]],
  ["alter table t add c int, rename to other.u", ["shop.t>other.u"]],
  ["ALTER TABLE t RENAME COLUMN a TO b, RENAME COLUMN b TO a", ["shop.t>shop.t a>b b>a"]],
  ["ALTER TABLE t CHANGE COLUMN `a` `b` int, change b A text after c", ["shop.t>shop.t a>b b>A"]],
  ["ALTER TABLE t CHANGE a A int, RENAME INDEX a TO b, RENAME KEY c TO d", []],
  ["ALTER TABLE t RENAME COLUMN IF EXISTS a TO b, RENAME AS u", ["shop.t>shop.u a>b"]],
  ["ALTER TABLE t EXCHANGE PARTITION p WITH TABLE u", ["shop.t<>shop.u"]],
  ["ALTER TABLE t DROP a, ADD b int", ["shop.t>shop.t a>"]],
  ["ALTER TABLE t DROP COLUMN IF EXISTS `a b`, CHANGE c d int", ["shop.t>shop.t c>d a b>"]],
  ["ALTER TABLE t DROP INDEX i, DROP KEY k, DROP PRIMARY KEY, DROP CONSTRAINT c, ALTER d DROP DEFAULT", []],
  ["ALTER TABLE t DROP PARTITION p", []],
  ["ALTER TABLE t COMMENT 'rename to a, change b c', CHANGE x y int, RENAME u", ["shop.t>shop.u x>y"]],
  [String.raw`ALTER TABLE t COMMENT 'it\'s rename a', RENAME u`, ["shop.t<>shop.u", "shop.t<>shop.a"]],
  ['ALTER TABLE t COMMENT "rename to a", RENAME "u"', ["shop.t<>shop.a", "shop.t<>shop.u"]],
  ['ALTER TABLE t ADD c int COMMENT "change x y", CHANGE x z int', ["shop.t>shop.t x>y x>z"]],
  ["CREATE TABLE `a b` LIKE x.t", ["shop.a b*shop.a b", "x.t=>shop.a b"]],
  ["create table u(like`t`)", ["shop.u*shop.u", "shop.t=>shop.u"]],
  ["CREATE TABLE IF NOT EXISTS x.u LIKE t", ["x.u?*x.u", "shop.t?>x.u"]],
  ["CREATE OR REPLACE TABLE u LIKE t", ["shop.u*shop.u", "shop.t=>shop.u"]],
  ["CREATE TABLE unlike (a int)", ["shop.unlike*shop.unlike"]],
  ["create table if not exists u as select * from t", ["shop.u?*shop.u"]],
  ["CREATE TEMPORARY TABLE u LIKE t", []],
  ["ALTER TABLE t CONVERT PARTITION `p 1` TO TABLE x.u", ["shop.t=>x.u"]],
  ["ALTER TABLE t CONVERT TABLE u TO PARTITION p VALUES LESS THAN (9)", ["shop.u<>shop.t"]],
  ["DROP TABLE t", []],
  ["RENAME USER app TO app2", []],
  ["RENAME TABLE`a`TO`b`,x.`c d`TO y.`e`", ["shop.a>shop.b", "x.c d>y.e"]],
  ["ALTER TABLE`t`EXCHANGE PARTITION`p`WITH TABLE`u`", ["shop.t<>shop.u"]],
  ["ALTER TABLE`t`RENAME COLUMN`a`TO`b`,RENAME COLUMN`b`TO`a`", ["shop.t>shop.t a>b b>a"]],
  ["ALTER TABLE`t`COMMENT'x',DROP`d`,RENAME`u`", ["shop.t>shop.u d>"]],
  ["ALTER TABLE t CHANGE a`b`int,CHANGE`c`d int", ["shop.t>shop.t a>b c>d"]],
  ["CREATE TABLE`t`(`id`int)", ["shop.t*shop.t"]],
];

const UNLOGGED: readonly (readonly [sql: string, tables: readonly string[]])[] = [
  ["ALTER TABLE t ADD COLUMN c int", []],
  ["ALTER TABLE t ADD INDEX (c), DROP INDEX i, DROP FOREIGN KEY f, ALTER c DROP DEFAULT", []],
  ["CREATE TABLE IF NOT EXISTS t (id int) PARTITION BY HASH (id)", []],
  ["CREATE TABLE t (id int)", ["shop.t"]],
  ["CREATE OR REPLACE TABLE `a`.t SELECT 1", ["a.t"]],
  ["RENAME TABLE a TO x.b, `c` NOWAIT TO `a`", ["x.b", "shop.a"]],
  ["ALTER TABLE a ADD c int, RENAME TO b", ["shop.b"]],
  ["ALTER TABLE a RENAME x.b", ["x.b"]],
  ["ALTER TABLE t RENAME COLUMN a TO b, RENAME INDEX i TO j", ["shop.t"]],
  ["ALTER TABLE t MODIFY g int AS (v * 3)", ["shop.t"]],
  ["ALTER TABLE t CHANGE v V int COMMENT 'as it was'", []],
  ["ALTER TABLE t MODIFY v varchar(9) CHARACTER SET latin1", ["shop.t"]],
  ["ALTER TABLE t ADD v varchar(9) CHARACTER SET latin1", []],
  ["ALTER TABLE t CONVERT TO CHARACTER SET utf8mb4", ["shop.t"]],
  ["ALTER IGNORE TABLE t ADD UNIQUE (v)", ["shop.t"]],
  ["ALTER TABLE -- one\n t # two\n /*!50100 TRUNCATE PARTITION p */", ["shop.t"]],
  ["ALTER TABLE `a`.`t` DROP c", ["a.t"]],
  ["alter table t drop /* the old one */ column c, add c int", ["shop.t"]],
  ["ALTER TABLE t TRUNCATE PARTITION ALL", ["shop.t"]],
  ["ALTER ONLINE TABLE IF EXISTS t IMPORT TABLESPACE", ["shop.t"]],
  ["ALTER TABLE t EXCHANGE PARTITION `p` WITH TABLE b.`x y` WITHOUT VALIDATION", ["shop.t", "b.x y"]],
  ["ALTER TABLE`t`EXCHANGE PARTITION`p`WITH TABLE`b`.`x y`WITHOUT VALIDATION", ["shop.t", "b.x y"]],
  ["ALTER TABLE`t`TRUNCATE PARTITION`p0`", ["shop.t"]],
  ['ALTER TABLE"t"DROP"c"', ["shop.t"]],
  ["CREATE TABLE`t`(`id`int)", ["shop.t"]],
  ["RENAME TABLE a TO`b`", ["shop.b"]],
];

const TRUNCATING: readonly (readonly [sql: string, target: TableName])[] = [
  ["TRUNCATE TABLE `a``b`.`c d`", { schema: "a`b", table: "c d" }],
  ["TRUNCATE TABLE`orders`", { schema: "shop", table: "orders" }],
  ["TRUNCATE`shop2`.`a``b`", { schema: "shop2", table: "a`b" }],
  ["truncate/* it's */orders", { schema: "shop", table: "orders" }],
  ["SET STATEMENT sql_mode=''FOR TRUNCATE`orders`", { schema: "shop", table: "orders" }],
  ["truncate orders", { schema: "shop", table: "orders" }],
  ["TRUNCATE /* all */ TABLE shop2 . orders", { schema: "shop2", table: "orders" }],
  ["truncate -- `none` of it\n # 'it's\n orders", { schema: "shop", table: "orders" }],
  ["TRUNCATE /*!50000 TABLE */ orders", { schema: "shop", table: "orders" }],
  ["/*M!100400 TRUNCATE TABLE `a -- b` */", { schema: "shop", table: "a -- b" }],
  ["SET STATEMENT lock_wait_timeout=1 FOR TRUNCATE orders", { schema: "shop", table: "orders" }],
];

const WRITING: readonly (readonly [sql: string, target: TableName | null])[] = [
  ["INSERT INTO t VALUES (1)", { schema: "shop", table: "t" }],
  ["INSERT IGNORE INTO `x`.`t` VALUES (1)", { schema: "x", table: "t" }],
  ["REPLACE t SET a = 1", { schema: "shop", table: "t" }],
  ["UPDATE LOW_PRIORITY x.t SET a = 1", { schema: "x", table: "t" }],
  ["DELETE FROM `shop`.`memory_table`", { schema: "shop", table: "memory_table" }],
  ["DELETE a, b FROM a JOIN b", null],
  ["DELETE FROM a USING a JOIN b WHERE a.id = b.id", null],
  ["DELETE FROM x.a WHERE id IN (1, 2)", { schema: "x", table: "a" }],
  ["UPDATE x.other, t SET t.a = 1", null],
  ["UPDATE x.other o LEFT JOIN t USING (id) SET t.a = 1", null],
  ["UPDATE x.other SET a = 1, b = 'a join b'", { schema: "x", table: "other" }],
  ["LOAD DATA LOCAL INFILE 'a into table b' IGNORE INTO TABLE `x`.`t` (id)", { schema: "x", table: "t" }],
  ["load xml low_priority infile 'a''b\\'' into table t", { schema: "shop", table: "t" }],
  ["LOAD DATA FROM S3 'x' INTO TABLE t", null],
];

const TRANSACTIONAL: readonly (readonly [sql: string, kind: StatementKind])[] = [
  ["SAVEPOINT `A ``b`", { kind: "savepoint", name: "a `b" }],
  ["ROLLBACK TO `a ``B`", { kind: "partial rollback", name: "a `b" }],
  ["ROLLBACK TO`s`", { kind: "partial rollback", name: "s" }],
  ["rollback work to savepoint s1", { kind: "partial rollback", name: "s1" }],
  ["XA COMMIT X'00FF27',X'2771',3", { kind: "xa commit", name: "00ff27,2771,3" }],
  ["XA ROLLBACK X'61',X'',1", { kind: "xa rollback", name: "61,,1" }],
  ["XA COMMIT 'a'", { kind: "xa commit", name: null }],
];

describe("statements", () => {
  test.each([
    ["BEGIN", "begin"],
    ["COMMIT", "commit"],
    ["ROLLBACK", "rollback"],
    ["ROLLBACK TO `s`", "partial rollback"],
    ["XA START X'61',X'',1", "xa start"],
    ["XA END X'61',X'',1", "xa end"],
    ["XA COMMIT X'61',X'',1", "xa commit"],
    ["/* by an application */ ALTER TABLE t ADD c int", "definition"],
    ["# a line\n create table t (a int)", "definition"],
    ["RENAME TABLE a TO b", "definition"],
    ["LOAD DATA INFILE 'x' INTO TABLE t", "rows"],
    ["SELECT `shop`.`next_number`()", "rows"],
    ["DO `shop`.`next_number`()", "rows"],
    ["with c as (select 1 x) update t set a = 1 where id in (select x from c)", "rows"],
    ["/*!50003 ALTER TABLE t ADD c int */", "definition"],
    ["SET STATEMENT binlog_format = 'STATEMENT', max_statement_time = 5 FOR UPDATE t SET a = 1", "rows"],
    ["SET STATEMENT sql_mode = ' for it' FOR ALTER TABLE t ADD c int", "definition"],
    ["SET PASSWORD FOR 'u'@'%' = 'x'", "other"],
    ["GRANT SELECT ON *.* TO u", "other"],
    ["REPAIR NO_WRITE_TO_BINLOG TABLE t QUICK", "definition"],
    ["", "other"],
  ])("%s", (sql, kind) => {
    expect(kindOfStatement(sql, "shop").kind).toBe(kind);
  });

  test.each(TRANSACTIONAL)("%s", (sql, kind) => {
    expect(kindOfStatement(sql, "shop")).toEqual(kind);
  });

  test.each(RENAMING)("what gets another name by %s", (sql, expected) => {
    const statement = kindOfStatement(sql, "shop");
    const renames = statement.kind === "definition" ? statement.renames : [];
    const named = renames.map(({ from, to, columns, how }) =>
      [
        `${from.schema}.${from.table}${SIGNS[how]}${to.schema}.${to.table}`,
        ...columns.map(([before, now]) => `${before}>${now}`),
      ].join(" "),
    );
    expect(named).toEqual(expected);
  });

  test.each(TRUNCATING)("%s", (sql, target) => {
    expect(kindOfStatement(sql, "shop")).toEqual({ kind: "truncate", target });
  });

  test.each(WRITING)("%s", (sql, target) => {
    expect(kindOfStatement(sql, "shop")).toMatchObject({ kind: "rows", target });
  });

  test.each([
    ["DELETE FROM `shop`.`memory_table`", true],
    ["delete quick from t ;", true],
    ["delete ignore from t", false],
    ["DELETE FROM t LIMIT 3", false],
    ["DELETE FROM t WHERE id = 1", false],
    ["DELETE FROM t PARTITION (p0)", false],
    ["DELETE t FROM t", false],
    ["INSERT INTO t", false],
  ])("%s leaves no row: %s", (sql, isOfAll) => {
    expect(kindOfStatement(sql, "shop")).toMatchObject({ kind: "rows", isOfAll });
  });

  describe("that change rows which the log does not have", () => {
    const objects = {
      tables: ["t", "u", "x", "noted", "log", "größe", "parent", "child", "grandchild"]
        .map((name) => ["shop", name])
        .concat([["other", "t"]]),
      columns: [["shop", "x"]],
      views: [
        ["shop", "v", "shop", "select `shop`.`t`.`id` from `shop`.`t`"],
        ["shop", "secret", "shop", ""],
        ["shop", "counts", "shop", "select next()"],
      ],
      triggers: [
        ["shop", "u", "shop", "begin insert into log values ('t ''is'' t'); call later(new.id); end", "UPDATE"],
        ["shop", "x", "shop", "insert into log values (1)", "INSERT"],
        [
          "shop",
          "noted",
          "shop",
          "begin -- isn't\n insert into log values ('a'); # it's\n insert into t values (1); end",
          "INSERT",
        ],
      ],
      routines: [
        ["shop", "later", "shop", "begin update other.t set a = 1; end"],
        ["shop", "next", "shop", "begin insert into u values (1); return 1; end"],
      ],
      referential_constraints: [
        ["shop", "parent", "shop", "child", "DELETE", ""],
        ["shop", "child", "shop", "grandchild", "", "UPDATE"],
        ["shop", "grandchild", "shop", "child", "DELETE", "UPDATE"],
      ],
    };
    const server = {
      rows: async (_: string, sql: string) =>
        Object.entries(objects).find(([view]) => sql.includes(`information_schema.${view} `))![1],
    };
    const ofAll = objects.tables.map(([schema, table]) => `${schema}.${table}`);
    const written = async (sql: string, given: Partial<Uncertain> = {}): Promise<string[]> => {
      const says = kindOfStatement(sql, "shop");
      // Of a definition that can't be read it is asked, too.
      const statement = says.kind === "definition" ? rowsOfAny(sql, "shop") : says;
      if (statement.kind !== "rows") return [statement.kind];
      const by = { statement, isWhole: true, isLegible: true, withRows: [], ...given };
      const tables = await new Programs(server).written(by, AbortSignal.timeout(1_000));
      return tables.map(({ schema, table }) => `${schema}.${table}`).toSorted();
    };

    test.each([
      ["insert into t select * from u", ["shop.t"]],
      ["insert into T values ('u')", ["shop.t"]],
      ["insert into`log`select/* isn't */next(),'x'", ["other.t", "shop.log", "shop.u"]],
      ["update`v`set`id`=1", ["shop.t"]],
      ["insert into noted values (1)", ["shop.log", "shop.noted", "shop.t"]],
      ["insert into gone values (1)", ["shop.gone"]],
      ["insert into other.t values (1)", ["other.t"]],
      ["insert into log values (1, 'next()', next ())", ["other.t", "shop.log", "shop.u"]],
      ["update v set id = 1", ["shop.t"]],
      ["update u set a = 't'", ["other.t", "shop.log", "shop.u"]],
      ["update x, log set log.a = 't'", ["shop.log"]],
      [
        "update ignore t a join log as b using (id) left join u on u.id = b.id set a.n = b.n, b.a = (select max(n) from x)",
        ["shop.log", "shop.t"],
      ],
      ["UPDATE t u, u AS z SET u.n = z.n WHERE z.n = 1 ORDER BY z.n, u.n", ["shop.t"]],
      ["update other.t, log l set t.a = l.a, `other`.`t`.b = 2", ["other.t"]],
      ["update v, log set v.id = 1", ["shop.t"]],
      ["update log join u set u.a = 1", ["other.t", "shop.log", "shop.u"]],
      ["delete a, x from t as a, log, x where log.id = a.id", ["shop.t", "shop.x"]],
      ["delete quick from t.*, x using t join log join x", ["shop.t", "shop.x"]],
      // Not certain: whose column that is, where a name begins or ends, or what the name stands for.
      ["update x, log set a = 't'", ["shop.log", "shop.x"]],
      ['update x, log set log.a = "t"', ["shop.log", "shop.t", "shop.x"]],
      ["update t partition (p) as x, log set x.a = 1", ["shop.log", "shop.t", "shop.x"]],
      ["update (select 1 from t) x, log set x.a = 1", ["shop.log", "shop.t", "shop.x"]],
      ["update t for system_time all as x, log set x.a = 1", ["shop.log", "shop.t", "shop.x"]],
      ["delete z from t, log", ["shop.log", "shop.t"]],
      [`update x, log set log.a = 'a\\', b = t, c = 'x'`, ["shop.log", "shop.t", "shop.x"]],
      ["delete t.* from other.t join log", ["other.t"]],
      ["with c as (select 1) delete from `t` where id in (select 1 from c)", ["shop.t"]],
      [
        "with c as (select id from t), d (id) as (select 1 from u) delete from log where id in (select id from c)",
        ["shop.log"],
      ],
      ["with recursive c as (select 1 n) update log, t set log.a = t.a", ["shop.log"]],
      ["with c as (select next() n from t) update log set a = (select n from c)", ["other.t", "shop.log", "shop.u"]],
      ["with c as (select * from t) select next() from c", ["other.t", "shop.log", "shop.u"]],
      ['with c as (select "(" from t) delete from log', ["shop.log", "shop.t"]],
      ["analyze format=json update t set a = 1", ["shop.t"]],
      ["analyze update log set a = (select max(a) from t)", ["shop.log"]],
      ["analyze delete from log where id in (select id from t)", ["shop.log"]],
      ["delete from log where(id, a) in (select id, a from t)", ["shop.log"]],
      ["delete from `log`where id in (select t.id from t, u)", ["shop.log"]],
      ["delete from log partition (p0, p1) where id in (select id from t)", ["shop.log"]],
      ["delete from log order by t, u limit 1", ["shop.log"]],
      ["delete from log returning t, u", ["shop.log"]],
      ["delete from log as l where exists (select 1 from t join u using (id))", ["shop.log"]],
      ["delete from shop.log.*, shop.t using shop.log join t", ["shop.log", "shop.t"]],
      ["delete from log using log join t", ["shop.log"]],
      ["update log partition (p0, p1) set a = (select max(a) from t)", ["shop.log"]],
      ["update log use index (a, b) set a = (select max(t.a) from t join u)", ["shop.log"]],
      ["update log as l set`a`=1,`b`=(select max(b) from t)", ["shop.log"]],
      ["update (log, t) set t.a = 1", ["shop.t"]],
      ["update log `a set b`, t set t.a = 1", ["shop.t"]],
      ["update log offset, t set t.a = 1", ["shop.t"]],
      ["update log join(t) set t.a = 1", ["shop.t"]],
      ["analyze table t", ["other"]],
      ["something new about t", ["shop.t"]],
      ["select next() from t", ["other.t", "shop.log", "shop.u"]],
      ["select * from counts", ["other.t", "shop.log", "shop.u"]],
      ["select `shop`.`nextval`(t)", []],
      ["update secret set a = 1", ofAll.toSorted()],
      ["delete history from x", ["shop.x"]],
      ["replace into x values (1)", ["shop.log", "shop.x"]],
      ["update x set a = 1", ["shop.x"]],
      ["update parent set a = 1", ["shop.parent"]],
      ["delete from parent where id = 1", ["shop.child", "shop.grandchild", "shop.parent"]],
      ["replace into parent values (1)", ["shop.child", "shop.grandchild", "shop.parent"]],
      ["delete from child", ["shop.child"]],
    ])("%s", async (sql, tables) => {
      expect(await written(sql)).toEqual(tables);
    });

    test("of which only the beginning is known", async () => {
      expect(await written("insert into t values (", { isWhole: false })).toEqual(["shop.t"]);
      expect(await written("update t, ", { isWhole: false })).toEqual(ofAll.toSorted());
      expect(await written("update t, x set x.a = 1", { isWhole: false })).toEqual(ofAll.toSorted());
    });

    test("in an unknown character set", async () => {
      expect(await written("update log, gr\ufffdsse", { isLegible: false })).toEqual(["shop.größe", "shop.log"]);
      expect(await written("alter table gr\ufffdsse rename to u", { isLegible: false })).toEqual([
        "shop.größe",
        "shop.u",
      ]);
    });

    test("with rows of what triggers wrote", async () => {
      const withRows = ["log", "x"].map((table) => ({ schema: "shop", table }));
      expect(await written("insert into x values (1)")).toEqual(["shop.log", "shop.x"]);
      expect(await written("insert into x values (1)", { withRows })).toEqual(["shop.x"]);
      expect(await written("insert into u values (1)", { withRows })).toEqual(["other.t", "shop.log", "shop.u"]);
    });
  });

  /** What the servers take for the same statement; quotes are kept. */
  const written: Readonly<Record<string, (sql: string) => string>> = {
    "comments for blanks": (sql) => outside(sql, (words) => words.replaceAll(/\s+/g, "/* it's `a` */")),
    "lines of comments for blanks": (sql) => outside(sql, (words) => words.replaceAll(/\s+/g, "-- isn't\n#`\n")),
    "no blanks at quotes": (sql) => outside(sql, (words) => words.trim() || words),
    "a comment that is executed": (sql) => `/*!50000 ${sql}*/`,
    "the other case": (sql) =>
      outside(sql, (words) =>
        words.replaceAll(/[a-z]/gi, (letter) => (letter < "a" ? letter.toLowerCase() : letter.toUpperCase())),
      ),
  };

  test.each(Object.keys(written))("mean the same with %s", (how) => {
    const statements = [...RENAMING, ...UNLOGGED, ...TRUNCATING, ...WRITING, ...TRANSACTIONAL].map(([sql]) => sql);
    const plain = statements.filter((sql) => !/[#\\]|--|\/\*/.test(sql));
    const meaning = (sql: string) => JSON.stringify({ ...kindOfStatement(sql, "shop"), text: "" }).toLowerCase();
    expect(plain.length).toBeGreaterThan(50);
    for (const sql of plain) {
      const other = written[how]!(sql);
      expect({ other, meaning: meaning(other) }).toEqual({ other, meaning: meaning(sql) });
    }
  });

  test.each(UNLOGGED)("%s changes rows that are not logged", (sql, tables) => {
    const statement = kindOfStatement(sql, "shop");
    const names = statement.kind === "definition" ? statement.unlogged.map((t) => `${t.schema}.${t.table}`) : null;
    expect(names).toEqual(tables);
  });
});

describe("the text of a statement", () => {
  /** A QUERY event of a session whose client has this collation; undefined: the event does not say. */
  const event = (sql: Buffer, collation: number | undefined): Buffer => {
    const header = Buffer.alloc(HEADER_BYTES + 13);
    const status = collation === undefined ? [] : [0, 0, 0, 0, 0, 4, collation & 0xff, collation >> 8, 0, 0, 0, 0];
    header[HEADER_BYTES + 8] = 4;
    header[HEADER_BYTES + 11] = status.length;
    return Buffer.concat([header, Buffer.from(status), Buffer.from("shop\0"), sql]);
  };

  test.each([
    ["latin1", Buffer.from("drop größe", "latin1"), 8, "drop größe", true],
    ["no character set", Buffer.from("drop größe"), undefined, "drop größe", true],
    ["binary", Buffer.from("drop größe"), 63, "drop größe", true],
    ["an unknown one, plain", Buffer.from("drop table t"), 40_000, "drop table t", true],
    ["an unknown one", Buffer.from("drop größe", "latin1"), 40_000, "drop gr\ufffd\ufffde", false],
  ])("in %s", (_, sql, collation, text, isLegible) => {
    const bytes = event(sql, collation);
    bytes[HEADER_BYTES] = 7;
    const says = { schema: "shop", sql: text, thread: 7, isCutShort: false, isLegible, isWhole: true };
    expect(readStatement(QUERY, bytes, 0, bytes.length)).toEqual(says);
  });

  describe("that is long", () => {
    const pairs = Array.from({ length: 5_000 }, (_, i) => `new.t${i} TO app.t${i}`);
    const definition = Buffer.from(`RENAME TABLE ${pairs.join(", ")}`);
    const packed = Buffer.concat([Buffer.from([0x83, 0, 0, 0]), deflateSync(definition)]);
    packed.writeUIntBE(definition.length, 1, 3);
    const last = { from: { schema: "new", table: "t4999" }, to: { schema: "app", table: "t4999" } };

    test.each([
      ["as it is", QUERY, definition],
      ["compressed", MARIADB_QUERY_COMPRESSED, packed],
    ])("is read whole if it changes tables, %s", (_, type, sql) => {
      const bytes = event(sql, undefined);
      const read = readStatement(type, bytes, 0, bytes.length);
      expect(read.isWhole).toBe(true);
      expect(kindOfStatement(read.sql, read.schema)).toMatchObject({ renames: { length: 5_000, 4999: last } });
    });

    test("is read from its beginning if it changes rows, or is too large for memory", () => {
      const insert = event(Buffer.from(`INSERT INTO t VALUES ('${"x".repeat(100_000)}')`), undefined);
      const cut = event(definition, undefined);
      cut.writeUInt32LE(9_000_000, SIZE_AT);
      for (const bytes of [insert, cut]) {
        const { isWhole, sql } = readStatement(QUERY, bytes, 0, bytes.length);
        expect([isWhole, sql.length]).toEqual([false, 64 * 1024]);
      }
    });
  });
});

describe("addresses", () => {
  test("are read with what the mysql client would add", () => {
    expect(parseMysqlUrl("mysql://us%40er:p%3Aw@db.example/shop?ssl-mode=verify-identity", "")).toMatchObject({
      host: "db.example",
      port: 3306,
      user: "us@er",
      password: "p:w",
      database: "shop",
      sslMode: "VERIFY_IDENTITY",
    });
    expect(parseMysqlUrl("mariadb://u@[::1]:3307", "")).toMatchObject({ host: "::1", port: 3307, database: "" });
  });

  test.each(["mysql://u@h/d?sslmode=x", "mysql://u@h/d?ssl-mode=maybe", "mysql://u@h/d?ssl-ca=/nowhere.pem"])(
    "%s is refused",
    (url) => {
      expect(() => parseMysqlUrl(url, "")).toThrow(expect.objectContaining({ code: "MR2004" }));
    },
  );
});
