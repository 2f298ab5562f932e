import { describe, expect, test } from "vitest";
import type { Position } from "../../src/core/position.ts";
import type { SinkRecord } from "../../src/core/state-store.ts";
import { standingOf } from "../../src/runtime/standing.ts";

const at = (commit: bigint, index = 0): Position => ({ epoch: 1, commit, index });
const record = (written: bigint | null, covered: bigint | null): SinkRecord => ({
  name: "s",
  written: written === null ? null : at(written),
  covered: covered === null ? null : at(covered),
  tables: {},
  paused: false,
  error: null,
});
const own = (commit: bigint, index = 0) => ({ position: at(commit, index), tables: { t: "h" } });
const stand = (held: ReturnType<typeof own> | null, known: SinkRecord | null, acknowledged: bigint | null) =>
  standingOf("s", held, known, acknowledged === null ? null : at(acknowledged));

describe("where a sink goes on from", () => {
  test("one that was never seen is new", () => {
    expect(stand(null, null, 500n)).toMatchObject({ kind: "new" });
    expect(stand(null, record(null, 400n), 300n)).toMatchObject({ kind: "new" });
  });

  test("one that holds what was recorded goes on from there, or from further on where the log had nothing for it", () => {
    expect(stand(own(100n), record(100n, 100n), 100n)).toEqual({
      kind: "known",
      progress: own(100n),
      covered: at(100n),
    });
    expect(stand(own(100n), record(100n, 900n), 900n)).toEqual({
      kind: "known",
      progress: own(100n),
      covered: at(900n),
    });
    expect(stand(own(100n), record(100n, null), null)).toMatchObject({ covered: at(100n) });
  });

  test("one that holds more than was recorded goes on from what it holds, not from the record", () => {
    expect(stand(own(200n), record(100n, 150n), 150n)).toEqual({
      kind: "known",
      progress: own(200n),
      covered: at(200n),
    });
  });

  test("one that was set back goes on from what it holds while the log reaches that far, whatever was recorded", () => {
    expect(stand(own(100n), record(200n, 900n), 100n)).toEqual({
      kind: "known",
      progress: own(100n),
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
    const later = { position: { epoch: 3, commit: 100n, index: 0 }, tables: { t: "h" } };
    expect(() => stand(later, null, 500n)).toThrow(expect.objectContaining({ code: "MR1311" }));
    expect(() => stand(later, record(200n, 200n), 500n)).toThrow(expect.objectContaining({ code: "MR1311" }));
  });

  test("one that nothing is known of is filled again where the log no longer reaches back", () => {
    expect(stand(own(100n), null, 500n)).toMatchObject({ kind: "new" });
    expect(stand(own(100n), record(null, 600n), 500n)).toMatchObject({ kind: "new" });
    expect(stand(own(700n), null, 500n)).toMatchObject({ kind: "known", covered: at(700n) });
  });
});
