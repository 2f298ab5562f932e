/**
 * A sink that is away, slow or failing: the others stay as fast as they were, and it joins them again by itself.
 * @module-tag heavy
 */
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import type { StatusDocument } from "../../../src/core/contracts/status.ts";
import { type Daemon, Installation } from "../../support/daemon/daemon-process.ts";
import { compareSink, isEqual, type SinkAddress } from "../../support/compare/compare.ts";
import { tcpProxy } from "../../support/network/proxy.ts";
import { type FreshDatabase, freshDatabase, freshKeyPrefix, redisUrl } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

const PROBE_TABLE = "probe";
const CHANNEL = "probe_seen";

/** Writes a row every few milliseconds, in transactions of their own, and is told by the target when each is there. */
class LatencyProbe implements AsyncDisposable {
  readonly #stack = new AsyncDisposableStack();
  readonly #committedMs = new Map<number, number>();
  #latenciesMs: number[] = [];
  #stopped = false;
  #writing: Promise<void> = Promise.resolve();

  /** Before the daemon's first start: the target's table is made here, with a trigger that tells. */
  static async create(source: FreshDatabase, target: FreshDatabase, everyMs: number): Promise<LatencyProbe> {
    const probe = new LatencyProbe();
    await source.query(`create table ${PROBE_TABLE} (id int primary key, body text)`);
    await target.query(`
      create table public.${PROBE_TABLE} (id int primary key, body text, _millrace_version bigint not null, _millrace_commit_time timestamptz);
      create function public.tell() returns trigger language plpgsql as
        $$ begin perform pg_catalog.pg_notify('${CHANNEL}', new.id::text); return null; end $$;
      create trigger tell after insert on public.${PROBE_TABLE} for each row execute function public.tell()`);
    const listener = probe.#stack.use(await target.connect());
    listener.on("notification", ({ payload }) => probe.#seen(Number(payload)));
    await listener.query(`listen ${CHANNEL}`);
    const writer = probe.#stack.use(await source.connect());
    probe.#writing = probe.#write(async (id) => {
      await writer.query(`insert into ${PROBE_TABLE} values ($1, repeat('p', 200))`, [id]);
    }, everyMs);
    return probe;
  }

  /** Forgets what was measured, so that the next answer is about rows that are committed from now on. */
  reset(): void {
    this.#latenciesMs = [];
    this.#committedMs.clear();
  }

  get count(): number {
    return this.#latenciesMs.length;
  }

  /** Milliseconds that so many of a hundred rows stayed below; rows that are not there yet count as old as they are. */
  percentileMs(percent: number): number {
    const nowMs = performance.now();
    const waiting = [...this.#committedMs.values()].map((committedMs) => nowMs - committedMs);
    const sorted = [...this.#latenciesMs, ...waiting].toSorted((a, b) => a - b);
    return sorted[Math.min(sorted.length - 1, Math.floor((sorted.length * percent) / 100))] ?? Number.NaN;
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#writing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    await this.#stack[Symbol.asyncDispose]();
  }

  async #write(insert: (id: number) => Promise<void>, everyMs: number): Promise<void> {
    for (let id = 1; !this.#stopped; id++) {
      const sentMs = performance.now();
      // Known before the answer, which may come later than the notice.
      this.#committedMs.set(id, sentMs);
      await insert(id);
      if (this.#committedMs.has(id)) this.#committedMs.set(id, performance.now());
      await sleep(everyMs);
    }
  }

  #seen(id: number): void {
    const committedMs = this.#committedMs.get(id);
    if (committedMs === undefined) return;
    this.#committedMs.delete(id);
    this.#latenciesMs.push(performance.now() - committedMs);
  }
}

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
