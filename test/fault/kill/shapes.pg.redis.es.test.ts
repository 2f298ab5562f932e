/** The daemon is killed in the middle of each kind of change of shape, while rows move: every sink equals the source. */
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { type Client, DatabaseError } from "pg";
import { Random, testSeed } from "../../support/run/random.ts";
import { CHOSEN_KINDS } from "../../support/daemon/sink-set.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import type { FreshDatabase } from "../../support/run/services.ts";

/** The writers wait no longer for a table that is being changed, and take another. */
const LOCK_MS = 50;
const WRITE_EVERY_MS = 20;

/** Rows of tables with `id` and `n` that keep moving, whatever other columns there are; long values stay as they were. */
function moving(source: FreshDatabase, tables: readonly string[], random: Random): AsyncDisposable {
  const over = new AbortController();
  let fresh = 10_000;
  const ended = (async () => {
    await using client = await source.connect();
    await client.query(`set lock_timeout = ${LOCK_MS}`);
    while (!over.signal.aborted) {
      await moveRows(client, random.pick(tables), random, fresh++);
      await sleep(WRITE_EVERY_MS);
    }
  })();
  // Told when it is waited for.
  ended.catch(() => undefined);
  return {
    async [Symbol.asyncDispose]() {
      over.abort();
      await ended;
    },
  };
}

async function moveRows(client: Client, table: string, random: Random, fresh: number): Promise<void> {
  const id = () => 1 + random.below(100);
  const from = id();
  try {
    await client.query(`begin; update ${table} set n = n + 1 where id between ${from} and ${from + 4};
      insert into ${table} (id, n) values (${fresh}, 1); update ${table} set id = ${fresh + 1_000_000} where id = ${id()};
      delete from ${table} where id < ${fresh - 500} and id > 10000 and id < 1000000; commit`);
  } catch (error) {
    // Under another name by now, or locked.
    if (!(error instanceof DatabaseError) || !/^(42P01|55P03|40P01)$/.test(error.code ?? "")) throw error;
    await client.query("rollback");
  }
}

/** What a kind of change does to `@`: (id int primary key, a text, b int, body text, n int), of 100 rows. */
interface Kind {
  /** Each is a transaction of its own, or a part of one that changes other tables too. */
  readonly statements: readonly string[];
  /** No row moves, neither before nor after. */
  readonly isStill?: boolean;
  /** The search engine's mapping can't take it. */
  readonly needsNextIndex?: boolean;
  /** No sink reads the table for it. */
  readonly isCarried?: boolean;
  /** The table's name afterwards. */
  readonly becomes?: string;
}

const MOVE = "update @ set n = n + 1 where id between 40 and 60";

const KINDS: Readonly<Record<string, Kind>> = {
  add_nothing: { statements: ["alter table @ add column extra int"], isCarried: true },
  add_constant: { statements: ["alter table @ add column extra int default 5"] },
  default_again: {
    statements: ["alter table @ add column extra int default 5", MOVE, "alter table @ alter extra set default 9", MOVE],
  },
  add_volatile: { statements: ["alter table @ add column extra float8 default random()"] },
  drop_column: { statements: ["alter table @ drop column b"] },
  drop_and_add: { statements: ["alter table @ drop column b; alter table @ add column b int"] },
  rename_column: { statements: ["alter table @ rename column a to z"] },
  swap_columns: {
    statements: [
      "alter table @ rename column a to x; alter table @ rename column b to a; alter table @ rename column x to b",
    ],
    needsNextIndex: true,
  },
  swap_alike: {
    statements: [
      "alter table @ rename column a to x; alter table @ rename column body to a; alter table @ rename column x to body",
    ],
  },
  widen: { statements: ["alter table @ alter b type bigint"] },
  to_text: { statements: ["alter table @ alter b type text using 'n' || b"], needsNextIndex: true },
  not_null: { statements: ["alter table @ alter b set not null"], isCarried: true },
  other_key: {
    statements: ["alter table @ drop constraint @_pkey; alter table @ add primary key (b, id)"],
  },
  renamed: { statements: ["alter table @ rename to @_now"], becomes: "@_now" },
  swapped: {
    statements: ["alter table @ rename to @_x; alter table @_other rename to @; alter table @_x rename to @_other"],
  },
  between_two_rows: {
    statements: [
      MOVE,
      "alter table @ add column one int default 1; alter table @ drop column a; alter table @ rename column b to c; alter table @ alter c type bigint",
      MOVE,
    ],
  },
  in_transaction: {
    statements: [
      `insert into @ (id, n) values (4001, 1); alter table @ add column extra text default 'e'; insert into @ (id, n) values (4002, 2);
       alter table @ drop column a; insert into @ (id, n) values (4003, 3); update @ set n = n + 10000 where id < 20`,
    ],
  },
  still: { statements: ["alter table @ add column extra int default 5"], isStill: true },
  down: {
    statements: ["alter table @ add column extra int default 5", MOVE, "alter table @ rename column a to z"],
  },
  lagging: {
    statements: [MOVE, "alter table @ add column extra int default 5", MOVE, "alter table @ drop column a", MOVE],
  },
};

