/** What is compared in a lake while its maintenance moves rows. */
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { lakeSink } from "../../connectors/duckdb/lake/sink.ts";
import type { CatalogKind } from "../../connectors/duckdb/lake/place.ts";
import { findMillraceError } from "../../src/core/errors.ts";
import { put, Reports, rowsBatch, timeout } from "../conformance/stage.ts";
import { tableVersion } from "../support/model/blocks.ts";
import { eventually } from "../support/run/waiting.ts";
import { lakeTarget } from "../support/warehouses/ducklake-target.ts";

const items = tableVersion({ table: "items", columns: { id: "int8", v: "text" } });
const ROWS = 2_000;
const KEYS = Array.from({ length: 300 }, (_, i) => [String(i)] as const);
const LOOKS = 25;

test("rows under keys with a NUL are read", async () => {
  await using target = await lakeTarget("sqlite");
  const named = tableVersion({ table: "named", columns: { k: "text", v: "text" } });
  const sink = target.makeSink();
  await sink.open(1, timeout());
  await sink.prepare([named], timeout());
  const keys = ["\0", "a\0b", "a", "z"];
  const all = Array.from({ length: ROWS }, (_, i) => put([`row ${i}`, "x"]));
  const odd = keys.map((key) => put([key, "x"]));
  await sink.apply(rowsBatch(1n, [named, [...all, ...odd]]), new Reports(), timeout());
  await using inspection = await sink.inspect();
  const rows = await inspection.rows(
    named,
    [...keys, "b\0"].map((key) => [key] as const),
    timeout(),
  );
  expect(rows.map(({ id }) => id).toSorted()).toEqual(keys.map((key) => inspection.id(named, [key])).toSorted());
  await sink.close();
});

/** DuckLake may close its engine over a file that it wants to write again, whose deleted rows it has counted wrong. */
const isClosed = (error: unknown): boolean => findMillraceError(error)?.code === "MR3216";

test.for(["sqlite", "duckdb"] as const satisfies readonly CatalogKind[])(
  "keys and rows are whole while maintenance moves them: a catalogue in %s",
  { tags: "heavy" },
  async (kind) => {
    await using target = await lakeTarget(kind);
    const sink = lakeSink({ ...target.options, maintenance: { everyMs: 20, keepSnapshotsMs: 1_000 } });
    await sink.open(1, timeout());
    await sink.prepare([items], timeout());
    const all = Array.from({ length: ROWS }, (_, i) => put([`${i}`, "x"]));
    await sink.apply(rowsBatch(1n, [items, all]), new Reports(), timeout());
    const stopped = new AbortController();
    const writing = (async () => {
      for (let n = 2; !stopped.signal.aborted; n++) {
        const changes = Array.from({ length: 5 }, (_, i) => put([`${(n * 5 + i) % 300}`, `y${n}`]));
        const apply = () => sink.apply(rowsBatch(BigInt(n), [items, changes]), new Reports(), timeout());
        await apply().catch(async (error: unknown) => {
          if (!isClosed(error)) throw error;
          // Until nobody has the closed engine any more.
          await eventually(() => sink.open(1, timeout()));
          await sink.prepare([items], timeout());
          await apply();
        });
        // The places of former shapes are removed, and a reader may still look for rows there.
        // Of two writers at the same moment one is refused.
        const wider = target.query(`alter table lake.public.items add column extra${n} integer`);
        await wider.catch(() => undefined);
        await sleep(5);
      }
    })();
    try {
      const seen: unknown[] = [];
      while (seen.length < LOOKS) {
        try {
          await using inspection = await sink.inspect();
          const ids: string[] = [];
          for await (const keys of inspection.keys(items, timeout())) ids.push(...keys.map(({ id }) => id));
          const rows = await inspection.rows(items, KEYS, timeout());
          seen.push({ listed: ids.length, keys: new Set(ids).size, rows: rows.length });
        } catch (error) {
          if (!isClosed(error)) seen.push(error);
        }
      }
      const whole = { listed: ROWS, keys: ROWS, rows: KEYS.length };
      expect(seen.filter((one) => JSON.stringify(one) !== JSON.stringify(whole))).toEqual([]);
    } finally {
      stopped.abort();
      await writing;
      await sink.close();
    }
  },
);
