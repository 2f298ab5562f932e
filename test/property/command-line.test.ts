/** Every verb with generated options and arguments: one of the contract's exit codes comes out, soon, and no bug. */
import { mkdirSync, writeFileSync } from "node:fs";
import type { Argument, Command, Option } from "commander";
import { type Arbitrary, array, assert, asyncProperty, boolean, constantFrom, oneof, string, tuple } from "fast-check";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { cli, everyCommand } from "../../src/cli/cli.ts";
import { EXIT } from "../../src/cli/exit-codes.ts";
import { openState } from "../../src/state/open.ts";
import { isLongForm } from "../support/run/service-suffixes.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";

const ENDED_MS_MAX = 20_000;
const RUN_COUNT = isLongForm() ? 3_000 : 300;
const SOURCE = "postgres://m:p@127.0.0.1:1/d";
/** They go on trying while the source is away, as they should: they get no whole configuration here. */
const PATIENT = new Set(["run", "tail"]);
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
  const isWait = path[0] === "wait";
  return parts.map(([options, args, rest, isJson, config]) => [
    ...path,
    ...args.flat(),
    ...options.flat(),
    ...rest,
    // By default it waits for a minute.
    ...(isWait && config === "whole.yaml" ? ["--timeout", "100ms"] : []),
    ...(isJson ? ["--json"] : []),
    "-c",
    PATIENT.has(path[0] ?? "") && config === "whole.yaml" ? "wrong.yaml" : config,
  ]);
}

const folder = temporaryFolder();
const before = process.cwd();
beforeAll(() => {
  process.chdir(folder.path);
  for (const [name, text] of Object.entries(CONFIGS)) writeFileSync(name, text);
  mkdirSync("folder");
});
afterAll(() => {
  process.chdir(before);
  folder[Symbol.dispose]();
});

/** Runs the line in this process. `late`: it did not end. */
async function outcomeOf(line: readonly string[]): Promise<{ code: number | "late"; output: string }> {
  const output: string[] = [];
  const write = (text: unknown): boolean => output.push(String(text)) > 0;
  const spies = [process.stdout, process.stderr].map((stream) => vi.spyOn(stream, "write").mockImplementation(write));
  const listeners = process.listeners("uncaughtException");
  const { promise, resolve } = Promise.withResolvers<"late">();
  const timer = setTimeout(() => resolve("late"), ENDED_MS_MAX);
  try {
    const code = await Promise.race([cli(line), promise]);
    return { code, output: output.join("") };
  } finally {
    clearTimeout(timer);
    for (const spy of spies) spy.mockRestore();
    for (const listener of process.listeners("uncaughtException"))
      if (!listeners.includes(listener)) process.off("uncaughtException", listener);
  }
}

test("no verb shows a stack or hangs, and each failure has a number that is not that of bugs", async () => {
  const verbs = verbsOf(await everyCommand());
  const lines = constantFrom(...verbs).chain(linesOf);
  await assert(
    asyncProperty(lines, async (line) => {
      const { code, output } = await outcomeOf(line);
      expect(code, output).not.toBe("late");
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
  const state = await openState("sqlite:.millrace/shop.db");
  await state.source.announce(1);
  await state.close();
  for (const forced of [[], ["--force"]]) {
    const line = ["offsets", "export", "\u0000.json", ...forced, "-c", "whole.yaml"];
    expect(await outcomeOf(line)).toMatchObject({ code: EXIT.failed, output: expect.stringContaining("MR1113") });
  }
});
