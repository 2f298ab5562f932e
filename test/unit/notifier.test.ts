/** Who is told what is not well: what was told is compared with what is there, so nothing is lost and nothing repeated. */
import { expect, onTestFinished, test } from "vitest";
import { systemClock } from "../../src/core/clock.ts";
import type { Condition, NoticeStore } from "../../src/core/conditions/condition.ts";
import { SILENT } from "../../src/core/contracts/telemetry.ts";
import { abortedError, MillraceError } from "../../src/core/errors.ts";
import { Notifier, ToldConditions } from "../../src/ops/notifier.ts";
import type { Message, Send } from "../../src/ops/webhook.ts";
import { eventually } from "../support/run/waiting.ts";

const condition = (kind: string, level: Condition["level"] = "act"): Condition => ({
  id: kind,
  kind,
  level,
  blocks: [],
  sink: null,
  table: null,
  what: `it is about ${kind}`,
  code: null,
  message: null,
  since: null,
  lastTried: null,
  meanwhile: null,
  fix: null,
});

class Kept implements NoticeStore {
  conditions: readonly Condition[] = [];
  list = async () => this.conditions;
  replace = async (conditions: readonly Condition[]) => void (this.conditions = conditions);
}

interface Told {
  readonly began: readonly Condition[];
  readonly changed: readonly Condition[];
  readonly ended: readonly Condition[];
}

/** A notifier that looks when the test says so. */
function scene(
  notices: Kept | null,
  options: {
    readonly level?: Condition["level"];
    readonly afterMs?: number;
    readonly send?: Send;
    readonly known?: ToldConditions;
    readonly elapsedMs?: number;
  } = {},
) {
  const stopping = new AbortController();
  const there: { now: readonly Condition[]; isUnknown: boolean; refuses: boolean; isWhole: boolean } = {
    now: [],
    isUnknown: false,
    refuses: false,
    isWhole: true,
  };
  const told: string[] = [];
  const sleptMs: number[] = [];
  let elapsed = options.elapsedMs ?? 0;
  let look = () => {};
  let asleep = Promise.withResolvers<void>();
  const notifier = new Notifier({
    clock: {
      ...systemClock,
      elapsed: () => elapsed,
      sleep: async (ms, ...signals) => {
        const awake = Promise.withResolvers<void>();
        for (const signal of signals) signal.addEventListener("abort", () => awake.reject(signal.reason));
        look = awake.resolve;
        sleptMs.push(ms);
        asleep.resolve();
        await awake.promise;
        elapsed += ms;
      },
    },
    name: "shop",
    level: options.level ?? "act",
    afterMs: options.afterMs ?? 0,
    notices,
    told: options.known ?? new ToldConditions(),
    logger: SILENT,
    send: async (message, signal, onRefused) => {
      if (options.send !== undefined) return await options.send(message, signal, onRefused);
      if (there.refuses) throw new MillraceError({ code: "MR1158", kind: "retryable", message: "it does not take it" });
      // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the message as it is sent
      const { began, changed, ended } = message as Message & Told;
      const lines = { "+": began, "~": changed, "-": ended };
      told.push(
        Object.entries(lines)
          .flatMap(([how, all]) => all.map(({ id }) => how + id))
          .join(" "),
      );
    },
  });
  const running = notifier
    .run(async () => {
      if (there.isUnknown) throw new Error("the state is away");
      return { conditions: there.now, isWhole: there.isWhole };
    }, stopping.signal)
    .catch(() => undefined);
  const stop = async () => {
    stopping.abort();
    await running;
  };
  onTestFinished(stop);
  /** The last one may go on. */
  const looks = async (count = 3, untilAsleep = true) => {
    for (let i = 0; i < count; i++) {
      await asleep.promise;
      asleep = Promise.withResolvers();
      look();
    }
    if (untilAsleep) await asleep.promise;
  };
  return { there, told, looks, notifier, stop, sleptMs };
}

