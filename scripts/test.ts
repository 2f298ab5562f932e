/**
 * `npm test [-- pattern…]` runs the tests with vitest's own output. Then it lists the slowest files, how many tests it
 * skipped for which reason, in CI every test that passed only at the second try, and every failed test with its error. It
 * ends with one plain line, `N passed, N failed`. For one commit it takes the same tests, with the same seed; without a
 * pattern those of the default suite. `--long` runs all tests, the variants of servers, and their older lines for the tests that
 * depend on them.
 */
import { execFileSync } from "node:child_process";
import { relative } from "node:path";
import { inspect } from "node:util";
import { createVitest, type TestCase, type TestModule, type Vitest } from "vitest/node";
import { isLineChosen } from "./services/server-line.ts";
import { KAFKA_VERSION_VARIABLE, kafkaLines } from "./services/servers/kafka.ts";
import { MARIADB_VERSION_VARIABLE, mariadbLines } from "./services/servers/mysql/mariadb-version.ts";
import { POSTGRES_VERSION_VARIABLE, postgresLines } from "./services/servers/postgres/postgres-version.ts";
import type { ProvidedServices } from "../test/support/run/global-setup.ts";
import { SEED_VARIABLE } from "../test/support/run/random.ts";
import { isTurn, TURN_VARIABLE } from "../test/support/run/service-suffixes.ts";

interface Outcome {
  passed: number;
  failed: number;
  /** How many for which reason. */
  readonly skipped: Map<string, number>;
  readonly broken: { readonly name: string; readonly error: string }[];
  /** Passed at the second try. */
  readonly flaky: { readonly name: string; readonly error: string }[];
  readonly files: { readonly name: string; readonly seconds: number }[];
}

const SLOW_COUNT = 10;
const ERROR_CHARACTERS_MAX = 4_000;

/** Tests that depend on the version of Postgres. */
const POSTGRES_FACING = [
  "test/conformance/cell-values",
  "test/conformance/postgres",
  "test/e2e/",
  "test/fault/heal/connection",
  "test/fault/lost/failover",
  "test/fault/kill/failpoints",
  "test/fault/lost/lost-log",
  "test/fault/heal/postgres-session",
  "test/fault/heal/server-restart",
  "test/integration/cli",
  "test/integration/postgres-",
  "test/integration/values.pg",
];

/** Tests of single limits and logins are not among them: the oldest brokers have other ones. */
const KAFKA_FACING = ["test/conformance/kafka", "test/e2e/kafka/", "test/fault/kafka/"];

/** The long form runs the tests that depend on a server's version on each of its lines. */
const LINES = [
  { server: "Postgres", variable: POSTGRES_VERSION_VARIABLE, lines: postgresLines, files: POSTGRES_FACING },
  { server: "MariaDB", variable: MARIADB_VERSION_VARIABLE, lines: mariadbLines, files: ["mysql.mariadb"] },
  { server: "Kafka", variable: KAFKA_VERSION_VARIABLE, lines: kafkaLines, files: KAFKA_FACING },
];

const { patterns, isLong } = readArguments(process.argv.slice(2));
const outcome: Outcome = { passed: 0, failed: 0, skipped: new Map(), broken: [], flaky: [], files: [] };
const missing = new Set<string>();
const isSuite = !isLong && patterns.length === 0;
const turn = isSuite ? chosenTurn() : undefined;
if (!isLong) process.env[SEED_VARIABLE] ??= String(seedOfCommit());
await run("", patterns, { MILLRACE_TEST_LONG: isLong ? "1" : undefined, [TURN_VARIABLE]: turn });
if (isLong && patterns.length === 0) {
  for (const { server, variable, lines, files } of LINES) {
    if (isLineChosen(variable)) continue;
    for (const { version } of lines.slice(1)) {
      await run(`${server} ${version}: `, files, { MILLRACE_TEST_LONG: undefined, [variable]: version });
    }
    delete process.env[variable];
  }
}
const isComplete = process.env["CI"] !== "true" || missing.size === 0;
const isGood = outcome.failed === 0 && outcome.passed > 0 && isComplete && (process.exitCode ?? 0) === 0;
// Exits only after the pipe has taken the last line.
process.stdout.write(summary(outcome, [...missing]), () => process.exit(isGood ? 0 : 1));

/** Runs vitest once and adds the results to the outcome. */
async function run(
  label: string,
  files: string[],
  environment: Readonly<Record<string, string | undefined>>,
): Promise<void> {
  for (const [name, value] of Object.entries(environment)) {
    if (value === undefined) delete process.env[name];
    else process.env[name] = value;
  }
  if (label !== "") process.stdout.write(`\n${label}\n`);
  const vitest = await createVitest("test", { watch: false, run: true });
  await vitest.start(files).catch((error: unknown) => {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = 1;
  });
  collect(vitest, label);
  for (const reason of missingServices(vitest)) missing.add(`${label}${reason}`);
  await vitest.close();
}

