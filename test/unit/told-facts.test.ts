/** Facts that errors tell: statements without their values, disks with their room, lists of tables. */
import { expect, test } from "vitest";
import { shownStatement } from "../../connectors/kit/lock-holders.ts";
import { tableGlobs } from "../../src/cli/arguments.ts";
import { freeBytes, roomFor } from "../../src/core/disk-room.ts";

test.each([
  ["update t1 set a = 'it''s secret', b = 12.5 where id=7", "names", "update t1 set a = ?, b = ? where id=?"],
  [
    "select E'a\\'b', $x$ secret $x$, 'd'/* secret */, \"Col 1\", '/*', 7 */ 'secret'",
    "names",
    'select ?, ?, ? , "Col 1", ?, ? */ ?',
  ],
  ["insert into t values ('never ends", "names", "insert into t values (?"],
  ['update `t 1` set a = "secret" /* 5 */', "texts", "update `t 1` set a = ?"],
  ["alter table item add column held varchar(20)", "names", "alter table item add column held varchar(?)"],
] as const)("a statement of another session is shown without its values: %s", (sql, quotes, shown) => {
  expect(shownStatement(sql, quotes)).toBe(shown);
});

test("a long statement is cut", () => {
  expect(shownStatement(`select ${"a, ".repeat(500)}`, "names")).toMatch(/^select a, .{140,160}…$/);
});

test("a disk is told with its free bytes, also for a file that does not exist", () => {
  expect(freeBytes("/no/such/folder")).toBe(freeBytes("/"));
  expect(roomFor("/no/such/folder")).toMatch(/^\/no\/such\/folder \(\d[\d,]* bytes free\)$/);
});

test("tables in one word get the way to name several", () => {
  expect(() => tableGlobs(["orders,customers"])).toThrow(
    expect.objectContaining({ code: "MR1110", hint: expect.stringContaining("--tables orders customers") }),
  );
});
