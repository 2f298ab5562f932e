import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Block } from "../../src/core/model/block.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import { cut } from "../../src/runtime/stream/fan-out.ts";
import {
  type BatchLimits,
  type QueuedWork,
  type Receipt,
  Receipts,
  SinkQueue,
  type Work,
} from "../../src/runtime/stream/sink-queue.ts";
import { blockOf, type Change, tableVersion } from "../support/model/blocks.ts";
import { inBinary } from "../support/model/log-model.ts";

const columns = [["id", "int4"]] as const;
const first = tableVersion({ table: "a", columns, key: ["id"] });
const second = tableVersion({ table: "a", columns: [...columns, ["name", "text"]], key: ["id"], version: 2 });
const other = tableVersion({ table: "b", columns, key: ["id"] });
const LIMITS = { rowCountMax: 1000, byteCountMax: 1 << 20 };

function row(table: TableVersion, id: number): Change {
  return { table, op: "c", after: table === second ? [String(id), null] : [String(id)] };
}

test("a queue knows of a large work until it has ended, in whatever pieces it is taken", () => {
  const queue = new SinkQueue();
  const large = blockOf([row(first, 1), row(first, 2)]);
  large.byteCount = 50 * 1024 * 1024;
  queue.push({ kind: "rows", block: blockOf([row(first, 3)]), from: 0, to: 1 });
  expect(queue.hasLarge).toBe(false);
  queue.push({ kind: "rows", block: large, from: 0, to: 2 });
  expect(queue.hasLarge).toBe(true);
  for (const left of [true, true, false]) {
    queue.done(queue.take(LIMITS), "durable");
    expect(queue.hasLarge).toBe(left);
  }
  expect([queue.length, queue.heldBytes]).toEqual([0, 0]);
});

test("a batch that was too much for the target is followed by smaller ones, down to single rows", () => {
  const queue = new SinkQueue();
  const block = blockOf(Array.from({ length: 40 }, (_, id) => row(first, id)));
  queue.push({ kind: "rows", block, from: 0, to: 40 });
  const limits = { rowCountMax: 32, byteCountMax: 1 << 20 };
  const taken = (): number => {
    const rows = queue.takeRows(limits)!;
    queue.done(rows, "durable");
    return rows.works.reduce((sum, work) => sum + (work.kind === "rows" ? work.to - work.from : 0), 0);
  };
  queue.takeSmaller();
  expect(taken()).toBe(8);
  for (let i = 0; i < 9; i++) queue.takeSmaller();
  expect(taken()).toBe(1);
  expect(queue.isFull(limits)).toBe(true);
});

/** How many rows or tables batch after batch has, as each becomes durable. */
function sizes(queue: SinkQueue, limits: BatchLimits): number[] {
  const seen: number[] = [];
  while (queue.length > 0) {
    const taken = queue.take(limits);
    if (taken.kind !== "rows" && taken.kind !== "chunks") throw new Error("rows were pushed");
    seen.push(taken.works.reduce((sum, work) => sum + (work.kind === "truncate" ? 0 : work.to - work.from), 0));
    queue.done(taken, "durable");
  }
  return seen;
}

function filled(rowCount: number, queue = new SinkQueue()): SinkQueue {
  for (let id = 0; id < rowCount; id++) queue.push({ kind: "rows", block: blockOf([row(first, id)]), from: 0, to: 1 });
  return queue;
}

test("batches that were too much grow again behind full ones that the target took, and later where it was too much again", () => {
  const limits = { rowCountMax: 16, byteCountMax: 1 << 20 };
  const queue = filled(1_000);
  queue.takeSmaller();
  const seen = sizes(queue, limits);
  expect(seen.slice(0, 33)).toEqual([...Array<number>(16).fill(4), ...Array<number>(16).fill(8), 16]);
  const again = filled(1_000);
  again.takeSmaller();
  again.takeSmaller();
  expect(sizes(again, limits).slice(0, 34)).toEqual([...Array<number>(32).fill(1), 2, 2]);
});

test("batches that were too much long ago hold back none for long, once the target has taken whole ones", () => {
  const limits = { rowCountMax: 16, byteCountMax: 1 << 20 };
  const queue = filled(3_200);
  for (let i = 0; i < 3; i++) queue.takeSmaller();
  expect(sizes(queue, limits).at(-1)).toBe(16);
  queue.takeSmaller();
  expect(sizes(filled(200, queue), limits).slice(0, 17)).toEqual([...Array<number>(16).fill(4), 8]);
});

