/** The daemon on MySQL and MariaDB is killed at named places and at random, under load: nothing lost, nothing twice. */
import { setTimeout as sleep } from "node:timers/promises";
import { createConnection } from "mysql2/promise";
import { describe, expect, test } from "vitest";
import type { StatusDocument } from "../../../src/core/contracts/status.ts";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { CONTENDED_TABLES, KEYS, Writers } from "../../support/load/mysql-writers.ts";
import { Random, testSeed } from "../../support/run/random.ts";
import { isLongForm } from "../../support/run/service-suffixes.ts";
import { mysqlFlavours } from "../../support/run/services.ts";
import { patient } from "../../support/run/waiting.ts";

type Provoke = ((pipeline: MysqlPipeline, round: number) => Promise<unknown>) | null;

const readAgain: Provoke = (pipeline) => pipeline.readAgain("account");
const changeShape: Provoke = (pipeline, round) =>
  pipeline.run(`alter table account add column extra_${round}_${Date.now() % 100_000} int default 7`);
/** Again only when it is back: paused meanwhile, it would begin to catch up again and again on a slow machine. */
const fallBehind: Provoke = async ({ installation }) => {
  const status = await installation.ask<StatusDocument>("GET", "/api/v1/status");
  const redis = status?.sinks.find(({ name }) => name === "redis");
  if (redis?.state !== "streaming" || redis.catchingUp) return;
  await installation.ask("POST", "/api/v1/pause", { sink: "redis" });
  await sleep(150);
  await installation.ask("POST", "/api/v1/resume", {});
};

/** In an order in which a first copy is left to be killed in. */
const POINTS: readonly (readonly [name: string, passage: number, provoke: Provoke])[] = [
  ["source.announced", 1, null],
  ["source.created", 1, null],
  ["copy.block-queued", 2, null],
  ["fan-out.dispatched", 20, null],
  ["sink.applied", 30, null],
  ["ack.computed", 2, null],
  ["ack.stored", 2, null],
  ["schema.registered", 1, changeShape],
  ["sink.prepared", 2, changeShape],
  ["snapshot.chunk-read", 1, readAgain],
  ["snapshot.chunk-durable", 1, readAgain],
  ["snapshot.swept", 1, readAgain],
  ["catch-up.opened", 1, fallBehind],
  ["catch-up.collecting", 1, fallBehind],
  ["catch-up.handed-over", 1, fallBehind],
];
const RANDOM_KILLS = isLongForm() ? 40 : 1;
/** A run takes one of so many parts of the points. */
const PARTS = isLongForm() ? 1 : 4;
const KILLED_WITHIN_MS = patient(60_000);

/** One row that is counted up, each time in a transaction of its own. */
async function countUp(url: string, signal: AbortSignal): Promise<void> {
  const connection = await createConnection({ uri: url });
  while (!signal.aborted) {
    await connection.query("update counter set n = n + 1 where id = 1");
    await sleep(5);
  }
  await connection.end();
}

/** Every batch of the counter stands in the history once, in order, up to the last. */
async function expectWholeHistory(pipeline: MysqlPipeline): Promise<void> {
  const { rows } = await pipeline.sinks.target!.query<{ n: string }>(
    "select n::text from history.counter where _millrace_op = 'u' order by _millrace_version, _millrace_offset",
  );
  const [[last] = []] = await pipeline.source.texts("select n from counter");
  const first = Number(rows[0]?.n);
  expect(rows.map(({ n }) => Number(n))).toEqual(Array.from({ length: Number(last) - first + 1 }, (_, i) => first + i));
  expect(rows.length).toBeGreaterThan(100);
}

async function killAt(pipeline: MysqlPipeline, [name, passage, provoke]: (typeof POINTS)[number]): Promise<void> {
  const deadlineMs = performance.now() + KILLED_WITHIN_MS;
  for (let round = 0; !pipeline.daemon.exited && performance.now() < deadlineMs; round++) {
    // What a daemon that was just killed does not answer is asked of the next one.
    await provoke?.(pipeline, round).catch(() => undefined);
    await Promise.race([pipeline.daemon.ended, sleep(200)]);
  }
  expect({ name, passage, exited: pipeline.daemon.exited }).toEqual({ name, passage, exited: true });
  expect({ name, signal: (await pipeline.daemon.ended).signal }).toEqual({ name, signal: "SIGKILL" });
}

const armed = ([name, passage]: (typeof POINTS)[number]) => ({ MILLRACE_FAILPOINTS: `${name}=kill@${passage}` });

describe.each(mysqlFlavours)("%s", (flavour) => {
  test("every sink equals the source, and a history has each change once", { tags: "heavy" }, async () => {
    const random = new Random(testSeed());
    // All of them are passed on Postgres too: see failpoints.
    const part = random.below(PARTS);
    const own = POINTS.filter((_, i) => i % PARTS === part);
    const [first, ...others] = own;
    const accounts = Array.from({ length: KEYS }, (_, i) => `(${i}, ${i}, 'first')`).join(",");
    await using pipeline = await MysqlPipeline.start(
      flavour,
      [
        ...CONTENDED_TABLES,
        `insert into account (id, balance, note) values ${accounts}`,
        "create table counter (id int primary key, n int)",
        "insert into counter values (1, 0)",
      ],
      {
        kinds: ["duckdb", "postgres", "redis", "postgres-history"],
        untilStreaming: false,
        environment: armed(first!),
      },
    );
    const stopping = new AbortController();
    const counting = countUp(pipeline.url, stopping.signal);
    {
      await using _ = new Writers(pipeline.url, random.seed);
      await killAt(pipeline, first!);
      for (const point of others) {
        pipeline.daemon = pipeline.installation.run(armed(point));
        await killAt(pipeline, point);
        if (point[2] === fallBehind)
          expect(await pipeline.installation.command("resume")).toMatchObject({ exitCode: 0 });
      }
      for (let i = 0; i < RANDOM_KILLS; i++) {
        await pipeline.start(random.chance(0.6));
        await sleep(random.below(800));
        await pipeline.kill();
      }
      await pipeline.start();
    }
    stopping.abort();
    await counting;
    await pipeline.expectEqual("account", "seat", "counter");
    await expectWholeHistory(pipeline);
  });
});
