/** The example of documents does what its page says, with one command, and leaves nothing behind. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { text } from "node:stream/consumers";
import { Redis } from "ioredis";
import { expect, test } from "vitest";
import { freshDatabase, redisUrl } from "../../support/run/services.ts";

test("an order, what changes do to it, and a comparison", { tags: "heavy" }, async () => {
  const example = new URL("../../../scripts/demo/documents.ts", import.meta.url).pathname;
  await using database = await freshDatabase();
  const servers = { MILLRACE_TEST_POSTGRES_URL: database.url, MILLRACE_TEST_REDIS_URL: redisUrl() };
  const running = spawn(process.execPath, [example], { env: { ...process.env, ...servers } });
  const [said, complained] = await Promise.all([text(running.stdout), text(running.stderr), once(running, "close")]);
  expect({ exitCode: running.exitCode, complained }).toEqual({ exitCode: 0, complained: expect.anything() });
  expect(said).toContain('"total": "289.80"');
  expect(said).toContain("document orders 2 is not there: function ./documents.ts#order leaves it out");
  expect(said).toContain('"title": "Anvil, large"');
  expect(said).toMatch(/A line more, a tag less:[^]*"total": "388.80"/);
  expect(said).toMatch(/equal/);
  const { rows } = await database.query("select 1 from pg_database where datname like 'shop\\_documents\\_%'");
  const redis = new Redis(redisUrl());
  const keys = await redis.keys("shop-*");
  await redis.quit();
  expect({ rows, keys }).toEqual({ rows: [], keys: [] });
});