test("small batches say nothing of what the target takes: a queue that is worked off grows no batch", () => {
  const limits = { rowCountMax: 16, byteCountMax: 1 << 20 };
  const queue = new SinkQueue();
  queue.takeSmaller();
  for (let id = 0; id < 100; id++) {
    queue.push({ kind: "rows", block: blockOf([row(first, id)]), from: 0, to: 1 });
    queue.done(queue.take(limits), "durable");
  }
  for (let id = 0; id < 16; id++) queue.push({ kind: "rows", block: blockOf([row(first, id)]), from: 0, to: 1 });
  expect(sizes(queue, limits)).toEqual([4, 4, 4, 4]);
});

test("batches of fewer tables have more again behind full ones", () => {
  const tables = Array.from({ length: 8 }, (_, i) => tableVersion({ table: `t${i}`, columns, key: ["id"] }));
  const limits = { ...LIMITS, tableCountMax: 8 };
  const queue = new SinkQueue();
  const push = (id: number): void => {
    for (const table of tables) queue.push({ kind: "rows", block: blockOf([row(table, id)]), from: 0, to: 1 });
  };
  push(0);
  queue.done(queue.take(limits), "dropped");
  for (let id = 1; id <= 100; id++) push(id);
  queue.takeFewerTables();
  const count = (): number => {
    const taken = queue.take(limits);
    queue.done(taken, "durable");
    return taken.kind === "rows" ? taken.works.length : 0;
  };
  const limited = Array.from({ length: 16 }, count);
  expect([limited, count()]).toEqual([Array<number>(16).fill(2), 4]);
});

test("fewer tables are fewer than the last batch had, however many a batch may have", () => {
  const tables = Array.from({ length: 3 }, (_, i) => tableVersion({ table: `t${i}`, columns, key: ["id"] }));
  const queue = new SinkQueue();
  const taken = (): number => {
    for (const table of tables) queue.push({ kind: "rows", block: blockOf([row(table, 1)]), from: 0, to: 1 });
    const batch = queue.take(LIMITS);
    queue.done(batch, "dropped");
    queue.clear();
    return batch.kind === "rows" ? batch.works.length : 0;
  };
  const before = taken();
  queue.takeFewerTables();
  expect([before, taken()]).toEqual([3, 1]);
});

test("a chunk is cut where batches are too much for the target, and is durable when all of it is", () => {
  for (const last of ["durable", "dropped"] as const) {
    const counted = new Counted();
    const queue = new SinkQueue();
    queue.push(counted.chunk(32));
    queue.takeSmaller();
    const pieces: number[] = [];
    while (queue.length > 0) {
      const taken = queue.take({ rowCountMax: 32, byteCountMax: 1 << 20 });
      if (taken.kind !== "chunks") throw new Error("a chunk was pushed");
      pieces.push(...taken.works.map(({ from, to }) => to - from));
      expect(counted.receipts).toEqual([]);
      queue.done(taken, queue.length === 0 ? last : "durable");
    }
    expect([pieces, counted.receipts, counted.released, queue.heldBytes]).toEqual([[8, 8, 8, 8], [last], 1, 0]);
  }
});

test("works that are dropped leave the others in their order, and hold nothing", () => {
  const queue = new SinkQueue();
  const told: string[] = [];
  const push = (table: TableVersion, id: number): void => {
    const receipt = { durable: () => void told.push(`${id} durable`), dropped: () => void told.push(`${id} dropped`) };
    queue.push({ kind: "rows", block: blockOf([row(table, id)]), from: 0, to: 1, receipt });
  };
  for (const [table, id] of [
    [first, 1],
    [other, 2],
    [first, 3],
    [other, 4],
  ] as const)
    push(table, id);
  queue.dropThose((work) => work.kind === "rows" && work.block.tables.includes(other));
  push(first, 5);
  queue.done(queue.take(LIMITS), "durable");
  expect(told).toEqual(["2 dropped", "4 dropped", "1 durable", "3 durable", "5 durable"]);
  expect([queue.length, queue.heldBytes, queue.isFull({ rowCountMax: 1, byteCountMax: 1 })]).toEqual([0, 0, false]);
});