/** Where the daemon is killed as sinks follow, in the order of time. */
const POINTS = [
  "schema.registered",
  "sink.voided",
  "duckdb.target-made",
  "postgres-sink.table-made",
  "sink.prepared",
  "sink.carried",
  "snapshot.chunk-read",
  "snapshot.chunk-durable",
  "snapshot.swept",
] as const;
const NEXT_INDEX_POINTS = ["elasticsearch.index-made", "elasticsearch.alias-moved"] as const;
type Point = (typeof POINTS)[number] | (typeof NEXT_INDEX_POINTS)[number];

const STREAMING_WITHIN_MS = 90_000;
const SETTLED_WITHIN_MS = 180_000;
interface Round {
  readonly kinds: readonly string[];
  /** While the daemon streams, while it is down, or while it is stopped and gets all of it at once afterwards. */
  readonly when?: "down" | "lagging" | undefined;
  /** Where it is killed, one after the other. */
  readonly kills: readonly (readonly [point: Point, kind: string])[];
}

async function makeTables(source: FreshDatabase, names: readonly string[]): Promise<void> {
  await source.query("create sequence numbers");
  for (const name of names) {
    const tables = KINDS[name]!.statements.some((sql) => sql.includes("@_other")) ? [name, `${name}_other`] : [name];
    for (const table of tables) {
      await source.query(`create table ${table} (id int primary key, a text, b int default nextval('numbers'), body text, n int default 0);
        alter table ${table} alter body set storage external;
        insert into ${table} (id, a, body) select g, '${table}' || g, repeat(md5(g::text), 80) from generate_series(1, 100) g`);
    }
  }
}

/** Makes the changes of a round, each time that the daemon is killed starts it again, and sees to it that each kind was hit. */
async function killIn(pipeline: RunningPipeline, { kinds, when, kills }: Round): Promise<void> {
  const { installation } = pipeline;
  const hit = new Set<string>();
  const readBy = new Map<string, Set<string>>();
  if (when === "down") await change(pipeline, kinds);
  for (const [i, [point, name]] of kills.entries()) {
    const daemon = installation.run({ MILLRACE_FAILPOINTS: armed(point, name) });
    pipeline.daemon = daemon;
    if (i === 0 && when !== "down") {
      await daemon.streaming(STREAMING_WITHIN_MS);
      if (when === "lagging") daemon.signal("SIGSTOP");
      await change(pipeline, kinds);
      if (when === "lagging") daemon.signal("SIGCONT");
    }
    noteReads(await pipeline.killed(`${name} at ${point}`), readBy);
    const { stdout } = await installation.command("schema", "list", "--json");
    const { tables }: { tables: readonly { table: string; version: number }[] } = JSON.parse(stdout);
    for (const kind of kinds) {
      const changed = tables.find(({ table, version }) => table === tableOf(kind) && version >= firstVersionOf(kind));
      if (changed !== undefined && (readBy.get(tableOf(kind))?.size ?? 0) < CHOSEN_KINDS.length) hit.add(kind);
    }
  }
  expect([...hit].toSorted(), "kinds whose shape was known, and that some sink had not followed yet").toEqual(
    kinds.toSorted(),
  );
}

const tableOf = (name: string): string => `public.${(KINDS[name]!.becomes ?? "@").replaceAll("@", name)}`;

/** The version that the change makes: of a table that is renamed it is the first. */
const firstVersionOf = (name: string): number => (KINDS[name]!.becomes === undefined ? 2 : 1);

/** A table that changes more than once may come to a failpoint in any of its later shapes. */
function armed(point: Point, name: string): string {
  const table = tableOf(name);
  const first = firstVersionOf(name);
  const places =
    point === "elasticsearch.alias-moved"
      ? [table]
      : [first, first + 1, first + 2, first + 3].map((version) => `${table}/${version}`);
  return places.map((place) => `${point}:${place}=kill`).join(",");
}

/** What all of them do first is one transaction, what they do next another; rows follow in the same. */
async function change({ source }: RunningPipeline, kinds: readonly string[]): Promise<void> {
  const batchCount = Math.max(...kinds.map((name) => KINDS[name]!.statements.length));
  for (let batch = 0; batch < batchCount; batch++) {
    const parts = kinds.flatMap((name) => {
      const { statements, isStill } = KINDS[name]!;
      const sql = statements[batch]?.replaceAll("@", name);
      if (sql === undefined) return [];
      return isStill === true || sql.startsWith("update") ? [sql] : [sql, MOVE.replace("@", tableOf(name))];
    });
    await source.query(parts.join(";\n"));
  }
}

