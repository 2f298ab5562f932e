/** A write that gets no answer: it is given up, the next one gets more time, and one that never ends is told. */
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { abortOf, systemClock } from "../../src/core/clock.ts";
import { abortedError } from "../../src/core/errors.ts";
import { StepWatch } from "../../src/runtime/step-watch.ts";
import { failure } from "../conformance/stage.ts";
import { quietLog } from "../support/quiet-log.ts";

const NEVER = new AbortController().signal;
const watch = () => new StepWatch({ clock: systemClock, name: "cache", answerMsMax: 20, logger: quietLog });

/** As a connector does: an abort ends it. */
async function silent(signal: AbortSignal): Promise<void> {
  await abortOf(signal);
  throw abortedError(signal);
}

test("is given up after its time, and each one in a row gets twice the time, until one succeeds", async () => {
  const watched = watch();
  for (const seconds of [0.02, 0.04, 0.08]) {
    const error = await failure(watched.bounded(silent, NEVER));
    expect(error).toMatchObject({ code: "MR1335", kind: "reopen", message: expect.stringContaining(`${seconds} s`) });
    expect(watched).toMatchObject({ isWedged: true, isStuck: false });
  }
  await watched.bounded(async () => {}, NEVER);
  expect(watched.isWedged).toBe(false);
  expect((await failure(watched.bounded(silent, NEVER))).message).toContain("0.02 s");
});

test("fails as it does where it answers in time, and where it is stopped", async () => {
  const watched = watch();
  const refused = watched.bounded(() => Promise.reject(new Error("refused")), NEVER);
  await expect(refused).rejects.toThrow("refused");
  const stopped = new AbortController();
  const work = watched.bounded(silent, stopped.signal);
  stopped.abort();
  await expect(work).rejects.toMatchObject({ name: "AbortError" });
  expect(watched.isWedged).toBe(false);
});

test("is stuck while it goes on although it was given up", async () => {
  const watched = watch();
  const { promise, resolve } = Promise.withResolvers<void>();
  const work = watched.bounded(() => promise, NEVER);
  while (!watched.isStuck) await sleep(5);
  expect(watched.isWedged).toBe(true);
  resolve();
  await work;
  expect(watched).toMatchObject({ isStuck: false, isWedged: false });
});
