/**
 * A sink that is away, slow or failing: the others stay as fast as they were, and it joins them again by itself.
 * @module-tag heavy
 */
import { expect, test } from "vitest";
import type { StatusDocument } from "../../../src/core/contracts/status.ts";
import { LatencyProbe, PROBE_TABLE } from "../../support/load/latency.ts";
import { type Daemon, Installation } from "../../support/daemon/daemon-process.ts";
import { compareSink, isEqual, type SinkAddress } from "../../support/compare/compare.ts";
import { tcpProxy } from "../../support/network/proxy.ts";
import {
  type FreshDatabase,
  freshDatabase,
  freshKeyPrefix,
  ownPostgres,
  ownRedis,
  redisUrl,
} from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

const MEMORY_BYTES_MAX = 256 * 1024 * 1024;
const PROBE_EVERY_MS = 8;
const MEASURED_COUNT = 300;
/** The machine is shared with the servers under test; what must not happen is a wait of seconds for another sink. */
const LATENCY_FACTOR_MAX = 5;
const LATENCY_SPARE_MS = 1000;

interface Scene extends AsyncDisposable {
  readonly source: FreshDatabase;
  readonly installation: Installation;
  readonly daemon: Daemon;
  readonly probe: LatencyProbe;
  /** p99 of the Postgres sink before anything was harmed. */
  readonly usualMs: number;
  sink(name: string): Promise<StatusDocument["sinks"][number]>;
  /** Measures anew, and expects that the sink `fast` is as it was. */
  expectUsual(what: string): Promise<void>;
  expectEqual(sinks: readonly SinkAddress[]): Promise<void>;
}

/** A daemon with a Postgres sink `fast` whose latency is measured, and the sinks given. */
async function scene(sinks: Readonly<Record<string, object>>): Promise<Scene> {
  await using stack = new AsyncDisposableStack();
  const source = stack.use(await freshDatabase());
  const target = stack.use(await freshDatabase());
  await source.query("create table bulk (id int primary key, body text)");
  const probe = stack.use(await LatencyProbe.create(source, target, PROBE_EVERY_MS));
  const installation = stack.use(
    new Installation({
      name: source.name,
      source: { kind: "postgres", url: source.url, heartbeat: "500ms" },
      sinks: { fast: { kind: "postgres", url: target.url }, ...sinks },
    }),
  );
  const daemon = installation.run();
  await daemon.streaming();
  const measure = async (): Promise<number> => {
    probe.reset();
    await eventually(() => probe.count >= MEASURED_COUNT, { withinMs: 60_000 });
    return probe.percentileMs(99);
  };
  await measure();
  const usualMs = await measure();
  const owned = stack.move();
  return {
    source,
    installation,
    daemon,
    probe,
    usualMs,
    sink: async (name) => {
      const found = (await installation.status()).sinks.find((sink) => sink.name === name);
      if (found === undefined) throw new Error(`status knows no sink ${name}`);
      return found;
    },
    expectUsual: async (what) => {
      const p99Ms = await measure();
      process.stdout.write(
        `${what}: p50 ${Math.round(probe.percentileMs(50))} p90 ${Math.round(probe.percentileMs(90))} p99 ${Math.round(p99Ms)} ms, before ${Math.round(usualMs)} ms\n`,
      );
      expect({ [what]: p99Ms }).toSatisfy(() => p99Ms <= usualMs * LATENCY_FACTOR_MAX + LATENCY_SPARE_MS);
      expect(daemon.residentBytes).toBeLessThan(MEMORY_BYTES_MAX);
    },
    expectEqual: async (addresses) => {
      await probe.stop();
      expect(await installation.command("wait", "--timeout", "240s")).toMatchObject({ exitCode: 0 });
      for (const sink of [{ kind: "postgres", url: target.url } as const, ...addresses]) {
        const tables = ["bulk", PROBE_TABLE].map((table) => ({ schema: "public", table }));
        const differing = (await compareSink({ source: source.url, sink, tables })).filter((table) => !isEqual(table));
        expect(differing).toEqual([]);
      }
      const { exitCode } = await daemon.stop();
      expect(exitCode).toBe(0);
    },
    [Symbol.asyncDispose]: () => owned[Symbol.asyncDispose](),
  };
}

async function insertBulk({ source }: Scene, from: number, count: number): Promise<void> {
  await source.query(
    `insert into bulk select g, repeat(md5(g::text), 30) from generate_series(${from}, ${from + count - 1}) g`,
  );
}

