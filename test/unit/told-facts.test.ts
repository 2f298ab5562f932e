/** Facts that errors tell: statements without their values, disks with their room, lists of tables. */
import { expect, test } from "vitest";
import { shownStatement } from "../../connectors/kit/lock-holders.ts";
import { highWatermark } from "../../connectors/elasticsearch/disks.ts";
import { Options } from "../../src/cli/options.ts";
import { diskRooms, freeBytes, lowBytesOf, roomFor } from "../../src/core/disk-room.ts";

test.each([
  ["update t1 set a = 'it''s secret', b = 12.5 where id=7", "names", "update t1 set a = ?, b = ? where id=?"],
  [
    "select E'a\\'b', $x$ secret $x$, 'd'/* secret */, \"Col 1\", '/*', 7 */ 'secret'",
    "names",
    'select ?, ?, ? , "Col 1", ?, ? */ ?',
  ],
  ["insert into t values ('never ends", "names", "insert into t values (?"],
  ['update `t 1` set a = "secret" /* 5 */', "texts", "update `t 1` set a = ?"],
  // A backslash ends nothing in Postgres, and in MySQL it depends on the session: the rest is not shown.
  ["update t set a = 'C:\\', b = 'secret', c = 1", "names", "update t set a = ?…"],
  ["update t set a = 'it\\'s secret', b = 'secret', c = 1", "texts", "update t set a = ?…"],
  ['update t set "a\\" = \'secret\', "b" = 1', "names", "update t set ?…"],
  ["select 'C:\\\\', 'secret', \"b\" from t", "names", 'select ?, ?, "b" from t'],
  ["select '\\\"', 'secret', b from t", "texts", "select ?, ?, b from t"],
  // Comments, as the server at hand knows them.
  ["update t -- it's\r set a = 'secret' where b = 'secret'", "names", "update t set a = ? where b = ?"],
  ["update t # it's\n set a = 'secret'", "texts", "update t set a = ?"],
  ["select 5--'x\n secret', b", "texts", "select ?--?, b"],
  ["select j #> '{secret}', b /* a /* it's */ secret */ from t where c = 'secret'", "names", "select j #> ?, b…"],
  ["select a ` b, 'secret `' from t", "names", "select a ` b, ? from t"],
  ["select a$$, 'x$$ secret', b$1 from t", "names", "select a$$, ?, b$1 from t"],
  [
    "update t set score = .75, n = -.5e3 where id in (1.,0x1F)",
    "names",
    "update t set score = ?, n = -? where id in (?,?)",
  ],
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

test("a disk is nearly full below a tenth of it, at most ten gigabytes, and told once", () => {
  const [room, ...others] = diskRooms("/no/such/folder", "/", "/no/such/file");
  expect(others).toEqual([]);
  expect(room?.where).toBe("/no/such/folder");
  expect(Math.abs((room?.freeBytes ?? 0) - (freeBytes("/") ?? 0))).toBeLessThan(2 ** 30);
  expect([lowBytesOf(1e9), lowBytesOf(1e15)]).toEqual([1e8, 10 * 2 ** 30]);
});

const TERABYTE = 2 ** 40;
const disk = (settings: object) => ({ cluster: { routing: { allocation: { disk: settings } } } });

test.each([
  ["Elasticsearch's defaults", { defaults: disk({ watermark: { high: "90%", "high.max_headroom": "150GB" } }) }, 0.1],
  ["OpenSearch's", { defaults: disk({ threshold_enabled: "true", watermark: { high: "90%" } }) }, 0.1],
  ["a ratio", { persistent: disk({ watermark: { high: "0.75" } }) }, 0.25],
  [
    "bytes",
    { transient: disk({ watermark: { high: "512gb" } }), persistent: disk({ watermark: { high: "1%" } }) },
    0.5,
  ],
  ["no limit of bytes", { defaults: disk({ watermark: { high: "80%", "high.max_headroom": "-1" } }) }, 0.2],
  ["no thresholds", { persistent: disk({ threshold_enabled: "false", watermark: { high: "50%" } }) }, 10 / 1024],
  ["nothing", {}, 10 / 1024],
])("a search engine's disk is nearly full at its high watermark: %s", (_, settings, share) => {
  expect(highWatermark(settings)(TERABYTE) / TERABYTE).toBeCloseTo(share, 9);
});

test("the bytes that a watermark leaves at most count on a large disk", () => {
  const settings = { defaults: disk({ watermark: { high: "90%", "high.max_headroom": "150GB" } }) };
  expect(highWatermark(settings)(100 * TERABYTE)).toBe(150 * 2 ** 30);
});

test("tables in one word get the way to name several", () => {
  expect(() => new Options({ tables: ["orders,customers"] }).tableGlobs()).toThrow(
    expect.objectContaining({ code: "MR1110", hint: expect.stringContaining("--tables orders customers") }),
  );
});
