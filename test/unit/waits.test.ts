/** Those who wait at a time share one mark and one look, and none is answered by a mark from before it came. */
import { expect, test } from "vitest";
import { systemClock } from "../../src/core/clock.ts";
import { MillraceError } from "../../src/core/errors.ts";
import { News } from "../../src/core/waiting.ts";
import { Control } from "../../src/runtime/control/control.ts";
import { MarkedTips, Waits } from "../../src/runtime/control/waits.ts";
import type { Pipeline } from "../../src/runtime/pipeline.ts";
import { stateError } from "../../src/state/errors.ts";
import { aroundCalls, patient } from "../../src/state/patient.ts";
import { lenient, pipelineOf } from "../support/model/pipelines.ts";
import { realState, ScriptedSink } from "../support/model/scripted.ts";
import { ScriptedSource } from "../support/model/scripted-source.ts";
import { quietLog } from "../support/run/quiet-log.ts";

const NEVER = new AbortController().signal;

function scene() {
  const asked: PromiseWithResolvers<bigint>[] = [];
  let marks = 0;
  const tip = async (): Promise<bigint> => {
    const one = Promise.withResolvers<bigint>();
    asked.push(one);
    return await one.promise;
  };
  const news = new News();
  const source = { log: { tip }, watermarks: { mark: async () => void marks++ } };
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- what those who wait use of it
  const pipeline = { clock: systemClock, news, source } as unknown as Pipeline;
  return { asked, news, pipeline, tips: new MarkedTips(pipeline), marks: () => marks };
}

const settled = async (): Promise<void> => await new Promise((resolve) => setImmediate(resolve));

test("all who come while a mark is made share the next one", async () => {
  const { asked, tips, marks } = scene();
  const first = tips.marked(NEVER);
  await settled();
  const later = Array.from({ length: 300 }, () => tips.marked(NEVER));
  await settled();
  expect(asked).toHaveLength(1);
  asked[0]!.resolve(1n);
  expect(await first).toBe(1n);
  await settled();
  expect(asked).toHaveLength(2);
  asked[1]!.resolve(2n);
  expect(new Set(await Promise.all(later))).toEqual(new Set([2n]));
  expect(marks()).toBe(2);
});

test("who gives up leaves the mark to the others, and nobody is left behind one that nobody wants", async () => {
  const { asked, tips } = scene();
  const leaving = new AbortController();
  const left = tips.marked(leaving.signal);
  const stays = tips.marked(NEVER);
  await settled();
  leaving.abort();
  await expect(left).rejects.toMatchObject({ name: "AbortError" });
  asked[0]!.reject(new MillraceError({ code: "MR2001", kind: "retryable", message: "it is away" }));
  await expect.poll(() => asked.length).toBe(2);
  expect(tips.error?.code).toBe("MR2001");
  asked[1]!.resolve(3n);
  expect(await stays).toBe(3n);
  expect(tips.error).toBeNull();
});

test("one look serves all who wait", async () => {
  const { news, pipeline } = scene();
  let held = 0n;
  let looks = 0;
  const waits = new Waits(
    pipeline,
    () => {
      looks++;
      return [];
    },
    (tip) => (tip <= held ? [] : ["it is behind"]),
  );
  const stopping = new AbortController();
  const all = Array.from({ length: 300 }, (_, i) => waits.until(BigInt(1 + (i % 2)), stopping.signal));
  await settled();
  looks = 0;
  held = 1n;
  news.tell();
  await Promise.all(all.filter((_, i) => i % 2 === 0));
  expect(looks).toBe(1);
  stopping.abort();
  const rest = await Promise.allSettled(all);
  expect(rest.filter(({ status }) => status === "rejected")).toHaveLength(150);
});

test("a wait that the state holds up names the state, and no source", async () => {
  await using opened = await realState();
  let isFull = false;
  const failing = aroundCalls(opened.state, async (call) => {
    if (isFull) throw stateError("MR1209", "the disk is full", { kind: "retryable", reason: "passing" });
    return await call();
  });
  const stopping = new AbortController();
  const state = patient({ store: failing, clock: systemClock, logger: quietLog }, stopping.signal);
  const source = new ScriptedSource([]);
  // As where a publication has changed.
  source.catalog = { ...source.catalog, publish: async (identify) => await identify({ log: "1" }) };
  const pipeline = pipelineOf({ source, state, sinks: lenient([new ScriptedSink()]) });
  const control = new Control("test", pipeline, quietLog);
  const running = Promise.allSettled([pipeline.run(stopping.signal), control.run(stopping.signal)]);
  expect(await control.wait(30_000, NEVER)).toEqual({ reached: true, missing: [] });
  isFull = true;
  expect(await control.wait(1_000, NEVER)).toEqual({
    reached: false,
    missing: ["the state can't be written, and nothing is acknowledged: MR1209 the disk is full"],
  });
  isFull = false;
  expect(await control.wait(30_000, NEVER)).toEqual({ reached: true, missing: [] });
  stopping.abort();
  await running;
});
