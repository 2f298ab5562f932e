import { describe, expect, test } from "vitest";
import type { Position } from "../../src/core/model/position.ts";
import { FanOut } from "../../src/runtime/stream/fan-out.ts";
import { ReadPlan } from "../../src/runtime/snapshot/read-plan.ts";
import { tableVersion } from "../support/model/blocks.ts";
import { checkpointOf, complete } from "../support/daemon/complete.ts";
import { quietLog } from "../support/run/quiet-log.ts";
import { realState, ScriptedSink, workerOf } from "../support/model/scripted.ts";

const START: Position = { epoch: 1, commit: 100n, index: 0 };
const users = tableVersion({ table: "users", columns: { id: "int4" } });

type Why = "gone at the source" | "left out by the sink";

/** A sink that holds a table which is void, and of which the state lists a read, or a key. */
async function stage(why: Why, owed: "read" | "key" = "read") {
  const opened = await realState();
  const { state } = opened;
  const worker = workerOf(new ScriptedSink(), state);
  worker.begin(checkpointOf(START, complete({ [users.id]: `${users.fingerprint}/1` })), START);
  const fanOut = new FanOut(START, "m");
  fanOut.attach(worker);
  if (owed === "read")
    await state.snapshots.add({
      tableId: users.id,
      sink: worker.name,
      scope: { kind: "table" },
      reason: "schema",
      needed: true,
    });
  else await state.snapshots.addKeys(worker.name, users.id, [["1"]]);
  const isGone = why === "gone at the source";
  const gate = { table: () => (isGone ? undefined : users), isShown: () => !isGone };
  const ledger = state.snapshots;
  const parts = { fanOut, state, gate, ledger, lacking: () => [], isVoid: () => true, logger: quietLog };
  const plan = new ReadPlan(parts, { holds: () => false, tablesOfKeys: () => new Set() });
  const round = async () => {
    const { open, keyCounts } = await plan.look(false);
    // Nothing of a void table is read, although it is owed.
    expect((await plan.turns({ open, keyCounts }, new Set())).sinks).toEqual([]);
    return open.length + (keyCounts.get(worker.name)?.get(users.id) ?? 0);
  };
  return { worker, fanOut, round, [Symbol.asyncDispose]: () => opened[Symbol.asyncDispose]() };
}

describe.each(["gone at the source", "left out by the sink"] as const)("of a table that is %s", (why) => {
  test("a sink that takes nothing is told once, however often it is looked at", async () => {
    await using scene = await stage(why);
    for (let i = 0; i < 10; i++) expect(await scene.round()).toBe(1);
    expect(scene.worker.queue.length).toBe(1);
    // What waited for it is dropped with its place on the fan-out.
    scene.fanOut.detach(scene.worker);
    scene.fanOut.attach(scene.worker);
    expect(scene.worker.queue.length).toBe(0);
    for (let i = 0; i < 10; i++) expect(await scene.round()).toBe(1);
    expect(scene.worker.queue.length).toBe(1);
  });

  test.each(["read", "key"] as const)("a %s is void when the sink has taken note, and not before", async (owed) => {
    await using scene = await stage(why, owed);
    expect(await scene.round()).toBe(1);
    const stop = new AbortController();
    const run = scene.worker.run(stop.signal);
    await expect.poll(() => scene.worker.position.tables[users.id]).toBeUndefined();
    expect(await scene.round()).toBe(0);
    stop.abort();
    await expect(run).rejects.toThrow();
  });
});
