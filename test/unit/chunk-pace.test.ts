/** How many rows of a chunk are read at once: a source is asked for as much as the time of a piece allows. */
import { expect, test, vi } from "vitest";
import { ChunkPace } from "../../connectors/kit/chunk-pace.ts";

const ROW_BYTES = 40;
/** What a request costs beside its rows. */
const REQUEST_MS = 0.25;

interface Given {
  readonly restedFetchMs?: number;
  readonly requestMs?: number;
}

/** Pieces of one chunk of a source that reads a row in `rowMs`. */
async function read(
  rowMs: number,
  rests: boolean,
  { restedFetchMs, requestMs = REQUEST_MS }: Given = {},
): Promise<readonly number[]> {
  let atMs = 0;
  const now = vi.spyOn(performance, "now").mockImplementation(() => atMs);
  try {
    const pace = new ChunkPace(rests ? async () => undefined : undefined, restedFetchMs);
    const pieces: number[] = [];
    for (let count = 0; ;) {
      const asked = pace.ask();
      pieces.push(asked);
      count += asked;
      atMs += requestMs + asked * rowMs;
      if (!(await pace.goesOn({ count, byteCount: count * ROW_BYTES }))) return pieces;
    }
  } finally {
    now.mockRestore();
  }
}

/** Requests that show what one costs, and what its rows do. */
const FIRST_COUNT = 4;

const rowsOf = (pieces: readonly number[]): number => pieces.reduce((sum, count) => sum + count, 0);

test("a piece of a chunk with rests takes a millisecond, and the chunk has most rows that its time allows", async () => {
  for (const rowMs of [0.001, 0.01, 0.1]) {
    const pieces = await read(rowMs, true);
    const msOf = pieces.map((count) => REQUEST_MS + count * rowMs);
    expect(Math.max(...msOf.slice(FIRST_COUNT))).toBeLessThan(2);
    expect(rowsOf(pieces) * rowMs).toBeGreaterThan(50 * 0.6);
  }
});

test("where each piece is a query of its own it takes longer", async () => {
  const [some, more] = [await read(0.001, true), await read(0.001, true, { restedFetchMs: 3 })];
  expect(more.length).toBeLessThan(some.length / 2);
  expect(rowsOf(more)).toBeGreaterThan(rowsOf(some));
});

test("from a source that is far away a chunk has as many rows as from one that is near", async () => {
  for (const requestMs of [1, 2, 10, 30]) {
    expect(rowsOf(await read(0.001, true, { requestMs }))).toBeGreaterThan(10_000);
    expect(rowsOf(await read(0.001, false, { requestMs }))).toBeGreaterThan(50_000);
  }
  expect(rowsOf(await read(0.001, false, { requestMs: 100 }))).toBeGreaterThan(50_000);
});

test("rows that take long themselves are not taken for a source that is far away: a chunk ends in time", async () => {
  for (const rests of [true, false]) {
    const rows = rowsOf(await read(10, rests));
    expect(rows * 10).toBeLessThan(700);
  }
});

test("a chunk without rests has larger pieces, and the second one is no leap into rows of unknown size", async () => {
  const pieces = await read(0.001, false);
  expect(pieces.slice(0, 6)).toEqual([4, 32, 256, 2_048, 16_384, 16_384]);
  expect(rowsOf(pieces)).toBe(200_000);
});
