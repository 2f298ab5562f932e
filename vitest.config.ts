import { defineConfig } from "vitest/config";
import { ALONE, HEAVY, isLongForm, LONG } from "./test/support/run/service-suffixes.ts";
import { patient } from "./test/support/run/waiting.ts";

/** Daemons against real servers, once more as roles that have no more than what `check` prints: see least-mode.ts. */
const least = {
  extends: true as const,
  test: {
    name: "least",
    include: ["test/e2e/**/*.test.ts", "test/fault/**/*.test.ts"],
    // They make roles of their own, or speak of memory and time alone.
    exclude: [
      "**/least-privilege.*",
      "**/dashboard.*",
      "**/alerts.*",
      "**/alerts-away.*",
      "**/tls.*",
      "test/e2e/operate/demo.*",
      "**/memory.*",
      "**/slow-sinks.*",
      "**/node_modules/**",
    ],
    env: { MILLRACE_TEST_ROLE: "least" },
    maxWorkers: 1,
    sequence: { groupOrder: 2 },
  },
};

const UNIT = "test/unit/**/*.test.ts";
const alone = [`test/**/*.${ALONE}.test.ts`, `test/**/*.${ALONE}.*.test.ts`];

export default defineConfig({
  test: {
    globalSetup: "test/support/run/global-setup.ts",
    // Two cores are shared with the servers under test.
    maxWorkers: 3,
    projects: [
      {
        extends: true,
        // A process for each file would take longer than most of them.
        test: { name: "unit", include: [UNIT], isolate: false, sequence: { groupOrder: 0 } },
      },
      {
        extends: true,
        test: {
          name: "together",
          include: ["test/**/*.test.ts"],
          exclude: [...alone, UNIT, "**/node_modules/**"],
          // A process for each file would take 0.3 s more of the processor, with 180 files.
          isolate: false,
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        // What each of them measures has room for one other file beside it.
        test: {
          name: "alone",
          include: alone,
          maxWorkers: 2,
          // Daemons as users start them: what is read of compiled code stays in their memory.
          env: { MILLRACE_TEST_COMPILED: "" },
          sequence: { groupOrder: 1 },
        },
      },
      ...(isLongForm() ? [least] : []),
    ],
    tags: [
      { name: LONG, description: "runs in the long form alone: npm run test:long" },
      {
        name: HEAVY,
        description: "not in the default suite: takes seconds, and varies what a cheaper test holds",
      },
    ],
    runner: "test/support/run/service-runner.ts",
    // Of tests that mostly wait.
    maxConcurrency: 4,
    pool: "forks",
    // Ends what hangs. What a test waits for has a deadline of its own: see waiting.ts.
    testTimeout: 900_000,
    expect: { poll: { timeout: patient(60_000) } },
    // Daemons of several files start at once.
    hookTimeout: 300_000,
    teardownTimeout: 30_000,
    passWithNoTests: false,
    // What takes longer is listed under its file.
    slowTestThreshold: 5_000,
    // A test that passes at the second try is named in the summary, with what it failed of: a fault that is to be found.
    retry: process.env["CI"] === "true" ? 1 : 0,
    allowOnly: process.env["CI"] !== "true",
  },
});
