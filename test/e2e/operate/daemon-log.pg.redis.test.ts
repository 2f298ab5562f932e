/** The daemon's log as a collector reads it: entries alone, and without passwords, whatever they are and libraries say. */
import { writeFileSync } from "node:fs";
import { expect, test } from "vitest";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { ownRedis } from "../../support/run/services.ts";
import { temporaryFolder } from "../../support/run/temporary-folder.ts";
import { eventually } from "../../support/run/waiting.ts";

const PASSWORD = "mill";

test("a password that is part of its words, on a server that wants none", async () => {
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
  const entries = entriesOf(stderr);
  expect(entries).toContainEqual(expect.objectContaining({ msg: "millrace is running" }));
  expect(entries).toContainEqual(expect.objectContaining({ level: "warn", by: "a library" }));
  expect(stdout).toBe("");
  expect(JSON.parse(status.stdout)).toMatchObject({ name: pipeline.source.name });
  expect(stderr + status.stdout).not.toMatch(/\bmill\b/);
});

/** Planted into the daemon's process: prints as libraries and Node do, then fails where nobody waits for it. */
const DEFECT = `process.once("SIGUSR2", () => {
  console.error("printed by", { library: true });
  process.emitWarning("about to go", "PlantedWarning");
  setTimeout(() => { throw new TypeError("planted"); }, 50);
});`;

test("a defect that no call waits for is an entry, and worth another start", async () => {
  using folder = temporaryFolder();
  writeFileSync(folder.file("defect.mjs"), DEFECT);
  await using pipeline = await RunningPipeline.start("create table t (id int primary key)", { kinds: ["duckdb"] });
  await pipeline.daemon.stop();
  const daemon = pipeline.installation.run({ NODE_OPTIONS: `--import=${folder.file("defect.mjs")}` });
  await daemon.streaming();
  daemon.signal("SIGUSR2");
  const { exitCode, stderr } = await daemon.ended;
  const entries = entriesOf(stderr);
  expect({ exitCode, last: entries.at(-1) }).toMatchObject({
    exitCode: 75,
    last: {
      level: "error",
      code: "MR1119",
      error: { name: "TypeError", stack: expect.stringContaining("defect.mjs") },
    },
  });
  expect(entries).toContainEqual(expect.objectContaining({ by: "a library", msg: "printed by { library: true }" }));
  expect(entries).toContainEqual(expect.objectContaining({ by: "Node", name: "PlantedWarning", msg: "about to go" }));
});

function entriesOf(stderr: string): readonly unknown[] {
  return stderr
    .trimEnd()
    .split("\n")
    .map((line): unknown => JSON.parse(line));
}

test("the error that ends a daemon is an entry too", async () => {
  await using pipeline = await RunningPipeline.start("create table t (id int primary key)", { kinds: ["duckdb"] });
  const { exitCode, stderr } = await pipeline.installation.run().ended;
  expect({ exitCode, last: entriesOf(stderr).at(-1) }).toMatchObject({
    exitCode: 4,
    last: {
      level: "error",
      code: "MR1213",
      error: { code: "MR1213", message: expect.any(String), hint: expect.any(String) },
    },
  });
});
