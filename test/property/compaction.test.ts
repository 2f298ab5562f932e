import * as fc from "fast-check";
import { expect, test } from "vitest";
import type { Block } from "../../src/core/model/block.ts";
import { Compactor, type Slice } from "../../src/runtime/compaction/compaction.ts";
import { blocksOf, type LogChange, ModelSink, type Row, versionOf } from "../support/model/log-model.ts";
import { command, history, type Log, run, shape } from "../support/model/random-log.ts";

const places = fc.array(fc.nat({ max: 60 }), { maxLength: 12, size: "max" });

/** Slices of blocks in batches; both are cut anywhere, inside of transactions too. */
function batchesOf(changes: readonly LogChange[], blockCuts: readonly number[], sliceCuts: readonly number[]) {
  const slices = blocksOf(changes, blockCuts).flatMap((block) => slicesOf(block, sliceCuts));
  const batches: Slice[][] = [];
  slices.forEach((slice, i) => {
    if (i === 0 || sliceCuts.includes(i)) batches.push([]);
    batches.at(-1)!.push(slice);
  });
  return batches;
}

function slicesOf(block: Block, cuts: readonly number[]): Slice[] {
  const at = [...new Set(cuts)]
    .filter((cut) => cut > 0 && cut < block.count && cut % 3 === 0)
    .toSorted((a, b) => a - b);
  return [0, ...at].map((from, i) => ({ block, from, to: at[i] ?? block.count }));
}

/** Compacts a batch and applies it; listed keys are durable before the rows. */
function applyBatch(compactor: Compactor, sink: ModelSink, batch: readonly Slice[], crashAfter = Infinity): number {
  const compacted = compactor.compact(batch, () => true);
  for (const { bytes, offset } of compacted.untold) sink.list(bytes, offset);
  for (const writes of compacted.tables) sink.apply(writes, crashAfter);
  return compacted.untold.length;
}

/** What the source committed up to the batch's end, when that is not inside of a transaction. */
function committedAt(log: Log, batch: readonly Slice[]): { rows: ReadonlyMap<string, Row>; version: bigint } | null {
  const last = batch.at(-1)!;
  const { commit, index } = last.block.positionAt(last.to);
  if (index > 0) return null;
  const done = [...log.history].findLast(([at]) => at < commit);
  return done === undefined ? null : { rows: done[1], version: versionOf(done[0]) };
}

function plain(sink: ModelSink): Map<string, Row> {
  return new Map([...sink.rows].map(([key, { row }]) => [key, row]));
}

test("whatever the blocks and batches, a sink that nets them ends with the source's rows", () => {
  fc.assert(
    fc.property(
      shape,
      history,
      fc.nat({ max: 20 }),
      places,
      places,
      fc.nat({ max: 31 }),
      (table, commands, startAt, blockCuts, sliceCuts, lacking) => {
        const log = run(table, commands, Math.min(startAt, commands.length - 1));
        const sink = new ModelSink(table.table);
        sink.fill(log.start, versionOf(1n));
        // Some base rows are not there: evicted, dead-lettered, not copied yet.
        [...log.start.keys()].forEach((key, i) => (lacking & (1 << i)) !== 0 && sink.rows.delete(key));
        const absent = [...log.start.keys()].filter((key) => !sink.rows.has(key));
        const compactor = new Compactor();
        for (const batch of batchesOf(log.changes, blockCuts, sliceCuts)) {
          applyBatch(compactor, sink, batch);
          const committed = committedAt(log, batch);
          if (committed !== null && batch.length % 2 === 0) sink.readPending(committed.rows, committed.version);
        }
        sink.readPending(log.end, versionOf(1n << 40n));
        for (const key of absent) {
          // A row that never moved is not the stream's to bring.
          const row = log.end.get(key);
          if (row !== undefined && row === log.start.get(key)) sink.rows.set(key, { row, version: 0n });
        }
        expect(plain(sink)).toEqual(log.end);
      },
    ),
    { numRuns: 1500 },
  );
});

