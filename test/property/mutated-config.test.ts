/** millrace.yaml, damaged in every way: a config or one error with places comes out, at about the cost of a good one. */
import { readFileSync, writeFileSync } from "node:fs";
import { array, assert, asyncProperty, constantFrom, integer, oneof, record, string } from "fast-check";
import { expect, test } from "vitest";
import { connectors } from "../../connectors/registry.ts";
import { ConfigError } from "../../src/config/errors.ts";
import { loadConfig } from "../../src/config/load.ts";
import { Secrets } from "../../src/config/secrets/secrets.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";

/** Of the processor. An error costs as much as a config; what is doubled with each alias costs without end. */
const COST_FACTOR_MAX = 20;
const RUNS = 300;
const EXAMPLE = readFileSync(new URL("../../examples/shop/millrace.yaml", import.meta.url), "utf8");
const WHOLE = `${EXAMPLE.replace(/^state:.*$/m, "state: { url: postgres://m@h/s, passwordFile: ./p }")}
maskKey: 0123456789abcdef
`;
const environment = { SHOP_DATABASE_URL: "postgres://m@h/shop", REPLICA_URL: "postgres://m@h/replica" };
/** What YAML, globs, durations and URLs give a meaning to. */
const TRICKY = constantFrom(
  ..."{}[]:,&*!|>'\"%@`#?-~\0\t\n$".split(""),
  "&a [*a, *a]",
  "<<: *x",
  "${X}",
  "${file:/dev/null}",
  "1e999",
  "-0",
  "null",
  "!!binary x",
  "__proto__: {}",
  "---",
  "postgres://",
  "http://u:p@h",
  "99999999999d",
  "0x1F",
  "*.*",
  "!*",
);
const PLACE = integer({ min: 0, max: 2 ** 31 });
const CHANGES = array(
  record({ place: PLACE, removed: integer({ min: 0, max: 30 }), put: oneof(TRICKY, string({ maxLength: 12 })) }),
  { minLength: 1, maxLength: 5 },
);

test("loading ends in a config, or in an error that lists places", async () => {
  using folder = temporaryFolder();
  const file = folder.file("millrace.yaml");
  const load = async () => await loadConfig(file, { connectors, environment, secrets: new Secrets() });
  writeFileSync(file, WHOLE);
  const usual = await processorTime(load);
  const damaged = async () =>
    await assert(
      asyncProperty(CHANGES, async (changes) => {
        let text = WHOLE;
        for (const { place, removed, put } of changes) {
          const at = place % text.length;
          text = text.slice(0, at) + put + text.slice(at + removed);
        }
        writeFileSync(file, text);
        const failure: unknown = await load()
          .then(() => null)
          .catch((error: unknown) => error);
        if (failure === null) return;
        if (!(failure instanceof ConfigError)) throw failure;
        expect(failure.problems.length).toBeGreaterThan(0);
      }),
      { numRuns: RUNS },
    );
  expect((await processorTime(damaged)) / (usual * RUNS)).toBeLessThan(COST_FACTOR_MAX);
});

async function processorTime(work: () => Promise<unknown>): Promise<number> {
  const before = process.cpuUsage();
  await work();
  const { user, system } = process.cpuUsage(before);
  return user + system;
}
