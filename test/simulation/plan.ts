/** What happens in a run, and when: made from a seed before it begins, so that parts can be left out of it afterwards. */
import { Random } from "../support/run/random.ts";
import type { Op, Operation } from "./database.ts";
import type { Happening, Plan, SinkKind } from "./happenings.ts";
import { withIgnoredChanges } from "./ignoring.ts";
import { withMeeting, withPausedTable, withReopenedSink, withSlowRead } from "./meetings.ts";
import type { RuleKind } from "./ruling.ts";

export const LASTS_MS = 1_000;
const WHILE_READ_MS = 60;
const RULE_KINDS = ["none", "keys", "texts", "masks"] as const satisfies readonly RuleKind[];

/** The more happens in a run, the rarer the orders that it may show, and the longer it takes. */
interface Size {
  readonly lastsMs: number;
  /** Of 1: these have one sink, these one table. */
  readonly oneSink: number;
  readonly oneTable: number;
  /** Below so many more than two. */
  readonly transactions: number;
  /** Below so many. */
  readonly faults: number;
  /** Of 1: nothing but transactions and faults; else one and below so many more. */
  readonly noOthers: number;
  readonly others: number;
  readonly meanwhile: number;
  /** Of 1: while this lasts another thing happens, or the same once more. */
  readonly nested: number;
  /** Of 1: all that happens is of a few kinds, which so meet each other more often (swarm testing, Groce et al., 2012). */
  readonly swarms: number;
}

const SIZES = {
  full: {
    lastsMs: LASTS_MS,
    oneSink: 0.7,
    oneTable: 0.7,
    transactions: 7,
    faults: 4,
    noOthers: 0.25,
    others: 3,
    meanwhile: 4,
    nested: 0,
    swarms: 0,
  },
  small: {
    lastsMs: 200,
    oneSink: 0.9,
    oneTable: 0.9,
    transactions: 3,
    faults: 2,
    noOthers: 0.3,
    others: 1,
    meanwhile: 2,
    nested: 0,
    swarms: 0,
  },
  dense: {
    lastsMs: 600,
    oneSink: 0.9,
    oneTable: 0.9,
    transactions: 4,
    faults: 2,
    noOthers: 0,
    others: 2,
    meanwhile: 3,
    nested: 0.7,
    swarms: 0.5,
  },
} as const satisfies Readonly<Record<string, Size>>;

export type SizeName = keyof typeof SIZES;

export function isSizeName(name: string): name is SizeName {
  return Object.hasOwn(SIZES, name);
}

export const SIZE_NAMES: readonly string[] = Object.keys(SIZES);

