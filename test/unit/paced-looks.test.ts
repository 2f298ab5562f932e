/** Looks at suspects beside the stream: each is short, and told to be followed by a rest. */
import { expect, test } from "vitest";
import { systemClock } from "../../src/core/clock.ts";
import type { ComparePlace, ComparePort } from "../../src/core/contracts/comparing.ts";
import type { HeldInspection } from "../../src/reconcile/inspections.ts";
import { TableComparison } from "../../src/reconcile/rows/table-comparison.ts";
import { blockOf, tableVersion } from "../support/model/blocks.ts";

const KEY_COUNT = 1_500;
const table = tableVersion({ table: "t", columns: { id: "integer" } });
const { signal } = new AbortController();

/** The looks at so many keys that the source has. */
async function looks(share?: number): Promise<readonly ComparePlace[]> {
  const places: ComparePlace[] = [];
  const port: Partial<ComparePort> = {
    tables: [table],
    batch: () => null,
    awaited: async () => new Set(),
    unready: async () => null,
    at: async (place) => {
      places.push(place);
      const keys = place.rows.kind === "keys" ? place.rows.keys : [];
      const block = blockOf(keys.map((after) => ({ table, op: "r", after, commit: 0n })));
      await place.compare("sink", { block, from: 0, to: block.count, isByLog: false, versionMax: 0n }, signal);
      const outcomes = new Map([["sink", { kind: "compared" }]] as const);
      return { last: null, at: "0/1", byteCount: block.byteCount, readMs: 0, unsettled: [], outcomes };
    },
  };
  const inspection: Partial<HeldInspection> = { id: (_, key) => key.join() };
  const comparison = new TableComparison({
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- what is asked of it
    port: port as ComparePort,
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the same
    inspection: inspection as HeldInspection,
    table,
    sink: "sink",
    clock: systemClock,
    patienceMs: 60_000,
    lag: async () => "",
    repairs: false,
    showsValues: false,
    sampleMax: 0,
    part: null,
    resumed: null,
    isOfKeys: true,
    ...(share !== undefined && { share }),
  });
  const keys = Array.from({ length: KEY_COUNT }, (_, i) => ({ id: `${i}`, key: [`${i}`] }));
  await comparison.lookFor(keys, signal);
  return places;
}

const countOf = ({ rows }: ComparePlace): number => (rows.kind === "keys" ? rows.keys.length : 0);

test("a look has some hundred keys at most where the source rests after it", async () => {
  const paced = await looks(0.05);
  expect(Math.max(...paced.map(countOf))).toBeLessThanOrEqual(256);
  expect(new Set(paced.map(({ share }) => share))).toEqual(new Set([0.05]));
  expect(paced.reduce((sum, place) => sum + countOf(place), 0)).toBe(KEY_COUNT);
});

test("one of a comparison that gets all the time has more", async () => {
  expect(Math.max(...(await looks()).map(countOf))).toBeGreaterThan(256);
});