test("a truncate that stays when others are dropped ends the next batch as before", () => {
  const queue = new SinkQueue();
  for (const table of [other, first]) queue.push({ kind: "rows", block: blockOf([row(table, 1)]), from: 0, to: 1 });
  expect(queue.isGrown(LIMITS)).toBe(false);
  const record = { index: 0, commitTimeUs: 0n, xid: 0, origin: undefined };
  queue.push({ kind: "truncate", table: first, version: 2n, record, until: { epoch: 1, commit: 2n, index: 0 } });
  queue.dropThose((work) => work.kind === "rows" && work.block.tables.includes(other));
  expect(queue.isGrown(LIMITS)).toBe(true);
});

describe("cut", () => {
  const changes = fc.array(
    fc.constantFrom<"first" | "second" | "other" | "truncate">("first", "second", "other", "truncate"),
    {
      minLength: 1,
      maxLength: 20,
    },
  );
  const tables = { first, second, other };

  test("pieces cover every row once and in order, and none shows a table twice or crosses a truncate", () => {
    fc.assert(
      fc.property(changes, fc.nat({ max: 20 }), fc.nat({ max: 20 }), (kinds, a, b) => {
        const block = blockOf(
          kinds.map((kind, i) => (kind === "truncate" ? { table: first, op: "t" } : row(tables[kind], i))),
        );
        const [from, to] = [Math.min(a, b, kinds.length), Math.min(Math.max(a, b), kinds.length)];
        let at = from;
        for (const piece of cut(block, from, to)) {
          const end = piece.kind === "truncate" ? piece.row + 1 : piece.to;
          expect(piece.kind === "truncate" ? piece.row : piece.from).toBe(at);
          expect(end).toBeGreaterThan(at);
          const inside = kinds.slice(at, end);
          if (piece.kind === "truncate") expect(inside).toEqual(["truncate"]);
          else
            expect(inside.includes("truncate") || (inside.includes("first") && inside.includes("second"))).toBe(false);
          at = end;
        }
        expect(at).toBe(to);
      }),
    );
  });

  test("a block of one version each is one piece", () => {
    const block = blockOf([row(first, 1), row(other, 2), row(first, 3)]);
    expect(cut(block, 0, 3)).toEqual([{ kind: "rows", from: 0, to: 3 }]);
    expect(cut(block, 1, 1)).toEqual([]);
  });
});

/** Works whose blocks and receipts are counted. */
class Counted {
  retained = 0;
  released = 0;
  receipts: ("durable" | "dropped")[] = [];

  block(changes: readonly Change[]): Block {
    this.retained++;
    return blockOf(changes, { onRelease: () => this.released++ });
  }

  receipt(): Receipt {
    return { durable: () => this.receipts.push("durable"), dropped: () => this.receipts.push("dropped") };
  }

  rows(changes: readonly Change[], withReceipt = false): Work {
    const block = this.block(changes);
    const work = { kind: "rows", block, from: 0, to: block.count } as const;
    return withReceipt ? { ...work, receipt: this.receipt() } : work;
  }

  chunk(rowCount = 1): Work {
    return {
      kind: "chunk",
      block: this.block(Array.from({ length: rowCount }, (_, id) => row(first, id))),
      from: 0,
      to: rowCount,
      until: { epoch: 1, commit: 1n, index: 0 },
      receipt: this.receipt(),
    };
  }
}

function size(taken: QueuedWork): number {
  return taken.kind === "rows" ? taken.works.length : 1;
}

