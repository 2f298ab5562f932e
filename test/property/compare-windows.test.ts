/** A window that compares: its rows are exactly what a sink must hold at the high mark, and what it can't tell is unsettled. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { type Block, NO_TUPLE } from "../../src/core/model/block.ts";
import { systemClock } from "../../src/core/clock.ts";
import type { Chunk } from "../../src/core/contracts/row-reads.ts";
import { CompareWindow, type WindowRows } from "../../src/runtime/snapshot/windows.ts";
import { blockOf, type Cell, type Change } from "../support/model/blocks.ts";
import { blocksOf, cellsOf, type Row, versionOf } from "../support/model/log-model.ts";
import { history, type Log, run, shape } from "../support/model/random-log.ts";

const marks = fc.noBias(fc.tuple(fc.nat({ max: 20 }), fc.nat({ max: 6 }), fc.nat({ max: 10 })));
const cuts = fc.array(fc.nat({ max: 60 }), { maxLength: 6 });

function stateAt(log: Log, commit: bigint): ReadonlyMap<string, Row> {
  return [...log.history].findLast(([at]) => at < commit)?.[1] ?? log.start;
}

interface Found {
  readonly block: Block;
  readonly row: number;
  readonly isByLog: boolean;
}

/** What is compared; a range in slices of `count` rows. */
async function foundIn({ block, toldCount, moved }: WindowRows, count: number): Promise<readonly Found[]> {
  if (block === null) return [];
  const found: Found[] = [];
  for (let from = 0; from < block.count; from += count) {
    const to = Math.min(block.count, from + count);
    const without = await moved?.among(block, from, to, systemClock);
    for (let row = from; row < to; row++)
      if (without?.has(row) !== true) found.push({ block, row, isByLog: row >= toldCount });
  }
  const left = moved?.byLog(block) ?? null;
  for (let row = 0; row < (left?.count ?? 0); row++) found.push({ block: left!, row, isByLog: true });
  return found;
}

test("no row of it differs from the state at the high mark, and only keys that moved are unsettled", async () => {
  let told = 0;
  let byLog = 0;
  await fc.assert(
    fc.asyncProperty(
      shape,
      history,
      marks,
      cuts,
      fc.boolean(),
      fc.boolean(),
      fc.integer({ min: 1, max: 5 }),
      async (table, commands, [lowAt, readAfter, closeAfter], at, lists, knows, sliceRows) => {
        const log = run({ ...table, binary: false }, commands, 0);
        const version = table.table;
        const commits = [...log.history.keys()];
        const place = (i: number) => (commits[Math.min(i, commits.length) - 1] ?? 995n) + 1n;
        const [low, read, high] = [place(lowAt), place(lowAt + readAfter), place(lowAt + readAfter + closeAfter)];
        const window = new CompareWindow("w", version.id);
        const snapshot = [...stateAt(log, read).values()];
        const keyOf = (row: readonly Cell[]) => version.key.map((ordinal) => String(row[ordinal]));
        const everyKey = new Map(
          [log.start, ...log.history.values()].flatMap((state) =>
            [...state.values()].map((row): [string, string[]] => [keyOf(row).join(), keyOf(row)]),
          ),
        );
        const rows = snapshot.map((after): Change => ({ table: version, op: "r", after, commit: 0n }));
        const block = rows.length === 0 ? null : blockOf(rows);
        const chunk: Chunk = { block, last: null, sees: (xid) => knows && BigInt(xid) < read };
        window.low(versionOf(low));
        window.fill(version, chunk, lists ? [...everyKey.values()] : null, 0);
        const between = log.changes
          .filter(({ commit }) => commit > low && commit < high)
          .map((change) => ({ ...change, xid: Number(change.commit) }));
        for (const part of blocksOf(between, at)) if (part.count > 0) window.touch(part, 0, part.count);
        const closed = window.close(() => true);
        if (typeof closed === "string") return;
        const now = new Map([...stateAt(log, high).values()].map((row) => [keyOf(row).join(), row]));
        if (!lists && block !== null) expect(closed.block).toBe(block);
        const found = await foundIn(closed, sliceRows);
        const keys = new Set<string>();
        for (const { block: rows, row, isByLog } of found) {
          const isThere = rows.after[row] !== NO_TUPLE;
          const cells = cellsOf(version, rows.bytes, isThere ? rows.after[row]! : rows.before[row]!);
          const key = keyOf(cells).join();
          keys.add(key);
          expect([key, isThere ? cells : undefined]).toEqual([key, now.get(key)]);
          if (!isByLog) told++;
          else {
            byLog++;
            expect(
              between.some(({ before, after }) =>
                [before, after].some((changed) => changed !== undefined && keyOf(changed).join() === key),
              ),
            ).toBe(true);
          }
        }
        // None of the chunk is left out.
        for (const key of window.unsettled) keys.add(key.join());
        expect(snapshot.filter((row) => !keys.has(keyOf(row).join()))).toEqual([]);
        expect(keys.size).toBe(found.length + window.unsettled.length);
        const moved = new Set(
          between.flatMap(({ before, after }) =>
            [before, after].flatMap((row) => (row === undefined ? [] : [keyOf(row).join()])),
          ),
        );
        for (const key of window.unsettled) expect(moved.has(key.join())).toBe(true);
      },
    ),
    { numRuns: 1_500 },
  );
  expect(told).toBeGreaterThan(1_000);
  expect(byLog).toBeGreaterThan(300);
});
