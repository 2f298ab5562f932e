/**
 * Which servers a test file needs, told by its name: `slots.pg.test.ts` needs Postgres, `end-to-end.pg.redis.es.test.ts`
 * all three, `parse.test.ts` none. The long form of a run adds the variants that a sink must work with too.
 */
import { basename } from "node:path";
import type { ServiceName } from "../../../scripts/services/service.ts";

interface Suffix {
  readonly always: readonly ServiceName[];
  readonly longFormToo: readonly ServiceName[];
}

const SUFFIXES: Readonly<Record<string, Suffix>> = {
  pg: { always: ["postgres"], longFormToo: [] },
  mysql: { always: ["mysql"], longFormToo: [] },
  mariadb: { always: ["mariadb"], longFormToo: [] },
  redis: { always: ["redis"], longFormToo: ["redis60", "redis8", "valkey"] },
  kafka: { always: ["kafka"], longFormToo: [] },
  ch: { always: ["clickhouse"], longFormToo: [] },
  registry: { always: ["registry"], longFormToo: [] },
  s3: { always: ["s3"], longFormToo: [] },
  prometheus: { always: ["prometheus"], longFormToo: [] },
  chromium: { always: ["chromium"], longFormToo: [] },
  es: { always: ["elasticsearch"], longFormToo: ["elasticsearch9", "opensearch", "opensearch3"] },
};

/** Files that measure, or fill the machine: they run after all others, two at a time. */
export const ALONE = "alone";

/** The tag of tests, suites and (`@module-tag long`) whole files that run in the long form alone. */
export const LONG = "long";

/**
 * The tag of tests that are not in the default suite: they take seconds, and vary a promise that a cheaper test holds.
 * Continuous integration, the long form, and whoever names files run them.
 */
export const HEAVY = "heavy";
const TURN_COUNT = 3;
/** Which heavy tests a run takes: `none`, `all`, or a third, from 1 to 3. Unset: `all`. */
export const TURN_VARIABLE = "MILLRACE_TEST_TURN";
const TURNS = new Set(["none", "all", "1", "2", "3"]);

export function isTurn(text: string): boolean {
  return TURNS.has(text);
}

/** Whether a run takes the heavy tests of a file; `name` is its path in this repository. */
export function takesHeavy(name: string): boolean {
  const turn = process.env[TURN_VARIABLE] ?? "";
  if (turn === "" || turn === "all") return true;
  let sum = 0;
  for (let i = 0; i < name.length; i++) sum += name.charCodeAt(i);
  return turn === String((sum % TURN_COUNT) + 1);
}

export function isLongForm(): boolean {
  return process.env["MILLRACE_TEST_LONG"] === "1";
}

/** Whether the file's tests, of sources and daemons on MySQL and MariaDB, are run on one of them each: the long form runs all on both. */
export function isInTurn(file: string): boolean {
  const needed = servicesNeededBy(file);
  const isSlow = /\/test\/(e2e|fault|conformance)\//.test(file);
  return isSlow && !isLongForm() && needed.includes("mysql") && needed.includes("mariadb");
}

/** The servers without which no test of that file can run. */
export function servicesNeededBy(file: string): ServiceName[] {
  return suffixesOf(file).flatMap((suffix) => suffix.always);
}

/** All servers to start for that file in this form of a run. */
export function servicesStartedFor(file: string): ServiceName[] {
  return suffixesOf(file).flatMap((suffix) => startedFor(suffix));
}

/** The servers that stand for one suffix in this form of a run, the one that is always there first. */
export function variantsOf(suffix: "pg" | "redis" | "es"): ServiceName[] {
  const known = SUFFIXES[suffix];
  return known === undefined ? [] : startedFor(known);
}

function startedFor({ always, longFormToo }: Suffix): ServiceName[] {
  return [...always, ...(isLongForm() ? longFormToo : [])];
}

function suffixesOf(file: string): Suffix[] {
  const parts = basename(file).split(".").slice(1, -2);
  return parts.flatMap((part) => {
    if (part === ALONE) return [];
    const suffix = SUFFIXES[part];
    if (suffix === undefined) throw new Error(`${basename(file)}: ".${part}" names no service that tests can ask for`);
    return [suffix];
  });
}
