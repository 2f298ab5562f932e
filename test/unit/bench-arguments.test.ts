import { spawnSync } from "node:child_process";
import { expect, test } from "vitest";
import { runsOf, scaleOf } from "../../bench/arguments.ts";

test("a scale or a number of runs that would measure nothing is refused before anything is started", () => {
  expect([scaleOf("0.001"), scaleOf("1"), scaleOf("10"), runsOf("1"), runsOf("3")]).toEqual([0.001, 1, 10, 1, 3]);
  for (const text of ["0", "-1", "0.0001", "11", "NaN", "Infinity", "", "much"]) {
    expect(() => scaleOf(text), text).toThrow("from 0.001 to 10");
  }
  for (const text of ["0", "-1", "1.5", "101", "", "some"]) {
    expect(() => runsOf(text), text).toThrow("from 1 to 100");
  }
});

test.each([
  [["all", "--scale", "0"], /--scale.*'0' is invalid.*from 0\.001 to 10/],
  [["copy", "--runs", "0"], /--runs.*'0' is invalid.*from 1 to 100/],
  [["copy", "constructor"], /there is no benchmark constructor; there are capture, /],
])("bench %j says what is allowed", (args, said) => {
  const { status, stderr } = spawnSync(process.execPath, ["bench/bench.ts", ...args], {
    encoding: "utf8",
    timeout: 10_000,
  });
  expect(stderr).toMatch(said);
  expect(status).toBe(1);
});
