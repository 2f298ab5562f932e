import { expect, test } from "vitest";
import type { Position } from "../../src/core/model/position.ts";
import { FanOut } from "../../src/runtime/stream/fan-out.ts";
import { ReadPlan } from "../../src/runtime/snapshot/read-plan.ts";
import { tableVersion } from "../support/model/blocks.ts";
import { checkpointOf, complete } from "../support/daemon/complete.ts";
import { quietLog } from "../support/run/quiet-log.ts";
import { realState, ScriptedSink, workerOf } from "../support/model/scripted.ts";

const START: Position = { epoch: 1, commit: 100n, index: 0 };
const users = tableVersion({ table: "users", columns: { id: "int4" } });

/** A sink that holds a table which is gone at the source, and whose read the state lists. */
async function stage() {
  const opened = await realState();
  const { state } = opened;
  const worker = workerOf(new ScriptedSink(), state);
  worker.begin(checkpointOf(START, complete({ [users.id]: `${users.fingerprint}/1` })), START);
  const fanOut = new FanOut(START, "m");
  fanOut.attach(worker);
  await state.snapshots.add({
    tableId: users.id,
    sink: worker.name,
    scope: { kind: "table" },
    reason: "schema",
    needed: true,
  });
  const gate = { table: () => undefined, isGone: () => true };
  const ledger = state.snapshots;
  const parts = { fanOut, state, gate, ledger, lacking: () => [], isSuspended: () => false, logger: quietLog };
  const plan = new ReadPlan(parts, { holds: () => false, tablesOfKeys: () => new Set() });
  const round = async () => (await plan.look(false)).open.length;
  return { worker, fanOut, round, [Symbol.asyncDispose]: () => opened[Symbol.asyncDispose]() };
}

test("a sink that takes nothing is told once that a table is gone, however often it is looked at", async () => {
  await using scene = await stage();
  for (let i = 0; i < 10; i++) expect(await scene.round()).toBe(1);
  expect(scene.worker.queue.length).toBe(1);
  // What waited for it is dropped with its place on the fan-out.
  scene.fanOut.detach(scene.worker);
  scene.fanOut.attach(scene.worker);
  expect(scene.worker.queue.length).toBe(0);
  for (let i = 0; i < 10; i++) expect(await scene.round()).toBe(1);
  expect(scene.worker.queue.length).toBe(1);
});

test("when the sink has taken note, the read is void", async () => {
  await using scene = await stage();
  expect(await scene.round()).toBe(1);
  const stop = new AbortController();
  const run = scene.worker.run(stop.signal);
  await expect.poll(() => scene.worker.position.tables[users.id]).toBeUndefined();
  expect(await scene.round()).toBe(0);
  stop.abort();
  await expect(run).rejects.toThrow();
});
