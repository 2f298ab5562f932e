/** Parts that hang are told apart, in `status` and by what is done: only the broken one is begun again. */
import { expect, test } from "vitest";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { freshKeyPrefix, ownRedis } from "../../support/run/services.ts";
import { sinkOf } from "../../support/faults/sink-loss.ts";
import { eventually } from "../../support/run/waiting.ts";

const PREPARE =
  "create table item (id int primary key, n int); insert into item select g, 0 from generate_series(1, 50) g";

test("a sink whose writes get no answer is wedged: its connection is cut, the other sinks go on, and it comes back", async () => {
  await using pipeline = await RunningPipeline.start(PREPARE, {
    kinds: ["postgres", "redis"],
    isProxied: true,
    configure: ({ sinks, ...config }) => ({
      ...config,
      sinks: { ...sinks, redis: { ...sinks["redis"], batch: { timeout: "2s" } } },
    }),
  });
  await pipeline.settled();
  const { installation, sinks } = pipeline;
  await eventually(async () => {
    expect(await installation.status()).toMatchObject({ source: { activity: "idle", blockedBy: [] } });
    expect(await sinkOf(pipeline, "redis")).toMatchObject({ state: "streaming", activity: "idle" });
  });

  sinks.proxies.get("redis")!.stall("toClient");
  await pipeline.run("update item set n = 1");
  await eventually(async () => expect(pipeline.daemon.said).toContain('"code":"MR1335"'));
  expect(await sinkOf(pipeline, "redis")).toMatchObject({ state: "retrying", activity: "wedged" });
  expect((await installation.command("status")).stdout).toMatch(/redis \(redis\)\s.*retrying, wedged/);
  await pipeline.run("update item set n = 2");
  await eventually(async () => {
    const { rows } = await sinks.target!.query("select count(*)::int as done from public.item where n = 2");
    expect(rows).toEqual([{ done: 50 }]);
  });
  expect(await sinkOf(pipeline, "postgres")).toMatchObject({ state: "streaming", error: null });

  await sinks.proxies.get("redis")!.resume();
  await pipeline.expectEqual(["item"]);
  await eventually(async () =>
    expect(await sinkOf(pipeline, "redis")).toMatchObject({ activity: "idle", error: null }),
  );
});

test(
  "a stream that no sink takes is blocked by the sink whose server is stopped, and goes on with it",
  { tags: "heavy" },
  async () => {
    await using server = await ownRedis();
    await using keys = freshKeyPrefix(server.url);
    await using pipeline = await RunningPipeline.start(PREPARE, {
      kinds: [],
      configure: (config) => ({ ...config, sinks: { cache: { kind: "redis", url: server.url, prefix: keys.prefix } } }),
    });
    await pipeline.settled();
    await server.pause();
    try {
      await eventually(
        async () => {
          await pipeline.run("update item set n = n + 1");
          const { source } = await pipeline.installation.status();
          expect(source).toMatchObject({ up: true, activity: "blocked", blockedBy: ["cache"] });
        },
        { everyMs: 200 },
      );
      expect((await pipeline.installation.command("status")).stdout).toContain("blocked by cache");
      await eventually(async () => {
        expect((await pipeline.installation.status()).sinks).toMatchObject([{ activity: "slow" }]);
      });
    } finally {
      await server.resume();
    }
    await pipeline.settled();
    await eventually(async () => {
      expect((await pipeline.installation.status()).source).toMatchObject({ activity: "idle", blockedBy: [] });
    });
  },
);

test(
  "an opening, a truncate and a new shape that get no answer are given up too, and the sink comes back",
  { tags: "heavy" },
  async () => {
    await using pipeline = await RunningPipeline.start(PREPARE, {
      kinds: ["postgres"],
      isProxied: true,
      configure: ({ sinks, ...config }) => ({
        ...config,
        sinks: { postgres: { ...sinks["postgres"], batch: { timeout: "1s" } } },
      }),
    });
    await pipeline.settled();
    const { sinks } = pipeline;
    const proxy = sinks.proxies.get("postgres")!;
    proxy.stall("toClient");
    proxy.cut();
    await eventually(async () => expect(pipeline.daemon.said).toContain("the opening of sink postgres got no answer"));
    expect(await sinkOf(pipeline, "postgres")).toMatchObject({ state: "retrying", activity: "wedged" });
    await proxy.resume();
    await pipeline.settled();

    await using locker = await sinks.target!.connect();
    for (const change of ["truncate item", "alter table item add column more int; insert into item values (1, 2, 3)"]) {
      await locker.query("begin; lock table public.item in access exclusive mode");
      const from = pipeline.daemon.said.length;
      await pipeline.run(change);
      await eventually(
        async () => expect(pipeline.daemon.said.slice(from)).toContain("work on a whole table of sink postgres"),
        { withinMs: 40_000 },
      );
      await locker.query("rollback");
      await pipeline.expectEqual(["item"]);
    }
  },
);
