import { describe, expect, test } from "vitest";
import { BEFORE_DOUBTED, Block, OP_IF_HELD, OP_KEPT, OP_LETTERS, OP_UNTOLD } from "../../src/core/model/block.ts";
import { CELL_NULL, CELL_UNCHANGED, CellMap } from "../../src/core/model/tuple.ts";
import { DEFAULT_POLICY } from "../../src/core/model/schema-change.ts";
import type { Mask, TableVersion } from "../../src/core/model/schema.ts";
import type { Rules } from "../../src/rules/definition.ts";
import { Masker } from "../../src/rules/masks.ts";
import { RuleBook } from "../../src/rules/rule-book.ts";
import { Doubts } from "../../src/rules/doubts.ts";
import { Answers, RuledBlocks } from "../../src/rules/ruled-blocks.ts";
import { parseWhere } from "../../src/rules/where/syntax.ts";
import type { TableShape } from "../../src/core/contracts/catalog.ts";
import { systemClock } from "../../src/core/clock.ts";
import { memoryOf } from "../../src/daemon/ruled-source.ts";
import { openMemory } from "../../src/state/sqlite/open.ts";
import { withRules } from "../../src/rules/with-rules.ts";
import { ScriptedSource } from "../support/model/scripted-source.ts";
import { blockOf, firstVersion, tableVersion, UNCHANGED } from "../support/model/blocks.ts";

const NEVER = new AbortController().signal;
const person = tableVersion({ table: "person", columns: { id: "int8", mail: "text", status: "text" } });
const plain = tableVersion({ table: "plain", columns: { id: "int8", v: "text" } });

function rules(where: string | null, mask: Mask | null = "redact"): Rules {
  const action = { hiding: mask, rename: null };
  return {
    maskKey: "0123456789abcdef",
    selections: [],
    tables: [
      {
        pattern: "public.person",
        isOptional: false,
        only: null,
        key: null,
        zeroDates: "null",
        policy: DEFAULT_POLICY,
        driftMax: 0,
        into: null,
        add: null,
        computed: [],
        place: "f:1:1: t",
        columns: [{ pattern: "mail", isOptional: false, action, place: "f:2:1: t.c" }],
        where: where === null ? null : { text: where, expression: parseWhere(where), place: "f:3:1: t.w" },
      },
    ],
  };
}

function ruledBlocks(given: Rules, ...versions: readonly TableVersion[]): RuledBlocks {
  const tables = [person, ...versions].map((source) => {
    const plan = new RuleBook(given).plan(source);
    if (plan === null) throw new Error("the table has rules");
    return { source, ruled: firstVersion(plan.shape), plan };
  });
  return new RuledBlocks(new Masker(given.maskKey), (version) => tables.find(({ source }) => source === version));
}

const cells = new CellMap();

function shown(block: Block, offset: number): string[] {
  if (offset === 0xffff_ffff) return [];
  cells.read(block.bytes, offset);
  return Array.from({ length: cells.count }, (_, i) => {
    if (cells.kind[i] === CELL_NULL) return "null";
    if (cells.kind[i] === CELL_UNCHANGED) return "=";
    return Buffer.from(block.bytes).toString("utf8", cells.start[i], cells.start[i]! + cells.length[i]!);
  });
}

function rowsOf(block: Block) {
  return Array.from({ length: block.count }, (_, row) => [
    block.op[row] === OP_UNTOLD
      ? "?"
      : (block.op[row] === OP_IF_HELD ? "held " : "") +
        OP_LETTERS[block.op[row]!]! +
        (block.beforeKind[row] === BEFORE_DOUBTED ? "?" : ""),
    block.tables[block.table[row]!]!.table,
    block.index[row],
    shown(block, block.after[row]!).join(","),
    shown(block, block.before[row]!).join(","),
  ]);
}

type Rows = Parameters<typeof blockOf>[0];
const row = (table: TableVersion, op: Rows[number]["op"], more: Omit<Rows[number], "table" | "op">): Rows[number] => ({
  table,
  op,
  ...more,
});

