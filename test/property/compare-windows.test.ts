/** A window that compares: its rows are exactly what a sink must hold at the high mark, and what it can't tell is unsettled. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { NO_TUPLE } from "../../src/core/model/block.ts";
import type { Chunk } from "../../src/core/contracts/row-reads.ts";
import { CompareWindow } from "../../src/runtime/snapshot/windows.ts";
import { blockOf, type Cell, type Change } from "../support/model/blocks.ts";
import { blocksOf, cellsOf, type Row, versionOf } from "../support/model/log-model.ts";
import { history, type Log, run, shape } from "../support/model/random-log.ts";

const marks = fc.noBias(fc.tuple(fc.nat({ max: 20 }), fc.nat({ max: 6 }), fc.nat({ max: 10 })));
const cuts = fc.array(fc.nat({ max: 60 }), { maxLength: 6 });

function stateAt(log: Log, commit: bigint): ReadonlyMap<string, Row> {
  return [...log.history].findLast(([at]) => at < commit)?.[1] ?? log.start;
}

test("no row of it differs from the state at the high mark, and only keys that moved are unsettled", () => {
  let told = 0;
  let byLog = 0;
  fc.assert(
    fc.property(
      shape,
      history,
      marks,
      cuts,
      fc.boolean(),
      fc.boolean(),
      (table, commands, [lowAt, readAfter, closeAfter], at, lists, knows) => {
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
        const found = closed.block;
        for (let i = 0; i < (found?.count ?? 0); i++) {
          const isThere = found!.after[i] !== NO_TUPLE;
          const cells = cellsOf(version, found!.bytes, isThere ? found!.after[i]! : found!.before[i]!);
          const key = keyOf(cells).join();
          expect([key, isThere ? cells : undefined]).toEqual([key, now.get(key)]);
          if (i < closed.toldCount) told++;
          else {
            byLog++;
            expect(
              between.some(({ before, after }) =>
                [before, after].some((row) => row !== undefined && keyOf(row).join() === key),
              ),
            ).toBe(true);
          }
        }
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
