/** The keys of a SQLite table, page after page, while rows come and go. */
import { expect, test } from "vitest";
import { SqliteSink } from "../../connectors/sqlite/sink.ts";
import type { KeyPage } from "../../src/core/contracts/comparing.ts";
import { put, Reports, rowsBatch, timeout } from "../conformance/stage.ts";
import { tableVersion } from "../support/model/blocks.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";

const items = tableVersion({
  table: "items",
  columns: [
    ["shop", "text"],
    ["id", "int8"],
    ["v", "text"],
  ],
  key: ["shop", "id"],
});
const ROWS = 12_000;

test("each key that is there all the time is in one of the pages, and the listing ends", async () => {
  using folder = temporaryFolder();
  const sink = new SqliteSink({ name: "s", path: folder.file("s.sqlite"), schema: undefined });
  await sink.open(1, timeout());
  await sink.prepare([items], timeout());
  const all = Array.from({ length: ROWS }, (_, i) => put([`s${i % 7}é`, `${i - 6_000}`, "x"]));
  await sink.apply(rowsBatch(1n, [items, all]), new Reports(), timeout());
  await using inspection = await sink.inspect();
  const seen: string[] = [];
  let after: string | null = null;
  let pages = 0;
  do {
    const page: KeyPage = await inspection.page!(items, after, timeout());
    seen.push(...page.keys.map(({ key }) => key!.join()));
    after = page.next;
    pages++;
    const later = [put([`s9-${pages}`, "1", "later"]), put([`a${pages}`, "1", "before"])];
    await sink.apply(rowsBatch(BigInt(pages + 1), [items, later]), new Reports(), timeout());
  } while (after !== null);
  expect(pages).toBe(3);
  expect(new Set(seen).size).toBe(seen.length);
  const wanted = Array.from({ length: ROWS }, (_, i) => `s${i % 7}é,${i - 6_000}`);
  expect(new Set(wanted).difference(new Set(seen))).toEqual(new Set());
  await sink.close();
});
