/**
 * Plans in which things meet that chance seldom brings together, each in a moment of its own: a sink that writes slowly while
 * the table that it is filled with changes, a stream that goes back beneath a read, copies of a sink put back crosswise or before
 * what was read for it, rows that move past a read.
 */
import { Random } from "../support/run/random.ts";
import type { Operation } from "./database.ts";
import type { Happening, Plan } from "./happenings.ts";

/** Of 1: so many plans get a meeting. */
const SHARE = 0.12;
/** These last much longer than others. */
const CRAWLS_SHARE = 0.01;
/** Of 1: each of these that need a kind of plan which is rare. */
const RARE_SHARE = 0.03;
/** A sink that is alone reads these rows again in half of the time. */
const READ_ROWS = 40;
const READ_MS_MAX = 4_000;
const KEYS = 4;
const OPS = ["insert", "update", "update", "replace", "move"] as const;
const LASTS_MS = 600;

type Meeting = (random: Random, plan: Plan) => Plan;

/** Decided by chance of its own: other plans are made as if there were none of these. */
export function withMeeting(plan: Plan): Plan {
  const apart = new Random(plan.seed ^ 0xc4a1);
  if (apart.chance(CRAWLS_SHARE)) return crawlsInTheFirstCopy(apart, plan);
  if (apart.chance(RARE_SHARE)) return letIn(apart, plan);
  if (apart.chance(RARE_SHARE)) return restoredBeforeItWasListed(apart, plan);
  const random = new Random(plan.seed ^ 0x3ee7);
  const met = random.chance(SHARE) ? random.pick(MEETINGS)(random, plan) : plan;
  if (met.sinks[0] !== "stream") return met;
  const moved = random.chance(SHARE) ? pastARead(random, met) : met;
  return random.chance(SHARE) ? replayedOverARead(random, moved) : moved;
}

/** Of 1: so many plans are no more than a table that is paused in a sink, for which something of it is still to be read. */
const PAUSED_SHARE = 0.03;

export function withPausedTable(plan: Plan): Plan {
  const random = new Random(plan.seed ^ 0x9a05e);
  if (!random.chance(PAUSED_SHARE)) return plan;
  const { seed, source } = plan;
  const key = random.below(KEYS);
  const atMs = 150;
  // A log that has every value leaves no row incomplete.
  const isKey = source === undefined && random.chance(0.6);
  const owed: readonly Happening[] = isKey
    ? [{ atMs, what: "evict", sink: 0, key }, transaction(atMs + 1, [{ op: "update", table: 0, key, target: key }])]
    : [
        { atMs, what: "snapshot", sink: 0, table: 0, hasCondition: false, downMs: null },
        { atMs: atMs + 20, what: "weather", place: "source", kind: "slow", forMs: 300 },
      ];
  const pausedMs = atMs + 5 + random.below(isKey ? 50 : 300);
  const forMs = 10 + random.below(isKey ? 200 : 60);
  const writes = Array.from({ length: isKey ? 0 : 1 + random.below(2) }, () =>
    write(random, pausedMs + random.below(forMs), 0),
  );
  const downMs = random.chance(0.2) ? random.below(50) : null;
  const happenings: readonly Happening[] = [
    ...owed,
    { atMs: pausedMs, what: "pause table", sink: 0, table: 0, forMs, downMs },
    ...writes,
  ];
  return {
    seed,
    ...(source === undefined ? {} : { source }),
    tables: 1,
    rows: isKey ? KEYS : 2 * KEYS,
    chunkRows: 1,
    sinks: [isKey ? "cache" : random.pick(["transactional", "by-row"] as const)],
    lastsMs: pausedMs + forMs + 100,
    happenings: happenings.toSorted((a, b) => a.atMs - b.atMs),
  };
}

/** Of 1: so many plans are no more than a batch that is repeated and a table that is lost: opened again, the sink looks for none by itself. */
const REOPENED_SHARE = 0.01;