test("a sink that has all rows needs nothing from the source as long as no key changes", () => {
  const stays = command.filter(({ kind }) => kind !== "move");
  fc.assert(
    fc.property(
      shape,
      fc.array(stays, { minLength: 1, maxLength: 60, size: "max" }),
      fc.nat({ max: 20 }),
      places,
      places,
      (table, commands, startAt, blockCuts, sliceCuts) => {
        const log = run(table, commands, Math.min(startAt, commands.length - 1));
        const sink = new ModelSink(table.table);
        sink.fill(log.start, versionOf(1n));
        const compactor = new Compactor();
        for (const batch of batchesOf(log.changes, blockCuts, sliceCuts)) applyBatch(compactor, sink, batch);
        expect([...sink.pending]).toEqual([]);
        expect(plain(sink)).toEqual(log.end);
      },
    ),
    { numRuns: 500 },
  );
});

test("crashes between a batch's rows and its progress, and other batches afterwards, change nothing in the end", () => {
  fc.assert(
    fc.property(
      shape,
      history,
      fc.nat({ max: 20 }),
      places,
      places,
      fc.array(fc.record({ rows: fc.nat({ max: 12 }), cuts: places }), { minLength: 1, maxLength: 6 }),
      (table, commands, startAt, blockCuts, sliceCuts, crashes) => {
        const log = run(table, commands, Math.min(startAt, commands.length - 1));
        const sink = new ModelSink(table.table);
        sink.fill(log.start, versionOf(1n));
        let rest: readonly LogChange[] = log.changes;
        let cuts: readonly number[] = sliceCuts;
        for (const crash of crashes) {
          const compactor = new Compactor();
          const batches = batchesOf(rest, blockCuts, cuts);
          const whole = Math.min(crash.rows, batches.length - 1);
          for (const batch of batches.slice(0, whole)) {
            applyBatch(compactor, sink, batch);
            rest = rest.slice(batch.reduce((count, { from, to }) => count + to - from, 0));
          }
          const torn = batches[whole];
          if (torn !== undefined) applyBatch(compactor, sink, torn, crash.rows);
          cuts = crash.cuts;
        }
        const compactor = new Compactor();
        for (const batch of batchesOf(rest, blockCuts, cuts)) applyBatch(compactor, sink, batch);
        sink.readPending(log.end, versionOf(1n << 40n));
        expect(plain(sink)).toEqual(log.end);
      },
    ),
    { numRuns: 1000 },
  );
});

test("whole transactions read again from an earlier place end in the same rows", () => {
  fc.assert(
    fc.property(
      shape,
      history,
      fc.nat({ max: 20 }),
      places,
      places,
      fc.nat({ max: 59 }),
      (table, commands, startAt, firstCuts, secondCuts, back) => {
        const log = run(table, commands, Math.min(startAt, commands.length - 1));
        const sink = new ModelSink(table.table);
        sink.fill(log.start, versionOf(1n));
        const atCommits = (cuts: readonly number[], of: readonly LogChange[]) =>
          cuts.filter((cut) => of[cut] !== undefined && of[cut].index === 0);
        const wholeBatches = (of: readonly LogChange[], cuts: readonly number[]) =>
          blocksOf(of, atCommits(cuts, of)).map((block) => [{ block, from: 0, to: block.count }]);
        for (const batch of wholeBatches(log.changes, firstCuts)) applyBatch(new Compactor(), sink, batch);
        const from = log.changes.findLastIndex((change, i) => i <= back && change.index === 0);
        const again = from < 0 ? [] : log.changes.slice(from);
        for (const batch of wholeBatches(again, secondCuts)) applyBatch(new Compactor(), sink, batch);
        sink.readPending(log.end, versionOf(1n << 40n));
        expect(plain(sink)).toEqual(log.end);
      },
    ),
    { numRuns: 1000 },
  );
});
