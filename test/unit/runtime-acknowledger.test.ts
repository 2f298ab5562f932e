import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { News } from "../../src/core/waiting.ts";
import { systemClock } from "../../src/core/clock.ts";
import { comparePositions, type Position } from "../../src/core/model/position.ts";
import type { StateStore } from "../../src/core/contracts/state-store.ts";
import { ANYWHERE, type SinkPositions } from "../../src/runtime/sink/sink-position.ts";
import { Acknowledger } from "../../src/runtime/stream/acknowledger.ts";
import { LagClock } from "../../src/runtime/control/status.ts";
import { kindOf, ReconnectBackoff, retryInPlace } from "../../src/runtime/retry.ts";
import { MillraceError } from "../../src/core/errors.ts";
import { realState, ScriptedStream } from "../support/model/scripted.ts";

const at = (commit: bigint | number, index = 0): Position => ({ epoch: 1, commit: BigInt(commit), index });

function acknowledgerOf(
  state: StateStore,
  acknowledged: Position | null,
  sinks: () => readonly SinkPositions[],
  reached: () => Position,
  read: () => Position = () => ANYWHERE,
): Acknowledger {
  return new Acknowledger({
    clock: systemClock,
    news: new News(),
    state,
    acknowledged,
    sinks,
    reached,
    read,
    remember: () => null,
  });
}

