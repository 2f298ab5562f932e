/** How many rows of a chunk are read at once: a source is asked for as much as the time of a piece allows. */
import { expect, test, vi } from "vitest";
import { ChunkPace } from "../../connectors/kit/chunk-pace.ts";

const ROW_BYTES = 40;
/** What a request costs beside its rows. */
const REQUEST_MS = 0.25;

/** Pieces of one chunk of a source that reads a row in `rowMs`. */
async function read(rowMs: number, rests: boolean, restedFetchMs?: number): Promise<readonly number[]> {
  let atMs = 0;
  const now = vi.spyOn(performance, "now").mockImplementation(() => atMs);
  try {
    const pace = new ChunkPace(rests ? async () => undefined : undefined, restedFetchMs);
    const pieces: number[] = [];
    for (let count = 0; ;) {
      const asked = pace.ask();
      pieces.push(asked);
      count += asked;
      atMs += REQUEST_MS + asked * rowMs;
      if (!(await pace.goesOn({ count, byteCount: count * ROW_BYTES }))) return pieces;
    }
  } finally {
    now.mockRestore();
  }
}

const rowsOf = (pieces: readonly number[]): number => pieces.reduce((sum, count) => sum + count, 0);

test("a piece of a chunk with rests takes a millisecond, and the chunk has most rows that its time allows", async () => {
  for (const rowMs of [0.001, 0.01, 0.1]) {
    const pieces = await read(rowMs, true);
    const msOf = pieces.map((count) => REQUEST_MS + count * rowMs);
    expect(Math.max(...msOf.slice(1))).toBeLessThan(1.2);
    expect(rowsOf(pieces) * rowMs).toBeGreaterThan(50 * 0.6);
  }
});

test("where each piece is a query of its own it takes longer", async () => {
  const [some, more] = [await read(0.001, true), await read(0.001, true, 3)];
  expect(more.length).toBeLessThan(some.length / 2);
  expect(rowsOf(more)).toBeGreaterThan(rowsOf(some));
});

test("a chunk without rests has larger pieces, and the second one is no leap into rows of unknown size", async () => {
  const pieces = await read(0.001, false);
  expect(pieces.slice(0, 3)).toEqual([64, 64 * 60, 16_384]);
  expect(rowsOf(pieces)).toBe(200_000);
});
