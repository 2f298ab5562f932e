/** Every verb with generated options and arguments: one of the contract's exit codes comes out, soon, and no bug. */
import { mkdirSync, writeFileSync } from "node:fs";
import type { Argument, Command, Option } from "commander";
import { type Arbitrary, array, assert, asyncProperty, boolean, constantFrom, oneof, string, tuple } from "fast-check";
import { afterEach, beforeEach, expect, test } from "vitest";
import { everyCommand } from "../../src/cli/cli.ts";
import { EXIT } from "../../src/cli/exit-codes.ts";
import { openState } from "../../src/state/open.ts";
import { runHere } from "../support/daemon/cli.ts";
import { isLongForm } from "../support/run/service-suffixes.ts";
import { type TemporaryFolder, temporaryFolder } from "../support/run/temporary-folder.ts";

const RUN_COUNT = isLongForm() ? 3_000 : 300;
const SOURCE = "postgres://m:p@127.0.0.1:1/d";
/** They go on trying while the source is away, as they should, or start the program as a daemon: they get no whole configuration here. */
const PATIENT = new Set(["run", "tail", "wait", "drill"]);
const CONFIGS = {
  "whole.yaml": `name: shop\nsource: { kind: postgres, url: "${SOURCE}" }\nsinks: { w: { kind: duckdb, path: ./w.duckdb } }\n`,
  "wrong.yaml": "name: shop\nsorce: {}\n",
  "nested.yaml": `${"[".repeat(2_000)}\n`,
  "c.json": '{"connector.class": "PostgresConnector", "database.hostname": "db"}',
  "m.sql": "alter table orders add column x int; drop table",
};
/** What some option or argument of some verb gives a meaning to. No path leads out of the test's folder. */
const WORDS = constantFrom(
  ..."- -- = 0 1 -1 1e9 9007199254740993 10s 0ms 999999999999999999h 1GB NaN 1,2 {} null w nothing all folder".split(
    " ",
  ),
  ..."earliest latest snapshot 0/1A2B3C8 FFFFFFFF/FFFFFFFF 2026-11-20T06:43:15Z 2026-13-40 MR1203".split(" "),
  ..."public.* !public.x * *.* [ __proto__ constructor toString %s%n ${X} '; postgres:// x:// missing.json".split(" "),
  ..."mysql://127.0.0.1:1/d redis://127.0.0.1:1 http://127.0.0.1:1".split(" "),
  "",
  "select 1",
  "\u0000\u001b[31m\ud800",
  SOURCE,
  ...Object.keys(CONFIGS),
);
const VALUE = oneof(
  { arbitrary: WORDS, weight: 4 },
  { arbitrary: string({ unit: "binary", maxLength: 20 }).map((text) => text.replaceAll(/[/\\~.]/g, "_")), weight: 1 },
);
const CONFIG = constantFrom("whole.yaml", "wrong.yaml", "nested.yaml", "missing.yaml", "folder");

interface Verb {
  readonly path: readonly string[];
  readonly command: Command;
}

function verbsOf(command: Command, path: readonly string[] = []): readonly Verb[] {
  const below = command.commands.filter((one) => one.name() !== "help");
  if (below.length === 0) return [{ path, command }];
  return [{ path, command }, ...below.flatMap((one) => verbsOf(one, [...path, one.name()]))];
}

function given(option: Option): Arbitrary<readonly string[]> {
  const flag = option.long ?? option.flags;
  if (!option.required && !option.optional) return constantFrom([flag]);
  const values = option.argChoices === undefined ? VALUE : oneof(constantFrom(...option.argChoices), VALUE);
  return oneof(
    values.map((value) => [flag, value]),
    values.map((value) => [`${flag}=${value}`]),
    constantFrom([flag]),
  );
}

function argument({ argChoices }: Argument): Arbitrary<readonly string[]> {
  const values = argChoices === undefined ? VALUE : oneof(constantFrom(...argChoices), VALUE);
  return array(values, { maxLength: 2 });
}

function linesOf({ path, command }: Verb): Arbitrary<readonly string[]> {
  const own = command.options.length === 0 ? VALUE.map((one) => [one]) : oneof(...command.options.map(given));
  const parts = tuple(
    array(own, { maxLength: 4 }),
    tuple(...command.registeredArguments.map(argument)),
    array(VALUE, { maxLength: 1 }),
    boolean(),
    CONFIG,
  );
  return parts.map(([options, args, rest, isJson, config]) => [
    ...path,
    ...args.flat(),
    ...options.flat(),
    ...rest,
    ...(isJson ? ["--json"] : []),
    "-c",
    PATIENT.has(path[0] ?? "") && config === "whole.yaml" ? "wrong.yaml" : config,
  ]);
}

let folder: TemporaryFolder;
beforeEach(() => {
  folder = temporaryFolder();
  mkdirSync(folder.file("folder"));
  writeConfigs();
});
afterEach(() => folder[Symbol.dispose]());

function writeConfigs(): void {
  for (const [name, text] of Object.entries(CONFIGS)) writeFileSync(folder.file(name), text);
}

test("no verb shows a stack or hangs, and each failure has a number that is not that of bugs", async () => {
  const verbs = verbsOf(await everyCommand());
  const lines = constantFrom(...verbs).chain(linesOf);
  await assert(
    asyncProperty(lines, async (line) => {
      // A line before it may have written over them: `import debezium c.json --out whole.yaml --force`.
      writeConfigs();
      const { exitCode: code, stdout, stderr } = await runHere(line, { folder: folder.path });
      const output = stdout + stderr;
      expect(code, output).not.toBeNull();
      expect(Object.values(EXIT)).toContain(code);
      expect(output).not.toMatch(/\n\s+at .+:\d+:\d+/);
      expect(output).not.toContain("MR1119");
      if (code === EXIT.wrong) expect(output).toMatch(/MR\d{4}|^Usage: /);
      if (code !== EXIT.done) expect(output).not.toBe("");
    }),
    { numRuns: RUN_COUNT },
  );
});

test("a path that no file can have is told by number, also where there is a state to export", async () => {
  const read = await runHere(["report", "verify", "\u0000.json", "-c", "whole.yaml"], { folder: folder.path });
  expect(read).toMatchObject({ exitCode: EXIT.wrong, stderr: expect.stringContaining("MR1110") });
  const state = await openState(`sqlite:${folder.file(".millrace/shop.db")}`);
  await state.source.announce(1);
  await state.close();
  for (const forced of [[], ["--force"]]) {
    const line = ["offsets", "export", "\u0000.json", ...forced, "-c", "whole.yaml"];
    const { exitCode, stderr } = await runHere(line, { folder: folder.path });
    expect({ exitCode, stderr }).toEqual({ exitCode: EXIT.failed, stderr: expect.stringContaining("MR1113") });
  }
});
