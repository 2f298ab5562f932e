import { expect, test } from "vitest";
import { DeadRows } from "../../connectors/duckdb/file/dead-rows.ts";
import { put, rowsBatch } from "../conformance/stage.ts";
import { tableVersion } from "../support/model/blocks.ts";

const columns = [["id", "int4"]] as const;
const [first, second] = ["first", "second"].map((table) => tableVersion({ table, columns, key: ["id"] }));
const IDS = [first!.id, second!.id];

test("the table that may have the most dead rows is next, whatever is written to the others", () => {
  const dead = new DeadRows(10);
  const update = (table: typeof first, count: number): void =>
    dead.applied(rowsBatch(10n, [table!, Array.from({ length: count }, (_, id) => put([`${id}`]))]));
  expect(dead.next(IDS)).toBe(first!.id);
  dead.counted(first!.id, { live: 100, dead: 0 });
  expect(dead.next(IDS)).toBe(second!.id);
  dead.counted(second!.id, { live: 100, dead: 0 });
  expect(dead.next(IDS)).toBeNull();
  update(first, 60);
  update(second, 80);
  update(first, 10);
  expect(dead.next(IDS)).toBe(second!.id);
  // It was rewritten.
  dead.counted(second!.id, { live: 100, dead: 0 });
  expect(dead.next(IDS)).toBe(first!.id);
});

test("one dead row for six is enough in a table of one row group, one for three in a larger one", () => {
  const dead = new DeadRows(2_000);
  expect(dead.isWorthIt({ live: 30_000, dead: 5_100 })).toBe(true);
  expect(dead.isWorthIt({ live: 30_000, dead: 4_900 })).toBe(false);
  expect(dead.isWorthIt({ live: 6_000, dead: 1_900 })).toBe(false);
  expect(dead.isWorthIt({ live: 300_000, dead: 99_000 })).toBe(false);
  expect(dead.isWorthIt({ live: 300_000, dead: 101_000 })).toBe(true);
});
