import { Redis } from "ioredis";
import { describe, expect, test } from "vitest";
import { caches, freshKeyPrefix, ownRedis, redisUrl } from "../support/run/services.ts";

interface Opened extends Disposable {
  readonly redis: Redis;
}

function open(url: string): Opened {
  const redis = new Redis(url, { lazyConnect: true });
  return { redis, [Symbol.dispose]: () => redis.disconnect() };
}

describe.each(caches())("$name", (cache) => {
  test("what lies below a fresh prefix is deleted, and nothing else", async () => {
    using client = open(cache.url());
    await using other = freshKeyPrefix(cache.url());
    await client.redis.set(`${other.prefix}kept`, "1");
    let below: string;
    {
      await using keys = freshKeyPrefix(cache.url());
      below = `${keys.prefix}*`;
      const pipeline = client.redis.pipeline();
      for (let id = 0; id < 2_500; id += 1) pipeline.hset(`${keys.prefix}${id}`, { id });
      await pipeline.exec();
      expect(await client.redis.keys(below)).toHaveLength(2_500);
    }
    expect(await client.redis.keys(below)).toEqual([]);
    expect(await client.redis.get(`${other.prefix}kept`)).toBe("1");
  });
});

test("an own server with its log on disk keeps its keys through SIGKILL", async () => {
  await using server = await ownRedis({ settings: { appendonly: "yes", appendfsync: "always" } });
  expect(server.url).not.toBe(redisUrl());
  using client = open(server.url);
  await client.redis.set("a", "1");
  await server.kill();
  await server.start();
  using again = open(server.url);
  expect(await again.redis.get("a")).toBe("1");
});

test("an own server without one forgets them", async () => {
  await using server = await ownRedis();
  using client = open(server.url);
  await client.redis.set("a", "1");
  await server.stop();
  await server.start();
  using again = open(server.url);
  expect(await again.redis.get("a")).toBeNull();
});