function chosenTurn(): string {
  const given = process.env[TURN_VARIABLE] ?? "";
  if (given !== "" && !isTurn(given)) {
    process.stderr.write(`${TURN_VARIABLE} is none, all, 1, 2 or 3, and not ${given}\n`);
    process.exit(2);
  }
  return given === "" ? "none" : given;
}

/** One commit tries the same cases every time. Outside of a checkout all do. */
function seedOfCommit(): number {
  try {
    const commit = execFileSync("git", ["rev-parse", "HEAD"], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    });
    return Number.parseInt(commit.slice(0, 7), 16);
  } catch {
    return 1;
  }
}

function readArguments(args: readonly string[]): { patterns: string[]; isLong: boolean } {
  const unknown = args.filter((arg) => arg.startsWith("-") && arg !== "--long" && arg !== "--");
  if (unknown.length > 0) {
    process.stderr.write(`unknown option ${unknown.join(" ")}; usage: npm test [-- [--long] pattern…]\n`);
    process.exit(2);
  }
  return { patterns: args.filter((arg) => !arg.startsWith("-")), isLong: args.includes("--long") };
}

function collect(vitest: Vitest, label: string): void {
  for (const module of vitest.state.getTestModules()) {
    const name = `${label}${relative(process.cwd(), module.moduleId)}`;
    outcome.files.push({ name, seconds: module.diagnostic().duration / 1_000 });
    for (const test of module.children.allTests()) count(outcome, module, test, label);
    // If a file or suite fails outside its tests (import, hooks), there is no failed test to count.
    fail(name, module.errors());
    for (const suite of module.children.allSuites()) fail(`${name} > ${suite.fullName}`, suite.errors());
  }
  for (const error of vitest.state.getUnhandledErrors())
    fail(`${label}outside of the tests`, [error instanceof Error ? error : { message: inspect(error) }]);
}

function fail(name: string, errors: readonly { readonly message: string }[]): void {
  const [first] = errors;
  if (first === undefined) return;
  outcome.failed += 1;
  outcome.broken.push({ name, error: messageOf(first) });
}

interface ToldError {
  readonly message?: string;
  readonly diff?: string;
  /** Of a SuppressedError, whose own message is empty: what the test threw, and what its disposal threw then. */
  readonly suppressed?: ToldError;
  readonly error?: ToldError;
}

/** Includes the difference, which an assertion's message shortens. */
function messageOf(error: ToldError | undefined): string {
  return partsOf(error).join("\n").slice(0, ERROR_CHARACTERS_MAX);
}

function partsOf(error: ToldError | undefined): readonly string[] {
  if (error === undefined) return [];
  const { suppressed, error: later, message = "", diff = "" } = error;
  return [...partsOf(suppressed), ...partsOf(later), message, diff].filter((part) => part !== "");
}

function count(found: Outcome, module: TestModule, test: TestCase, label: string): void {
  const result = test.result();
  const name = `${label}${relative(process.cwd(), module.moduleId)} > ${test.fullName}`;
  switch (result.state) {
    case "passed":
      found.passed += 1;
      if (test.diagnostic()?.flaky === true) {
        found.flaky.push({ name, error: messageOf(result.errors?.[0]) });
      }
      return;
    case "failed":
      found.failed += 1;
      found.broken.push({ name, error: messageOf(result.errors[0]) });
      return;
    case "skipped":
    case "pending": {
      const note = result.state === "skipped" ? result.note : undefined;
      const reason = note ?? (module.state() === "failed" ? "its file or suite failed before it" : "no reason given");
      found.skipped.set(reason, (found.skipped.get(reason) ?? 0) + 1);
      return;
    }
    default: {
      const unknown: never = result;
      throw new Error(`unknown result ${JSON.stringify(unknown)}`);
    }
  }
}

function missingServices(vitest: Vitest): string[] {
  const services: ProvidedServices = vitest.getProvidedContext().services ?? {};
  return Object.values(services).flatMap((service) => (service.kind === "unavailable" ? [service.reason] : []));
}

function summary({ passed, failed, skipped, broken, flaky, files }: Outcome, reasons: readonly string[]): string {
  const slow = files.toSorted((a, b) => b.seconds - a.seconds).slice(0, SLOW_COUNT);
  const lines = [
    ...slow.map(({ name, seconds }) => `slow: ${name}, ${seconds.toFixed(0)} s`),
    ...reasons.map((reason) => `missing: ${reason}`),
    ...[...skipped].toSorted(([, a], [, b]) => b - a).map(([reason, count]) => `skipped: ${count}: ${reason}`),
    ...flaky.map(({ name, error }) => `flaky: ${name}: failed first: ${error}`),
    ...broken.map(({ name, error }) => `failed: ${name}: ${error}`),
    `${passed} passed, ${failed} failed`,
  ];
  return lines.map((line) => `${line.replaceAll(/\s+/g, " ")}\n`).join("");
}
