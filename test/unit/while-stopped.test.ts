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

test("a table that the sink can't write is paused, and comes back by itself no more", async () => {
  await using opened = await realState();
  const { suspensions } = opened.state;
  const at = "2026-01-01T00:00:00.000Z";
  const error = { code: "MR1324", message: "it can't be written", hint: null, at };
  await suspensions.suspend([{ sink: SINK, tableId: TABLE, error, shape: "f" }]);
  for (const _ of [1, 2]) await pauseWhileStopped(opened.state, systemClock, SINK, [TABLE]);
  const [paused, ...others] = await suspensions.list();
  expect([paused, others]).toMatchObject([{ sink: SINK, tableId: TABLE, error: { code: "MR1326" } }, []]);
  expect(paused).not.toHaveProperty("shape");
});

test.each(["resumed", "read again"])(
  "of two that meet in one target and are paused, the same one has it when both are %s",
  async (how) => {
    await using opened = await realState();
    const { state } = opened;
    const error = { code: "MR1305", message: "both", hint: null, at: "2026-01-01T00:00:00.000Z" };
    const waiting = { sink: SINK, tableId: TABLE, error };
    await state.suspensions.suspend([waiting]);
    const both = [TABLE, "public.notes"];
    for (const _ of [1, 2]) await pauseWhileStopped(state, systemClock, SINK, both);
    expect((await state.suspensions.list()).map((one) => one.error.code)).toEqual(["MR1326", "MR1326"]);
    if (how === "resumed") await resumeWhileStopped(state, "none", SINK, both);
    else await askWhileStopped(state, { sinks: [SINK], tableIds: both, where: null, isWhole: false, takers: [SINK] });
    expect(await state.suspensions.list()).toEqual([waiting]);
    const needed = (await state.snapshots.list()).filter((one) => one.needed);
    expect(needed).toMatchObject([{ tableId: "public.notes" }]);
  },
);

test("what passed by a paused table that is resumed is read, which nobody can cancel", async () => {
  await using opened = await realState();
  const { state } = opened;
  await pauseWhileStopped(state, systemClock, SINK, [TABLE]);
  await resumeWhileStopped(state, "none", SINK, [TABLE]);
  expect(await state.snapshots.list()).toMatchObject([{ tableId: TABLE, needed: true }]);
});
