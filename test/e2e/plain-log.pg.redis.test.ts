/** The daemon's log as a collector reads it: entries alone, and without passwords, whatever they are and libraries say. */
import { expect, test } from "vitest";
import { RunningPipeline } from "../support/running-pipeline.ts";
import { ownRedis } from "../support/services.ts";
import { eventually } from "../support/waiting.ts";

const PASSWORD = "mill";

test("a password that is part of its words, on a server that wants none", { timeout: 90_000 }, async () => {
  await using cache = await ownRedis();
  const { host } = new URL(cache.url);
  await using pipeline = await RunningPipeline.start("create table t (id int primary key); insert into t values (1)", {
    kinds: ["duckdb"],
    configure: (config) => ({
      ...config,
      sinks: { ...config.sinks, cache: { kind: "redis", url: `redis://:${PASSWORD}@${host}/0` } },
    }),
  });
  const { daemon, installation } = pipeline;
  await eventually(() => /does not require a password/.test(daemon.said));
  // Its target is gone: the errors name it.
  await cache[Symbol.asyncDispose]();
  await eventually(async () => {
    const { sinks } = await installation.status();
    return sinks.some(({ state }) => state === "retrying");
  });
  const status = await installation.command("status", "--json");
  const { stderr, stdout } = await daemon.stop();
  const entries = stderr
    .trimEnd()
    .split("\n")
    .map((line): unknown => JSON.parse(line));
  expect(entries).toContainEqual(expect.objectContaining({ msg: "millrace is running" }));
  expect(entries).toContainEqual(expect.objectContaining({ level: "warn", by: "a library" }));
  expect(stdout).toBe("");
  expect(JSON.parse(status.stdout)).toMatchObject({ name: pipeline.source.name });
  expect(stderr + status.stdout).not.toMatch(/\bmill\b/);
});

test("the error that ends a daemon is an entry too", async () => {
  await using pipeline = await RunningPipeline.start("create table t (id int primary key)", { kinds: ["duckdb"] });
  const { exitCode, stderr } = await pipeline.installation.run().ended;
  const last: unknown = JSON.parse(stderr.trimEnd().split("\n").at(-1) ?? "");
  expect({ exitCode, last }).toMatchObject({
    exitCode: 4,
    last: {
      level: "error",
      code: "MR1213",
      error: { code: "MR1213", message: expect.any(String), hint: expect.any(String) },
    },
  });
});
