/** `snapshot start` for a sink that is at a position that the log does not have (MR1311). */
import { describe, expect, test } from "vitest";
import { comparePositions, type Position } from "../../src/core/model/position.ts";
import type { StateStore } from "../../src/core/contracts/state-store.ts";
import { Control } from "../../src/runtime/control/control.ts";
import type { Pipeline } from "../../src/runtime/pipeline.ts";
import { askWhileStopped } from "../../src/runtime/control/while-stopped.ts";
import { tableVersion } from "../support/model/blocks.ts";
import { quietLog } from "../support/run/quiet-log.ts";
import { outage, realState, ScriptedSink } from "../support/model/scripted.ts";
import { ScriptedSource } from "../support/model/scripted-source.ts";
import { eventually } from "../support/run/waiting.ts";
import { checkpointOf } from "../support/daemon/complete.ts";
import { lenient, pipelineOf } from "../support/model/pipelines.ts";

const users = tableVersion({ table: "users", columns: { id: "int4", name: "text" } });
const WHOLE = { sinks: ["ahead"], tables: [], where: null } as const;
/** Of an epoch that the log has not come to. */
const AHEAD: Position = { epoch: 7, commit: 5_000n, index: 0 };

interface Scene extends AsyncDisposable {
  readonly source: ScriptedSource;
  readonly ahead: ScriptedSink;
  readonly pipeline: Pipeline;
  readonly control: Control;
}

describe("a sink that is ahead of the log", () => {
  test("is filled again while the daemon runs", async () => {
    await using opened = await realState();
    await using scene = await failed(opened.state);
    await scene.control.startSnapshot(WHOLE);
    scene.source.commit({ table: users, op: "c", after: ["50", "new"] });
    await same(scene);
  });

  test("has the log kept for it from where it is filled on", async () => {
    await using opened = await realState();
    await using scene = await failed(opened.state);
    const expelled = Promise.withResolvers<void>();
    scene.ahead.rows.expel = async () => await expelled.promise;
    const { position } = scene.pipeline.facts;
    await scene.control.startSnapshot(WHOLE);
    scene.source.commit({ table: users, op: "c", after: ["50", "new"] });
    const { sinks, source } = opened.state;
    await eventually(async () =>
      expect(comparePositions((await sinks.get("good"))!.checkpoint!, position!)).toBeGreaterThan(0),
    );
    const { acknowledged } = (await source.get())!;
    expelled.resolve();
    expect(comparePositions(acknowledged!, position!)).toBeLessThanOrEqual(0);
    await same(scene);
  });

  test("is filled again at the next start", async () => {
    await using opened = await realState();
    const first = await failed(opened.state);
    await first[Symbol.asyncDispose]();
    // As in a state from before the source was exchanged.
    await opened.state.sinks.covered("ahead", AHEAD);
    const request = { sinks: ["ahead"], tableIds: [users.id], where: null, isWhole: true, takers: ["good", "ahead"] };
    await askWhileStopped(opened.state, request);
    await using second = begun(opened.state, first.source, first.ahead);
    second.source.commit({ table: users, op: "c", after: ["50", "new"] });
    await same(second);
  });

  test("is filled again whatever it holds, although its position was given up before it was back", async () => {
    await using opened = await realState();
    const first = await failed(opened.state);
    await first[Symbol.asyncDispose]();
    const request = { sinks: ["ahead"], tableIds: [users.id], where: null, isWhole: true, takers: ["good", "ahead"] };
    await askWhileStopped(opened.state, request);
    first.ahead.onOpen = () => {
      throw outage();
    };
    await using second = begun(opened.state, first.source, first.ahead);
    const reset = async () => (await opened.state.sinks.get("ahead"))!.reset!;
    const before = await reset();
    await eventually(() => second.pipeline.life("ahead")!.state === "retrying");
    second.pipeline.life("ahead")!.giveUp({ ...before.to, commit: before.to.commit + 1n });
    await eventually(async () => expect((await reset()).to).not.toEqual(before.to));
    expect(await reset()).toMatchObject({ anew: true });
  });

  test.each([
    ["some of its tables", "mirror", { ...WHOLE, tables: [users.id] }, "millrace snapshot start --sink ahead"],
    ["some of its rows", "mirror", { ...WHOLE, where: "id > 1" }, "millrace snapshot start --sink ahead"],
    ["a history", "history", WHOLE, "millrace recover"],
    ["a stream", "stream", WHOLE, "millrace recover"],
  ] as const)("is not said to be read again if it can't be: %s", async (_, form, request, what) => {
    await using opened = await realState();
    await using scene = await failed(opened.state, form);
    await expect(scene.control.startSnapshot(request)).rejects.toMatchObject({
      code: "MR1127",
      message: expect.stringContaining("MR1311"),
      hint: expect.stringContaining(what),
    });
    expect(await opened.state.snapshots.list()).toEqual([]);
  });
});

/** A daemon that has not met the sink yet chose its epoch without it. */
async function failed(state: StateStore, form: ScriptedSink["form"] = "mirror"): Promise<Scene> {
  const source = new ScriptedSource([users]);
  source.fill(users, [
    ["1", "a"],
    ["2", "b"],
  ]);
  const ahead = new ScriptedSink("ahead");
  ahead.form = form;
  ahead.checkpoint = checkpointOf(AHEAD);
  let isBack = false;
  ahead.onOpen = () => {
    if (!isBack) throw outage();
  };
  const scene = begun(state, source, ahead);
  await eventually(() => scene.pipeline.facts.phase === "streaming");
  isBack = true;
  await eventually(() =>
    expect(scene.pipeline.life("ahead")).toMatchObject({ state: "failed", error: { code: "MR1311" } }),
  );
  return scene;
}

function begun(state: StateStore, source: ScriptedSource, ahead: ScriptedSink): Scene {
  const pipeline = pipelineOf({ source, state, sinks: lenient([new ScriptedSink("good"), ahead]) });
  const stopping = new AbortController();
  const running = pipeline.run(stopping.signal);
  running.catch(() => undefined);
  return {
    source,
    ahead,
    pipeline,
    control: new Control("test", pipeline, quietLog),
    async [Symbol.asyncDispose]() {
      stopping.abort();
      await running;
    },
  };
}

async function same({ source, ahead, pipeline }: Scene): Promise<void> {
  const sorted = (rows: Iterable<readonly (string | null | undefined | symbol)[]>) =>
    [...rows].toSorted((a, b) => Number(a[0]) - Number(b[0]));
  await eventually(() => {
    expect(pipeline.life("ahead")).toMatchObject({ state: "streaming", error: null });
    expect(sorted(ahead.rowsOf(users))).toEqual(sorted(source.rowsOf(users).values()));
  });
}