export function planOf(seed: number, name: SizeName): Plan {
  const random = new Random(seed);
  const size: Size = SIZES[name];
  const { lastsMs } = size;
  const sinkCount = random.chance(size.oneSink) ? 1 : 2;
  const tables = random.chance(size.oneTable) ? 1 : 2;
  const happenings: Happening[] = [];
  const keys = 2 + random.below(6);
  const count = 2 + random.below(size.transactions);
  for (let i = 0; i < count; i++) happenings.push(transaction(random, moment(random, lastsMs), tables, keys));
  const faults = random.below(size.faults);
  for (let i = 0; i < faults; i++) happenings.push(fault(random, sinkCount, lastsMs));
  const others = random.chance(size.noOthers) ? 0 : 1 + random.below(size.others);
  const swarm = size.swarms > 0 && random.chance(size.swarms) ? someKinds(random) : undefined;
  for (let i = 0; i < others; i++) {
    const one = other(random, lastsMs, sinkCount, tables, keys, swarm);
    happenings.push(one);
    // What is read beside the stream takes moments: there the stream has to carry changes, too.
    const meanwhile = random.chance(0.75) ? 1 + random.below(size.meanwhile) : 0;
    for (let j = 0; j < meanwhile; j++) {
      happenings.push(transaction(random, one.atMs + random.below(WHILE_READ_MS), tables, keys));
    }
    const longMs = spanOf(one);
    const nested = longMs > 0 && size.nested > 0 && random.chance(size.nested) ? 1 + random.below(3) : 0;
    for (let j = 0; j < nested; j++) {
      const atMs = one.atMs + random.below(longMs);
      const kinds = swarm ?? (random.chance(0.5) ? MEANWHILE[one.what] : undefined);
      const another = (): Happening => other(random, lastsMs, sinkCount, tables, keys, kinds);
      const nestedOne = random.chance(0.4) ? one : another();
      happenings.push({ ...nestedOne, atMs }, transaction(random, atMs + random.below(WHILE_READ_MS), tables, keys));
    }
  }
  const plan: Plan = {
    seed,
    ...(lastsMs === LASTS_MS ? {} : { lastsMs }),
    tables,
    rows: random.below(6),
    chunkRows: 1 + random.below(4),
    sinks: withStream(
      seed,
      Array.from({ length: sinkCount }, () =>
        random.pick(["transactional", "transactional", "by-row", "cache"] as const),
      ),
    ),
    ...(random.chance(0.35) ? { source: "binlog" as const } : {}),
    ...(random.chance(0.15) ? { policy: "pause" as const } : {}),
    ...(random.chance(0.2) ? { rules: random.pick(RULE_KINDS) } : {}),
    happenings: happenings.toSorted((a, b) => a.atMs - b.atMs),
  };
  const met = size.nested > 0 ? withMeeting(plan) : plan;
  const made = withProof(
    withRefusedTogether(
      withNarrowTargets(withLostTable(withNamedTable(withIgnoredChanges(withLateRequests(withGivenUpPlace(met)))))),
    ),
  );
  return withReopenedSink(withPausedTable(size.nested > 0 ? withSlowRead(made) : made));
}

/** Of 1: in so many plans the continuous comparison runs, by chance of its own. */
const PROVES = 0.05;
/** It begins a second after the daemon. */
const PROVES_FROM_MS = 1_200;
const PROVES_FOR_MS = 2_000;

function withProof(plan: Plan): Plan {
  const random = new Random(plan.seed ^ 0x9400f);
  if (!random.chance(PROVES)) return plan;
  const lastsMs = plan.lastsMs ?? LASTS_MS;
  const slower = (atMs: number): number => PROVES_FROM_MS + Math.floor((atMs * PROVES_FOR_MS) / lastsMs);
  const spoils = Array.from({ length: 1 + random.below(3) }, (): Happening => {
    const how = random.pick(["change", "remove", "add"] as const);
    const [sink, key] = [random.below(plan.sinks.length), random.below(6)];
    return { atMs: PROVES_FROM_MS + random.below(PROVES_FOR_MS), what: "spoil", sink, key, how };
  });
  // A comparison by hand is at work then.
  const repairs = spoils.flatMap(({ atMs }): readonly Happening[] =>
    random.chance(0.5) ? [{ atMs: Math.max(0, atMs - random.below(60)), what: "repair" }] : [],
  );
  const happenings = [
    ...plan.happenings.map((one) => ({ ...one, atMs: slower(one.atMs) })),
    ...spoils,
    ...repairs,
    ...(random.chance(UNPROVEN) ? unproven(random, plan) : []),
  ];
  return {
    ...plan,
    proves: true,
    rows: Math.max(2, plan.rows),
    lastsMs: slower(lastsMs),
    happenings: happenings.toSorted((a, b) => a.atMs - b.atMs),
  };
}

/** Of 1: in so many of these plans something happens after which less is proven. */
const UNPROVEN = 0.5;

function unproven(random: Random, { sinks, tables }: Plan): readonly Happening[] {
  const atMs = PROVES_FROM_MS + random.below(PROVES_FOR_MS / 2);
  const forMs = 200 + random.below(PROVES_FOR_MS / 2 - 200);
  const sink = random.below(sinks.length);
  const keys = 4;
  const one = random.pick<Happening>([
    { atMs, what: "sink restored", sink, afterMs: forMs },
    { atMs, what: "state restored", afterMs: forMs },
    { atMs, what: "refuse", sink, key: random.below(keys), forMs },
  ]);
  return [one, ...Array.from({ length: 3 }, () => transaction(random, atMs + random.below(forMs), tables, keys))];
}

