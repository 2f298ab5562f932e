import { expect, test } from "vitest";
import { parseByteCount, parseDurationMs } from "../../src/core/values/quantity.ts";

test("durations are read to the millisecond", () => {
  expect(["500ms", "10s", "5m", "1h", "1.5h", "2d", "0s"].map(parseDurationMs)).toEqual([
    500, 10_000, 300_000, 3_600_000, 5_400_000, 172_800_000, 0,
  ]);
});

test("sizes are read to the byte", () => {
  expect(["1B", "512KB", "64MB", "1.5GB", "1TB"].map(parseByteCount)).toEqual([
    1,
    524_288,
    67_108_864,
    1_610_612_736,
    2 ** 40,
  ]);
});

test("anything else is refused", () => {
  for (const text of ["", "10", "s", "10 s", "-1s", "1e3s", "10sec", "10S", "1_000ms", "99999999999999999999d"])
    expect(parseDurationMs(text)).toBeUndefined();
  for (const text of ["", "64", "64mb", "64MiB", "64 MB", "MB"]) expect(parseByteCount(text)).toBeUndefined();
});
