/** The two commands around the servers: `npm run services` and `npm test`. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import { Redis } from "ioredis";
import { expect, test } from "vitest";
import { eventually } from "../support/run/waiting.ts";

interface Ended {
  readonly code: number | null;
  readonly out: string;
  readonly lastLine: string | undefined;
}

/** Without what the surrounding run tells its own workers. */
function cleanEnvironment(changes: Readonly<Record<string, string>>): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(
    ([name]) => !/^(VITEST|TEST$|NODE_ENV|CI$|MILLRACE_TEST_)/.test(name),
  );
  return { ...Object.fromEntries(kept), ...changes };
}

async function run(script: string, args: readonly string[], changes: Readonly<Record<string, string>>): Promise<Ended> {
  const child = spawn(process.execPath, [script, ...args], {
    env: cleanEnvironment(changes),
    stdio: ["ignore", "pipe", "ignore"],
  });
  const [out, [code]] = await Promise.all([text(child.stdout), once(child, "exit")]);
  return { code: typeof code === "number" ? code : null, out, lastLine: out.trimEnd().split("\n").at(-1) };
}

test("npm run services -- up prints URLs and ends its servers at Ctrl-C", async () => {
  const child = spawn(process.execPath, ["scripts/services/services.ts", "up", "redis"], {
    env: cleanEnvironment({ MILLRACE_CONTAINERS: "off" }),
    stdio: ["ignore", "pipe", "ignore"],
  });
  const [line]: unknown[] = await once(createInterface(child.stdout), "line");
  const [name, url] = String(line).split("=");
  expect(name).toBe("redis");
  const redis = new Redis(url ?? "", { retryStrategy: () => null });
  redis.on("error", () => {});
  expect(await redis.ping()).toBe("PONG");
  child.kill("SIGINT");
  const [code]: unknown[] = await once(child, "exit");
  expect(code).toBe(0);
  await eventually(() => redis.status === "end");
});

test("npm run services refuses a name that it does not know", async () => {
  expect((await run("scripts/services/services.ts", ["up", "mongo"], {})).code).toBe(2);
});

test("npm test ends in one plain line, and fails where nothing ran", async () => {
  const good = await run("scripts/test.ts", ["services-suffixes"], {});
  expect(good).toMatchObject({ code: 0, lastLine: "3 passed, 0 failed" });
  const none = await run("scripts/test.ts", ["no-file-has-this-name"], {});
  expect(none).toMatchObject({ code: 1, lastLine: "0 passed, 0 failed" });
  expect((await run("scripts/test.ts", ["--lnog"], {})).code).toBe(2);
});

test("npm test names what a missing server skipped, and in CI fails instead", async () => {
  const empty = await mkdtemp(join(tmpdir(), "millrace-empty-"));
  const without = { PATH: "/nonexistent", MILLRACE_CACHE: empty, MILLRACE_CONTAINERS: "off" };
  try {
    const skipped = await run("scripts/test.ts", ["services-suffixes", "postgres-left-out"], without);
    expect(skipped).toMatchObject({ code: 0, lastLine: "3 passed, 0 failed" });
    expect(skipped.out).toMatch(/^missing: postgres is not available: npm is not on the PATH/m);
    expect(skipped.out).toMatch(/^skipped: [1-9]\d*: postgres is not available: npm is not on the PATH/m);
    const failed = await run("scripts/test.ts", ["services-suffixes", "postgres-left-out"], { ...without, CI: "true" });
    expect(failed.code).toBe(1);
    expect(failed.lastLine).toMatch(/^3 passed, [1-9]\d* failed$/);
  } finally {
    await rm(empty, { recursive: true });
  }
});
