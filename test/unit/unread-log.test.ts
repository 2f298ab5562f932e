/** A part of the log that sinks pass over: tables may have exchanged their names there. */
import { describe, expect, test } from "vitest";
import * as z from "zod";
import { rulesOf, tableDefinition } from "../../src/config/tables.ts";
import { systemClock } from "../../src/core/clock.ts";
import { followNames } from "../../src/cli/follow-names.ts";
import type { ChangeLog, OnRenamed } from "../../src/core/contracts/change-log.ts";
import type { SkippedLog, Source } from "../../src/core/contracts/source.ts";
import { type SinkRecord, UNREAD } from "../../src/core/contracts/state-store.ts";
import { Block } from "../../src/core/model/block.ts";
import { type Position, serializePosition } from "../../src/core/model/position.ts";
import { memoryOf } from "../../src/daemon/ruled-source.ts";
import { noMemory } from "../../src/rules/former-rules.ts";
import { RuleBook } from "../../src/rules/rule-book.ts";
import { withRules } from "../../src/rules/with-rules.ts";
import { skippedLog, unknownLog } from "../../src/runtime/start/found-log.ts";
import { openMemory } from "../../src/state/sqlite/open.ts";
import { sourceError } from "../../connectors/mysql/source/errors.ts";
import { tableVersion } from "../support/model/blocks.ts";

const at = (commit: number, epoch = 1): Position => ({ epoch, commit: BigInt(commit), index: 0 });
const { signal } = new AbortController();

interface Sink {
  /** Where it begins in another log if it is not where the state knows it. */
  readonly otherwise?: Position;
  readonly covered?: Position;
  readonly paused?: boolean;
  readonly to?: Position;
  /** In another log; true: its counterpart there is known. */
  readonly crosses?: boolean;
}

function recordOf({ covered, to, crosses, otherwise = to!, paused = false }: Sink, i: number): SinkRecord {
  const crossing = { from: crosses === true ? at(1) : null, common: at(1), otherwise, generations: {} };
  const reset = to === undefined ? null : { id: "", to, anew: false, ...(crosses === undefined ? {} : { crossing }) };
  const known = to ?? covered ?? null;
  return { name: `s${i}`, checkpoint: known, covered: known, tables: {}, paused, error: null, reset };
}

const A = { covered: at(100) };
test.each<
  [
    string,
    number | null,
    readonly Sink[],
    (Omit<SkippedLog, "from" | "to"> & { from: number | null; to: number }) | null,
  ]
>([
  ["no sink is moved", 50, [A, { covered: at(50) }], null],
  ["back", 50, [{ to: at(40) }], null],
  ["all", 100, [{ to: at(120) }, { to: at(130) }], { from: 100, to: 130, isThere: false }],
  ["beside one that reads on", 50, [{ to: at(120) }, { covered: at(50) }], { from: 50, to: 120, isThere: true }],
  ["to where another one is", 50, [{ to: at(100) }, A], null],
  ["beside one that goes back", 40, [{ to: at(120) }, { to: at(40) }], { from: 40, to: 120, isThere: true }],
  [
    "beside a paused one",
    50,
    [{ to: at(120) }, { covered: at(50), paused: true }],
    { from: 50, to: 120, isThere: false },
  ],
  ["into another log", null, [{ to: at(7, 2) }, A], { from: null, to: 7, isThere: false }],
  [
    "into another log, where a position is known",
    null,
    [
      { to: at(7, 2), crosses: true },
      { to: at(7, 2), crosses: true },
    ],
    null,
  ],
  [
    "into another log, where none is known",
    null,
    [{ to: at(9, 2), crosses: false }],
    { from: null, to: 9, isThere: false },
  ],
  [
    "into another log, where one is known",
    null,
    [
      { to: at(9, 2), crosses: false },
      { to: at(7, 2), crosses: true },
    ],
    { from: 7, to: 9, isThere: true },
  ],
  [
    "into another log, where a position is known that the sink may have passed",
    7,
    [{ to: at(7, 2), crosses: true, otherwise: at(9, 2) }],
    { from: 7, to: 9, isThere: true },
  ],
  ["over a gap, that another one has passed", null, [{ to: at(7, 2) }, { covered: at(8, 2) }], null],
])("what sinks skip: %s", (_, acknowledged, sinks, skipped) => {
  const found = skippedLog({ acknowledged: acknowledged === null ? null : at(acknowledged) }, sinks.map(recordOf));
  const shown =
    found === null ? null : { ...found, from: found.from && Number(found.from.commit), to: Number(found.to.commit) };
  expect(shown).toEqual(skipped);
});