/** Of 1: in so many plans with two tables targets take one of them in a batch, by chance of its own. */
const NARROW = 0.5;

function withNarrowTargets(plan: Plan): Plan {
  return plan.tables > 1 && new Random(plan.seed ^ 0x7ab1e).chance(NARROW) ? { ...plan, isNarrow: true } : plan;
}

/** Behind these nothing tells what the table stood under, or that it is the same. */
const FORGETTING: ReadonlySet<Happening["what"]> = new Set([
  "rules",
  "policy",
  "state restored",
  "state lost",
  "export",
  "teardown",
  "drop",
  "alter",
]);

/** Of 1: in so many plans rules name a table that gets another name, by chance of its own. */
const NAMED = 0.05;

function withNamedTable(plan: Plan): Plan {
  const random = new Random(plan.seed ^ 0x4a3ed);
  if (!random.chance(NAMED) || plan.source === "binlog" || plan.policy === "ignore") return plan;
  const atMs = random.below(200);
  const renamed: Happening = {
    atMs,
    what: "rename",
    table: 0,
    backAfterMs: random.chance(0.3) ? random.below(300) : null,
  };
  const before = plan.happenings.filter(({ what }) => !FORGETTING.has(what));
  const writes = Array.from({ length: 2 }, () => transaction(random, atMs + random.below(100), plan.tables, 4));
  const happenings = [...before, renamed, ...writes];
  return { ...plan, rules: "named", happenings: happenings.toSorted((a, b) => a.atMs - b.atMs) };
}

/** Of 1: in so many plans the place of a sink is given up, by chance of its own. */
const GIVEN_UP = 0.08;

function withGivenUpPlace(plan: Plan): Plan {
  const random = new Random(plan.seed ^ 0x61fe9);
  if (!random.chance(GIVEN_UP)) return plan;
  const sink = random.below(plan.sinks.length);
  const atMs = 20 + random.below(200);
  const forMs = 40 + random.below(200);
  const away: Happening = random.chance(0.5)
    ? { atMs, what: "pause", sink, forMs }
    : { atMs, what: "weather", place: sink, kind: "down", forMs };
  const writes = Array.from({ length: 3 }, () => {
    return transaction(random, atMs + random.below(forMs), plan.tables, 4);
  });
  const givenUp: Happening = { atMs: atMs + 10 + random.below(forMs), what: "give up", sink };
  const happenings = [...plan.happenings, away, givenUp, ...writes];
  return { ...plan, happenings: happenings.toSorted((a, b) => a.atMs - b.atMs) };
}

/** Of 1: in so many plans a sink refuses batches of several tables while the source fails over, by chance of its own. */
const TOGETHER = 0.05;

function withRefusedTogether(plan: Plan): Plan {
  const random = new Random(plan.seed ^ 0x70637);
  if (!random.chance(TOGETHER) || plan.rules !== undefined) return plan;
  const tables = Math.max(2, plan.tables);
  const atMs = 60 + random.below(150);
  const refused: Happening = { atMs, what: "refuse together", sink: 0, forMs: 200 + random.below(200) };
  const lacksMs = 40 + random.below(120);
  const failover: Happening = { atMs: atMs + random.below(60), what: "failover", lacksMs };
  const writes = Array.from({ length: 3 }, () => {
    const operations = Array.from({ length: 4 }, () => operation(random, tables, 4));
    return { ...transaction(random, atMs + random.below(lacksMs), tables, 4), operations };
  });
  const sinks = plan.sinks.map((kind, sink) => (sink === 0 ? ("transactional" as const) : kind));
  const happenings = [...plan.happenings, refused, failover, ...writes].toSorted((a, b) => a.atMs - b.atMs);
  const { isNarrow: _, ...others } = plan;
  return { ...others, source: "binlog", tables, sinks, happenings };
}

/** Of 1: in so many plans somebody takes away tables of a sink, or their rows, while something else goes wrong there. */
const TABLE_LOST = 0.1;
/** The sink is asked at the next heartbeat. */
const NOTICED_MS = 400;

