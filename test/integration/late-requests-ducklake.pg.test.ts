/** Requests to a lake's catalogue in Postgres that arrive after what was written since: none counts. */
import { expect, test } from "vitest";
import { placeOf } from "../../connectors/duckdb/lake/place.ts";
import { lakeSink } from "../../connectors/duckdb/lake/sink.ts";
import { checkpointAt, failure, put, remove, Reports, rowsBatch, timeout, type Write } from "../conformance/stage.ts";
import { tableVersion } from "../support/model/blocks.ts";
import { tcpProxy } from "../support/network/proxy.ts";
import { type LakeTarget, lakeTarget } from "../support/warehouses/ducklake-target.ts";
import { rowVersion } from "../../src/core/model/position.ts";
import type { Sink } from "../../src/core/contracts/sink.ts";

const items = tableVersion({ table: "items", columns: { id: "int8", v: "text" } });

const few: readonly Write[] = [put(["1", "late"]), put(["2", "late"])];
const many: readonly Write[] = Array.from({ length: 300 }, (_, id) => put([`${id}`, "late"]));

for (const [what, from, late, options] of [
  ["the end of a commit", "COMMIT", few, {}],
  ["the end of a commit with a file", "COMMIT", many, {}],
  ["a commit", "INSERT INTO", few, { tags: "heavy" }],
  ["a commit with a file", "INSERT INTO", many, { tags: "heavy" }],
] as const)
  test(`${what} that was given up and arrives late changes nothing that was written since`, options, () =>
    commitsLate(from, late),
  );

async function commitsLate(from: string, late: readonly Write[]): Promise<void> {
  await using target = await lakeTarget("postgres");
  const { place } = target.options;
  await using proxy = await tcpProxy(place.catalog);
  // Where the server can't tell whose session it is, the next one waits for its end.
  const isKnown = from !== "COMMIT" || late === few;
  const lakeAt = (catalog: string) => {
    const url = new URL(catalog);
    if (!isKnown) url.searchParams.set("application_name", "other");
    return lakeSink({ ...target.options, place: placeOf({ ...place, catalog: url.href }, "/") });
  };
  const first = lakeAt(proxy.url(place.catalog));
  await first.open(1, timeout());
  await first.prepare([items], timeout());
  await first.apply(rowsBatch(10n, [items, ["1", "2", "3"].map((id) => put([id, "a"]))]), new Reports(), timeout());
  // Another session looks whose the table is, and ends with a COMMIT too.
  const held = proxy.hold(from, "INSERT INTO");
  const givenUp = failure(first.apply(rowsBatch(20n, [items, late]), new Reports(), timeout()));
  await held.reached;
  proxy.halfClose("client");
  expect(await givenUp).toMatchObject({ code: "MR2001", reason: "lost" });
  // By the next lease, past the proxy.
  const next = lakeAt(place.catalog);
  const opening = next.open(2, timeout()).then(
    () => null,
    (error: unknown) => error,
  );
  const write = (at: bigint, writes: readonly Write[]) =>
    next.apply(rowsBatch(at, [items, writes]), new Reports(), timeout());
  const writeOn = async () => {
    await next.prepare([items], timeout());
    await write(20n, late);
    await write(30n, [put(["1", "b"]), remove(["2", "late"])]);
  };
  if (isKnown) {
    expect(await opening).toBeNull();
    await writeOn();
  }
  await held.release();
  if ((await opening) !== null) await next.open(3, timeout());
  if (!isKnown) {
    // It was taken, and its files are gone: the sink that gave it up is told at its next opening.
    await next.close();
    return await expectFilledAgain(first, target);
  }
  await write(40n, [put(["3", "c"])]);
  const rows = (await target.readRows(items)).map(({ cells }) => cells.join(" "));
  expect(rows.filter((row) => /^[123] /.test(row)).toSorted()).toEqual(["1 b", "3 c"]);
  expect(rows).toHaveLength(late === few ? 2 : 299);
  await first.close();
  await next.close();
}

const wide = tableVersion({ table: "items", version: 2, columns: { id: "int8", v: "text", w: "text" } });

type Late = (sink: Sink, signal: AbortSignal) => Promise<unknown>;

const OTHERS: readonly (readonly [what: string, late: Late])[] = [
  [
    "a truncate",
    (sink, signal) => {
      const checkpoint = checkpointAt(20n, {}, 1);
      return sink.apply(
        { kind: "truncate", table: items, version: rowVersion(1, 20n), checkpoint },
        new Reports(),
        signal,
      );
    },
  ],
  [
    "a sweep",
    (sink, signal) => {
      const sweeps = [{ table: items, below: rowVersion(1, 20n) }];
      return sink.apply({ kind: "sweep", sweeps, checkpoint: checkpointAt(20n) }, new Reports(), signal);
    },
  ],
  ["the removal of foreign rows", (sink, signal) => sink.rows!.expel([items], rowVersion(1, 5n), signal)],
  ["another shape of a table", (sink, signal) => sink.prepare([wide], signal)],
  ["the removal of the progress", (sink, signal) => sink.forget(signal)],
];

for (const [what, late] of OTHERS) {
  // Each is a commit of the catalogue.
  const options = ["a truncate", "the removal of the progress"].includes(what) ? {} : { tags: "heavy" };
  test(`${what} that was given up and arrives late changes nothing that was written since`, options, () =>
    arrivesLate(late),
  );
}

async function arrivesLate(late: Late): Promise<void> {
  await using target = await lakeTarget("postgres");
  const { place } = target.options;
  await using proxy = await tcpProxy(place.catalog);
  const through = placeOf({ ...place, catalog: proxy.url(place.catalog) }, "/");
  const first = lakeSink({ ...target.options, place: through });
  await first.open(1, timeout());
  await first.prepare([items], timeout());
  await first.apply(rowsBatch(10n, [items, ["1", "2", "3"].map((id) => put([id, "a"]))]), new Reports(), timeout());
  const held = proxy.hold("COMMIT");
  const givenUp = failure(late(first, timeout()));
  await held.reached;
  proxy.halfClose("client");
  expect(await givenUp).toMatchObject({ code: "MR2001", reason: "lost" });
  const next = lakeSink(target.options);
  expect(await next.open(2, timeout())).toMatchObject({ position: { commit: 11n } });
  await next.prepare([items], timeout());
  const write = (at: bigint, writes: readonly Write[]) =>
    next.apply(rowsBatch(at, [items, writes]), new Reports(), timeout());
  await write(30n, [put(["1", "b"]), remove(["2", "a"])]);
  await held.release();
  await write(40n, [put(["3", "c"])]);
  await next.verify(timeout());
  const rows = (await target.readRows(items)).map(({ cells }) => cells.join(" "));
  expect(rows.toSorted()).toEqual(["1 b", "3 c"]);
  expect(
    await target.readRows(wide).then(
      () => "wide",
      () => "as it was",
    ),
  ).toBe("as it was");
  await first.close();
  await next.close();
}

async function expectFilledAgain(sink: Sink, target: LakeTarget): Promise<void> {
  await sink.open(4, timeout());
  expect(await sink.presence?.missing([items], timeout())).toEqual([items]);
  await sink.prepare([items], timeout());
  await sink.apply(rowsBatch(50n, [items, many]), new Reports(), timeout());
  expect(await target.readRows(items)).toHaveLength(many.length);
  await sink.close();
}
