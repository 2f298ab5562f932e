import * as fc from "fast-check";
import { expect, test } from "vitest";
import type { Block } from "../../src/core/model/block.ts";
import type { Chunk, KeyText } from "../../src/core/contracts/row-reads.ts";
import { Compactor } from "../../src/runtime/compaction/compaction.ts";
import { ApplyWindow } from "../../src/runtime/snapshot/windows.ts";
import { blockOf, type Change, tableVersion } from "../support/model/blocks.ts";
import { blocksOf, ModelSink, type Row, versionOf } from "../support/model/log-model.ts";
import { type Command, history, type Log, run, type Shape, shape } from "../support/model/random-log.ts";

/** What becomes of one chunk: its marks' places among the transactions, and when in between it was read. */
const marks = fc.noBias(fc.tuple(fc.nat({ max: 20 }), fc.nat({ max: 6 }), fc.nat({ max: 10 })));

/** How a row stands in the sink before: as it is, not there, or as it was long ago. */
const standings = fc
  .constantFrom(["same", "same", "lacking"], ["same", "lacking", "old"])
  .chain((kinds) => fc.array(fc.constantFrom(...kinds), { minLength: 10, maxLength: 10 }));

interface Passage {
  readonly log: Log;
  readonly low: bigint;
  readonly snapshot: ReadonlyMap<string, Row>;
  readonly high: bigint;
}

function passageOf(log: Log, [lowAt, readAfter, closeAfter]: readonly [number, number, number]): Passage {
  const commits = [...log.history.keys()];
  const at = Math.min(lowAt, commits.length);
  const readAt = Math.min(at + readAfter, commits.length);
  const highAt = Math.min(readAt + closeAfter, commits.length);
  return {
    log,
    low: (commits[at - 1] ?? 995n) + 1n,
    snapshot: (readAt === 0 ? undefined : log.history.get(commits[readAt - 1]!)) ?? log.start,
    high: (commits[highAt - 1] ?? 995n) + 2n,
  };
}

/** The log up to the high mark through the sink, and the chunk at its place. */
function pass(
  { log, low, snapshot, high }: Passage,
  sink: ModelSink,
  cuts: readonly number[],
  keys: readonly KeyText[] | null,
  complete: boolean,
): void {
  const { table } = sink;
  const window = new ApplyWindow("w", table.id);
  const compactor = new Compactor();
  const apply = (block: Block) => {
    const compacted = compactor.compact(
      [{ block, from: 0, to: block.count }],
      () => true,
      null,
      () => complete,
    );
    for (const { bytes, offset } of compacted.untold) sink.list(bytes, offset);
    for (const writes of compacted.tables) sink.apply(writes);
  };
  const before = log.changes.filter(({ commit }) => commit < low);
  const between = log.changes.filter(({ commit }) => commit > low && commit < high);
  for (const block of blocksOf(before, cuts)) if (block.count > 0) apply(block);
  window.low(versionOf(low));
  const wanted = [...snapshot.values()].filter((row) => keys === null || keys.some((key) => isKeyOf(row, key, sink)));
  window.fill(table, chunkOf(wanted, sink), keys, 0);
  for (const block of blocksOf(between, cuts)) {
    if (block.count === 0) continue;
    window.touch(block, 0, block.count);
    apply(block);
  }
  const closed = window.close(() => true);
  if (typeof closed === "string") throw new Error(`the chunk was spoiled: ${closed}`);
  if (closed.block !== null) apply(closed.block);
}

function isKeyOf(row: Row, key: KeyText, { table }: ModelSink): boolean {
  return table.key.every((ordinal, i) => row[ordinal] === key[i]);
}

function chunkOf(rows: readonly Row[], { table }: ModelSink): Chunk {
  const changes = rows.map((row): Change => ({ table, op: "r", after: row, commit: 0n }));
  return { block: changes.length === 0 ? null : blockOf(changes), last: null, sees: () => true };
}

function fill(sink: ModelSink, log: Log, standing: readonly string[]): void {
  [...log.start].forEach(([key, row], i) => {
    const old = row.map((cell, c) => (sink.table.key.includes(c) ? cell : "1"));
    if (standing[i] !== "lacking") sink.rows.set(key, { row: standing[i] === "old" ? old : row, version: 1n });
  });
}

function committedBefore(log: Log, high: bigint): ReadonlyMap<string, Row> {
  return [...log.history].findLast(([commit]) => commit < high)?.[1] ?? log.start;
}

/** A row that leaves its key and comes back to it in one transaction, and is old in the sink. */
const THERE_AND_BACK = [
  batch("insert", 1),
  batch("insert", 0),
  batch("move", 0, 3),
  batch("move", 3, 0),
  batch("move", 0, 3),
];
const PLAIN_SHAPE = {
  table: tableVersion({ table: "t", columns: { k0: "int4", w0: "text" } }),
  full: false,
  binary: false,
};
const FOUND: Example = [
  PLAIN_SHAPE,
  THERE_AND_BACK,
  3,
  [0, 0, 1],
  Array.from({ length: 10 }, (_, i) => (i === 1 ? "old" : "same")),
  [],
];

type Example = [Shape, Command[], number, [number, number, number], string[], number[]];

function batch(kind: Command["kind"], key: number, target = 0): Command {
  return { kind, key, target, keep: 63, toasted: 63, commits: false };
}

const places = fc.array(fc.nat({ max: 60 }), { maxLength: 6 });

test(
  "a table read between two marks is in the sink at the second one, whatever the sink held and the stream carried",
  { tags: "heavy" },
  () => {
    fc.assert(
      fc.property(shape, history, fc.nat({ max: 20 }), marks, standings, places, (table, commands, at, m, s, cuts) => {
        const log = run({ ...table, binary: false }, commands, Math.min(at, commands.length - 1));
        const passage = passageOf(log, m);
        const sink = new ModelSink(table.table);
        fill(sink, log, s);
        pass(passage, sink, cuts, null, !s.includes("old"));
        // The sweep: rows that no chunk has seen are gone at the source.
        for (const [key, { version }] of sink.rows) if (version < versionOf(passage.low)) sink.rows.delete(key);
        const now = committedBefore(log, passage.high);
        sink.readPending(now, versionOf(passage.high));
        expect(new Map([...sink.rows].map(([key, { row }]) => [key, row]))).toEqual(new Map(now));
      }),
      { numRuns: 3000, examples: [FOUND] },
    );
  },
);

test("listed keys are in the sink at the second mark as they are at the source, or gone", () => {
  fc.assert(
    fc.property(shape, history, fc.nat({ max: 20 }), marks, standings, places, (table, commands, at, m, s, cuts) => {
      const log = run({ ...table, binary: false }, commands, Math.min(at, commands.length - 1));
      const passage = passageOf(log, m);
      const sink = new ModelSink(table.table);
      fill(sink, log, s);
      const keys = new Map(
        [...log.start.keys(), ...log.end.keys(), JSON.stringify(table.table.key.map(() => "9"))]
          .filter((_, i) => s[i % s.length] !== "same")
          .map((key): [string, string[]] => [key, textsOf(key)]),
      );
      pass(passage, sink, cuts, [...keys.values()], !s.includes("old"));
      const now = committedBefore(log, passage.high);
      sink.readPending(now, versionOf(passage.high));
      for (const key of keys.keys()) expect([key, sink.rows.get(key)?.row]).toEqual([key, now.get(key)]);
    }),
    { numRuns: 2000, examples: [FOUND] },
  );
});

function textsOf(key: string): string[] {
  const value: unknown = JSON.parse(key);
  return Array.isArray(value) ? value.map(String) : [];
}