function withLostTable(plan: Plan): Plan {
  const random = new Random(plan.seed ^ 0x1057ab);
  if (!random.chance(TABLE_LOST)) return plan;
  const sink = random.below(plan.sinks.length);
  const happenings = Array.from({ length: 1 + random.below(2) }, (): readonly Happening[] => {
    const atMs = 20 + random.below(300);
    const near = (): number => atMs + random.below(NOTICED_MS);
    const lost: Happening = {
      atMs,
      what: "table lost",
      sink,
      table: random.below(plan.tables),
      how: random.pick(["dropped", "emptied"] as const),
    };
    const kind = random.pick(["failures", "lost answers", "down"] as const);
    const weather: Happening = {
      atMs: near(),
      what: "weather",
      place: sink,
      kind,
      forMs: 50 + random.below(NOTICED_MS),
    };
    const other = random.pick<Happening>([
      { atMs: near(), what: "crash", afterCalls: random.below(6), downMs: random.below(100) },
      { atMs: near(), what: "pause", sink, forMs: 20 + random.below(200) },
      weather,
    ]);
    const writes = Array.from({ length: random.below(3) }, () => transaction(random, near(), plan.tables, 4));
    return [lost, weather, other, ...writes];
  }).flat();
  const lasting = plan.lastsMs === undefined ? {} : { lastsMs: Math.max(plan.lastsMs, 2 * NOTICED_MS) };
  return { ...plan, ...lasting, happenings: [...plan.happenings, ...happenings].toSorted((a, b) => a.atMs - b.atMs) };
}

/** Of 1: in so many plans requests to a sink that stores rows first come late, by chance of its own. */
const LATE = 0.06;

function withLateRequests(plan: Plan): Plan {
  const random = new Random(plan.seed ^ 0x1a7ed);
  if (!random.chance(LATE)) return plan;
  const sinks = plan.sinks.map((kind, sink) => (sink === 0 && kind === "transactional" ? "by-row" : kind));
  const atMs = 10 + random.below(100);
  const late: Happening = { atMs, what: "weather", place: 0, kind: "late", forMs: 100 + random.below(200) };
  // Long ones come in parts, which all have one version.
  const writes = Array.from({ length: 1 + random.below(3) }, () => {
    const operations = Array.from({ length: 6 + random.below(12) }, () => operation(random, plan.tables, 8));
    const emptied = random.chance(0.5) ? [{ ...operations[0]!, op: "truncate" as const }] : [];
    return {
      ...transaction(random, atMs + random.below(100), plan.tables, 8),
      operations: [...emptied, ...operations],
    };
  });
  return { ...plan, sinks, happenings: [...plan.happenings, late, ...writes].toSorted((a, b) => a.atMs - b.atMs) };
}

/** Of 1: in so many plans the first sink is a stream, by chance of its own: other plans are made as if there were none. */
const STREAMS = 0.2;

function withStream(seed: number, sinks: readonly SinkKind[]): readonly SinkKind[] {
  return new Random(seed ^ 0x57ea3).chance(STREAMS) ? ["stream", ...sinks.slice(1)] : sinks;
}

const AT_WORK: ReadonlySet<Happening["what"]> = new Set(["snapshot", "reset", "recover", "slot lost"]);

const TO_ROWS = ["alter", "detach", "unlogged", "evict", "spoil", "drop", "swap"] as const;

/** What meets these half done in the worst way, often: what is read changes, or has to be read again. */
const MEANWHILE: Readonly<Partial<Record<Happening["what"], readonly Happening["what"][]>>> = {
  snapshot: [...TO_ROWS, "sink restored", "park"],
  reset: TO_ROWS,
  recover: TO_ROWS,
  "sink restored": ["snapshot", "evict", "unlogged", "refuse", "detach"],
  "state restored": ["snapshot", "unlogged", "refuse", "alter"],
};

