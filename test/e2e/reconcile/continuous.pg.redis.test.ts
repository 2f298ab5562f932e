/** The sinks are compared all day, range after range: what is proven, what is not, and what a process that dies has claimed. */
import { renameSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import type { ProofRecord } from "../../../src/core/contracts/state-store.ts";
import type { StatusDocument } from "../../../src/core/contracts/status.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { listener } from "../../support/network/listener.ts";
import { eventually } from "../../support/run/waiting.ts";

/** Of two chunks, and two pages of keys; and one that a single read has. */
const TABLES = `create table large (id text primary key, body text);
  insert into large select 'k' || g, repeat(md5(g::text), 64) from generate_series(1, 5200) g;
  create table small (id int primary key, n int);
  insert into small select g, g from generate_series(1, 300) g`;
const SINKS = ["duckdb", "postgres", "redis"] as const;
const ROUNDS_MS = 90_000;

async function started(repair: boolean): Promise<RunningPipeline> {
  const pipeline = await RunningPipeline.start(TABLES, {
    kinds: SINKS,
    configure: (config) => ({
      ...config,
      reconcile: { continuous: { maxAge: "2s", share: "100%" }, repair },
    }),
  });
  await pipeline.settled();
  return pipeline;
}

async function proofs({ installation }: RunningPipeline): Promise<readonly ProofRecord[]> {
  const listed = await installation.command("proofs", "list", "--json");
  expect(listed.exitCode, listed.stderr).toBe(0);
  return JSON.parse(listed.stdout).proofs;
}

/** Waits until all was proven after this time. */
async function provenAfter(pipeline: RunningPipeline, time: string): Promise<readonly ProofRecord[]> {
  return await eventually(
    async () => {
      const all = await proofs(pipeline);
      expect(all.map(({ table, sink }) => `${table} ${sink}`)).toEqual(expect.arrayContaining(PLACES));
      expect(all.filter(({ provenAt }) => provenAt === null || provenAt <= time)).toEqual([]);
      return all;
    },
    { withinMs: ROUNDS_MS, everyMs: 500 },
  );
}

const PLACES = ["public.large", "public.small"].flatMap((table) => SINKS.map((sink) => `${table} ${sink}`));
const now = (): string => new Date().toISOString();

/** Writes until it is disposed of. */
function writing(pipeline: RunningPipeline): AsyncDisposable {
  const over = new AbortController();
  const ended = (async () => {
    for (let i = 0; !over.signal.aborted; i++) {
      await sleep(20);
      await pipeline.run(`update large set body = body || 'x' where id = 'k' || ${(i % 50) + 100};
        insert into small values (${1000 + i}, 0); delete from small where id = ${999 + i}; update small set n = n + 1 where id = ${(i % 50) + 1}`);
    }
  })();
  return {
    async [Symbol.asyncDispose]() {
      over.abort();
      await ended;
    },
  };
}

test(
  "what is planted in the sinks is found by range, and nothing else, while rows are written, the process is killed and started",
  { tags: ["heavy"] },
  async () => {
    await using pipeline = await started(false);
    const { sinks, installation } = pipeline;
    using cache = pipeline.cache();
    await using writes = writing(pipeline);
    const first = await provenAfter(pipeline, now());
    expect(first.map(({ missing, extra, different }) => missing + extra + different)).toEqual(first.map(() => 0));
    expect(first.find(({ table, sink }) => table === "public.large" && sink === "postgres")!.ranges).toBeGreaterThan(1);
    await sinks.target!
      .query(`delete from large where id in ('k3', 'k5101'); update large set body = 'w' where id = 'k70';
      insert into large select 'zz' || g, 'extra', _millrace_version from generate_series(1, 5) g, (select _millrace_version from large where id = 'k1') v;
      delete from small where id = 200`);
    await cache.del(`${sinks.keyPrefix}public:large:k5000`);
    await cache.hset(`${sinks.keyPrefix}public:small:250`, "n", "-1");
    const plantedAt = now();
    const wanted = [
      { table: "public.large", sink: "postgres", missing: 2, extra: 5, different: 1 },
      { table: "public.large", sink: "redis", missing: 1, extra: 0, different: 0 },
      { table: "public.small", sink: "postgres", missing: 1, extra: 0, different: 0 },
      { table: "public.small", sink: "redis", missing: 0, extra: 0, different: 1 },
    ];
    await eventually(
      async () => {
        const seen = (await proofs(pipeline)).find(isAmong([{ table: "public.small", sink: "postgres" }]));
        expect(seen!.lookedAt! > plantedAt).toBe(true);
      },
      { withinMs: ROUNDS_MS },
    );
    await pipeline.kill();
    // What was claimed before stands, and is no newer where something is planted.
    for (const { provenAt, ...place } of await proofs(pipeline)) {
      expect(provenAt! >= first.find(isAmong([place]))!.provenAt!).toBe(true);
      if (isAmong(wanted)(place)) expect(provenAt! <= plantedAt).toBe(true);
    }
    await pipeline.start();
    const counts = async () => {
      const found = (await proofs(pipeline)).filter(({ missing, extra, different }) => missing + extra + different > 0);
      return found.map(({ table, sink, missing, extra, different }) => ({ table, sink, missing, extra, different }));
    };
    await eventually(async () => expect((await counts()).toSorted(byPlace)).toEqual(wanted), {
      withinMs: ROUNDS_MS,
      everyMs: 500,
    });
    for (const { provenAt } of (await proofs(pipeline)).filter(isAmong(wanted)))
      expect(provenAt === null || provenAt <= plantedAt).toBe(true);
    const { conditions, reconcile } = (await installation.ask<StatusDocument>("GET", "/api/v1/status"))!;
    expect(reconcile.continuous?.drift).toMatchObject({ places: 4, rows: 11, worst: { sink: "postgres", extra: 5 } });
    const kinds = conditions.map(({ kind }) => kind);
    expect(kinds).toContain("proof.drift");
    await eventually(async () => {
      const status = (await installation.ask<StatusDocument>("GET", "/api/v1/status"))!;
      expect(status.conditions.map(({ kind }) => kind)).toContain("proof.old");
    });
    await pipeline.restart();
    await eventually(async () => expect((await counts()).toSorted(byPlace)).toEqual(wanted), {
      withinMs: ROUNDS_MS,
      everyMs: 500,
    });
    await writes[Symbol.asyncDispose]();
  },
);

test(
  "with repair: true the sinks are right again; rows that are read again are not proven until they were compared",
  { tags: ["heavy"] },
  async () => {
    await using pipeline = await started(true);
    await provenAfter(pipeline, now());
    using cache = pipeline.cache();
    await pipeline.sinks.target!.query(
      "delete from large where id = 'k3'; update small set n = -1 where id = 7; insert into small select 9999, 1, _millrace_version from small where id = 1",
    );
    await cache.del(`${pipeline.sinks.keyPrefix}public:small:8`);
    const plantedAt = now();
    const all = await provenAfter(pipeline, plantedAt);
    expect(all.map(({ missing, extra, different }) => missing + extra + different)).toEqual(all.map(() => 0));
    await pipeline.expectEqual(["large", "small"]);
    const readAt = now();
    await pipeline.readAgain("public.small");
    // The rows of the other table stay proven.
    for (const { table, provenAt } of await proofs(pipeline)) {
      if (table === "public.small") expect(provenAt === null || provenAt > readAt).toBe(true);
      else expect(provenAt).not.toBeNull();
    }
    await provenAfter(pipeline, readAt);
  },
);

type Place = Pick<ProofRecord, "table" | "sink">;

function byPlace(a: Place, b: Place): number {
  return `${a.table} ${a.sink}`.localeCompare(`${b.table} ${b.sink}`);
}

function isAmong(places: readonly Place[]): (one: Place) => boolean {
  return ({ table, sink }) => places.some((place) => place.table === table && place.sink === sink);
}

test(
  "a row that waits as a dead letter is no drift, and nothing of its range is proven until it has arrived",
  { tags: ["heavy"] },
  async () => {
    await using listening = await listener(() => 204);
    await using pipeline = await RunningPipeline.start(
      "create table small (id int primary key, n int); insert into small select g, g from generate_series(1, 300) g",
      {
        kinds: ["postgres"],
        configure: (config) => ({
          ...config,
          reconcile: { continuous: { maxAge: "2s", share: "100%" } },
          notify: { webhook: listening.url, after: "0s" },
        }),
      },
    );
    const lookedAfter = async (time: string): Promise<ProofRecord> =>
      await eventually(
        async () => {
          const [one] = await proofs(pipeline);
          expect(one?.lookedAt != null && one.lookedAt > time).toBe(true);
          return one!;
        },
        { withinMs: ROUNDS_MS, everyMs: 500 },
      );
    expect((await lookedAfter("")).provenAt).not.toBeNull();
    await pipeline.sinks.target!.query("alter table public.small add constraint fits check (n < 1000)");
    await pipeline.run("update small set n = 5000 where id = 2");
    await eventually(async () => expect((await pipeline.installation.status()).sinks[0]!.deadLetters).toBe(1));
    const refusedAt = now();
    const { provenAt, missing, extra, different } = await lookedAfter(refusedAt);
    expect({ missing, extra, different }).toEqual({ missing: 0, extra: 0, different: 0 });
    expect(provenAt! <= refusedAt).toBe(true);
    // A slow start is told, too.
    const newest = () => listening.heard.map(({ text }) => text).findLast((text) => text.includes("proof.old")) ?? "{}";
    const old = expect.arrayContaining([
      expect.objectContaining({ kind: "proof.old", table: "public.small", sink: "postgres" }),
    ]);
    await eventually(() => expect(JSON.parse(newest())).toMatchObject({ began: old }));
    await pipeline.sinks.target!.query("alter table public.small drop constraint fits");
    expect(await pipeline.installation.command("dlq", "replay", "--all")).toMatchObject({ exitCode: 0 });
    await eventually(() => expect(JSON.parse(newest())).toMatchObject({ ended: old }), { withinMs: ROUNDS_MS });
    expect((await lookedAfter(refusedAt)).provenAt! > refusedAt).toBe(true);
  },
);

test("a sink whose file was away for a moment opens it again: no comparison keeps the former one open", async () => {
  await using pipeline = await RunningPipeline.start(
    "create table small (id int primary key, n int); insert into small select g, g from generate_series(1, 300) g",
    {
      kinds: ["duckdb"],
      configure: (config) => ({ ...config, reconcile: { continuous: { maxAge: "2s", share: "100%" } } }),
    },
  );
  const isProvenAfter = async (time: string) =>
    await eventually(
      async () => {
        const all = await proofs(pipeline);
        expect(all.map(({ provenAt }) => provenAt !== null && provenAt > time)).toEqual([true]);
      },
      { withinMs: ROUNDS_MS, everyMs: 500 },
    );
  await isProvenAfter("");
  const file = join(pipeline.installation.folder, "warehouse.duckdb");
  renameSync(file, `${file}.away`);
  await pipeline.run("insert into small values (1000, 1)");
  await eventually(async () => expect((await pipeline.installation.status()).sinks[0]!.error?.code).toBe("MR3110"));
  renameSync(`${file}.away`, file);
  await pipeline.settled();
  await isProvenAfter(now());
});
