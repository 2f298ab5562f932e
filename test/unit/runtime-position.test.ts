import { describe, expect, test } from "vitest";
import { type Accord, accordOf } from "../../src/core/checkpoint.ts";
import type { Position } from "../../src/core/model/position.ts";
import type { SinkRecord } from "../../src/core/contracts/state-store.ts";
import { continuationOf, SinkPosition } from "../../src/runtime/sink/sink-position.ts";
import { forecastSink, heldForecast } from "../../src/runtime/start/sink-forecast.ts";
import { systemClock } from "../../src/core/clock.ts";
import { realState, ScriptedSink } from "../support/model/scripted.ts";
import { checkpointOf, complete } from "../support/daemon/complete.ts";

const at = (commit: bigint, index = 0): Position => ({ epoch: 1, commit, index });
const record = (checkpoint: bigint | null, covered: bigint | null): SinkRecord => ({
  name: "s",
  checkpoint: checkpoint === null ? null : at(checkpoint),
  covered: covered === null ? null : at(covered),
  tables: {},
  paused: false,
  error: null,
});
const own = (commit: bigint, index = 0) => checkpointOf(at(commit, index), complete({ t: "h" }));
const stand = (
  held: ReturnType<typeof own> | null,
  known: SinkRecord | null,
  acknowledged: bigint | null,
  accord: Accord = "bound",
) => continuationOf("s", { own: held, record: known, accord }, acknowledged === null ? null : at(acknowledged));

describe("where a sink goes on from", () => {
  test("one that was never seen is new", () => {
    expect(stand(null, null, 500n)).toMatchObject({ kind: "new" });
    expect(stand(null, record(null, 400n), 300n)).toMatchObject({ kind: "new" });
  });

  test("one that holds what was recorded goes on from there, or from further on where the log had nothing for it", () => {
    expect(stand(own(100n), record(100n, 100n), 100n)).toEqual({
      kind: "known",
      checkpoint: own(100n),
      covered: at(100n),
    });
    expect(stand(own(100n), record(100n, 900n), 900n)).toEqual({
      kind: "known",
      checkpoint: own(100n),
      covered: at(900n),
    });
    expect(stand(own(100n), record(100n, null), null)).toMatchObject({ covered: at(100n) });
  });

  test("one that holds more than was recorded goes on from what it holds, not from the record", () => {
    expect(stand(own(200n), record(100n, 150n), 150n)).toEqual({
      kind: "known",
      checkpoint: own(200n),
      covered: at(200n),
    });
  });

  test("one that was set back goes on from what it holds while the log reaches that far, whatever was recorded", () => {
    expect(stand(own(100n), record(200n, 900n), 100n)).toEqual({
      kind: "known",
      checkpoint: own(100n),
      covered: at(100n),
    });
    expect(stand(own(200n, 1), record(200n, 2n), 200n)).toMatchObject({ covered: at(200n, 1) });
  });

  test("one that was set back behind what the source was told to forget fails alone", () => {
    expect(() => stand(own(100n), record(200n, 900n), 101n)).toThrow(expect.objectContaining({ code: "MR1301" }));
    expect(() => stand(own(100n, 3), record(200n, 200n), 100n)).not.toThrow();
  });

  test("one that is empty and was not fails alone", () => {
    expect(() => stand(null, record(200n, 200n), null)).toThrow(expect.objectContaining({ code: "MR1301" }));
  });

  test("one that stands in a later history than the source's fails alone, as everything would be passed over", () => {
    const later = checkpointOf({ epoch: 3, commit: 100n, index: 0 }, complete({ t: "h" }));
    expect(() => stand(later, null, 500n, "foreign")).toThrow(expect.objectContaining({ code: "MR1311" }));
    expect(() => stand(later, null, 500n)).toThrow(expect.objectContaining({ code: "MR1311" }));
    expect(() => stand(later, record(200n, 200n), 500n)).toThrow(expect.objectContaining({ code: "MR1311" }));
  });

  test("one that nothing is known of is filled again where the log no longer reaches back", () => {
    expect(stand(own(100n), null, 500n)).toMatchObject({ kind: "new" });
    expect(stand(own(100n), record(null, 600n), 500n)).toMatchObject({ kind: "new" });
    expect(stand(own(700n), null, 500n)).toMatchObject({ kind: "known", covered: at(700n) });
  });

  test("one whose checkpoint is of another state fails alone, or is filled where all that it holds is of an earlier epoch", () => {
    const next: Position = { epoch: 2, commit: 1n, index: 0 };
    expect(() => stand(own(700n), null, 500n, "foreign")).toThrow(expect.objectContaining({ code: "MR1317" }));
    expect(() => stand(own(700n), record(700n, 700n), 500n, "foreign")).toThrow(
      expect.objectContaining({ code: "MR1317" }),
    );
    expect(continuationOf("s", { own: own(700n), record: null, accord: "foreign" }, next)).toEqual({
      kind: "new",
      isEmpty: false,
    });
  });
});