const COLUMNS = { id: "int8", mail: "text", note: "text" };
const problem = (code: string): never => {
  throw new Error(code);
};
const rulesFor = (tables: object) =>
  rulesOf(z.record(z.string(), tableDefinition).parse(tables), {
    maskKey: undefined,
    folder: ".",
    place: (path) => path.join("."),
    problem,
  });
const MASKED = { columns: { mail: { mask: "redact" } } };
const RULES = rulesFor({ "s.users": MASKED, "s.people": {}, "s.customers*": { ...MASKED, optional: true } });

/** Both tables as they were registered, with what a log says of names. */
async function ruled(
  renames: (onRenamed: OnRenamed) => void,
  columns: Readonly<Record<string, string>> = COLUMNS,
  since = at(1),
  end = 1_000n,
) {
  const state = openMemory(systemClock);
  const tables = [
    tableVersion({ schema: "s", table: "users", columns: COLUMNS, dialect: "mysql", relation: 1 }),
    tableVersion({ schema: "s", table: "people", columns, dialect: "mysql", relation: 2 }),
  ];
  const book = new RuleBook(RULES, noMemory());
  await state.source.announce(1);
  await state.schemas.resolve(
    tables.map((table) => book.plan(table)?.shape ?? table),
    since,
  );
  const read: (readonly [from: bigint, to: bigint])[] = [];
  const source: unknown = {
    catalog: {},
    positions: {},
    admin: {},
    rows: {},
    log: {
      renames: async (from: Position, to: Position, onRenamed: OnRenamed) => {
        read.push([from.commit, to.commit]);
        renames(onRenamed);
        return to.commit < end ? to.commit : end;
      },
    },
  };
  const memory = await memoryOf({ rules: RULES }, state);
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- what is asked of it
  const { onSkipped, log } = withRules(source as Source, RULES, memory);
  return {
    read,
    memory,
    log,
    skip: async (skipped: SkippedLog) => {
      await onSkipped(skipped, signal);
      return (await state.schemas.renames()).map(({ position, renames: kept }) => [
        serializePosition(position),
        ...kept,
      ]);
    },
  };
}

const SKIPPED: SkippedLog = { from: at(50), to: at(120), isThere: false };
const RENAMED = { from: "s.users", to: "s.people", columns: [], how: "renamed" } as const;
const swap = (position: Position) => (onRenamed: OnRenamed) => onRenamed([RENAMED], position);
const named = (from: string, to: string, position: Position) => (onRenamed: OnRenamed) =>
  onRenamed([{ ...RENAMED, from, to, how: from === to ? "made" : "renamed" }], position);

test("tables that look alike are in doubt from where the log was read, which is kept once", async () => {
  const { skip, read } = await ruled(() => {});
  for (let i = 0; i < 2; i++) expect(await skip(SKIPPED)).toEqual([["1/50/1", UNREAD]]);
  expect(read).toEqual([]);
});

test("what an earlier process was shown counts, though no sink got there", async () => {
  const { skip } = await ruled(() => {}, COLUMNS, at(110));
  expect(await skip({ ...SKIPPED, from: at(30), to: at(60) })).toEqual([]);
  expect(await skip(SKIPPED)).toEqual([["1/110/1", UNREAD]]);
});

test("in another log they are from its first position on", async () => {
  const { skip } = await ruled(() => {});
  expect(await skip({ from: null, to: at(7, 2), isThere: false })).toEqual([["2/7/0", UNREAD]]);
});

const THERE = { ...SKIPPED, isThere: true };

test("where a sink reads on, the log says whether names changed there", async () => {
  const none = await ruled(swap(at(130)));
  expect(await none.skip(THERE)).toEqual([]);
  expect(none.read).toEqual([[50n, 120n]]);
  const some = await ruled(swap(at(110)));
  expect(await some.skip(THERE)).toEqual([["1/50/1", UNREAD]]);
  const gone = await ruled(() => {
    throw sourceError("MR2010", "fatal", "the log begins later");
  });
  expect(await gone.skip(THERE)).toEqual([["1/50/1", UNREAD]]);
  const unknown = await ruled((onRenamed) => onRenamed(null, at(110)));
  expect(await unknown.skip(THERE)).toEqual([["1/50/1", UNREAD]]);
  const cut = await ruled(() => {}, COLUMNS, at(1), 119n);
  expect(await cut.skip(THERE)).toEqual([["1/50/1", UNREAD]]);
});