export function withReopenedSink(plan: Plan): Plan {
  const random = new Random(plan.seed ^ 0x4e09e);
  if (!random.chance(REOPENED_SHARE)) return plan;
  const { seed, source } = plan;
  const atMs = 150;
  const lost: Happening = {
    atMs: atMs + random.below(500),
    what: "table lost",
    sink: 0,
    table: random.below(2),
    how: random.pick(["dropped", "emptied"] as const),
  };
  const kind = random.pick(["failures", "lost answers", "down"] as const);
  const happenings: readonly Happening[] = [
    { atMs, what: "weather", place: 0, kind, forMs: 60 },
    ...Array.from({ length: 3 }, () => write(random, atMs + random.below(60), 0)),
    lost,
  ];
  return {
    seed,
    ...(source === undefined ? {} : { source }),
    tables: 2,
    rows: KEYS,
    chunkRows: KEYS,
    sinks: [random.pick(["transactional", "by-row", "cache"] as const)],
    lastsMs: lost.atMs + 100,
    happenings: happenings.toSorted((a, b) => a.atMs - b.atMs),
  };
}

/** Some plans are no more than this: a table is read again for two sinks, and one of them takes much longer for each chunk. */
export function withSlowRead(plan: Plan): Plan {
  const random = new Random(plan.seed ^ 0x510e);
  if (!random.chance(CRAWLS_SHARE)) return plan;
  const kinds = ["transactional", "by-row"] as const;
  const { seed, source } = plan;
  const atMs = 800;
  return {
    seed,
    ...(source === undefined ? {} : { source }),
    tables: 1,
    rows: READ_ROWS,
    chunkRows: 1,
    sinks: [random.pick(kinds), random.pick(kinds)],
    lastsMs: atMs + READ_MS_MAX + 1,
    happenings: [
      { atMs, what: "weather", place: 0, kind: "slow", forMs: READ_MS_MAX },
      { atMs, what: "snapshot", sink: null, table: 0, hasCondition: false, downMs: null },
      { atMs: atMs + READ_MS_MAX, what: "read by now", sink: 1, table: 0 },
    ],
  };
}

const MEETINGS: readonly Meeting[] = [
  slowWhileItChanges,
  backBeneathARead,
  backBeneathAFill,
  crosswise,
  copiedBeforeARowIsRead,
];

/** A sink takes much longer than another one for what both get in the first copy. */
function crawlsInTheFirstCopy(random: Random, plan: Plan): Plan {
  const sinks = [random.pick(["transactional", "by-row"] as const), plan.sinks[0] ?? "transactional"] as const;
  const forMs = 50_000;
  const crawls = { atMs: 0, what: "weather", place: 0, kind: "crawling", forMs } as const;
  const crashes = { atMs: random.below(forMs), what: "crash", afterCalls: random.below(10), downMs: 500 } as const;
  const happenings = [
    crawls,
    write(random, 1_000, 0),
    write(random, 20_000, 0),
    ...(random.chance(0.5) ? [crashes] : []),
  ];
  return {
    ...plan,
    sinks,
    tables: 2,
    rows: 60,
    lastsMs: forMs,
    happenings: happenings.toSorted((a, b) => a.atMs - b.atMs),
  };
}

/** The last of what is read is in the sink's queue for long, and not yet written, when the table changes. */
function slowWhileItChanges(random: Random, plan: Plan): Plan {
  const table = random.below(plan.tables);
  const atMs = 50 + random.below(200);
  const changedMs = atMs + 500 + random.below(400);
  const sinks = ["by-row" as const, ...plan.sinks.slice(1)];
  return withAll({ ...plan, sinks, lastsMs: 1_500 }, [
    { atMs: atMs + random.below(30), what: "weather", place: 0, kind: "slow", forMs: 1_200 },
    { atMs, what: "snapshot", sink: 0, table, hasCondition: false, downMs: null },
    { atMs: changedMs, what: "alter", table, how: random.pick(["add", "drop"] as const) },
    write(random, changedMs + 1 + random.below(10), table),
  ]);
}

/**
 * A sink that comes back has the stream go back for it, beneath the rows that are read for another one: of some the log tells
 * nothing.
 */
