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
  expect(page).toContain("on 1970-01-01 from commit abc");
  const rows = page.split("\n").filter((line) => line.startsWith("| "));
  expect(rows[0]).toBe("|  | the source | redis | duckdb |");
  expect(page).toContain("The daemon was killed: 1×, 1.0 s. Stopped in order: —.");
  expect(rows).toContain("| connections are reset | — | 2×, 0.9 s | — |");
  expect(rows).toContain("| the sink is paused for 5 s | — | — | 1×, 0.0 s |");
});
