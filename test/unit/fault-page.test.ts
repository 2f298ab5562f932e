import { expect, test } from "vitest";
import { faultPage } from "../../scripts/faults.ts";

test("each fault is beside the sources and sinks that met it, with its longest recovery", () => {
  const page = faultPage(
    [
      {
        source: { name: "mysql", port: "1" },
        sinks: [
          { name: "redis", port: "2" },
          { name: "duckdb", port: null },
        ],
        breaks: [
          { what: "kill", on: "daemon", recoveryMs: 1_000 },
          { what: "cut", on: "localhost:2", recoveryMs: 200 },
          { what: "cut", on: "localhost:2", recoveryMs: 900 },
          { what: "cut", on: "localhost:21", recoveryMs: 5_000 },
          { what: "pause", on: "duckdb", recoveryMs: 0 },
        ],
      },
    ],
    { commit: "abc", at: new Date(0) },
  );
  expect(page).toContain("Made on 1970-01-01 from commit abc. The daemon was killed");
  const rows = page.split("\n").filter((line) => line.startsWith("| "));
  expect(rows[0]).toBe("|  | the source | redis | duckdb |");
  expect(page).toContain("The daemon was killed: 1×, 1.0 s. Stopped in order: —.");
  expect(rows).toContain("| connections are reset | — | 2×, 0.9 s | — |");
  expect(rows).toContain("| the sink is paused for 5 s | — | — | 1×, 0.0 s |");
});

test("a drill that is run again takes its own part's place", () => {
  const drill = (name: string) => ({ source: { name, port: "1" }, sinks: [], breaks: [] });
  const first = faultPage([drill("a"), drill("c")], { commit: "abc", at: new Date(0) });
  const page = faultPage([drill("b"), drill("c")], { commit: "def", at: new Date(0) }, first);
  const parts = [...page.matchAll(/^## From (\w)\n\n.*from commit (\w+)\./gm)].map(([, name, commit]) => [
    name,
    commit,
  ]);
  expect(parts).toEqual([
    ["a", "abc"],
    ["b", "def"],
    ["c", "def"],
  ]);
  expect(faultPage([], { commit: "", at: new Date(0) }, page)).toBe(page);
});
