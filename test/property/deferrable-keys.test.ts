import * as fc from "fast-check";
import { expect, test } from "vitest";
import { Compactor, type Slice } from "../../src/runtime/compaction/compaction.ts";
import { type Cell, tableVersion, UNCHANGED } from "../support/model/blocks.ts";
import { HistoryModel } from "../support/model/history-model.ts";
import { blocksOf, keyOfRow, type LogChange, ModelSink, type Row, versionOf } from "../support/model/log-model.ts";

const seats = tableVersion({
  table: "seats",
  columns: { guest: "text", seat: "int4", menu: "text" },
  key: ["seat"],
  deferrableKey: true,
});

/** Guests take seats inside a transaction without regard to who sits there; at its end every seat has one guest at most. */
type Batch =
  | { readonly kind: "move"; readonly guest: number; readonly seat: number; readonly keepsMenu: boolean }
  | { readonly kind: "leave"; readonly guest: number }
  | { readonly kind: "come"; readonly guest: number; readonly seat: number };

const guest = fc.nat({ max: 5 });
const seat = fc.nat({ max: 4 });
const batch: fc.Arbitrary<Batch> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("move"), guest, seat, keepsMenu: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("leave"), guest }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("come"), guest, seat }) },
);
const transactions = fc.array(fc.array(batch, { minLength: 1, maxLength: 10, size: "max" }), {
  minLength: 1,
  maxLength: 8,
  size: "max",
});

class Room {
  readonly guests = new Map<number, Row>();
  readonly changes: LogChange[] = [];
  #commit = 1000n;
  #index = 0;
  #count = 0;

  transact(batches: readonly Batch[]): void {
    this.#commit += 10n;
    // Other tables' changes come first now and then.
    this.#index = Number(this.#commit / 10n) % 3;
    for (const one of batches) this.#batch(one);
    const taken = new Set<string>();
    for (const [who, row] of this.guests) {
      if (taken.has(row[1]!)) this.#batch({ kind: "leave", guest: who });
      else taken.add(row[1]!);
    }
  }

  /** As the log has them: guests that are alike can't be told apart, so menus are often the same. */
  #batch(one: Batch): void {
    const old = this.guests.get(one.guest);
    if (one.kind === "come") {
      if (old !== undefined) return;
      this.#log(one.guest, ["guest", String(one.seat), `menu ${one.guest % 2}`], undefined);
      return;
    }
    if (old === undefined) return;
    if (one.kind === "leave") {
      this.guests.delete(one.guest);
      this.changes.push({ table: seats, op: "d", before: old, commit: this.#commit, index: this.#index++ });
      return;
    }
    const menu = one.keepsMenu ? old[2]! : `menu ${++this.#count % 4}`;
    this.#log(one.guest, ["guest", String(one.seat), menu], old);
  }

  #log(who: number, row: Row, old: Row | undefined): void {
    this.guests.set(who, row);
    const sent: Cell[] = row.map((cell, i) => (i === 2 && old !== undefined && cell === old[2] ? UNCHANGED : cell));
    const before = old === undefined ? {} : { before: old };
    const op = old === undefined ? "c" : "u";
    this.changes.push({ table: seats, op, after: sent, ...before, commit: this.#commit, index: this.#index++ });
  }

  get rows(): Map<string, Row> {
    return new Map([...this.guests.values()].map((row) => [keyOfRow(seats, row), row]));
  }
}

function compact(batch: readonly Slice[], sink: ModelSink, since: Parameters<Compactor["compact"]>[2]): number {
  const compacted = new Compactor().compact(batch, () => true, since);
  for (const { bytes, offset } of compacted.untold) sink.list(bytes, offset);
  for (const writes of compacted.tables) sink.apply(writes);
  return compacted.untold.length;
}

function plain(sink: ModelSink): Map<string, Row> {
  return new Map([...sink.rows].map(([key, { row }]) => [key, row]));
}

test("keys that change hands inside whole transactions need nothing from the source", () => {
  fc.assert(
    fc.property(transactions, fc.array(fc.nat({ max: 60 }), { maxLength: 8 }), fc.boolean(), (moves, cuts, split) => {
      const room = new Room();
      for (const one of moves) room.transact(one);
      const sink = new ModelSink(seats);
      const { changes } = room;
      const batches = blocksOf(
        changes,
        cuts.filter((cut) => changes[cut]?.commit !== changes[cut - 1]?.commit),
      );
      let since = { epoch: 1, commit: 1n, index: 0 };
      for (const block of batches) {
        // A transaction may lie in two blocks of one batch.
        const middle = split ? block.count >> 1 : 0;
        const slices = [
          { block, from: 0, to: middle },
          { block, from: middle, to: block.count },
        ].filter(({ from, to }) => from < to);
        expect(slices.length === 0 ? 0 : compact(slices, sink, since)).toBe(0);
        since = block.until;
      }
      expect(plain(sink)).toEqual(room.rows);
    }),
    { numRuns: 1500 },
  );
});

test("transactions that are cut leave their keys to the source, and all others are right", () => {
  fc.assert(
    fc.property(transactions, fc.array(fc.nat({ max: 60 }), { maxLength: 8 }), (moves, cuts) => {
      const room = new Room();
      for (const one of moves) room.transact(one);
      const sink = new ModelSink(seats);
      let since = { epoch: 1, commit: 1n, index: 0 };
      for (const block of blocksOf(room.changes, cuts)) {
        if (block.count > 0) compact([{ block, from: 0, to: block.count }], sink, since);
        since = block.until;
      }
      sink.readPending(room.rows, versionOf(1n << 40n));
      expect(plain(sink)).toEqual(room.rows);
    }),
    { numRuns: 1500 },
  );
});

test("rows read beside the stream pass as they are", () => {
  const sink = new ModelSink(seats);
  const rows = Array.from({ length: 5 }, (_, i): LogChange => ({
    table: seats,
    op: "r",
    after: ["guest", String(i), null],
    commit: 0n,
    index: i,
  }));
  for (const block of blocksOf(rows, [])) expect(compact([{ block, from: 0, to: block.count }], sink, null)).toBe(0);
  expect(sink.rows.size).toBe(5);
});

test("a history has every change once, and the last of each key is its row, save for keys that are to be read", () => {
  fc.assert(
    fc.property(transactions, fc.array(fc.nat({ max: 60 }), { maxLength: 8 }), (moves, cuts) => {
      const room = new Room();
      for (const one of moves) room.transact(one);
      const sink = new HistoryModel(seats);
      const toRead = new ModelSink(seats);
      let since = { epoch: 1, commit: 1n, index: 0 };
      for (const block of blocksOf(room.changes, cuts)) {
        if (block.count > 0) {
          const compacted = new Compactor("history").compact([{ block, from: 0, to: block.count }], () => true, since);
          for (const { bytes, offset } of compacted.untold) toRead.list(bytes, offset);
          for (const writes of compacted.tables) sink.apply(writes);
        }
        since = block.until;
      }
      expect(sink.rows.filter(({ isShort }) => isShort)).toEqual([]);
      const seen = sink.rows.map(({ op, id }) => `${op} ${id}`);
      expect(new Set(seen).size).toBe(seen.length);
      for (const { op, commit, index } of room.changes) expect(seen).toContain(`${op} ${commit}/${index}`);
      const told = (rows: ReadonlyMap<string, Row>) => new Map([...rows].filter(([key]) => !toRead.pending.has(key)));
      expect(told(sink.live)).toEqual(told(room.rows));
    }),
    { numRuns: 1000 },
  );
});