test("what begins is told once, and so is its end", async () => {
  const { there, told, looks } = scene(new Kept());
  there.now = [condition("a"), condition("b")];
  await looks();
  there.now = [condition("b"), condition("c")];
  await looks();
  there.now = [];
  await looks();
  expect(told).toEqual(["+a +b", "+c -a", "-b -c"]);
});

test("a look that fails says nothing of the receiver, and the next one comes no later", async () => {
  const { there, told, looks, notifier, sleptMs } = scene(new Kept());
  there.now = [condition("a")];
  there.isUnknown = true;
  await looks(6);
  expect([notifier.error, new Set(sleptMs).size]).toEqual([null, 1]);
  there.isUnknown = false;
  await looks();
  expect(told).toEqual(["+a"]);
});

test("another level or number of what was told is told when it lasts, and another text is not", async () => {
  const { there, told, looks } = scene(new Kept());
  const a = { ...condition("a"), code: "MR2001" };
  there.now = [a];
  await looks();
  there.now = [{ ...a, what: "for 8 s" }];
  await looks(9);
  for (let i = 0; i < 6; i++) {
    there.now = [{ ...a, code: i % 2 === 0 ? "MR2002" : "MR2001" }];
    await looks(2);
  }
  expect(told).toEqual(["+a"]);
  there.now = [{ ...a, code: "MR2002" }];
  await looks(9);
  there.now = [{ ...a, code: "MR2002", level: "watch", blocks: ["ready"] }];
  await looks(9);
  there.now = [];
  await looks();
  expect(told).toEqual(["+a", "~a", "~a", "-a"]);
});

test("what does not last is not told, and what only passes neither", async () => {
  const { there, told, looks } = scene(new Kept(), { afterMs: 20_000 });
  there.now = [condition("short"), condition("watched", "watch")];
  await looks(5);
  there.now = [condition("long")];
  await looks(5);
  expect(told).toEqual([]);
  await looks(10);
  expect(told).toEqual(["+long"]);
});

test("with level: watch it is told too", async () => {
  const { there, told, looks } = scene(new Kept(), { level: "watch" });
  there.now = [condition("watched", "watch")];
  await looks();
  expect(told).toEqual(["+watched"]);
});

test("what keeps the daemon from being ready is told, also if nobody can help", async () => {
  const { there, told, looks } = scene(new Kept());
  there.now = [{ ...condition("away", "watch"), blocks: ["ready"] }];
  await looks();
  expect(told).toEqual(["+away"]);
});

test("the end of the daemon is told at once, once, and that the next one runs", async () => {
  const notices = new Kept();
  const first = scene(notices, { afterMs: 20_000 });
  first.there.now = [condition("a")];
  await first.looks();
  await first.stop();
  await first.notifier.last(condition("daemon.ended"));
  await first.notifier.last(condition("daemon.ended"));
  expect(first.told).toEqual(["+daemon.ended"]);
  const { told, looks } = scene(notices);
  await looks();
  expect(told).toEqual(["-daemon.ended"]);
});

test("after a restart nothing is told again, and what ended meanwhile is", async () => {
  const notices = new Kept();
  const first = scene(notices);
  first.there.now = [condition("a"), condition("b")];
  await first.looks();
  await first.stop();
  const { there, told, looks } = scene(notices);
  there.now = [condition("b")];
  await looks();
  expect(told).toEqual(["-a"]);
});

test("what begins while the state is away is told, and its end too, by the next run of the process", async () => {
  const notices = new Kept();
  const known = new ToldConditions();
  const first = scene(notices, { known });
  await first.looks();
  const away = Promise.withResolvers<undefined>();
  notices.replace = async () => await away.promise;
  first.there.now = [condition("state.unwritable")];
  await first.looks();
  first.there.now = [condition("state.unwritable"), condition("sink.failing")];
  await first.looks();
  expect(first.told).toEqual(["+state.unwritable", "+sink.failing"]);
  away.reject(new MillraceError({ code: "MR1215", kind: "fatal", message: "the state is away" }));
  await first.stop();
  const again = new Kept();
  const { there, told, looks } = scene(again, { known });
  there.now = [condition("sink.failing")];
  await looks();
  expect(told).toEqual(["-state.unwritable"]);
  expect(again.conditions.map(({ id }) => id)).toEqual(["sink.failing"]);
});

