import { expect, test } from "vitest";
import { parseLsn } from "../../connectors/postgres/source/wire/lsn.ts";
import type { Position } from "../../src/core/model/position.ts";
import { ANYWHERE } from "../../src/runtime/sink/sink-position.ts";
import { checkSystem, commonUntil } from "../../connectors/postgres/source/log/timeline.ts";

const at = (timeline: number, history: string) => ({ timeline: String(timeline), history });
const until = (stored: Record<string, string>, timeline: number, history: string): string | null => {
  const common = commonUntil(stored, { timeline, history });
  return common === null ? null : common.toString(16);
};

test("a log is the same one as far as the histories of its servers agree", () => {
  expect(until(at(1, ""), 1, "")).toBe(null);
  // Promoted since: once, and twice.
  expect(until(at(1, ""), 2, "1@0/300")).toBe("300");
  expect(until(at(1, ""), 3, "1@0/300,2@0/500")).toBe("300");
  expect(until(at(2, "1@0/300"), 3, "1@0/300,2@0/500")).toBe("500");
  expect(until(at(2, "1@0/300"), 2, "1@0/300")).toBe(null);
  // Two standbys that were both promoted, at different places; whoever was first does not matter.
  expect(until(at(2, "1@0/300"), 2, "1@0/400")).toBe("300");
  expect(until(at(2, "1@0/400"), 2, "1@0/300")).toBe("300");
  // The same, and one of them was promoted again.
  expect(until(at(3, "1@0/300,2@0/500"), 3, "1@0/300,2@0/450")).toBe("450");
  // Beside each other: the first promoted timeline was skipped by the second.
  expect(until(at(2, "1@0/300"), 3, "1@0/300")).toBe("300");
  // Back at the old primary, which does not know of the promotion.
  expect(until(at(2, "1@0/300"), 1, "")).toBe("300");
  // Nothing in common.
  expect(until(at(2, ""), 1, "")).toBe("0");
});

test("a position may be where the new timeline begins, but not inside a transaction that commits there", () => {
  const stored = { ...at(1, ""), systemIdentifier: "7" };
  const system = { systemIdentifier: "7", timeline: 2, flushed: parseLsn("0/900") };
  const check = (commit: string, index: number) => () =>
    checkSystem(stored, { reached: { epoch: 1, commit: parseLsn(commit), index } }, { ...system, history: "1@0/300" });
  expect(check("0/300", 0)).not.toThrow();
  expect(check("0/2F8", 5)).not.toThrow();
  expect(check("0/301", 0)).toThrow(expect.objectContaining({ code: "MR2016" }));
  expect(check("0/300", 1)).toThrow(expect.objectContaining({ code: "MR2016" }));
  const same = (commit: string, index: number) => () =>
    checkSystem(
      stored,
      { reached: { epoch: 1, commit: parseLsn(commit), index } },
      { ...system, timeline: 1, history: "" },
    );
  expect(same("0/900", 0)).not.toThrow();
  expect(same("0/900", 1)).toThrow(expect.objectContaining({ code: "MR2016" }));
  expect(same("0/901", 0)).toThrow(expect.objectContaining({ code: "MR2016" }));
});

test("what a sink may hold beyond the point where the former log was left has the start look again", () => {
  const stored = { ...at(1, ""), systemIdentifier: "7" };
  const system = { systemIdentifier: "7", timeline: 2, flushed: parseLsn("0/900") };
  const reached = { epoch: 3, commit: parseLsn("0/200"), index: 0 };
  const check =
    (mayReach: Position | null, timeline = 2) =>
    () =>
      checkSystem(stored, { reached, mayReach }, { ...system, timeline, history: timeline === 1 ? "" : "1@0/300" });
  const at300 = { epoch: 3, commit: parseLsn("0/300"), index: 0 };
  expect(check(null)).not.toThrow();
  expect(check(at300)).not.toThrow();
  expect(check({ ...at300, epoch: 2, commit: parseLsn("0/400") })).not.toThrow();
  expect(check(ANYWHERE, 1)).not.toThrow();
  for (const beyond of [{ ...at300, index: 1 }, { ...at300, commit: parseLsn("0/301") }, ANYWHERE])
    expect(check(beyond)).toThrow(expect.objectContaining({ reason: "moved" }));
});
