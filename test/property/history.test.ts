/** Sinks that keep a history are given every change once, in the order of the log, with all that is known of its row. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { Compactor } from "../../src/runtime/compaction/compaction.ts";
import { UNCHANGED } from "../support/model/blocks.ts";
import { HistoryModel } from "../support/model/history-model.ts";
import { blocksOf, keyOfRow, type Row } from "../support/model/log-model.ts";
import { history, type Log, run, shape } from "../support/model/random-log.ts";

const cuts = fc.array(fc.nat({ max: 60 }), { maxLength: 12 });

test("however the log is cut into batches, each change is appended once, in order, whole, and the last ones are the source's rows", () => {
  fc.assert(
    fc.property(shape, history, fc.nat({ max: 20 }), cuts, cuts, (table, commands, startAt, blockCuts, batchCuts) => {
      const log = run(table, commands, Math.min(startAt, commands.length - 1));
      const sink = new HistoryModel(table.table);
      sink.fill(log.start);
      const compactor = new Compactor("history");
      const blocks = blocksOf(log.changes, blockCuts).filter((block) => block.count > 0);
      for (let i = 0; i < blocks.length;) {
        const size = batchCuts.includes(i) ? 1 : 1 + (i % 3);
        const slices = blocks.slice(i, i + size).map((block) => ({ block, from: 0, to: block.count }));
        const compacted = compactor.compact(slices, () => true);
        expect(compacted.untold).toEqual([]);
        for (const writes of compacted.tables) sink.apply(writes);
        i += size;
      }
      const changes = sink.rows.filter(({ op, id }, i) => op !== "r" && !isDerived(sink, i, op, id));
      expect(changes.map(({ op, id, row, isShort }) => [op, id, op === "d" ? null : row, isShort])).toEqual(
        wholeChanges(log),
      );
      expect(sink.live).toEqual(log.end);
    }),
    { numRuns: 1000 },
  );
});

/** The delete that stands beside an update for its old key. */
function isDerived({ rows }: HistoryModel, i: number, op: string, id: string): boolean {
  return op === "d" && rows[i - 1]?.op === "u" && rows[i - 1]?.id === id;
}

/** Each change of the log with the row that it made. */
function wholeChanges({ changes, start }: Log): unknown[] {
  const rows = new Map(start);
  return changes.map(({ table, op, after, before, commit, index }) => {
    const id = `${commit}/${index}`;
    const text = (cell: unknown, i: number) => {
      if (!(cell instanceof Uint8Array)) return typeof cell === "string" ? cell : null;
      return table.columns[i]!.type.kind === "int"
        ? String(Buffer.from(cell).readInt32BE())
        : String(Buffer.from(cell));
    };
    const oldKey = before === undefined ? null : keyOfRow(table, before.map(text));
    if (after === undefined) {
      rows.delete(oldKey!);
      return [op, id, null, false];
    }
    const key = keyOfRow(table, after.map(text));
    const old = rows.get(oldKey ?? key);
    const row: Row = after.map((cell, i) => (cell === UNCHANGED ? old![i]! : text(cell, i)));
    if (oldKey !== null) rows.delete(oldKey);
    rows.set(key, row);
    return [op, id, row, false];
  });
}
