/** The machine's clock is set, forward and back: what is told of delays stays what has passed. */
import { writeFileSync } from "node:fs";
import { expect, test } from "vitest";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { temporaryFolder } from "../../support/run/temporary-folder.ts";
import { eventually } from "../../support/run/waiting.ts";

const HOUR_MS = 3_600_000;

/** Moves a process's dates by what the file says. */
function settable(path: string): string {
  const code = `import { readFileSync } from "node:fs";
    const Real = Date;
    const now = () => Real.now() + Number(readFileSync(${JSON.stringify(path)}, "utf8"));
    globalThis.Date = class Date extends Real {
      constructor(...given) { super(...(given.length === 0 ? [now()] : given)); }
      static now() { return now(); }
    };`;
  return `--import data:text/javascript;base64,${Buffer.from(code).toString("base64")}`;
}

test("a sink that is away for seconds is seconds behind, whatever the clock shows", async () => {
  using folder = temporaryFolder();
  const path = folder.file("clock");
  const set = (hours: number): void => writeFileSync(path, String(hours * HOUR_MS));
  set(0);
  await using pipeline = await RunningPipeline.start("create table item (id int primary key)", {
    kinds: ["redis"],
    isProxied: true,
    environment: { NODE_OPTIONS: settable(path) },
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
    set(hours);
    const before = await behind();
    await eventually(async () => expect(await behind()).toBeGreaterThan(before + 1));
    expect({ hours, isHours: (await behind()) > HOUR_MS / 1000 }).toEqual({ hours, isHours: false });
  }
  await redis.resume();
  await pipeline.settled();
});
