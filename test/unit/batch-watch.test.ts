/** What a sink does not answer: it is given up, the next attempt gets more time, and one that never ends is told. */
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { abortOf, systemClock } from "../../src/core/clock.ts";
import { abortedError } from "../../src/core/errors.ts";
import type { SinkTask } from "../../src/runtime/errors.ts";
import { BatchWatch } from "../../src/runtime/sink/batch-writer.ts";
import { failure } from "../conformance/stage.ts";
import { quietLog } from "../support/run/quiet-log.ts";

const NEVER = new AbortController().signal;
const watch = () => new BatchWatch({ clock: systemClock, name: "cache", answerMsMax: 20, logger: quietLog });

/** As a connector does: an abort ends it. */
async function silent(signal: AbortSignal): Promise<void> {
  await abortOf(signal);
  throw abortedError(signal);
}

test("is given up after its time, and each one in a row gets twice the time, until one succeeds", async () => {
  const watched = watch();
  for (const seconds of [0.02, 0.04, 0.08]) {
    const error = await failure(watched.bounded("write", silent, NEVER));
    expect(error).toMatchObject({ code: "MR1335", kind: "reopen", message: expect.stringContaining(`${seconds} s`) });
    expect(watched).toMatchObject({ isWedged: true, isStuck: false });
  }
  await watched.bounded("write", async () => {}, NEVER);
  expect(watched.isWedged).toBe(false);
  expect((await failure(watched.bounded("write", silent, NEVER))).message).toContain("0.02 s");
});

test("fails as it does where it answers in time, and where it is stopped", async () => {
  const watched = watch();
  const refused = watched.bounded("write", () => Promise.reject(new Error("refused")), NEVER);
  await expect(refused).rejects.toThrow("refused");
  const stopped = new AbortController();
  const work = watched.bounded("write", silent, stopped.signal);
  stopped.abort();
  await expect(work).rejects.toMatchObject({ name: "AbortError" });
  expect(watched.isWedged).toBe(false);
});

test("is stuck while it goes on although it was given up", async () => {
  const watched = watch();
  const { promise, resolve } = Promise.withResolvers<void>();
  const work = watched.bounded("write", () => promise, NEVER);
  while (!watched.isStuck) await sleep(5);
  expect(watched.isWedged).toBe(true);
  resolve();
  await work;
  expect(watched).toMatchObject({ isStuck: false, isWedged: false });
});

test("what takes longer with a table gets twelve times the time, and each kind of work its own", async () => {
  const watched = watch();
  const late = async (task: SinkTask) => await failure(watched.bounded(task, silent, NEVER));
  expect((await late("table")).message).toMatch(/^work on a whole table of sink cache got no answer for 0\.24 s/);
  // The rows of other tables flow until the next attempt, which is no shorter for that.
  expect(watched.isWedged).toBe(false);
  await watched.bounded("write", async () => {}, NEVER);
  expect((await late("table")).message).toContain("0.48 s");
  expect((await late("write")).message).toContain("0.02 s");
  expect((await late("opening")).message).toMatch(/^the opening of sink cache got no answer for 0\.02 s/);
  expect(await watched.bounded("opening", async () => "open", NEVER)).toBe("open");
  // It can be opened, and its last write was given up: it is wedged until one is answered.
  expect(watched.isWedged).toBe(true);
  await watched.bounded("write", async () => {}, NEVER);
  expect(watched.isWedged).toBe(false);
});