test("a look that can't see everything ends only what it has seen itself", async () => {
  const notices = new Kept();
  const known = new ToldConditions();
  const first = scene(notices, { known });
  first.there.now = [condition("sink.dead-letters"), condition("daemon.absent")];
  await first.looks();
  await first.stop();
  const waits = scene(null, { known });
  waits.there.isWhole = false;
  waits.there.now = [condition("state.unwritable")];
  await waits.looks();
  waits.there.now = [];
  await waits.looks();
  expect(waits.told).toEqual(["+state.unwritable -daemon.absent", "-state.unwritable"]);
  await waits.stop();
  const { told, looks } = scene(notices, { known });
  await looks();
  expect(told).toEqual(["-sink.dead-letters"]);
});

test("what lasts over runs of the process is told when it is due, before the state was ever asked", async () => {
  const known = new ToldConditions();
  const waits = scene(null, { known, afterMs: 10_000 });
  waits.there.now = [condition("state.unwritable")];
  await waits.looks();
  await waits.stop();
  const notices = new Kept();
  notices.conditions = [condition("daemon.absent")];
  const { there, told, looks } = scene(notices, { known, afterMs: 10_000, elapsedMs: 6_000 });
  there.now = [condition("state.unwritable")];
  await looks(4);
  expect([...waits.told, ...told]).toEqual(["-daemon.absent", "+state.unwritable"]);
  expect(notices.conditions.map(({ id }) => id)).toEqual(["state.unwritable"]);
});

test("what was told before the state was asked is told to have ended", async () => {
  const known = new ToldConditions();
  const waits = scene(null, { known });
  waits.there.now = [condition("state.unwritable"), condition("sink.failing")];
  await waits.looks();
  await waits.stop();
  const notices = new Kept();
  const { there, told, looks } = scene(notices, { known });
  there.now = [condition("sink.failing")];
  await looks();
  expect([...waits.told, ...told]).toEqual(["+state.unwritable +sink.failing", "-state.unwritable"]);
  expect(notices.conditions.map(({ id }) => id)).toEqual(["sink.failing"]);
});

test("a receiver that refuses is told of before the last attempt, since the first", async () => {
  const refusal = (message: string) => new MillraceError({ code: "MR1158", kind: "retryable", message });
  const notices = new Kept();
  const { there, looks, notifier } = scene(notices, {
    send: async (_message, signal, onRefused) => {
      onRefused?.(refusal("first"));
      await new Promise((_resolve, reject) => signal.addEventListener("abort", () => reject(abortedError(signal))));
    },
  });
  there.now = [condition("a")];
  await looks(1, false);
  await eventually(() => expect(notifier.error).toMatchObject({ message: "first" }));
});

test("who does not listen is told later, and the status says that he was not", async () => {
  const { there, told, looks, notifier } = scene(new Kept());
  there.refuses = true;
  there.now = [condition("a"), condition("webhook.failing")];
  await looks();
  expect(notifier.error).toMatchObject({ code: "MR1158" });
  there.now = [condition("b")];
  await looks();
  there.refuses = false;
  await looks();
  expect(told).toEqual(["+b"]);
  expect(notifier.error).toBeNull();
});

test("who refuses each message is asked later each time, each minute at last, until he takes one", async () => {
  const { there, told, looks, sleptMs } = scene(new Kept());
  there.refuses = true;
  there.now = [condition("a")];
  await looks(7);
  expect(sleptMs).toEqual([2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000]);
  there.refuses = false;
  await looks(2);
  expect(told).toEqual(["+a"]);
  expect(sleptMs.slice(-2)).toEqual([2_000, 2_000]);
});