test.each([
  [
    "into another epoch, that it has done already",
    { keeps: {} },
    200n,
    { kind: "continues", from: { covered: at(200n) } },
    at(200n),
  ],
  ["into another epoch, that is to be done", { keeps: {} }, 100n, { kind: "reset", to: at(100n) }, at(100n)],
  ["back, to be given the log again", {}, 200n, { kind: "reset", to: at(100n) }, at(100n)],
])("a start expects of a sink that the state still wants to move %s", async (_, reset, held, expected, starts) => {
  await using opened = await realState();
  const { state } = opened;
  await state.source.created({}, at(50n));
  await state.source.reset(new Map([["s", { to: at(100n), anew: false, ...reset }]]));
  const sink = new ScriptedSink("s");
  sink.checkpoint = own(held);
  const log = (await state.source.get())!;
  const found = await forecastSink({ clock: systemClock, sink, state }, log, new AbortController().signal);
  expect(found).toMatchObject(expected);
  expect(heldForecast(log, [found])!.from).toEqual(starts);
});

describe("how a checkpoint and the state go together", () => {
  const sessions = [
    { session: "a1", base: 0, obligation: 3 },
    { session: "b2", base: 20, obligation: 5 },
    { session: "c3", base: 15, obligation: 5 },
  ];
  const state = "f0";
  const bond = (session: string, batch: number, obligation: number) => ({
    state,
    session,
    batch,
    obligation,
    resets: [],
  });

  test.each([
    ["the newest session", bond("c3", 40, 5), "bound"],
    ["an earlier one, up to where the next began", bond("a1", 12, 2), "bound"],
    ["more obligations than the state knows", bond("c3", 16, 6), "estranged"],
    ["steps that a later session did not find", bond("b2", 18, 4), "estranged"],
    ["a session that the state does not know", bond("d4", 1, 0), "estranged"],
    ["another state", { ...bond("c3", 40, 5), state: "0f" }, "foreign"],
    ["no checkpoint", undefined, "bound"],
  ] as const)("%s", (_what, own, accord) => {
    expect(accordOf(own, state, sessions)).toBe(accord);
  });

  test("a state without a name", () => {
    expect(accordOf(bond("c3", 1, 0), null, [])).toBe("foreign");
  });
});

test("a checkpoint of an earlier step is not the sink's own, at the same position too", () => {
  const sink = { name: "s", target: () => "t", delivery: "idempotent" } as const;
  const position = new SinkPosition(sink, { obligation: async () => 0, exceed: async () => undefined });
  const step = (commit: bigint, batch: number) => ({ ...own(commit), bond: { ...own(commit).bond, batch } });
  position.begin(step(100n, 7), at(100n));
  expect(position.isOwn(step(100n, 7))).toBe(true);
  expect(position.isOwn(step(100n, 8), step(100n, 8))).toBe(true);
  for (const [found, attempted] of [
    [step(100n, 6)],
    [step(100n, 8)],
    [step(100n, 6), step(100n, 8)],
    [step(90n, 7)],
    [null],
  ] as const)
    expect(position.isOwn(found, attempted)).toBe(false);
});
