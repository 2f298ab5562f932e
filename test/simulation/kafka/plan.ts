/** Plans with Kafka, made from seeds. */
import { Random } from "../../support/run/random.ts";
import type { Op, Operation } from "../database.ts";
import type { KafkaHappening, KafkaPlan } from "./happenings.ts";

const LASTS_MS = 600;
/** Longer than a session of the group and a lease. */
const LONG_MS = 17_000;
/** Of a message in parts each has half of it: frames and checkpoints take several. More than a row's record has. */
const SMALL_BATCH_BYTES = 1_000;
const BATCH_BYTES = 1_048_588;
const WEATHERS = ["failures", "lost answers", "hanging", "down", "slow"] as const;
const OPS = [
  "insert",
  "insert",
  "insert",
  "update",
  "update",
  "update",
  "move",
  "delete",
  "delete",
  "replace",
] as const;
/** Of 1: operations that are truncates. */
const TRUNCATES = 0.04;

/** Null: little happens in each run, with a few partitions and shares. */
export function kafkaPlanOf(seed: number, partitions: number | null): KafkaPlan {
  const random = new Random(seed ^ 0x6afca);
  return withKinds(partitions === null ? withNamedTable(small(seed, random)) : wide(seed, random, partitions));
}

/** Of 1: in so many plans topics of tables are compacted, and in so many they are one; by chance of its own. */
const COMPACTED = 0.4;
const SINGLE = 0.25;
/** Of 1: plans in which brokers are killed. */
const KILLED = 0.3;

/** Of 1: plans in which the capturing daemon gets rules. */
const RULED = 0.25;

function withKinds(plan: KafkaPlan): KafkaPlan {
  const random = new Random(plan.seed ^ 0xc0a9);
  const kinds: Pick<KafkaPlan, "areCompacted" | "isSingle"> = {
    ...(random.chance(COMPACTED) ? { areCompacted: true } : {}),
    ...(random.chance(SINGLE) ? { isSingle: true } : {}),
  };
  const killed = Array.from({ length: random.chance(KILLED) ? 1 + random.below(2) : 0 }, (): KafkaHappening => {
    return { atMs: random.below(LASTS_MS), what: "brokers killed", downMs: random.chance(0.5) ? 0 : random.below(300) };
  });
  const ruled = Array.from({ length: random.chance(RULED) ? 1 + random.below(2) : 0 }, (_, i): KafkaHappening => {
    const kind = i === 0 ? "masks" : random.pick(["masks", "none"] as const);
    return { atMs: random.below(LASTS_MS), what: "capture rules", kind, downMs: random.below(150) };
  });
  const happenings = [...plan.happenings, ...killed, ...ruled].toSorted((a, b) => a.atMs - b.atMs);
  return { ...plan, ...kinds, happenings };
}

function small(seed: number, random: Random): KafkaPlan {
  const shares = 1 + random.below(random.chance(0.8) ? 3 : 8);
  const tables = 1 + random.below(4);
  const keys = 2 + random.below(6);
  const frame = { shares, tables, processes: 1 + random.below(Math.min(4, shares + 1)) };
  const happenings: KafkaHappening[] = [];
  const writes = 2 + random.below(6);
  for (let i = 0; i < writes; i++) happenings.push(transaction(random, { tables, keys, length: 3 }));
  const others = random.below(5);
  for (let i = 0; i < others; i++) {
    const one = other(random, frame);
    happenings.push(one);
    // While it lasts.
    const meanwhile = random.below(3);
    for (let j = 0; j < meanwhile; j++)
      happenings.push({ ...transaction(random, { tables, keys, length: 3 }), atMs: one.atMs + random.below(80) });
  }
  return {
    seed,
    ...frame,
    lastsMs: lastsMs(happenings),
    rows: random.below(5),
    chunkRows: 1 + random.below(4),
    partitions: random.chance(0.6) ? 1 + random.below(8) : 0,
    areApart: random.chance(0.5),
    sinks: random.chance(0.85) ? [sink(random)] : [sink(random), sink(random)],
    batchBytesMax: random.chance(0.3) ? SMALL_BATCH_BYTES : BATCH_BYTES,
    isCold: random.chance(0.15),
    happenings: happenings.toSorted((a, b) => a.atMs - b.atMs),
  };
}

/** Of 1: in so many plans rules of the shares name a table that gets another name, by chance of its own. */
const NAMED = 0.1;

function withNamedTable(plan: KafkaPlan): KafkaPlan {
  const random = new Random(plan.seed ^ 0x4a3ed);
  if (!random.chance(NAMED)) return plan;
  const atMs = random.below(200);
  const writes = Array.from({ length: 2 }, () => {
    return { ...transaction(random, { tables: plan.tables, keys: 4, length: 3 }), atMs: atMs + random.below(200) };
  });
  const before = plan.happenings.filter(({ what }) => what !== "alter");
  // Half of the time no share is there to see it.
  const away = Array.from({ length: random.chance(0.5) ? plan.processes : 0 }, (): KafkaHappening => {
    return { atMs: Math.max(0, atMs - 20), what: "crash", process: 0, afterCalls: 0, downMs: 100 + random.below(100) };
  });
  const happenings = [...before, ...away, { atMs, what: "rename" as const }, ...writes];
  // Whoever reads topics would have rows under both names.
  const frame = { partitions: 0, batchBytesMax: BATCH_BYTES } as const;
  return { ...plan, ...frame, isNamed: true, happenings: happenings.toSorted((a, b) => a.atMs - b.atMs) };
}