test("what an earlier process was shown is not looked through: the server may have deleted it", async () => {
  const { skip, read } = await ruled(() => {}, COLUMNS, at(110));
  expect(await skip(THERE)).toEqual([]);
  expect(read).toEqual([[110n, 120n]]);
});

test.each([
  ["a table of no rule that is made", "s.plain", "s.plain", false],
  ["tables of no rule", "s.plain", "s.other", false],
  ["one that takes the name of a table under rules", "s.plain", "s.users", true],
  ["one that would come under rules", "s.customers_eu", "s.archive_eu", true],
  ["one that is made under rules", "s.customers_eu", "s.customers_eu", true],
])("names that are other ones: %s", async (_, from, to, isInDoubt) => {
  const { skip } = await ruled(named(from, to, at(110)));
  expect(await skip(THERE)).toEqual(isInDoubt ? [["1/50/1", UNREAD]] : []);
});

test("what lies between the state and the furthest sink is looked through", () => {
  expect(unknownLog(at(60), at(90))).toEqual({ from: at(60), to: at(90), isThere: true });
  expect(unknownLog(at(60), at(60))).toBeNull();
  expect(unknownLog(at(60), at(7, 2))).toBeNull();
});

test("nothing is read or kept where no table looks like one under rules", async () => {
  const { skip, read } = await ruled(swap(at(110)), { id: "int8", mail: "text", word: "text", other: "text" });
  expect(await skip({ ...SKIPPED, isThere: true })).toEqual([]);
  expect(read).toEqual([]);
});

describe("what a command shows that the daemon has not read", () => {
  /** How far the log was read again, and what is in doubt. */
  async function followed(renames: (onRenamed: OnRenamed) => void, read: Position | null = at(50), end = 120) {
    const { memory, log } = await ruled(renames);
    const skipped: SkippedLog[] = [];
    const blocks = [105, 110, 111, 130].map((commit) => {
      const block = new Block(new Uint8Array());
      block.until = at(commit);
      return block;
    });
    const streams: Position[] = [];
    const stream: ChangeLog["stream"] = async (from) => {
      streams.push(from);
      return {
        next: async () => blocks.shift()!,
        acknowledge: () => {},
        [Symbol.asyncDispose]: async () => {},
      };
    };
    const source = {
      log: { ...log, stream, tip: async () => BigInt(end) },
      onSkipped: async (one: SkippedLog) => void skipped.push(one),
    };
    const now = await followNames(source, { ...memory, epoch: 1, read }, signal);
    return { read: now.read?.commit, streams, skipped, left: blocks.length };
  }

  test("is under the names that the log gives tables there, read as the daemon will", async () => {
    expect(await followed(swap(at(110)))).toEqual({ read: 120n, streams: [at(50)], skipped: [], left: 1 });
  });

  test.each<[string, (onRenamed: OnRenamed) => void]>([
    ["none changed", () => {}],
    ["one changed later", swap(at(130))],
    ["a table was made", (on) => on([{ from: "s.t", to: "s.t", columns: [], how: "made" }], at(110))],
    ["a column has another one", (on) => on([{ ...RENAMED, to: RENAMED.from, columns: [["a", "b"]] }], at(110))],
  ])("needs no more where %s", async (_, renames) => {
    expect(await followed(renames)).toEqual({ read: 120n, streams: [], skipped: [], left: 4 });
  });

  test("is in doubt where the log does not say it", async () => {
    const skipped = [{ from: at(50), to: at(120), isThere: false }];
    const gone = (): never => {
      throw sourceError("MR2010", "fatal", "the log begins later");
    };
    for (const renames of [gone, (on: OnRenamed) => on(null, at(110))])
      expect(await followed(renames)).toEqual({ read: 120n, streams: [], skipped, left: 4 });
    const unknown = [{ from: null, to: at(120), isThere: false }];
    expect(await followed(() => {}, null)).toMatchObject({ skipped: unknown, streams: [] });
  });

  test("is what the daemon has read if it is from before", async () => {
    expect(await followed(swap(at(40)), at(50), 50)).toEqual({ read: 50n, streams: [], skipped: [], left: 4 });
  });
});