describe("blocks under rules", () => {
  test("without a ruled table it is the same block", () => {
    const block = blockOf([row(plain, "c", { after: ["1", "x"] })]);
    expect(ruledBlocks(rules("id > 1")).apply(block)).toBe(block);
  });

  test("rows between those of other tables", () => {
    const block = blockOf([
      row(plain, "c", { after: ["1", "one"] }),
      row(person, "c", { after: ["1", "a@b", "open"] }),
      row(plain, "u", { after: ["2", UNCHANGED], before: ["1", null] }),
      row(person, "u", { after: ["2", UNCHANGED, "open"], before: ["1", null, null] }),
      row(person, "d", { before: ["2", null, null] }),
      row(plain, "d", { before: ["2", null] }),
    ]);
    const made = ruledBlocks(rules(null)).apply(block);
    expect(rowsOf(made)).toEqual([
      ["c", "plain", 0, "1,one", ""],
      ["c", "person", 1, "1,[redacted],open", ""],
      ["u", "plain", 2, "2,=", "1,null"],
      ["u", "person", 3, "2,=,open", "1,null,null"],
      ["d", "person", 4, "", "2,null,null"],
      ["d", "plain", 5, "", "2,null"],
    ]);
    expect(made.until).toEqual(block.until);
  });

  test("the bytes of ruled rows are not in it", () => {
    const block = blockOf([
      row(person, "c", { after: ["1", "CANARY", "open"] }),
      row(plain, "c", { after: ["1", "v"] }),
    ]);
    const made = ruledBlocks(rules(null)).apply(block);
    expect(Buffer.from(made.bytes).includes("CANARY")).toBe(false);
  });

  test("what a filter makes of changes", () => {
    const block = blockOf([
      row(person, "c", { after: ["1", "m", "open"] }),
      row(person, "c", { after: ["2", "m", "test"] }),
      row(person, "u", { after: ["1", "m", "test"] }),
      row(person, "u", { after: ["4", "m", "test"], before: ["3", null, null] }),
      row(person, "u", { after: ["5", "m", UNCHANGED] }),
      row(person, "u", { after: ["7", "m", UNCHANGED], before: ["6", null, null] }),
      row(person, "u", { after: ["8", "m", null] }),
      row(person, "d", { before: ["9", null, null] }),
      row(person, "t", {}),
    ]);
    expect(rowsOf(ruledBlocks(rules("status <> 'test'")).apply(block))).toEqual([
      ["c", "person", 0, "1,[redacted],open", ""],
      ["d", "person", 2, "", "1,null,null"],
      ["d?", "person", 3, "", "3,null,null"],
      ["?", "person", 4, "5,=,=", ""],
      ["d?", "person", 5, "", "6,null,null"],
      ["?", "person", 5, "7,=,=", ""],
      ["d?", "person", 6, "", "8,null,null"],
      ["d?", "person", 7, "", "9,null,null"],
      ["t", "person", 8, "", ""],
    ]);
  });

  test("a value that is left out counts as what was read of it, if nobody has written the row since", () => {
    const long = "open".padEnd(80, ".");
    for (const [writer, shownOps] of [
      [7, ["u", "u"]],
      [8, ["?", "?"]],
    ] as const) {
      const blocks = ruledBlocks(rules("status like 'open%'"));
      blocks.memory.streamFrom({ epoch: 1, commit: 1n, index: 0 });
      const block = blockOf([
        row(person, "u", { after: ["1", "m", UNCHANGED], xid: 7 }),
        row(person, "u", { after: ["1", "n", UNCHANGED], xid: 7 }),
      ]);
      const [asked] = blocks.asked(block);
      const answers = new Answers();
      expect(asked?.rows.map(({ key }) => key)).toEqual([["1"]]);
      const read = blockOf([row(person, "r", { after: ["1", "n", long] })]);
      blocks.answer(answers, asked!.table, asked!.rows, read, [writer]);
      // The bytes of a read go back to their writer.
      read.bytes.fill(0xff);
      expect(rowsOf(blocks.apply(block, answers)).map(([op]) => op)).toEqual(shownOps);
    }
  });

  test("a row that stays as the filter found it is told to who has it, unless rows of its table came or went unseen", () => {
    const blocks = ruledBlocks(rules("status like 'open%' and (id < 10 or mail = 'x')"));
    const { memory } = blocks;
    const look = (generation: string) =>
      memory.looked({ tables: [person], generations: new Map([[person.id, generation]]) });
    const told = () =>
      rowsOf(
        blocks.apply(
          blockOf([
            row(person, "u", { after: ["1", "m", UNCHANGED] }),
            row(person, "u", { after: ["12", "x", UNCHANGED] }),
            // Whichever side of the `or` it was.
            row(person, "u", { after: ["13", UNCHANGED, UNCHANGED] }),
            row(person, "u", { after: ["14", "m", UNCHANGED] }),
            row(person, "u", { after: ["2", "m", UNCHANGED], before: ["3", null, null] }),
          ]),
        ),
      ).map(([op, , , after]) => [op, after]);
    const untold = [
      ["?", "1,=,="],
      ["?", "12,=,="],
      ["?", "13,=,="],
      ["d?", ""],
      ["d?", ""],
      ["?", "2,=,="],
    ];
    expect(told()).toEqual(untold);
    look("one");
    expect(told()).toEqual([
      ["held u", "1,[redacted],="],
      ["held u", "12,[redacted],="],
      ["?", "13,=,="],
      ["d?", ""],
      ["d?", ""],
      ["?", "2,=,="],
    ]);
    look("another");
    expect(told()).toEqual(untold);
  });

  test("a change of which the log has the key alone stays one, whatever is remembered of the row", () => {
    const blocks = ruledBlocks(rules("status = 'open' and id < 10"));
    blocks.memory.streamFrom({ epoch: 1, commit: 1n, index: 0 });
    const at = (commit: bigint, op: "c" | "u", id: string, ...cells: readonly (string | typeof UNCHANGED)[]) =>
      blockOf([row(person, op, { after: [id, ...cells], commit })]);
    for (const id of ["1", "12"]) blocks.apply(at(id === "1" ? 2_000n : 2_100n, "c", id, "m", "open")).release();
    const untold = (commit: bigint, id: string) => {
      const block = at(commit, "u", id, UNCHANGED, UNCHANGED);
      block.op[0] = OP_UNTOLD;
      return rowsOf(blocks.apply(block)).map(([op, , , after]) => [op, after]);
    };
    expect(untold(3_000n, "1")).toEqual([["?", "1,=,="]]);
    // By its key it never matched.
    expect(untold(3_100n, "12")).toEqual([]);
    const next = blocks.apply(at(4_000n, "u", "1", "n", UNCHANGED));
    expect(rowsOf(next).map(([op, , , after]) => [op, after])).toEqual([["?", "1,=,="]]);
  });

  test("what is read also counts in a stream that is behind another one, which has told the row's later changes", () => {
    const long = "open".padEnd(80, ".");
    const blocks = ruledBlocks(rules("status like 'open%'"));
    blocks.memory.streamFrom({ epoch: 1, commit: 1n, index: 0 });
    const made = [
      row(person, "u", { after: ["1", "m", UNCHANGED], xid: 7 }),
      row(person, "u", { after: ["1", "n", UNCHANGED], xid: 7 }),
      row(person, "d", { before: ["1", null, null], xid: 7 }),
      row(person, "u", { after: ["2", "m", UNCHANGED], xid: 7 }),
    ];
    blocks.apply(blockOf(made)).release();
    const behind = blockOf(made.slice(3));
    const [asked] = blocks.asked(behind);
    const answers = new Answers();
    expect(asked?.rows.map(({ key }) => key)).toEqual([["2"]]);
    blocks.answer(answers, asked!.table, asked!.rows, blockOf([row(person, "r", { after: ["2", "m", long] })]), [7]);
    expect(rowsOf(blocks.apply(behind, answers)).map(([op]) => op)).toEqual(["u"]);
    // Of which the front knows nothing by that.
    expect(rowsOf(blocks.apply(blockOf(made.slice(3)))).map(([op]) => op)).toEqual(["?"]);
  });

  test("a row that comes to match without its long value has the one that was read of it", () => {
    const long = "long".padEnd(80, ".");
    const blocks = ruledBlocks(rules("status = 'open'"));
    blocks.memory.streamFrom({ epoch: 1, commit: 1n, index: 0 });
    const made = [row(person, "c", { after: ["1", long, "new"], xid: 6 })];
    made.push(row(person, "c", { after: ["3", long, "open"], xid: 6 }));
    blocks.apply(blockOf(made)).release();
    const block = blockOf([
      row(person, "u", { after: ["3", UNCHANGED, "new"], xid: 7, commit: 2_000n }),
      row(person, "u", { after: ["3", UNCHANGED, "open"], xid: 7 }),
      row(person, "u", { after: ["1", UNCHANGED, "open"], xid: 7 }),
      row(person, "u", { after: ["2", UNCHANGED, UNCHANGED], before: ["9", null, null], xid: 7 }),
      row(person, "u", { after: ["1", UNCHANGED, "open"], xid: 7 }),
    ]);
    const [asked] = blocks.asked(block);
    const answers = new Answers();
    expect(asked?.rows.map(({ key }) => key)).toEqual([["3"], ["1"], ["2"]]);
    const read = blockOf([
      row(person, "r", { after: ["3", long, "open"] }),
      row(person, "r", { after: ["2", long, "open"] }),
      row(person, "r", { after: ["1", long, "open"] }),
    ]);
    blocks.answer(answers, asked!.table, asked!.rows, read, [7, 7, 7]);
    // The bytes of a read go back to their writer.
    read.bytes.fill(0xff);
    expect(rowsOf(blocks.apply(block, answers)).map(([op, , , after]) => [op, after])).toEqual([
      ["d", ""],
      ["u", "3,[redacted],open"],
      ["u", "1,[redacted],open"],
      ["u", "2,=,="],
      ["u", "1,=,open"],
    ]);
  });

  test("after a change that was not told, one that leaves values out is told with all of them, or not", () => {
    const blocks = ruledBlocks(rules("status like 'open%'"));
    blocks.memory.streamFrom({ epoch: 1, commit: 1n, index: 0 });
    const doubts = new Doubts();
    const later = (commit: bigint, read: string | null) => {
      const block = blockOf([row(person, "u", { after: ["1", UNCHANGED, "open"], commit, xid: 8 })]);
      const answers = new Answers(doubts);
      const [asked] = blocks.asked(block, doubts);
      if (asked !== undefined && read !== null)
        blocks.answer(
          answers,
          asked.table,
          asked.rows,
          blockOf([row(person, "r", { after: ["1", read, "open"] })]),
          [8],
        );
      const told = rowsOf(blocks.apply(block, answers)).map(([op, , , after]) => [op, after]);
      return { isAsked: asked !== undefined, told };
    };
    const untold = blockOf([row(person, "u", { after: ["1", "new", UNCHANGED], xid: 7 })]);
    expect(rowsOf(blocks.apply(untold, new Answers(doubts))).map(([op]) => op)).toEqual(["?"]);
    expect(later(2_000n, null)).toEqual({ isAsked: true, told: [["?", "1,=,="]] });
    expect(later(3_000n, "new")).toEqual({ isAsked: true, told: [["u", "1,[redacted],open"]] });
    expect(later(4_000n, null)).toEqual({ isAsked: false, told: [["u", "1,=,open"]] });
  });

  test("the same of changes that another daemon's filter knows to be of rows that it let through", () => {
    const blocks = ruledBlocks(rules("status like 'open%'"));
    const doubts = new Doubts();
    const told = (...after: readonly (string | typeof UNCHANGED)[]) => {
      const block = blockOf([row(person, "u", { after })]);
      block.op[0] = OP_KEPT;
      return rowsOf(blocks.apply(block, new Answers(doubts))).map(([op, , , cells]) => [op, cells]);
    };
    expect(told("1", "new", UNCHANGED)).toEqual([["?", "1,=,="]]);
    expect(told("1", UNCHANGED, "open")).toEqual([["?", "1,=,="]]);
    expect(told("1", "newer", "open")).toEqual([["u", "1,[redacted],open"]]);
    expect(told("1", UNCHANGED, "open")).toEqual([["u", "1,=,open"]]);
  });

  test("a stream begins with what sinks still read again: its changes are told with all values, or not", async () => {
    const source = new ScriptedSource([person]);
    const state = openMemory(systemClock);
    await state.snapshots.addKeys("history", person.id, [["1"]]);
    source.log = {
      ...source.log,
      stream: async (_, { resolve }) => {
        const table = await resolve(person, { epoch: 1, commit: 1n, index: 0 });
        const changed = (id: string) => row(table, "u", { after: [id, UNCHANGED, "open"], xid: 7 });
        return {
          next: async () => blockOf([changed("1"), changed("2")]),
          acknowledge: () => undefined,
          [Symbol.asyncDispose]: async () => undefined,
        };
      },
    };
    const given = rules("status like 'open%'");
    const ruled = withRules(source, given, await memoryOf({ rules: given }, state));
    const resolve = async (shape: TableShape): Promise<TableVersion> => firstVersion(shape);
    const from = { epoch: 1, commit: 1n, index: 0 };
    await using stream = await ruled.log.stream(from, { temporary: true, resolve }, NEVER);
    const told = rowsOf(await stream.next(NEVER)).map(([op, , , after]) => [op, after]);
    expect(told).toEqual([
      ["?", "1,=,="],
      ["u", "2,=,open"],
    ]);
    await state.close();
  });

  test("a row of which a change was not told stays in doubt over the next connection, until sinks have read it", async () => {
    const source = new ScriptedSource([person]);
    const blocks = [
      row(person, "u", { after: ["1", "new", UNCHANGED], xid: 7, commit: 2_000n }),
      row(person, "u", { after: ["1", UNCHANGED, "open"], xid: 8, commit: 3_000n }),
      row(person, "u", { after: ["1", UNCHANGED, "open"], xid: 9, commit: 4_000n }),
    ];
    source.log = {
      ...source.log,
      stream: async (_, { resolve }) => {
        const table = await resolve(person, { epoch: 1, commit: 1n, index: 0 });
        return {
          next: async () => blockOf([{ ...blocks.shift()!, table }]),
          acknowledge: () => undefined,
          [Symbol.asyncDispose]: async () => undefined,
        };
      },
    };
    const state = openMemory(systemClock);
    const given = rules("status like 'open%'");
    const { log, catalog } = withRules(source, given, await memoryOf({ rules: given }, state));
    const resolve = async (shape: TableShape): Promise<TableVersion> => firstVersion(shape);
    const told: unknown[] = [];
    while (blocks.length > 0) {
      await using stream = await log.stream({ epoch: 1, commit: 1n, index: 0 }, { temporary: false, resolve }, NEVER);
      told.push(...rowsOf(await stream.next(NEVER)).map(([op, , , after]) => [op, after]));
      if (told.length < 2) continue;
      stream.acknowledge(3_001n);
      await catalog.tables(NEVER);
    }
    expect(told).toEqual([
      ["held u", "1,[redacted],="],
      ["?", "1,=,="],
      ["u", "1,=,open"],
    ]);
    await state.close();
  });

  test("all rows of a block are asked for, and what is remembered outlives a change of other columns", () => {
    const wider = { ...person, columns: [...person.columns, { ...person.columns[1]!, name: "more", identity: 4 }] };
    const retyped = { ...person, columns: person.columns.map((column) => ({ ...column, native: "varchar" })) };
    const blocks = ruledBlocks(rules("status like 'open%'"), wider, retyped);
    blocks.memory.streamFrom({ epoch: 1, commit: 1n, index: 0 });
    const changes = (table: TableVersion, commit: bigint, ...more: readonly string[]) =>
      Array.from({ length: 3_000 }, (_, i) =>
        row(table, "u", { after: [String(i), "m", UNCHANGED, ...more], commit, xid: 7 }),
      );
    const block = blockOf(changes(person, 2_000n));
    const [asked] = blocks.asked(block);
    const answers = new Answers();
    expect(asked?.rows.length).toBe(3_000);
    const read = blockOf(asked!.rows.map(({ key }) => row(person, "r", { after: [...key, "m", "open"] })));
    blocks.answer(
      answers,
      asked!.table,
      asked!.rows,
      read,
      asked!.rows.map(() => 7),
    );
    const ops = new Set(rowsOf(blocks.apply(block, answers)).map(([op]) => op));
    expect(ops).toEqual(new Set(["u"]));
    expect(blocks.asked(blockOf(changes(wider, 3_000n, "x")))).toEqual([]);
    expect(blocks.asked(blockOf(changes(retyped, 4_000n)))[0]?.rows.length).toBe(3_000);
  });

  test("what was remembered of a table says nothing of another one that has its name since", () => {
    const remade = { ...person, relation: person.relation + 1 };
    const ruled = ruledBlocks(rules("status like 'a%'", null), remade);
    const later = (table: TableVersion, commit: bigint) =>
      rowsOf(ruled.apply(blockOf([row(table, "u", { after: ["1", "n", UNCHANGED], commit })])));
    ruled.apply(blockOf([row(person, "c", { after: ["1", "m", "a"], commit: 10n })]));
    expect(later(person, 20n)).toMatchObject([["u", "person", 0, "1,n,=", ""]]);
    expect(later(remade, 30n)).toMatchObject([["?", "person", 0, "1,=,=", ""]]);
  });

  test("a key that changes, of a row of which nobody knows whether it was told", () => {
    const block = blockOf([
      row(person, "u", { after: ["2", "m", "open"], before: ["1", null, null] }),
      row(person, "u", { after: ["4", UNCHANGED, "open"], before: ["3", null, null] }),
      row(person, "u", { after: ["5", UNCHANGED, "open"] }),
    ]);
    expect(rowsOf(ruledBlocks(rules("status <> 'test'")).apply(block))).toEqual([
      ["d?", "person", 0, "", "1,null,null"],
      ["u", "person", 0, "2,[redacted],open", ""],
      ["d?", "person", 1, "", "3,null,null"],
      ["?", "person", 1, "4,=,=", ""],
      ["u", "person", 2, "5,=,open", ""],
    ]);
  });

  test("a filter that the key decides", () => {
    const block = blockOf([
      row(person, "u", { after: ["1", "m", "open"] }),
      row(person, "d", { before: ["1", null, null] }),
      row(person, "d", { before: ["9", null, null] }),
      row(person, "u", { after: ["1", UNCHANGED, "open"], before: ["9", null, null] }),
      row(person, "u", { after: ["9", "m", "open"], before: ["1", null, null] }),
      row(person, "u", { after: ["9", "m", "open"], before: ["8", null, null] }),
    ]);
    expect(rowsOf(ruledBlocks(rules("id > 5")).apply(block))).toEqual([
      ["d", "person", 2, "", "9,null,null"],
      ["d", "person", 3, "", "9,null,null"],
      ["u", "person", 4, "9,[redacted],open", ""],
      ["u", "person", 5, "9,[redacted],open", "8,null,null"],
    ]);
    const partly = ruledBlocks(rules("id > 5 and status <> 'test'"));
    expect(rowsOf(partly.apply(block)).map(([op, , index]) => [op, index])).toEqual([
      ["d?", 2],
      ["d?", 3],
      ["u", 4],
      ["d?", 5],
      ["u", 5],
    ]);
  });

  test("with whole old rows, what never matched is never told", () => {
    const full = { beforeKind: "full" } as const;
    const block = blockOf([
      row(person, "u", { after: ["1", "new", "test"], before: ["1", "OLD", "test"], ...full }),
      row(person, "d", { before: ["1", "OLD", "test"], ...full }),
      row(person, "u", { after: ["3", "new", "test"], before: ["2", "OLD", null], ...full }),
      row(person, "u", { after: ["5", UNCHANGED, "open"], before: ["4", "OLD", "test"], ...full }),
      row(person, "u", { after: ["6", UNCHANGED, UNCHANGED], before: ["6", "OLD", "open"], ...full }),
      row(person, "u", { after: ["8", "new", "test"], before: ["7", "OLD", "open"], ...full }),
      row(person, "d", { before: ["9", "OLD", "open"], ...full }),
    ]);
    expect(rowsOf(ruledBlocks(rules("status <> 'test'", "partial")).apply(block))).toEqual([
      ["u", "person", 3, "5,****,open", ""],
      ["u", "person", 4, "6,=,=", "6,****,open"],
      ["d", "person", 5, "", "7,****,open"],
      ["d", "person", 6, "", "9,****,open"],
    ]);
  });

  test("the source keeps its block until the one that was made of it is let go", () => {
    let isFree = false;
    const given = blockOf([row(person, "c", { after: ["1", "m", "open"] })]);
    const block = new Block(given.bytes, 64, () => (isFree = true));
    block.tables.push(...given.tables);
    block.transactions.add(1n, 1n, 0n, 0);
    block.append(given.op[0]!, 0, given.after[0]!, given.before[0]!, given.beforeKind[0]!, 0, 0);
    const made = ruledBlocks(rules(null)).apply(block);
    made.retain();
    made.release();
    expect(isFree).toBe(false);
    made.release();
    expect(isFree).toBe(true);
  });
});
