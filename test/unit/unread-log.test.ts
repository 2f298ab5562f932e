/** A part of the log that sinks pass over: tables may have exchanged their names there. */
import { describe, expect, test } from "vitest";
import * as z from "zod";
import { rulesOf, tableDefinition } from "../../src/config/tables.ts";
import { systemClock } from "../../src/core/clock.ts";
import { followNames } from "../../src/cli/follow-names.ts";
import type { ChangeLog, OnRenamed, Rename, StreamOptions } from "../../src/core/contracts/change-log.ts";
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

/** The columns' numbers are those of the catalogue. */
function tableOf(table: string, columns: Readonly<Record<string, string>>, relation = 1) {
  const identities = Object.fromEntries(Object.keys(columns).map((name, i) => [name, -i - 1]));
  return tableVersion({ schema: "s", table, columns, dialect: "mysql", relation, identities });
}

/** Both tables as they were registered, with what a log says of names. */
async function ruled(
  renames: (onRenamed: OnRenamed) => void,
  columns: Readonly<Record<string, string>> = COLUMNS,
  since = at(1),
  end = 1_000n,
) {
  const state = openMemory(systemClock);
  const tables = [tableOf("users", COLUMNS), tableOf("people", columns, 2)];
  const book = new RuleBook(RULES, noMemory());
  await state.source.announce(1);
  await state.schemas.resolve(
    tables.map((table) => book.plan(table)?.shape ?? table),
    since,
  );
  const read: (readonly [from: bigint, to: bigint])[] = [];
  const source: unknown = {
    catalog: { tables: async () => ({ tables, refused: [], generations: new Map() }) },
    positions: {},
    admin: {},
    rows: {},
    log: {
      stream: async (_: Position, { onRenamed }: StreamOptions) => {
        const told: Parameters<OnRenamed>[] = [];
        renames((...one) => told.push(one));
        for (const [some, position] of told) await onRenamed!(some!, position);
      },
      renames: async (from: Position, to: Position, onRenamed: OnRenamed) => {
        read.push([from.commit, to.commit]);
        renames(onRenamed);
        return to.commit < end ? to.commit : end;
      },
    },
  };
  /** A process: what it holds is what earlier ones have kept. */
  const started = async () => {
    const memory = await memoryOf({ rules: RULES }, state);
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- what is asked of it
    return { memory, ...withRules(source as Source, RULES, memory) };
  };
  const first = await started();
  const { memory, log } = first;
  const kept = async () =>
    (await state.schemas.renames()).map(({ position, renames: some }) => [serializePosition(position), ...some]);
  const skipIn =
    ({ onSkipped }: typeof first) =>
    async (skipped: SkippedLog) => {
      await onSkipped(skipped, signal);
      return await kept();
    };
  return {
    read,
    memory,
    log,
    kept,
    skip: skipIn(first),
    /** The same in a process that begins now. */
    skipNow: async (skipped: SkippedLog) => await skipIn(await started())(skipped),
    /** Another process is told of this by its stream, and is killed. */
    readByAnother: async () => {
      const another = await started();
      await another.log.stream(at(50), { temporary: false, resolve: async () => tables[0]! }, signal);
    },
    /** Why the next process holds a table with these columns back. */
    fault: async (table: string, names: readonly string[]) => {
      const shape = tableOf(table, Object.fromEntries(names.map((name) => [name, "text"])));
      return new RuleBook(RULES, (await started()).memory).plan(shape, at(200))?.shape.ruled?.fault?.code;
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

test("the log is looked through from where a sink was, and what an earlier process was shown of it does not count", async () => {
  for (const [position, kept] of [
    [110, []],
    [111, [["1/110/1", UNREAD]]],
  ] as const) {
    // The log of MySQL can't be opened at a position where the catalogue's shape was found to be in force.
    const { skip, read } = await ruled(swap(at(position)), COLUMNS, at(110));
    expect(await skip(THERE)).toEqual(kept);
    expect(read).toEqual([[50n, 120n]]);
  }
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

test.each([
  ["made under rules", "s.customers_eu", "s.customers_eu", "made"],
  ["brought under rules", "s.plain", "s.customers_eu", "renamed"],
  ["made under rules, or was there", "s.customers_eu", "s.customers_eu", "perhaps made"],
  ["a copy of none under rules, where one may have been", "s.plain", "s.users", "perhaps copied"],
] as const)("what a daemon that was killed has read is certain: a table that is %s", async (_, from, to, how) => {
  const rename = { from, to, columns: [], how };
  const killed = await ruled((on) => on([rename], at(110)));
  await killed.readByAnother();
  const kept = [["1/110/0", rename]];
  expect(await killed.kept()).toEqual(kept);
  expect(await killed.skipNow(THERE)).toEqual(kept);
  expect(killed.read).toEqual([[50n, 120n]]);
});

test("tables of no rule are not kept", async () => {
  const { readByAnother, kept } = await ruled(named("s.plain", "s.other", at(110)));
  await readByAnother();
  expect(await kept()).toEqual([]);
});

const OTHER = { id: "int8", mail: "text", word: "text", other: "text" };

test("nothing is kept of names where no table looks like one under rules", async () => {
  const { skip } = await ruled(named("s.plain", "s.customers_eu", at(110)), OTHER);
  expect(await skip(SKIPPED)).toEqual([]);
  expect(await skip(THERE)).toEqual([]);
});

describe("columns that have other names where the log is only looked through", () => {
  const told = (...some: readonly Partial<Rename>[]) => {
    const renames = some.map((one): Rename => ({
      from: "s.users",
      to: "s.users",
      columns: [],
      how: "renamed",
      ...one,
    }));
    return (on: OnRenamed) => renames.forEach((one, i) => on([one], at(110 + i)));
  };
  const [MOVED, CHANGED] = [["mail", "mail_old"] as const, ["mail_old", "post"] as const];

  test.each<[string, readonly Partial<Rename>[], string, readonly string[]]>([
    ["a new one gets the name", [{ columns: [MOVED] }], "users", ["id", "mail_old", "note", "mail"]],
    [
      "they exchange them",
      [
        {
          columns: [
            ["mail", "note"],
            ["note", "mail"],
          ],
        },
      ],
      "users",
      ["id", "note", "mail"],
    ],
    ["twice", [{ columns: [MOVED] }, { columns: [CHANGED] }], "users", ["id", "post", "note", "mail"]],
    ["and their table", [{ to: "s.crew", columns: [MOVED] }], "crew", ["id", "mail_old", "note"]],
    ["then their table", [{ columns: [MOVED] }, { to: "s.crew" }], "crew", ["id", "mail_old", "note"]],
    [
      "in a copy",
      [
        { to: "s.crew", how: "copied" },
        { from: "s.crew", to: "s.crew", columns: [MOVED] },
      ],
      "crew",
      ["id", "mail_old", "note"],
    ],
    [
      "in a copy that takes the name",
      [
        { to: "s.crew", how: "copied" },
        { from: "s.crew", to: "s.crew", columns: [MOVED] },
        { from: "s.crew", to: "s.users" },
      ],
      "users",
      ["id", "mail_old", "note", "mail"],
    ],
    [
      "in a partition that is exchanged",
      [
        { from: "s.crew", to: "s.users", how: "exchanged" },
        { from: "s.crew", to: "s.crew", columns: [MOVED] },
      ],
      "crew",
      ["id", "mail_old", "note"],
    ],
  ])("are hidden by both, whatever was before: %s", async (_, renames, table, columns) => {
    for (const other of [COLUMNS, OTHER]) {
      const { skip, skipNow, fault } = await ruled(told(...renames), other);
      expect(await fault(table, columns)).toBeUndefined();
      await skip(THERE);
      expect(await fault(table, columns)).toBe(table === "users" && renames.length < 3 ? "MR1025" : "MR1033");
      const kept = await skipNow(THERE);
      expect(await skipNow(THERE)).toEqual(kept);
    }
  });

  test("are not what puts other tables in doubt", async () => {
    const { skip, fault } = await ruled(told({ columns: [MOVED] }));
    await skip(THERE);
    expect(await fault("people", Object.keys(COLUMNS))).toBeUndefined();
    expect(await fault("users", ["id", "mail", "note"])).toBeUndefined();
  });

  test("nothing is kept of one that rules do not hide, that is dropped, or that has its name still", async () => {
    for (const columns of [
      ["note", "memo"],
      ["mail", ""],
      ["mail", "MAIL"],
    ] as const)
      expect(await (await ruled(told({ columns: [columns] }))).skip(THERE)).toEqual([]);
  });
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

  test.each<[string, (onRenamed: OnRenamed) => void]>([
    ["tables", swap(at(110))],
    ["columns", (on) => on([{ ...RENAMED, to: RENAMED.from, columns: [["a", "b"]] }], at(110))],
  ])("is under the names that the log gives %s there, read as the daemon will", async (_, renames) => {
    expect(await followed(renames)).toEqual({ read: 120n, streams: [at(50)], skipped: [], left: 1 });
  });

  test.each<[string, (onRenamed: OnRenamed) => void]>([
    ["none changed", () => {}],
    ["one changed later", swap(at(130))],
    ["a table was made", (on) => on([{ from: "s.t", to: "s.t", columns: [], how: "made" }], at(110))],
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