test(
  "sinks whose servers are stopped for a while catch up by themselves; the others don't notice",
  { tags: "long" },
  async () => {
    await using cache = await ownRedis({ settings: { appendonly: "yes", appendfsync: "always" } });
    await using server = await ownPostgres();
    await using play = await scene({
      cache: { kind: "redis", url: cache.url },
      away: { kind: "postgres", url: server.url },
    });
    await insertBulk(play, 1, 2_000);
    for (const stop of ["stop", "kill"] as const) {
      await Promise.all([cache[stop](), server[stop]()]);
      await insertBulk(play, stop === "stop" ? 10_000 : 20_000, 5_000);
      for (const name of ["cache", "away"]) {
        await eventually(async () => expect(await play.sink(name)).toMatchObject({ state: "retrying" }), {
          withinMs: 30_000,
        });
        expect((await play.sink(name)).error?.code).toMatch(/^MR3[14]/);
      }
      await play.expectUsual(`${stop}: two sinks away`);
      await Promise.all([cache.start(), server.start()]);
      await play.expectUsual(`${stop}: two sinks catching up`);
      for (const name of ["cache", "away"]) {
        await eventually(
          async () =>
            expect(await play.sink(name)).toMatchObject({ state: "streaming", catchingUp: false, error: null }),
          { withinMs: 60_000 },
        );
      }
    }
    await play.expectEqual([
      { kind: "redis", url: cache.url },
      { kind: "postgres", url: server.url },
    ]);
  },
);

test("a sink at a tenth of the rate is detached, status says so, and it catches up; the others don't notice", async () => {
  await using keys = freshKeyPrefix();
  await using proxy = await tcpProxy(redisUrl());
  await using play = await scene({ cache: { kind: "redis", url: proxy.url(redisUrl()), prefix: keys.prefix } });
  proxy.limit(300_000);
  // More than the byte budget of all queues together, at a rate that the cache can't take.
  for (let i = 0; i < 30; i++) await insertBulk(play, 1 + i * 3_000, 3_000);
  await eventually(
    async () => {
      const detached = await play.sink("cache");
      expect(detached).toMatchObject({ catchingUp: true });
      expect(detached.lagBytes).toBeGreaterThan(1_000_000);
    },
    { withinMs: 60_000 },
  );
  await eventually(async () => expect((await play.sink("fast")).lagBytes).toBeLessThan(100_000), { withinMs: 60_000 });
  for (let i = 0; i < 2; i++) await play.expectUsual("a sink detached");
  expect((await play.sink("fast")).catchingUp).toBe(false);
  await proxy.resume();
  await eventually(async () => expect(await play.sink("cache")).toMatchObject({ catchingUp: false }), {
    withinMs: 120_000,
  });
  await play.expectEqual([{ kind: "redis", url: redisUrl(), prefix: keys.prefix }]);
});

test(
  "a sink that fails every batch is told by status; the others don't notice, and mended it catches up",
  { tags: "long" },
  async () => {
    await using failing = await freshDatabase();
    await using play = await scene({ failing: { kind: "postgres", url: failing.url } });
    await insertBulk(play, 1, 100);
    await eventually(async () => (await failing.query("select from public.bulk")).rows.length === 100);
    // A failure that has nothing to do with the rows.
    await failing.query(`create function public.fail() returns trigger language plpgsql as
      $$ begin raise exception 'out of order' using errcode = '53100'; end $$;
    create trigger fail before insert or update on public.bulk for each statement execute function public.fail();
    create trigger fail before insert or update on public.${PROBE_TABLE} for each statement execute function public.fail()`);
    await insertBulk(play, 1_000, 1_000);
    await eventually(
      async () => {
        const { state, error } = await play.sink("failing");
        expect({ state, code: error?.code ?? "" }).toMatchObject({
          state: "retrying",
          code: expect.stringMatching(/^MR31/),
        });
      },
      { withinMs: 30_000 },
    );
    await play.expectUsual("a sink failing every batch");
    await failing.query(`drop trigger fail on public.bulk; drop trigger fail on public.${PROBE_TABLE}`);
    await eventually(
      async () => expect(await play.sink("failing")).toMatchObject({ state: "streaming", error: null }),
      {
        withinMs: 60_000,
      },
    );
    await play.expectEqual([{ kind: "postgres", url: failing.url }]);
  },
);