function backBeneathARead(random: Random, plan: Plan): Plan {
  const table = random.below(plan.tables);
  const atMs = 50 + random.below(200);
  const unlogged = Array.from({ length: 4 }, (): Happening => {
    return { atMs: atMs + 80 + random.below(150), what: "unlogged", table, key: random.below(KEYS) };
  });
  const writes = Array.from({ length: 25 }, () => {
    const key = random.below(KEYS);
    return transaction(atMs + random.below(200), [
      { op: random.pick(["insert", "delete", "delete", "update"] as const), table, key, target: key },
    ]);
  });
  const sinks = [plan.sinks[0]!, plan.sinks[1] ?? "transactional"] as const;
  return withAll({ ...plan, sinks, rows: KEYS, chunkRows: KEYS, lastsMs: 1_500 }, [
    { atMs: atMs - 50, what: "no second stream", forMs: 1_200 },
    { atMs: atMs - 10, what: "weather", place: "source", kind: "slow", forMs: 1_200 },
    { atMs, what: "park", sink: 1 },
    ...unlogged,
    ...writes,
  ]);
}

/**
 * Some plans are no more than this: the stream goes back for one sink beneath the rows that are read for another one, which was
 * emptied, and repeats changes that this one has passed.
 */
function backBeneathAFill(random: Random, { seed, source }: Plan): Plan {
  const rows = 2 * KEYS;
  const atMs = 100 + random.below(100);
  const update = (key: number, ms: number): Happening =>
    transaction(ms, [{ op: "update", table: 0, key, target: key }]);
  const writes = Array.from({ length: rows }, (_, key) => update(key, atMs + 5 + random.below(40)));
  const happenings: readonly Happening[] = [
    { atMs: atMs - 5, what: "no second stream", forMs: 1_200 },
    { atMs, what: "park", sink: 1 },
    { atMs: atMs + 10, what: "empty", sink: 0 },
    // The sink notices it when it writes next.
    update(0, atMs + 11),
    ...writes,
  ];
  return {
    seed,
    ...(source === undefined ? {} : { source }),
    tables: 1,
    rows,
    chunkRows: 1,
    sinks: ["by-row", "transactional"],
    lastsMs: 1_500,
    happenings: happenings.toSorted((a, b) => a.atMs - b.atMs),
  };
}

/** Two copies of a sink that refuses a row: the earlier one comes back and is written to, then the later one. */
function crosswise(random: Random, plan: Plan): Plan {
  const sink = random.below(plan.sinks.length);
  const table = random.below(plan.tables);
  const firstMs = 50 + random.below(100);
  const secondMs = firstMs + 60 + random.below(100);
  const backMs = secondMs + 20 + random.below(60);
  const againMs = backMs + 250 + random.below(300);
  const writes = Array.from({ length: 8 }, () => write(random, firstMs + random.below(secondMs - firstMs), table));
  return withAll({ ...plan, lastsMs: againMs + 100 }, [
    { atMs: firstMs, what: "sink restored", sink, afterMs: backMs - firstMs },
    { atMs: secondMs, what: "sink restored", sink, afterMs: againMs - secondMs },
    { atMs: firstMs, what: "refuse", sink, key: random.below(KEYS), forMs: backMs - firstMs },
    ...writes,
    // The sink notices whose copy it has when it writes next.
    write(random, backMs + 1 + random.below(20), table),
  ]);
}

/** A copy of a sink is older than the row that was read for it, and has already passed the change that needs the row. */
function copiedBeforeARowIsRead(random: Random, plan: Plan): Plan {
  const table = random.below(plan.tables);
  const key = random.below(KEYS);
  const atMs = 60 + random.below(200);
  const copiedMs = atMs + 6 + random.below(24);
  return withAll({ ...plan, sinks: ["cache", ...plan.sinks.slice(1)], rows: KEYS }, [
    { atMs, what: "evict", sink: 0, key },
    transaction(atMs + 1, [{ op: "update", table, key, target: key }]),
    { atMs: copiedMs, what: "sink restored", sink: 0, afterMs: 60 + random.below(200) },
  ]);
}