describe("acknowledgement", () => {
  const positions = (name: string, checkpoint: Position | null, covered: Position | null): SinkPositions => ({
    name,
    checkpoint,
    tables: {},
    covered,
  });

  test("is the lowest of all sinks and of the stream, stored before it is given, and never moves back", async () => {
    const move = fc.record({
      sink: fc.constantFrom("a", "b", "c"),
      by: fc.integer({ min: -3, max: 9 }),
      inside: fc.nat({ max: 2 }),
      reached: fc.nat({ max: 60 }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(move, { minLength: 1, maxLength: 20 }), async (moves) => {
        await using opened = await realState();
        const { state } = opened;
        await state.source.created({ id: "x" }, at(0));
        const sinks = new Map<string, Position | null>([
          ["a", null],
          ["b", at(1)],
          ["c", at(2)],
        ]);
        let reached = at(0);
        const stream = new ScriptedStream();
        const acknowledger = acknowledgerOf(
          state,
          null,
          () => [...sinks].map(([name, covered]) => positions(name, covered, covered)),
          () => reached,
        );
        for (const { sink, by, inside, reached: to } of moves) {
          const before = Number(sinks.get(sink)?.commit ?? 0n);
          sinks.set(sink, at(Math.max(0, before + by), inside));
          reached = at(to);
          const count = stream.acknowledged.length;
          await acknowledger.once(stream);
          const stored = (await state.source.get())?.acknowledged ?? null;
          for (const given of stream.acknowledged.slice(count)) {
            expect(stored).not.toBeNull();
            expect(given).toBeLessThanOrEqual(stored!.commit);
          }
          expect(stored).toEqual(acknowledger.acknowledged);
        }
        expect(stream.acknowledged).toEqual(stream.acknowledged.toSorted((a, b) => Number(a - b)));
      }),
      { numRuns: 25 },
    );
  });

  test("never passes a sink, be it down, nor the stream", async () => {
    await using opened = await realState();
    const { state } = opened;
    await state.source.created({ id: "x" }, at(0));
    const stream = new ScriptedStream();
    let low: Position | null = at(300, 4);
    let reached = at(250);
    const acknowledger = acknowledgerOf(
      state,
      null,
      () => [positions("up", at(400), at(500)), positions("down", null, low)],
      () => reached,
    );
    await acknowledger.once(stream);
    expect(acknowledger.acknowledged).toEqual(at(250));
    reached = at(500);
    await acknowledger.once(stream);
    expect([acknowledger.acknowledged, stream.acknowledged.at(-1)]).toEqual([at(300, 4), 300n]);
    low = at(280);
    await acknowledger.once(stream);
    expect(stream.acknowledged.at(-1)).toBe(300n);
    const known = await state.sinks.get("up");
    expect([known?.checkpoint, known?.covered]).toEqual([at(400), at(500)]);
    expect((await state.sinks.get("down"))?.checkpoint).toBeNull();
  });

  test("is what the sinks hold themselves: a state that is restored knows no more of them", async () => {
    await using opened = await realState();
    await opened.state.source.created({ id: "x" }, at(0));
    const stream = new ScriptedStream();
    let checkpoint = at(300);
    const acknowledger = acknowledgerOf(
      opened.state,
      null,
      () => [positions("quiet", checkpoint, at(500)), positions("new", null, at(450))],
      () => at(500),
    );
    await acknowledger.once(stream);
    expect([acknowledger.acknowledged, stream.acknowledged]).toEqual([at(300), [300n]]);
    checkpoint = at(490);
    await acknowledger.once(stream);
    expect(stream.acknowledged.at(-1)).toBe(450n);
  });

  test("stores no position behind what was read of the log: the next start could not tell", async () => {
    await using opened = await realState();
    const { state } = opened;
    await state.source.created({ id: "x" }, at(0));
    let read = at(120);
    const acknowledger = acknowledgerOf(
      state,
      null,
      () => [positions("ahead", at(500), at(510)), positions("behind", at(110), at(115))],
      () => read,
      () => read,
    );
    const stored = async (): Promise<unknown> =>
      (await state.sinks.all()).map(({ checkpoint, covered }) => [checkpoint, covered]);
    await acknowledger.once(null);
    expect(await stored()).toEqual([
      [at(120), at(120)],
      [at(110), at(115)],
    ]);
    read = at(505);
    await acknowledger.once(null);
    expect(await stored()).toEqual([
      [at(500), at(505)],
      [at(110), at(115)],
    ]);
    expect(acknowledger.acknowledged).toEqual(at(110));
  });

  test("waits while no sink has taken part", async () => {
    await using opened = await realState();
    const stream = new ScriptedStream();
    const acknowledger = acknowledgerOf(
      opened.state,
      null,
      () => [positions("new", null, null)],
      () => at(900),
    );
    await acknowledger.once(stream);
    expect([acknowledger.acknowledged, stream.acknowledged]).toEqual([null, []]);
  });

  test("of an earlier run is given again to a stream that has just begun", async () => {
    await using opened = await realState();
    const stream = new ScriptedStream();
    const acknowledger = acknowledgerOf(
      opened.state,
      at(700),
      () => [positions("s", at(600), at(600))],
      () => at(900),
    );
    await acknowledger.once(stream);
    expect(stream.acknowledged).toEqual([700n]);
    expect(comparePositions(acknowledger.acknowledged!, at(700))).toBe(0);
  });
});

describe("lag", () => {
  test("is the age of the first end of the log that lies beyond", () => {
    const lag = new LagClock();
    expect([lag.tip, lag.seconds(0n, 0)]).toEqual([null, null]);
    lag.sample(100n, 1_000);
    lag.sample(100n, 2_000);
    lag.sample(200n, 3_000);
    lag.sample(300n, 4_000);
    lag.sample(300n, 9_000);
    expect(lag.tip).toBe(300n);
    expect([50n, 100n, 250n, 300n].map((position) => lag.seconds(position, 10_000))).toEqual([9, 7, 6, 0]);
    expect(lag.seconds(50n, 500)).toBe(0);
  });

  test("grows for everybody while the log's end can't be asked for", () => {
    const lag = new LagClock();
    expect(lag.isFresh(0)).toBe(false);
    lag.sample(100n, 1_000);
    lag.sample(200n, 2_000);
    expect([lag.isFresh(4_000), lag.seconds(200n, 4_000), lag.seconds(100n, 4_000)]).toEqual([true, 0, 2]);
    expect([lag.isFresh(12_000), lag.seconds(200n, 12_000), lag.seconds(100n, 12_000)]).toEqual([false, 10, 10]);
    lag.sample(200n, 13_000);
    expect(lag.seconds(200n, 13_000)).toBe(0);
  });

  test("keeps an hour of samples: what lies further back is at least that old", () => {
    const lag = new LagClock();
    for (let i = 0; i < 5_000; i++) lag.sample(BigInt(i), i * 1_000);
    expect(lag.seconds(0n, 5_000_000)).toBe(3_600);
  });
});

describe("waiting between attempts", () => {
  test("grows from a quarter of a second to half a minute, and begins anew after a success", () => {
    const backoff = new ReconnectBackoff(systemClock);
    const waits = Array.from({ length: 40 }, () => backoff.next());
    expect(Math.min(...waits)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...waits)).toBeLessThanOrEqual(30_000);
    expect(Math.max(...waits.slice(15))).toBeGreaterThan(1_000);
    backoff.reset();
    expect(backoff.next()).toBeLessThanOrEqual(1_000);
  });

  test("a step is tried a bounded number of times, and only where that may help", async () => {
    const error = (kind: "retryable" | "fatal" | "poison") =>
      new MillraceError({ code: "MR3999", kind, message: "no" });
    for (const [thrown, most] of [
      [error("fatal"), 1],
      [error("poison"), 1],
      [new DOMException("stop", "AbortError"), 1],
      [error("retryable"), 7],
      [new Error("of no known kind"), 7],
    ] as const) {
      let attempts = 0;
      const work = retryInPlace(
        systemClock,
        async () => {
          attempts++;
          throw thrown;
        },
        () => undefined,
        new AbortController().signal,
      );
      await expect(work).rejects.toBe(thrown);
      expect(attempts).toBe(most);
    }
    expect([kindOf(new Error("x")), kindOf(new Error("y", { cause: error("fatal") }))]).toEqual(["retryable", "fatal"]);
  });
});
