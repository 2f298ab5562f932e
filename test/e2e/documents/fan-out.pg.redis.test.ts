/** A row with very many documents gets another value: each is sent once, and neither others nor other sinks wait for all of them. */
import { DatabaseSync } from "node:sqlite";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Redis } from "ioredis";
import { expect, test } from "vitest";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { eventually } from "../../support/run/waiting.ts";

/** Of customer 1; customer 2 has as many as there are changes beside. */
async function started(orders: number, kinds: readonly ("sqlite" | "redis")[]): Promise<RunningPipeline> {
  return await RunningPipeline.start(
    `create table customers (id int primary key, name text not null);
     create table orders (id int primary key, customer_id int not null references customers, status text not null);
     insert into customers values (1, 'one'), (2, 'two');
     insert into orders select g, 1, 'new' from generate_series(1, ${orders}) g;
     insert into orders select -g, 2, 'new' from generate_series(1, 100) g`,
    {
      kinds,
      configure: (config) => ({
        ...config,
        documents: {
          orders: { from: "public.orders", with: { customer: { from: "public.customers", columns: ["name"] } } },
        },
        sinks: Object.fromEntries(
          Object.entries(config.sinks).map(([name, sink]) => [name, { ...sink, documents: ["orders"] }]),
        ),
      }),
    },
  );
}

test("a paused sink holds up no other one, however many documents wait for it", async () => {
  // At the pace of one that is only slow it would take longer than is waited for.
  const count = 40_000;
  await using pipeline = await started(count, ["sqlite", "redis"]);
  await pipeline.settled();
  const { installation } = pipeline;
  expect(await installation.command("pause", "--sink", "redis")).toMatchObject({ exitCode: 0 });
  await pipeline.run("update customers set name = 'other' where id = 1");
  const renamed = (): unknown => {
    using file = new DatabaseSync(join(installation.folder, "replica.sqlite"), { readOnly: true });
    return file.prepare(`select count(*) as n from "documents.orders" where customer like '%other%'`).get();
  };
  await eventually(() => expect(renamed()).toEqual({ n: count }));
  expect(await installation.command("resume", "--sink", "redis")).toMatchObject({ exitCode: 0 });
  await pipeline.settled();
  using cache = pipeline.cache();
  expect(await nameOf(cache, `${pipeline.sinks.keyPrefix}orders:${count}`)).toBe("other");
});

test("changes of others go in between, and each document is listed once", { tags: "heavy" }, async () => {
  const count = 100_000;
  await using pipeline = await started(count, ["redis"]);
  await pipeline.settled();
  const nest = join(pipeline.installation.folder, `.millrace/${pipeline.source.name}-documents.db`);
  const entries = (): number => {
    using file = new DatabaseSync(nest, { readOnly: true });
    return Number(file.prepare("select seq from sqlite_sequence where name = '_millrace_changed'").get()?.["seq"] ?? 0);
  };
  const before = entries();
  using cache = pipeline.cache();
  const keyOf = (id: number): string => `${pipeline.sinks.keyPrefix}orders:${id}`;
  const begunMs = performance.now();
  const done = new AbortController();
  await pipeline.run("update customers set name = 'other' where id = 1");
  const whole = pipeline.settled().then(() => {
    done.abort();
    return performance.now();
  });
  const waits: number[] = [];
  for (let id = -1; !done.signal.aborted && id >= -100; id--) {
    const sinceMs = performance.now();
    await pipeline.run(`update orders set status = 'changed' where id = ${id}`);
    await eventually(async () => expect(await cache.hget(keyOf(id), "status")).toBe("changed"), { everyMs: 5 });
    waits.push(performance.now() - sinceMs);
    await sleep(20);
  }
  const doneMs = await whole;
  for (const id of [1, count / 2, count]) expect(await nameOf(cache, keyOf(id))).toBe("other");
  expect(Math.max(...waits)).toBeLessThan((doneMs - begunMs) / 4);
  // Besides there are those of others, and marks.
  expect((entries() - before) / count).toBeCloseTo(1, 1);
});

async function nameOf(cache: Redis, key: string): Promise<unknown> {
  const customer: unknown = JSON.parse((await cache.hget(key, "customer")) ?? "null");
  return Object(customer).name;
}