/** Which sinks have followed a table to the end, as the log says. */
function noteReads(log: string, readBy: Map<string, Set<string>>): void {
  const ended = ["table read beside the stream", "the table need not be read: the sink has its rows"];
  for (const line of log.split("\n").filter((text) => ended.some((what) => text.includes(what)))) {
    const { table, sink }: { table: string; sink: string } = JSON.parse(line);
    readBy.set(table, (readBy.get(table) ?? new Set()).add(sink));
  }
}

/** The daemon is killed, and killed again where it came back, while a transaction that has changed the table is open. */
async function killBeforeRollback(pipeline: RunningPipeline, table: string): Promise<void> {
  await using client = await pipeline.source.connect();
  await client.query(`begin; update ${table} set n = 7 where id < 9; alter table ${table} drop column b;
    insert into ${table} (id) values (5000); alter table ${table} rename column a to z`);
  await pipeline.start(false);
  await pipeline.daemon.streaming(STREAMING_WITHIN_MS);
  await pipeline.kill();
  await client.query("rollback");
}

function pointsOf({ needsNextIndex, isCarried, becomes }: Kind): readonly Point[] {
  const points = POINTS.filter((point) => {
    // A table under a new name is a new one: no sink holds a copy of it that could be void.
    if (point === "sink.voided") return becomes === undefined;
    if (point === "sink.carried") return isCarried === true;
    return isCarried !== true || !point.startsWith("snapshot.");
  });
  return needsNextIndex === true ? [...points, ...NEXT_INDEX_POINTS] : points;
}

async function killInEach(rounds: readonly Round[]): Promise<void> {
  const names = rounds.flatMap(({ kinds }) => kinds);
  const random = new Random(testSeed());
  const prepare = async (source: FreshDatabase) => {
    await makeTables(source, names);
    await source.query("create table rolled_back (id int primary key, a text, b int, n int)");
    await source.query("insert into rolled_back select g, 'a', g, 0 from generate_series(1, 50) g");
  };
  await using pipeline = await RunningPipeline.start(prepare, { kinds: CHOSEN_KINDS, untilStreaming: false });
  await pipeline.daemon.streaming(STREAMING_WITHIN_MS);
  const after = names.flatMap((name) => (KINDS[name]!.becomes ?? "@").replaceAll("@", name));
  const others = names.includes("swapped") ? ["swapped_other"] : [];
  await pipeline.settled();
  await pipeline.kill();
  {
    const moved = [...names, ...after, ...others].filter((name) => KINDS[name]?.isStill !== true);
    await using _ = moving(pipeline.source, moved, random);
    for (const round of rounds) await killIn(pipeline, round);
    await killBeforeRollback(pipeline, "rolled_back");
    await pipeline.start(false);
    await pipeline.daemon.streaming(STREAMING_WITHIN_MS);
  }
  await pipeline.settled(SETTLED_WITHIN_MS);
  await pipeline.expectEqual([...after, ...others, "rolled_back"]);
}

/**
 * The points that no other test has, and two of those that follow a table. failpoints has every point under load, and
 * the long form each kind of change at each point.
 */
const ROUNDS: readonly Round[] = [
  {
    kinds: ["not_null", "in_transaction", "renamed", "swapped", "other_key", "add_volatile", "drop_column"],
    kills: [
      ["postgres-sink.table-made", "drop_column"],
      ["snapshot.swept", "renamed"],
    ],
  },
  // Which of two is noticed first is not known, and what was noticed before a kill is not noticed again.
  { kinds: ["down"], when: "down", kills: [["sink.voided", "down"]] },
  { kinds: ["still"], when: "down", kills: [["schema.registered", "still"]] },
];

/** Of kinds that are not changed while the daemon streams. */
const WHEN: Readonly<Record<string, Round["when"]>> = {
  default_again: "lagging",
  between_two_rows: "lagging",
  lagging: "lagging",
  down: "down",
  still: "down",
};

test("killed in the middle of changes of several kinds", { tags: "long" }, async () => {
  await killInEach(ROUNDS);
});

test.for([...POINTS, ...NEXT_INDEX_POINTS])("each kind at %s", { tags: "long" }, async (point) => {
  const kinds = Object.keys(KINDS).filter((name) => pointsOf(KINDS[name]!).includes(point));
  await killInEach(kinds.map((name) => ({ kinds: [name], when: WHEN[name], kills: [[point, name]] })));
});
