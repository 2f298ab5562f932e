/**
 * Vitest's runner, with six rules more. Where a server that a file's name asks for is not there, its tests are skipped
 * with the reason as their note; in CI they run, and fail at the first use of the server with the same reason. In the short
 * form tests with the tag "long" are skipped. Where a run has a seed, its property tests have it, and sources and daemons are
 * tested on MySQL and MariaDB in turn. The default suite leaves out heavy tests. And a file whose tests leave something open fails.
 */
import { setTimeout as delay } from "node:timers/promises";
import { configureGlobal } from "fast-check";
import {
  inject,
  type RunnerTask,
  type RunnerTestCase,
  type RunnerTestFile,
  type RunnerTestSuite,
  TestRunner,
} from "vitest";
import { SEED_VARIABLE } from "./random.ts";
import { HEAVY, isInTurn, isLongForm, LONG, servicesNeededBy, takesHeavy } from "./service-suffixes.ts";
import { mysqlFlavours } from "./services.ts";

const KINDS: Readonly<Record<string, string>> = {
  TCPSocketWrap: "TCP connection",
  TCPServerWrap: "TCP listener",
  TLSWrap: "TLS connection",
  PipeWrap: "pipe or Unix socket",
  PipeServerWrap: "Unix socket listener",
  ProcessWrap: "child process",
  MessagePort: "thread or message port",
  UDPWrap: "UDP socket",
  FSEventWrap: "file watcher",
};

/** What was just closed needs a moment to be gone. */
const GRACE_MS = 3_000;
const POLL_MS = 20;

const seed = process.env[SEED_VARIABLE] ?? "";
if (seed !== "") configureGlobal({ seed: Number(seed) });

type OpenCounts = ReadonlyMap<string, number>;

/** What keeps this process alive now, by kind. */
function countOpen(): OpenCounts {
  const counts = new Map<string, number>();
  openStandardStreams();
  for (const kind of process.getActiveResourcesInfo()) {
    if (kind in KINDS) counts.set(kind, (counts.get(kind) ?? 0) + 1);
  }
  return counts;
}

/** Node opens its own pipes when they are first asked for, as some modules do on import: they count as there before. */
function openStandardStreams(): number {
  return [process.stdin, process.stdout, process.stderr].length;
}

/** Throws when more is open than before and stays so. */
async function expectNothingLeftOpen(before: OpenCounts): Promise<void> {
  const deadline = performance.now() + GRACE_MS;
  for (;;) {
    const left = surplus(before, countOpen());
    if (left.length === 0) return;
    if (performance.now() >= deadline) throw new Error(`the tests of this file left open: ${left.join(", ")}`);
    await delay(POLL_MS);
  }
}

function surplus(before: OpenCounts, after: OpenCounts): string[] {
  return [...after].flatMap(([kind, count]) => {
    const more = count - (before.get(kind) ?? 0);
    return more > 0 ? [`${more} × ${KINDS[kind]}`] : [];
  });
}

export default class ServiceRunner extends TestRunner {
  #openBefore: OpenCounts = new Map();

  onBeforeCollect(): void {
    this.#openBefore = countOpen();
  }

  onCollected(files: RunnerTestFile[]): void {
    for (const file of files) {
      if (seed !== "" && isInTurn(file.filepath)) takeTurns(file);
      if (!isLongForm()) skipLong(file);
      if (!takesHeavy(file.name)) skipHeavy(file);
      dropUselessHooks(file);
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
    if (task.type === "suite") skipTests(task, reason);
    else skipTest(task, reason);
  }
}

function skipLong(file: RunnerTestFile): void {
  for (const test of tagged(file, LONG)) skipTest(test, "it is part of the long form");
}

/** The heavy tests of a file stay together: many go on from what the one before them has left. */
function skipHeavy(file: RunnerTestFile): void {
  for (const test of tagged(file, HEAVY)) {
    if (test.mode !== "skip") skipTest(test, "heavy: `npm test -- FILE` and continuous integration run it");
  }
}

function tagged(file: RunnerTestFile, tag: string): readonly RunnerTestCase[] {
  return testsIn(file).filter(({ tags }) => tags?.includes(tag) === true);
}

/** Where no test is left, the hooks of the suite have nothing to prepare. */
function dropUselessHooks(suite: RunnerTestSuite): void {
  for (const task of suite.tasks) if (task.type === "suite") dropUselessHooks(task);
  if (!testsIn(suite).every((test) => test.mode === "skip")) return;
  for (const list of Object.values(TestRunner.getSuiteHooks(suite))) list.length = 0;
}

function skipTest(test: RunnerTestCase, reason: string): void {
  test.mode = "skip";
  // Reporters print the note of a skipped test; vitest's types leave it out.
  test.result = Object.assign({ state: "skip" as const }, { note: reason });
}

/**
 * Of the tests that are there for each flavour the first is left to one flavour, the second to the other, and so on; with
 * the seed of another commit it is the other way round.
 */
function takeTurns(file: RunnerTestFile): void {
  for (const [turn, flavour] of mysqlFlavours.entries()) {
    const suites = file.tasks.filter((task) => task.type === "suite" && task.name.split(" ").includes(flavour));
    for (const [i, test] of suites.flatMap(testsIn).entries()) {
      if ((i + Number(seed)) % mysqlFlavours.length !== turn)
        skipTest(test, "the short form takes the flavours in turn");
    }
  }
}

function testsIn(task: RunnerTask): readonly RunnerTestCase[] {
  return task.type === "suite" ? task.tasks.flatMap(testsIn) : [task];
}
