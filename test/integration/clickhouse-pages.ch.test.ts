/** The keys of a ClickHouse table, page after page, whatever is in them. */
import { expect, test } from "vitest";
import { listPages } from "../conformance/key-pages.ts";
import type { KeptForm } from "../conformance/sink.ts";
import { put, remove, Reports, rowsBatch, timeout } from "../conformance/stage.ts";
import { tableVersion } from "../support/model/blocks.ts";
import { clickhouseUrl } from "../support/run/services.ts";
import { clickhouseTarget } from "../support/warehouses/clickhouse-target.ts";

const points = tableVersion({
  table: "points",
  columns: { x: "float8", name: "text", id: "int8", v: "text" },
  key: ["x", "name", "id"],
});
const ROWS = 25_000;
/** Half of the rows are beside all numbers. */
const xOf = (i: number): string => (i % 2 === 0 ? "NaN" : i % 3 === 0 ? "-Infinity" : `${(i % 1_000) / 8}`);

const TITLE = "each key that is there all the time is in one of the pages, and the listing ends: %o";

test.for<KeptForm>([{ deletes: "hard", mode: "mirror" }])(TITLE, async (form) => expectPages(form));
test.for<KeptForm>([
  { deletes: "soft", mode: "mirror" },
  { deletes: "hard", mode: "history" },
])(TITLE, { tags: "heavy" }, async (form) => expectPages(form));

async function expectPages(form: KeptForm): Promise<void> {
  await using target = await clickhouseTarget(form, clickhouseUrl());
  const sink = await target.makeSink();
  await sink.open(1, timeout());
  await sink.prepare([points], timeout());
  const apply = (version: number, changes: Parameters<typeof rowsBatch>[1][1]) =>
    sink.apply(rowsBatch(BigInt(version), [points, changes]), new Reports(), timeout());
  const all = Array.from({ length: ROWS }, (_, i): [string, string, string] => [xOf(i), `n${i % 50}é`, `${i}`]);
  await apply(
    1,
    all.map((key) => put([...key, "x"])),
  );
  const gone = all.filter((_, i) => i % 10 === 0);
  await apply(
    2,
    gone.map((key) => remove([...key, null])),
  );
  // Somebody else's, which is no text: after a page that ends with it the next one goes on behind its bytes.
  const [op, insert] = form.mode === "history" ? [", _millrace_op", ", 'i'"] : ["", ""];
  await target.query(
    `INSERT INTO public.points (x, name, id, v, _millrace_version${op}) SELECT 1, unhex('C328'), -number - 1, 'x', 1${insert} FROM numbers(9000)`,
  );
  await using inspection = await sink.comparison!.inspect(timeout());
  const { keys, pageCount } = await listPages(inspection, points, (page) =>
    apply(page + 2, [put(["NaN", "zz", `${-page}`, "later"]), put(["-Infinity", "", `${-page}`, "before"])]),
  );
  expect(pageCount).toBeGreaterThan(3);
  expect(pageCount).toBeLessThan(6);
  const seen = new Set(keys);
  expect(seen.size).toBe(keys.length);
  const wanted = new Set(all.filter((_, i) => i % 10 !== 0).map((key) => key.join()));
  expect(wanted.difference(seen)).toEqual(new Set());
  expect(new Set(gone.map((key) => key.join())).intersection(seen)).toEqual(new Set());
  expect(keys.filter((key) => key?.includes("(")).length).toBe(9_000);
  await sink.close();
}