/** From its beginning to its end. What lies in between meets it half done. */
function spanOf(happening: Happening): number {
  if (AT_WORK.has(happening.what)) return WHILE_READ_MS;
  if ("afterMs" in happening) return happening.afterMs;
  if ("importAfterMs" in happening) return happening.importAfterMs;
  return "forMs" in happening ? happening.forMs : 0;
}

/** Each as often as it is to come, beside truncates. */
const OFTEN: Readonly<Record<Exclude<Op, "truncate">, number>> = {
  insert: 3,
  update: 3,
  move: 2,
  delete: 2,
  replace: 1,
  chain: 1,
};
const OPS: readonly string[] = Object.entries(OFTEN).flatMap(([op, count]) => Array.from({ length: count }, () => op));

function anyOp(random: Random): Op {
  const op = random.pick(OPS);
  return isOp(op) ? op : "truncate";
}

function isOp(op: string): op is keyof typeof OFTEN {
  return op in OFTEN;
}

function moment(random: Random, lastsMs: number): number {
  return Math.floor(random.next() * lastsMs);
}

function operation(random: Random, tables: number, keys: number): Operation {
  return {
    op: random.chance(0.03) ? "truncate" : anyOp(random),
    table: random.below(tables),
    key: random.below(keys),
    target: random.below(keys),
    ...(random.chance(0.04) ? { isUndone: true as const } : {}),
  };
}

function transaction(random: Random, atMs: number, tables: number, keys: number): Happening {
  const length = random.chance(0.1) ? 8 + random.below(8) : 1 + random.below(3);
  const operations = Array.from({ length }, () => operation(random, tables, keys));
  return {
    atMs,
    what: "transaction",
    operations,
    commitsAfterMs: random.chance(0.5) ? 0 : random.below(80),
    shownAfterMs: random.chance(0.7) ? 0 : random.chance(0.8) ? random.below(20) : random.below(600),
    isRolledBack: random.chance(0.05),
  };
}

function fault(random: Random, sinks: number, lastsMs: number): Happening {
  const atMs = moment(random, lastsMs);
  const kind = random.below(10);
  if (kind < 5) return { atMs, what: "crash", afterCalls: random.below(80), downMs: random.below(200) };
  if (kind < 6) return { atMs, what: "stop", downMs: random.below(200) };
  return {
    atMs,
    what: "weather",
    place: random.chance(0.25) ? "source" : random.below(sinks),
    kind: random.pick(["failures", "lost answers", "hanging", "down", "slow"] as const),
    forMs: 50 + random.below(400),
  };
}

type Make = (at: { readonly atMs: number }, r: Random, sink: number, table: number, key: number) => Happening;

