/**
 * Vitest's runner, with two rules more. Where a server that a file's name asks for is not there, its tests are skipped
 * with the reason as their note; in CI they run, and fail at the first use of the server with the same reason. And a
 * file whose tests leave something open fails.
 */
import { inject, TestRunner, type RunnerTask, type RunnerTestFile, type RunnerTestSuite } from "vitest";
import { countOpen, expectNothingLeftOpen, type OpenCounts } from "./left-open.ts";
import { servicesNeededBy } from "./service-suffixes.ts";

export default class ServiceRunner extends TestRunner {
  #openBefore: OpenCounts = new Map();

  onBeforeCollect(): void {
    this.#openBefore = countOpen();
  }

  onCollected(files: RunnerTestFile[]): void {
    for (const file of files) {
      const reason = process.env["CI"] === "true" ? undefined : missingFor(file.filepath);
      if (reason !== undefined) skipTests(file, reason);
      // The first of these hooks runs last, after those of the file itself have closed what they opened.
      else
        TestRunner.getSuiteHooks(file).afterAll.unshift(async () => {
          // What a test that failed has left open is told by its failure.
          if (!hasFailure(file)) await expectNothingLeftOpen(this.#openBefore);
        });
    }
  }
}

/** At the first try, or at the last one. */
function hasFailure(task: RunnerTask): boolean {
  if (task.type === "suite") return task.tasks.some(hasFailure);
  return (task.result?.errors ?? []).length > 0;
}

function missingFor(file: string): string | undefined {
  for (const name of servicesNeededBy(file)) {
    const service = inject("services")[name];
    if (service?.kind === "unavailable") return service.reason;
  }
  return undefined;
}

/**
 * Skips every test of a suite, and takes away its hooks, which would ask for the server too. The suites themselves stay
 * to be run: only so do the notes reach the reporters.
 */
function skipTests(suite: RunnerTestSuite, reason: string): void {
  const hooks = TestRunner.getSuiteHooks(suite);
  for (const list of Object.values(hooks)) list.length = 0;
  for (const task of suite.tasks) {
    if (task.type === "suite") {
      skipTests(task, reason);
    } else {
      task.mode = "skip";
      // Reporters print the note of a skipped test; vitest's types leave it out.
      task.result = Object.assign({ state: "skip" as const }, { note: reason });
    }
  }
}