/** As many keys as partitions, of which few are in most of the changes. */
function wide(seed: number, random: Random, partitions: number): KafkaPlan {
  const tables = 2 + random.below(3);
  const frame = { shares: 2 + random.below(3), tables, processes: 1 + random.below(4) };
  const happenings: KafkaHappening[] = [];
  for (let i = 0; i < 12; i++) happenings.push(transaction(random, { tables, keys: partitions, length: 40 }));
  const others = 1 + random.below(5);
  for (let i = 0; i < others; i++) happenings.push(other(random, frame));
  return {
    seed,
    ...frame,
    lastsMs: lastsMs(happenings),
    rows: Math.min(partitions, 100),
    chunkRows: 40,
    partitions,
    areApart: random.chance(0.5),
    sinks: [sink(random)],
    batchBytesMax: BATCH_BYTES,
    isCold: random.chance(0.15),
    happenings: happenings.toSorted((a, b) => a.atMs - b.atMs),
  };
}

function sink(random: Random): "transactional" | "by-row" {
  return random.chance(0.6) ? "transactional" : "by-row";
}

/** Until what is stopped for long goes on. */
function lastsMs(happenings: readonly KafkaHappening[]): number {
  const ends = happenings.map((one) => one.atMs + ("forMs" in one && one.forMs > LASTS_MS ? one.forMs + 1_000 : 0));
  return Math.max(LASTS_MS, ...ends);
}

interface Written {
  readonly tables: number;
  readonly keys: number;
  /** Operations, below so many more than one. */
  readonly length: number;
}

type Transaction = Extract<KafkaHappening, { what: "transaction" }>;

function transaction(random: Random, { tables, keys, length }: Written): Transaction {
  const key = (): number => Math.floor(keys * random.next() ** 3);
  const operations = Array.from({ length: 1 + random.below(length) }, (): Operation => {
    const op: Op = random.chance(TRUNCATES) ? "truncate" : random.pick(OPS);
    return { op, table: random.below(tables), key: key(), target: key() };
  });
  return {
    atMs: random.below(LASTS_MS),
    what: "transaction",
    operations,
    commitsAfterMs: random.chance(0.5) ? 0 : random.below(80),
    shownAfterMs: random.chance(0.7) ? 0 : random.below(20),
    isRolledBack: random.chance(0.05),
  };
}

interface Frame {
  readonly shares: number;
  readonly tables: number;
  readonly processes: number;
}

type Make = (at: { readonly atMs: number }, r: Random, frame: Frame) => KafkaHappening;

/** Most often a moment; sometimes until others have taken over. */
function still(r: Random): number {
  return r.chance(0.6) ? 50 + r.below(500) : LONG_MS + r.below(3_000);
}

const OTHERS: readonly (readonly [weight: number, make: Make])[] = [
  [4, (at, r) => ({ ...at, what: "capture crash", afterCalls: r.below(120), downMs: r.below(200) })],
  [1, (at, r) => ({ ...at, what: "capture stop", downMs: r.below(200) })],
  [2, (at, r) => ({ ...at, what: "capture stands still", forMs: still(r) })],
  [2, (at) => ({ ...at, what: "capture recovers" })],
  [
    4,
    (at, r, { processes }) => {
      const downMs = r.chance(0.7) ? r.below(300) : null;
      return { ...at, what: "crash", process: r.below(processes), afterCalls: r.below(60), downMs };
    },
  ],
  [
    3,
    (at, r, { processes }) => {
      const downMs = r.chance(0.6) ? r.below(300) : null;
      return { ...at, what: "stop", process: r.below(processes), downMs };
    },
  ],
  [
    3,
    (at, r, { processes }) => {
      const withShares = r.chance(0.7);
      return { ...at, what: "stands still", process: r.below(processes), forMs: still(r), withShares };
    },
  ],
  [3, (at) => ({ ...at, what: "another process" })],
  [4, (at, r, { shares }) => ({ ...at, what: "share crash", share: 1 + r.below(shares), afterCalls: r.below(120) })],
  [2, (at, r, { shares }) => ({ ...at, what: "share stands still", share: 1 + r.below(shares), forMs: still(r) })],
  [3, (at, r, { shares }) => ({ ...at, what: "snapshot", share: 1 + r.below(shares) })],
  [
    5,
    (at, r, { shares }) => {
      const place = r.chance(0.6) ? "broker" : r.chance(0.3) ? "source" : 1 + r.below(shares);
      return { ...at, what: "weather", place, kind: r.pick(WEATHERS), forMs: 50 + r.below(400) };
    },
  ],
  [
    2,
    (at, r, { tables }) => ({
      ...at,
      what: "alter",
      table: r.below(tables),
      how: r.pick(["add", "add", "drop"] as const),
    }),
  ],
  [2, (at) => ({ ...at, what: "retention" })],
];

const WEIGHT = OTHERS.reduce((sum, [weight]) => sum + weight, 0);

function other(random: Random, frame: Frame): KafkaHappening {
  let left = random.below(WEIGHT);
  for (const [weight, make] of OTHERS) {
    if (left < weight) return make({ atMs: random.below(LASTS_MS) }, random, frame);
    left -= weight;
  }
  throw new Error("the weights are wrong");
}