const OTHERS: readonly (readonly [weight: number, make: Make])[] = [
  [3, (at, r, sink) => ({ ...at, what: "pause", sink, forMs: 20 + r.below(500) })],
  [
    8,
    (at, r, sink, table) => ({
      ...at,
      what: "snapshot",
      sink: r.chance(0.7) ? sink : null,
      table: r.chance(0.7) ? table : null,
      hasCondition: r.chance(0.1),
      downMs: r.chance(0.4) ? r.below(100) : null,
    }),
  ],
  [
    3,
    (at, r, sink) => ({
      ...at,
      what: "reset",
      sink: r.chance(0.6) ? sink : null,
      to: r.pick(["earliest", "latest", "snapshot"] as const),
    }),
  ],
  [2, (at, r, sink) => ({ ...at, what: "recover", sink: r.chance(0.5) ? sink : null, isForced: r.chance(0.5) })],
  [3, (at, r) => ({ ...at, what: "export", importAfterMs: r.below(500) })],
  [2, (at, r, sink) => ({ ...at, what: "without sink", sink, forMs: 50 + r.below(400) })],
  [2, (at, r) => ({ ...at, what: "teardown", withSinks: r.chance(0.7), downMs: r.below(150) })],
  [4, (at) => ({ ...at, what: "wait" })],
  [5, (at, _r, sink, _t, key) => ({ ...at, what: "evict", sink, key })],
  [2, (at, _r, sink) => ({ ...at, what: "empty", sink })],
  [4, (at, r, sink) => ({ ...at, what: "sink restored", sink, afterMs: 50 + r.below(400) })],
  [3, (at, r, sink, _t, key) => ({ ...at, what: "refuse", sink, key, forMs: 50 + r.below(500) })],
  [4, (at, r) => ({ ...at, what: "state restored", afterMs: 50 + r.below(400) })],
  [2, (at) => ({ ...at, what: "state lost" })],
  [2, (at, r) => ({ ...at, what: "disk full", forMs: 50 + r.below(500) })],
  [3, (at, r, _s, table) => ({ ...at, what: "alter", table, how: r.pick(["add", "add", "drop"] as const) })],
  [2, (at, _r, _s, table, key) => ({ ...at, what: "unlogged", table, key })],
  [
    2,
    (at, r, _s, table) => ({
      ...at,
      what: "detach",
      table,
      part: r.below(2),
      backAfterMs: r.chance(0.8) ? (r.chance(0.4) ? 0 : r.below(300)) : null,
      areChanged: r.chance(0.5),
    }),
  ],
  [2, (at, r, _s, table) => ({ ...at, what: "drop", table, againAfterMs: r.chance(0.8) ? r.below(300) : null })],
  [1, (at, _r, _s, table) => ({ ...at, what: "swap", table })],
  [2, (at, r, _s, table) => ({ ...at, what: "rename", table, backAfterMs: r.chance(0.6) ? r.below(300) : null })],
  [2, (at, r, _s, table) => ({ ...at, what: "approve", table, downMs: r.chance(0.4) ? r.below(100) : null })],
  [
    2,
    (at, r, sink, _t, key) => ({ ...at, what: "spoil", sink, key, how: r.pick(["change", "remove", "add"] as const) }),
  ],
  [3, (at) => ({ ...at, what: "repair" })],
  [3, (at, r) => ({ ...at, what: "rules", kind: r.pick(RULE_KINDS), downMs: r.below(150) })],
  [1, (at) => ({ ...at, what: "slot lost" })],
  [1, (at, r) => ({ ...at, what: "purge", share: r.next() })],
  [2, (at, r) => ({ ...at, what: "failover", lacksMs: r.chance(0.3) ? r.below(200) : null })],
  [2, (at, r) => ({ ...at, what: "source restored", afterMs: 50 + r.below(400) })],
  [2, (at, r) => ({ ...at, what: "no second stream", forMs: 100 + r.below(500) })],
  [3, (at, _r, sink) => ({ ...at, what: "park", sink })],
  [2, (at, r) => ({ ...at, what: "second daemon", forMs: 50 + r.below(400) })],
  [1, (at, r) => ({ ...at, what: "stands still", forMs: r.chance(0.5) ? 100 + r.below(500) : 16_000 })],
  [1, (at, r) => ({ ...at, what: "clock", byMs: r.pick([-3_600_000, -10_000, 10_000, 3_600_000]) })],
];

const WEIGHT = OTHERS.reduce((sum, [weight]) => sum + weight, 0);

const KINDS = OTHERS.map(([, make]) => make({ atMs: 0 }, new Random(1), 0, 0, 0).what);

function someKinds(random: Random): readonly Happening["what"][] {
  return Array.from({ length: 2 + random.below(3) }, () => random.pick(KINDS));
}

/** `kinds`: one of these. */
function other(
  random: Random,
  lastsMs: number,
  sinks: number,
  tables: number,
  keys: number,
  kinds?: readonly Happening["what"][],
): Happening {
  for (;;) {
    const one = anyOther(random, lastsMs, sinks, tables, keys);
    if (kinds === undefined || kinds.includes(one.what)) return one;
  }
}

function anyOther(random: Random, lastsMs: number, sinks: number, tables: number, keys: number): Happening {
  let left = random.below(WEIGHT);
  for (const [weight, make] of OTHERS) {
    if (left < weight) {
      const at = { atMs: moment(random, lastsMs) };
      return make(at, random, random.below(sinks), random.below(tables), random.below(keys));
    }
    left -= weight;
  }
  throw new Error("the weights are wrong");
}