describe("queue", () => {
  test("rows that wait are taken together, up to the limits, and other works alone", () => {
    const counted = new Counted();
    const queue = new SinkQueue();
    for (let i = 0; i < 5; i++) queue.push(counted.rows([row(first, i), row(other, i)]));
    queue.push(counted.chunk());
    queue.push(counted.rows([row(first, 9)]));
    expect(size(queue.take({ ...LIMITS, rowCountMax: 6 }))).toBe(3);
    expect(size(queue.take(LIMITS))).toBe(2);
    expect(queue.take(LIMITS).kind).toBe("chunks");
    expect(size(queue.take(LIMITS))).toBe(1);
    expect(queue.length).toBe(0);
  });

  test.each([
    ["rows", { ...LIMITS, rowCountMax: 3 }],
    ["bytes", { ...LIMITS, byteCountMax: 700 }],
  ])("a block with more %s than a batch may have is divided; it is durable when all of it is", (_, limits) => {
    const counted = new Counted();
    const queue = new SinkQueue();
    const changes = Array.from({ length: 10 }, (__, i) => row(first, i));
    queue.push(counted.rows(changes, true));
    const rows: number[] = [];
    while (queue.length > 0) {
      const taken = queue.take(limits);
      if (taken.kind !== "rows") throw new Error("rows were pushed");
      for (const { from, to } of taken.works.filter((work) => work.kind === "rows")) {
        expect(to - from).toBeLessThanOrEqual(3);
        for (let at = from; at < to; at++) rows.push(at);
      }
      expect([counted.receipts, counted.released]).toEqual([[], 0]);
      queue.done(taken, "durable");
    }
    expect(rows).toEqual(changes.map((__, i) => i));
    expect([counted.receipts, counted.released, queue.heldBytes]).toEqual([["durable"], 1, 0]);
  });

  test("a divided block of which a part is dropped is dropped", () => {
    const counted = new Counted();
    const queue = new SinkQueue();
    queue.push(counted.rows([row(first, 1), row(first, 2)], true));
    queue.done(queue.take({ ...LIMITS, rowCountMax: 1 }), "durable");
    queue.clear();
    expect([counted.receipts, counted.released, queue.heldBytes]).toEqual([["dropped"], 1, 0]);
  });

  test("a batch never shows a table under two versions", () => {
    const counted = new Counted();
    const queue = new SinkQueue();
    queue.push(counted.rows([row(first, 1)]));
    queue.push(counted.rows([row(other, 1)]));
    queue.push(counted.rows([row(second, 1)]));
    queue.push(counted.rows([row(first, 1)]));
    expect([1, 2, 3].map(() => size(queue.take(LIMITS)))).toEqual([2, 1, 1]);
  });

  test("a batch never shows keys in two forms, as a stream does that goes over from binary to text", () => {
    const counted = new Counted();
    const queue = new SinkQueue();
    const binary = (id: number) => inBinary({ ...row(first, id), commit: 1000n, index: 0 });
    queue.push(counted.rows([binary(1)]));
    queue.push(counted.rows([{ table: first, op: "d", before: binary(1).after ?? [] }]));
    queue.push(counted.rows([row(first, 1)]));
    queue.push(counted.rows([row(first, 1)]));
    expect([size(queue.take(LIMITS)), size(queue.take(LIMITS))]).toEqual([2, 2]);
  });

  test("tables with keys of different forms are one batch, in whatever order they come", () => {
    const counted = new Counted();
    const queue = new SinkQueue();
    const binary = (id: number) => inBinary({ ...row(first, id), commit: 1000n, index: 0 });
    for (let i = 0; i < 3; i++) {
      queue.push(counted.rows([binary(i)]));
      queue.push(counted.rows([row(other, i)]));
    }
    queue.push(counted.rows([row(other, 1), row(first, 1)]));
    expect([size(queue.take(LIMITS)), size(queue.take(LIMITS))]).toEqual([6, 1]);
  });

  test("the pieces of a block with two versions of a table are one batch for each version", () => {
    const block = blockOf([row(first, 1), row(other, 1), row(first, 2), row(second, 3), row(other, 2)]);
    const queue = new SinkQueue();
    for (const [from, to] of [
      [0, 1],
      [1, 2],
      [2, 3],
      [3, 4],
      [4, 5],
    ] as const)
      queue.push({ kind: "rows", block: block.retain(), from, to });
    expect([size(queue.take(LIMITS)), size(queue.take(LIMITS))]).toEqual([3, 2]);
  });

  test("a batch goes on behind a truncate where the sink takes it with the rows", () => {
    const filled = (): SinkQueue => {
      const counted = new Counted();
      const queue = new SinkQueue();
      const record = { index: 0, commitTimeUs: 0n, xid: 1, origin: undefined };
      const until = { epoch: 1, commit: 1n, index: 1 };
      const truncate = { kind: "truncate", table: first, version: 1n, record, until } as const;
      queue.push(truncate);
      queue.push(counted.rows([row(first, 1)]));
      queue.push(truncate);
      queue.push(counted.rows([row(first, 2)]));
      return queue;
    };
    const kinds = (queue: SinkQueue, limits: BatchLimits): string[] => {
      const seen: string[] = [];
      while (queue.length > 0) {
        const taken = queue.take(limits);
        seen.push(taken.kind === "rows" ? taken.works.map(({ kind }) => kind).join(" ") : taken.kind);
        queue.done(taken, "durable");
      }
      return seen;
    };
    expect(kinds(filled(), { ...LIMITS, hasTruncates: true })).toEqual(["truncate rows truncate rows"]);
    expect(kinds(filled(), LIMITS)).toEqual(["truncate", "rows", "truncate", "rows"]);
  });

  test("rows of a first copy and rows of the stream are never one batch", () => {
    const counted = new Counted();
    const queue = new SinkQueue();
    queue.push(counted.rows([row(first, 1)], true));
    queue.push(counted.rows([row(first, 2)]));
    expect([size(queue.take(LIMITS)), size(queue.take(LIMITS))]).toEqual([1, 1]);
  });

  test("whatever happens to works, bytes come back to zero, blocks are let go once and receipts are given once", () => {
    const action = fc.constantFrom(
      "rows",
      "copied",
      "chunk",
      "take",
      "divide",
      "durable",
      "dropped",
      "clear",
      "append",
    );
    fc.assert(
      fc.property(fc.array(action, { maxLength: 60, size: "max" }), (actions) => {
        const counted = new Counted();
        const queue = new SinkQueue();
        const aside = new SinkQueue();
        let taken: QueuedWork | null = null;
        let receiptCount = 0;
        const end = (how: "durable" | "dropped") => {
          if (taken !== null) queue.done(taken, how);
          taken = null;
        };
        for (const what of actions) {
          if (what === "rows") queue.push(counted.rows([row(first, 1), row(first, 2)]));
          else if (what === "copied") aside.push(counted.rows([row(first, 1), row(first, 2), row(first, 3)], true));
          else if (what === "chunk") queue.push(counted.chunk());
          else if (what === "take" && taken === null && queue.length > 0) taken = queue.take(LIMITS);
          else if (what === "divide" && taken === null && queue.length > 0)
            taken = queue.take({ ...LIMITS, rowCountMax: 1 });
          else if (what === "durable" || what === "dropped") end(what);
          else if (what === "clear") queue.clear();
          else if (what === "append") queue.append(aside);
          if (what === "copied" || what === "chunk") receiptCount++;
        }
        end("durable");
        queue.clear();
        aside.clear();
        expect([queue.heldBytes, aside.heldBytes]).toEqual([0, 0]);
        expect(counted.released).toBe(counted.retained);
        expect(counted.receipts).toHaveLength(receiptCount);
      }),
    );
  });

  test("a block that marks cut into pieces counts once against the budget", () => {
    const block = blockOf(Array.from({ length: 100 }, (_, i) => row(first, i)));
    const whole = new SinkQueue();
    whole.push({ kind: "rows", block: block.retain(), from: 0, to: 100 });
    const pieces = new SinkQueue();
    for (let i = 0; i < 10; i++) pieces.push({ kind: "rows", block: block.retain(), from: i * 10, to: i * 10 + 10 });
    expect(pieces.heldBytes).toBeGreaterThanOrEqual(whole.heldBytes);
    expect(pieces.heldBytes).toBeLessThanOrEqual(whole.heldBytes + 10);
  });

  test("who waits for work is woken by it, and let go when aborted", async () => {
    const queue = new SinkQueue();
    const stopping = new AbortController();
    const waiting = queue.wait(stopping.signal);
    queue.push({ kind: "heartbeat" });
    await waiting;
    queue.clear();
    const again = queue.wait(stopping.signal);
    stopping.abort();
    await expect(again).rejects.toThrow(/abort/i);
    await expect(queue.wait(stopping.signal)).rejects.toThrow(/abort/i);
  });
});

describe("receipts", () => {
  test("tell when the last is given whether all were durable", async () => {
    expect(await new Receipts(0).all).toBe(true);
    const good = new Receipts(2);
    good.one().durable();
    good.one().durable();
    expect(await good.all).toBe(true);
    const bad = new Receipts(2);
    bad.one().dropped();
    bad.one().durable();
    expect(await bad.all).toBe(false);
  });
});
