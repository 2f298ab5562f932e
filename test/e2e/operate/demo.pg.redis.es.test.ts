/** `npm run demo` as people run it, with little data, on the servers of this test run. */
import { existsSync } from "node:fs";
import { Redis } from "ioredis";
import { Client } from "pg";
import { expect, test } from "vitest";
import { type Demo, startDemo } from "../../support/daemon/demo-process.ts";
import { elasticsearchUrl, postgres, redisUrl } from "../../support/run/services.ts";
import { temporaryFolder } from "../../support/run/temporary-folder.ts";
import { eventually } from "../../support/run/waiting.ts";

/** What a demo leaves on servers that are not its own: nothing. */
async function leftovers(demo: Demo): Promise<object> {
  // Other demos may run beside this one.
  const own = /database shop_([0-9a-f]{8})/.exec(demo.said())?.[1];
  expect(own).toBeDefined();
  const client = new Client({ connectionString: postgres().url });
  await client.connect();
  const databases = await client.query(
    "select datname from pg_database where datname ~ $1 union all select slot_name from pg_replication_slots where slot_name ~ $1",
    [own],
  );
  await client.end();
  const redis = new Redis(redisUrl());
  const keys = await redis.keys(`demo-${own}*`);
  redis.disconnect();
  const indices = await (await fetch(`${elasticsearchUrl()}/_cat/indices/demo-${own}*?h=index`)).text();
  return { databases: databases.rows, keys, indices };
}

const nothing = { databases: [], keys: [], indices: "" };

test(
  "every table in every sink is equal after a SIGKILL in the middle, and nothing is left behind",
  { tags: "heavy" },
  async () => {
    const demo = startDemo(["--seconds", "8", "--rows", "3000"]);
    const exitCode = await demo.exitCode;
    expect({ exitCode, said: exitCode === 0 ? "" : demo.said() }).toEqual({ exitCode: 0, said: "" });
    expect(demo.said()).toMatch(/kill -9 \d+/);
    expect(demo.said()).toMatch(/every sink is up to date/);
    expect(demo.said()).toMatch(/32 of 32 equal, after one SIGKILL/);
    expect(await leftovers(demo)).toEqual(nothing);
  },
);

test("Ctrl-C in the middle leaves nothing behind", { tags: "heavy" }, async () => {
  const demo = startDemo(["--seconds", "60", "--rows", "1000"]);
  await eventually(() => /pid \d+/.test(demo.said()), { withinMs: 60_000 });
  const pid = Number(/pid (\d+)/.exec(demo.said())?.[1]);
  demo.interrupt();
  expect(await demo.exitCode).toBe(130);
  await eventually(() => !existsSync(`/proc/${pid}`));
  await eventually(async () => expect(await leftovers(demo)).toEqual(nothing));
});

test("a server that can't be had is named with the reason and the way to go on without it", async () => {
  using cache = temporaryFolder();
  const nowhere = { PATH: "/nowhere", MILLRACE_CACHE: cache.path, MILLRACE_CONTAINERS: "off" };
  const demo = startDemo([], { ...nowhere, MILLRACE_TEST_REDIS_URL: undefined });
  expect(await demo.exitCode).toBe(1);
  expect(demo.said()).toMatch(/redis can't be had here: .+\n.*--without cache/);
});

test("an option that makes no sense ends it with its usage", async () => {
  const wrong = [["--without", "fridge"], ["--seconds", "soon"], ["--fast"]];
  for (const demo of wrong.map((args) => startDemo(args))) {
    expect(await demo.exitCode).toBe(2);
    expect(demo.said()).toMatch(/usage: npm run demo/);
  }
});
