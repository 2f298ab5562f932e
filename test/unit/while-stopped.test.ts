/** What operators ask while no daemon runs. */
import { expect, test } from "vitest";
import { systemClock } from "../../src/core/clock.ts";
import { askWhileStopped, pauseWhileStopped, resumeWhileStopped } from "../../src/runtime/control/while-stopped.ts";
import { realState } from "../support/model/scripted.ts";

const TABLE = "public.users";
const SINK = "search";

test.each([
  ["all of its rows", null],
  ["some of its rows", "id > 5"],
])("a paused table of which %s are asked for has what passed by read, which nobody can cancel", async (_, where) => {
  await using opened = await realState();
  const { state } = opened;
  await pauseWhileStopped(state, systemClock, SINK, [TABLE]);
  const request = { sinks: [SINK], tableIds: [TABLE, "public.notes"], where, isWhole: false, takers: [SINK] };
  await askWhileStopped(state, request);
  expect(await state.suspensions.list()).toEqual([]);
  const asked = await state.snapshots.list();
  const whole = asked.filter(({ tableId, scope }) => tableId === TABLE && scope.kind === "table");
  expect(whole).toMatchObject([{ needed: true }]);
  expect(asked.filter(({ needed }) => needed)).toHaveLength(1);
  expect(asked).toHaveLength(where === null ? 2 : 3);
});

test("what passed by a paused table that is resumed is read, which nobody can cancel", async () => {
  await using opened = await realState();
  const { state } = opened;
  await pauseWhileStopped(state, systemClock, SINK, [TABLE]);
  await resumeWhileStopped(state, "none", SINK, [TABLE]);
  expect(await state.snapshots.list()).toMatchObject([{ tableId: TABLE, needed: true }]);
});
