/** `reconcile` beside a steady load on many small tables, one of which changes as a whole all the time: it ends. */
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { SINK_KINDS } from "../../support/daemon/sink-set.ts";
import { Random, testSeed } from "../../support/run/random.ts";
import { driftOf, reconcile } from "../../support/daemon/reconciled.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import type { FreshDatabase } from "../../support/run/services.ts";

const TABLES = Array.from({ length: 16 }, (_, i) => `t${i}`);
const HOT = "hot";
const ROWS = 220;
const HOT_ROWS = 200;
const TRANSACTIONS_PER_SECOND = 100;
/** A connection's share of the load. */
const WRITERS = 4;
/** So often all rows of the hot table change. */
const HEAT_EVERY_MS = 400;
/** A comparison beside the load takes thrice as long as one without it. */
const LIVE_FACTOR_MAX = 20;

const SOURCE = [
  ...TABLES.map(
    (table) => `create table ${table} (id int primary key, n int not null, label text);
      insert into ${table} select g, 0, 'l' || g from generate_series(1, ${ROWS}) g;`,
  ),
  `create table ${HOT} (id int primary key, n int not null, twice int generated always as (n * 2) stored, body text);
   alter table ${HOT} alter column body set storage external;
   insert into ${HOT} (id, n, body) select g, 0, case when g % 10 = 0 then repeat('b' || g, 1000) end from generate_series(1, ${HOT_ROWS}) g`,
].join("\n");

test("a comparison beside 100 transactions a second ends, and leaves nothing out", { tags: "long" }, async () => {
  const random = new Random(testSeed());
  await using pipeline = await RunningPipeline.start(SOURCE, {
    kinds: SINK_KINDS,
    configure: (config) => ({ ...config, sinks: withUsualBatches(config.sinks) }),
  });
  await pipeline.settled();
  const idle = await timed(pipeline);
  const idleAgain = await timed(pipeline);
  const load = new SmallTransactions(pipeline.source, random);
  load.start();
  const live = [await timed(pipeline), await timed(pipeline)];
  await load.stop();
  process.stdout.write(
    `idle ${idle.ms} and ${idleAgain.ms} ms, live ${live.map(({ ms }) => ms).join(" and ")} ms, ${load.perSecond} transactions/s\n`,
  );
  for (const { exitCode, drift, rest } of live)
    expect({ exitCode, drift, rest }).toEqual({ exitCode: 0, drift: {}, rest: [] });
  for (const { ms } of live) expect(ms / idleAgain.ms).toBeLessThan(LIVE_FACTOR_MAX);
});

function withUsualBatches(sinks: Readonly<Record<string, object>>): Record<string, object> {
  return Object.fromEntries(Object.entries(sinks).map(([name, sink]) => [name, { ...sink, batch: {} }]));
}

async function timed({ installation }: RunningPipeline) {
  const startedMs = performance.now();
  const { exitCode, found } = await reconcile(installation);
  const ms = Math.round(performance.now() - startedMs);
  const own = Date.parse(found.finishedAt) - Date.parse(found.startedAt);
  const compared = found.tables.reduce((sum, row) => sum + row.compared, 0);
  process.stdout.write(
    `${ms} ms (${own} ms inside), exit code ${exitCode}, ${compared} compared, not comparable: ${JSON.stringify(found.notComparable).slice(0, 900)}\n`,
  );
  return { ms: own, exitCode, drift: driftOf(found), rest: found.notComparable };
}

/** Each changes a row, brings one and takes one of one of the tables; the hot one changes as a whole. */
class SmallTransactions {
  readonly #source: FreshDatabase;
  readonly #random: Random;
  #isOver = false;
  #ended: Promise<unknown> = Promise.resolve();
  #sinceMs = 0;
  #count = 0;
  #fresh = ROWS;

  constructor(source: FreshDatabase, random: Random) {
    this.#source = source;
    this.#random = random;
  }

  start(): void {
    this.#sinceMs = performance.now();
    this.#ended = Promise.all([this.#heat(), ...Array.from({ length: WRITERS }, () => this.#write())]);
    // Told when it is waited for.
    this.#ended.catch(() => undefined);
  }

  get perSecond(): number {
    return Math.round((this.#count * 1000) / (performance.now() - this.#sinceMs));
  }

  async stop(): Promise<void> {
    this.#isOver = true;
    await this.#ended;
  }

  async #write(): Promise<void> {
    await using client = await this.#source.connect();
    while (!this.#isOver) {
      const table = this.#random.pick(TABLES);
      const id = 1 + this.#random.below(ROWS);
      await client.query(
        `begin; update ${table} set n = n + 1 where id = ${id}; insert into ${table} values (${++this.#fresh}, 0, 'new');
         delete from ${table} where id = ${this.#fresh - 100 - this.#random.below(50)} and id > ${ROWS}; commit`,
      );
      this.#count++;
      await sleep((WRITERS * 1000) / TRANSACTIONS_PER_SECOND - 2);
    }
  }

  async #heat(): Promise<void> {
    await using client = await this.#source.connect();
    while (!this.#isOver) {
      await client.query(`update ${HOT} set n = n + 1`);
      this.#count++;
      await sleep(HEAT_EVERY_MS);
    }
  }
}
