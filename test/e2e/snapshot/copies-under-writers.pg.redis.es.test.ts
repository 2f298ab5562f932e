/** Rows that are read, first or again, while others write: the first copy and chunks give what the source has. */
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { Random, testSeed } from "../../support/run/random.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import type { FreshDatabase } from "../../support/run/services.ts";
import { isLongForm } from "../../support/run/service-suffixes.ts";
import { eventually } from "../../support/run/waiting.ts";
import { Workload, WORKLOAD_TABLES } from "../../support/load/workload.ts";
import { CHOSEN_KINDS } from "../../support/daemon/sink-set.ts";

const ROUNDS = isLongForm() ? 20 : 2;

test("a first copy under load, with transactions that began before it and end after", { tags: "heavy" }, async () => {
  const random = new Random(testSeed());
  let load: Workload | undefined;
  await using pipeline = await RunningPipeline.start(
    async (source) => {
      load = new Workload(source.url, random.seed);
      await load.createTables(2_000);
      load.start(15);
    },
    { kinds: CHOSEN_KINDS, untilStreaming: false },
  );
  await using workload = load!;
  await using early = await pipeline.source.connect();
  await early.query("begin; insert into pair values (5000, 5000, 'early')");
  // The slot waits for this one, others begin and end meanwhile.
  await eventually(
    async () => {
      const { rows } = await pipeline.source.query(
        "select from pg_replication_slots where database = current_database()",
      );
      return rows.length > 0;
    },
    { withinMs: 20_000 },
  );
  await using over = await pipeline.source.connect();
  await over.query("begin; insert into pair values (5001, 5001, 'over'); update account set touched = 7 where id = 3");
  await early.query("commit");
  await sleep(200);
  await over.query("insert into pair values (5002, 5002, 'over')");
  await over.query("commit");
  await pipeline.daemon.streaming();
  await sleep(300);
  await workload.stop();
  expect(workload.transactionCount).toBeGreaterThan(20);
  await pipeline.expectEqual(WORKLOAD_TABLES);
});

/** Out of line, and enough for more than one chunk. */
const WIDE = "repeat(md5(random()::text), 65)";
const ROW_COUNT = 4_500;

/** Statements that a chunk must not undo, nor miss: `n` is anywhere among the keys. */
const WRITES: readonly ((n: number) => string)[] = [
  (n) => `delete from wide where id between ${n} and ${n + 20}`,
  (n) => `update wide set n = n + 1 where id between ${n} and ${n + 50}`,
  (n) => `update wide set id = id + 100000 where id between ${n} and ${n + 5}`,
  (n) => `update wide set id = id - 100000 where id between ${n + 100_000} and ${n + 100_300}`,
  (n) => `insert into wide select g, 0, ${WIDE} from generate_series(${n}, ${n + 10}) g on conflict do nothing`,
  (n) =>
    `begin; delete from wide where id = ${n}; insert into wide values (${n}, 5, 'again') on conflict do nothing; commit`,
];

async function write(source: FreshDatabase, random: Random, until: () => boolean): Promise<void> {
  await using client = await source.connect();
  while (!until()) {
    try {
      await client.query(random.pick(WRITES)(random.below(ROW_COUNT)));
    } catch (error) {
      // Keys may meet.
      await client.query("rollback");
      if (!(error instanceof Error && "code" in error && error.code === "23505")) throw error;
    }
    await sleep(15);
  }
}

test("chunks under deletes, key changes and truncates", async () => {
  const random = new Random(testSeed());
  const fill = `insert into wide select g, 0, ${WIDE} from generate_series(1, ${ROW_COUNT}) g`;
  await using pipeline = await RunningPipeline.start(
    `create table wide (id int primary key, n int, body text); alter table wide alter body set storage external; ${fill}`,
    { kinds: CHOSEN_KINDS },
  );
  const { source } = pipeline;
  for (let round = 0; round < ROUNDS; round++) {
    let isOver = false;
    const writing = Promise.all(
      [random.next(), random.next()].map((seed) => write(source, new Random(Math.floor(seed * 2 ** 31)), () => isOver)),
    );
    await pipeline.readAgain("public.wide");
    await sleep(200);
    if (round % 3 === 1) await source.query(`begin; truncate wide; ${fill}; commit`);
    if (round % 3 === 2) {
      await source.query("truncate wide");
      await source.query(
        `insert into wide select g, 0, ${WIDE} from generate_series(2000, 5000) g on conflict do nothing`,
      );
    }
    await eventually(async () => (await pipeline.installation.status()).unfinishedSnapshots === 0, {
      withinMs: 40_000,
    });
    isOver = true;
    await writing;
    await pipeline.expectEqual(["wide"]);
  }
});
