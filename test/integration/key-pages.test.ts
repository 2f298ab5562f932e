/** The keys of a table in a file or lake, page after page, while rows come and go. */
import { expect, test } from "vitest";
import { SqliteSink } from "../../connectors/sqlite/sink.ts";
import type { Sink } from "../../src/core/contracts/sink.ts";
import { listPages } from "../conformance/key-pages.ts";
import type { KeptForm } from "../conformance/sink.ts";
import { put, remove, Reports, rowsBatch, timeout } from "../conformance/stage.ts";
import { tableVersion } from "../support/model/blocks.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";
import { duckdbTarget } from "../support/warehouses/duckdb-target.ts";
import { lakeTarget } from "../support/warehouses/ducklake-target.ts";

const items = tableVersion({ table: "items", columns: { shop: "text", id: "int8", v: "text" }, key: ["shop", "id"] });

interface Opened extends AsyncDisposable {
  readonly sink: Sink;
}

const MIRROR: KeptForm = { deletes: "hard", mode: "mirror" };
const SOFT: KeptForm = { deletes: "soft", mode: "mirror" };
const HISTORY: KeptForm = { deletes: "hard", mode: "history" };

const OPENERS: Readonly<Record<string, (form: KeptForm) => Promise<Opened>>> = {
  sqlite: async () => {
    const folder = temporaryFolder();
    const sink = new SqliteSink({ name: "s", owner: "shop/s", path: folder.file("s.sqlite"), schema: undefined });
    return { sink, [Symbol.asyncDispose]: async () => folder[Symbol.dispose]() };
  },
  duckdb: async (form) => {
    const target = duckdbTarget(form);
    return { sink: target.makeSink(), [Symbol.asyncDispose]: () => target[Symbol.asyncDispose]() };
  },
  ducklake: async (form) => {
    const target = await lakeTarget("sqlite", form);
    return { sink: target.makeSink(), [Symbol.asyncDispose]: () => target[Symbol.asyncDispose]() };
  },
};

const TITLE = "each key that is there all the time is in one of the pages, and the listing ends: %s, %o";

type Kind = readonly [kind: string, form: KeptForm, rowCount: number, pagesBelow: number];

const KINDS: readonly Kind[] = [
  ["sqlite", MIRROR, 12_000, 13],
  ["duckdb", MIRROR, 12_000, 5],
  ["ducklake", MIRROR, 45_000, 5],
];
const FORMS: readonly Kind[] = [
  ["duckdb", SOFT, 12_000, 5],
  ["duckdb", HISTORY, 12_000, 5],
  ["ducklake", HISTORY, 45_000, 5],
];

test.for(KINDS)(TITLE, async (kind) => expectPages(kind));
test.for(FORMS)(TITLE, { tags: "heavy" }, async (kind) => expectPages(kind));

async function expectPages([kind, form, rowCount, pagesBelow]: Kind): Promise<void> {
  await using target = await OPENERS[kind]!(form);
  const { sink } = target;
  await sink.open(1, timeout());
  await sink.prepare([items], timeout());
  const apply = (version: number, changes: Parameters<typeof rowsBatch>[1][1]) =>
    sink.apply(rowsBatch(BigInt(version), [items, changes]), new Reports(), timeout());
  const keyOf = (i: number): [string, string] => [`s${i % 7}é`, `${i - 6_000}`];
  const all = Array.from({ length: rowCount }, (_, i) => keyOf(i));
  await apply(
    1,
    all.map((key) => put([...key, "x"])),
  );
  const gone = all.filter((_, i) => i % 10 === 0);
  await apply(
    2,
    gone.map((key) => remove([...key, null])),
  );
  await using inspection = await sink.comparison!.inspect(timeout());
  const { keys, pageCount } = await listPages(inspection, items, (page) =>
    apply(page + 2, [put([`s9-${page}`, "1", "later"]), put([`a${page}`, "1", "before"])]),
  );
  expect(pageCount).toBeGreaterThan(2);
  expect(pageCount).toBeLessThan(pagesBelow);
  const seen = new Set(keys);
  expect(seen.size).toBe(keys.length);
  const wanted = new Set(all.filter((_, i) => i % 10 !== 0).map((key) => key.join()));
  expect(wanted.difference(seen)).toEqual(new Set());
  expect(new Set(gone.map((key) => key.join())).intersection(seen)).toEqual(new Set());
  await sink.close();
}

test("a lake's rows without a whole key, which somebody else wrote, are listed too", async () => {
  await using target = await lakeTarget("sqlite");
  const sink = target.makeSink();
  await sink.open(1, timeout());
  await sink.prepare([items], timeout());
  const all = Array.from({ length: 45_000 }, (_, i) => put(["s", `${i}`, "x"]));
  await sink.apply(rowsBatch(1n, [items, all]), new Reports(), timeout());
  await target.query(`insert into lake.public.items (shop, id, _millrace_version, _millrace_commit_time)
    select *, 1, now() from (values (null, 1), ('s', null), (null, null), ('t', null))`);
  await using inspection = await sink.comparison.inspect();
  const { keys } = await listPages(inspection, items);
  expect(keys.filter((key) => key === null || key.startsWith(","))).toHaveLength(4);
  expect(new Set(keys.filter((key) => key?.startsWith("s,"))).size).toBe(45_000);
  await sink.close();
});