/** A stream whose filter reads one of two large values: rows come to match, and leave the other one as it was. */
function letIn(random: Random, plan: Plan): Plan {
  if (plan.source === "binlog") return plan;
  const table = random.below(plan.tables);
  const sinks = ["stream" as const, ...plan.sinks.slice(1)];
  const writes = Array.from({ length: 20 }, () => {
    const key = random.below(KEYS);
    return transaction(20 + random.below(LASTS_MS), [{ op: "update", table, key, target: key }]);
  });
  return withAll({ ...plan, sinks, rules: "texts", rows: KEYS }, writes);
}

/**
 * Some plans are no more than this: the state is put back to before a row was listed that a cache could not complete, and that
 * was not yet read.
 */
function restoredBeforeItWasListed(random: Random, plan: Plan): Plan {
  if (plan.source === "binlog") return plan;
  const key = random.below(KEYS);
  const atMs = 100 + random.below(200);
  return {
    seed: plan.seed,
    tables: 1,
    rows: KEYS,
    chunkRows: KEYS,
    sinks: ["cache"],
    lastsMs: LASTS_MS,
    happenings: [
      { atMs, what: "evict", sink: 0, key },
      { atMs: atMs + 1, what: "state restored", afterMs: 15 + random.below(50) },
      transaction(atMs + 2 + random.below(6), [{ op: "update", table: 0, key, target: key }]),
      // Behind the change, before the row is read.
      { atMs: atMs + 20, what: "weather", place: "source", kind: "slow", forMs: 300 },
    ],
  };
}

/** Rows go under the keys that a read has passed, from where it comes later, and leave their large values as they are. */
function pastARead(random: Random, plan: Plan): Plan {
  const table = random.below(plan.tables);
  const atMs = 60 + random.below(200);
  const free = Array.from({ length: KEYS }, (_, key): Operation => ({ op: "delete", table, key, target: key }));
  const moves = free.map((_, i) => {
    const operation = { op: "move", table, key: KEYS + i, target: random.below(KEYS) } as const;
    return transaction(atMs + 100 + random.below(200), [operation]);
  });
  const happenings = [{ atMs, what: "empty", sink: 0 } as const, transaction(atMs + 1, free), ...moves];
  return withAll({ ...plan, rows: KEYS * 2, chunkRows: 1 }, happenings);
}

/** The log is repeated from its beginning while a stream that was emptied is filled row by row, and rows move. */
function replayedOverARead(random: Random, plan: Plan): Plan {
  const table = random.below(plan.tables);
  const atMs = 60 + random.below(100);
  const writes = Array.from({ length: 8 }, () => {
    const op = random.pick(["update", "move", "move", "insert"] as const);
    const operation = { op, table, key: random.below(KEYS + 2), target: random.below(KEYS + 2) };
    return transaction(atMs + 100 + random.below(350), [operation]);
  });
  const resetMs = atMs + 250 + random.below(250);
  return withAll({ ...plan, rows: KEYS, chunkRows: 1 }, [
    { atMs, what: "empty", sink: 0 },
    ...writes,
    { atMs: resetMs, what: "reset", sink: 0, to: "earliest" },
  ]);
}

function write(random: Random, atMs: number, table: number): Happening {
  const operations = Array.from({ length: 1 + random.below(2) }, (): Operation => {
    return { op: random.pick(OPS), table, key: random.below(KEYS), target: random.below(KEYS) };
  });
  return transaction(atMs, operations);
}

function transaction(atMs: number, operations: readonly Operation[]): Happening {
  return { atMs, what: "transaction", operations, commitsAfterMs: 0, shownAfterMs: 0, isRolledBack: false };
}

function withAll(plan: Plan, added: readonly Happening[]): Plan {
  return {
    ...plan,
    lastsMs: Math.max(plan.lastsMs ?? 0, LASTS_MS),
    happenings: [...plan.happenings, ...added].toSorted((a, b) => a.atMs - b.atMs),
  };
}
