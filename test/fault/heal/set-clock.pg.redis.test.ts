/** The machine's clock is set, forward and back: what is told of delays stays what has passed. */
import { expect, test } from "vitest";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { SetClock } from "../../support/daemon/set-clock.ts";
import { eventually } from "../../support/run/waiting.ts";

const HOUR_MS = 3_600_000;

test("a sink that is away for seconds is seconds behind, whatever the clock shows", async () => {
  using clock = new SetClock();
  await using pipeline = await RunningPipeline.start("create table item (id int primary key)", {
    kinds: ["redis"],
    isProxied: true,
    environment: clock.environment,
  });
  const { installation, sinks } = pipeline;
  await pipeline.settled();
  const redis = sinks.proxies.get("redis")!;
  await redis.refuse();
  redis.cut();
  await pipeline.run("insert into item values (1)");
  const behind = async (): Promise<number> => (await installation.status()).sinks[0]?.lagSeconds ?? 0;
  await eventually(async () => expect(await behind()).toBeGreaterThan(0));
  for (const hours of [3, -3]) {
    clock.set(hours * HOUR_MS);
    const before = await behind();
    await eventually(async () => expect(await behind()).toBeGreaterThan(before + 1));
    expect({ hours, isHours: (await behind()) > HOUR_MS / 1000 }).toEqual({ hours, isHours: false });
  }
  await redis.resume();
  await pipeline.settled();
});
