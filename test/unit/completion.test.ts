/** The shells themselves run the scripts, on the program as it is built. */
import { spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { describe, expect, onTestFinished, test, type TestContext } from "vitest";
import { runCli } from "../support/daemon/cli.ts";
import { PROGRAM } from "../support/run/program.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";

const CONFIG = `name: shop
source: { kind: postgres, url: "\${SHOP_URL}" }
sinks:
  search: { kind: elasticsearch }
  cache: { kind: redis }
`;

/** What each line may go on with, whatever the shell. The bar is the cursor. */
const LINES: readonly (readonly [string, readonly string[]])[] = [
  ["millrace st|", ["status"]],
  ["millrace offsets |", ["show", "reset", "export", "import", "help"]],
  ["millrace help re|", ["reconcile", "recover", "report", "resume"]],
  ["millrace status --log-level |", ["debug", "info", "warn", "error", "silent"]],
  ["millrace --log-level=info snapshot start --t|", ["--tables"]],
  ["millrace reconcile --mode f|", ["full", "fast"]],
  ["millrace offsets reset --to s|", ["snapshot"]],
  ["millrace explain MR1110|", ["MR1110"]],
  ["millrace pause --sink |", ["search", "cache"]],
  ["millrace pause --sink c|", ["cache"]],
  ["millrace -c other.yaml pause --sink |", ["warehouse"]],
  ["millrace --config=none.yaml pause --sink |", []],
  ["millrace init --sink |", []],
  ["millrace -c oth|", ["other.yaml"]],
  ["millrace offsets export oth|", ["other.yaml"]],
  ["millrace version |", ["--help", "--config", "--json", "--log-level", "--share"]],
  ["millrace query $(touch${IFS}ran) --s|", ["--share", "--sink"]],
];

interface Scene {
  readonly folder: string;
  readonly environment: Record<string, string>;
}

async function scene(shell: string): Promise<Scene> {
  const folder = temporaryFolder();
  onTestFinished(() => folder[Symbol.dispose]());
  const printed = await runCli(["completion", shell], { folder: folder.path });
  expect(printed).toMatchObject({ exitCode: 0, stderr: "" });
  writeFileSync(folder.file("script"), printed.stdout);
  writeFileSync(folder.file("millrace.yaml"), CONFIG);
  writeFileSync(folder.file("other.yaml"), "sinks: { warehouse: { kind: duckdb } }\n");
  mkdirSync(folder.file("bin"));
  writeFileSync(folder.file("bin/millrace"), `#!/bin/sh\nexec "${process.execPath}" "${PROGRAM}" "$@"\n`, {
    mode: 0o755,
  });
  const environment = {
    PATH: `${folder.file("bin")}${delimiter}${process.env["PATH"] ?? ""}`,
    HOME: folder.path,
    NODE_COMPILE_CACHE: process.env["NODE_COMPILE_CACHE"] ?? "",
    LD_LIBRARY_PATH: process.env["LD_LIBRARY_PATH"] ?? "",
  };
  return { folder: folder.path, environment };
}

/** What the shell says of each line, in a process of its own for all of them. */
function answers(shell: string, { folder, environment }: Scene, program: string): readonly (readonly string[])[] {
  const ran = spawnSync(shell, ["-c", program], { cwd: folder, env: environment, encoding: "utf8", timeout: 120_000 });
  expect(ran.stderr).toBe("");
  const blocks = ran.stdout.split("=\n").slice(1);
  return blocks.map((block) => block.split("\n").filter((line) => line !== ""));
}

function needs(shell: string, context: TestContext): void {
  const found = spawnSync(shell, ["-c", "exit 0"]).status === 0;
  if (!found) context.skip(`${shell} is not installed`);
}

const typedLines = LINES.map(([line]) => line.slice(0, -1));

function expected(): readonly (readonly string[])[] {
  return LINES.map(([, values]) => values.toSorted());
}

describe("completion", () => {
  test("of bash", async (context) => {
    needs("bash", context);
    const place = await scene("bash");
    // As readline hands a line over: broken at blanks and at =.
    const asks = typedLines.map((line) => {
      const words = line.replaceAll("=", " = ").split(/ +/);
      return `COMP_WORDS=(${words.map(quoted).join(" ")}); COMP_CWORD=${words.length - 1}; echo =; _millrace; printf '%s\\n' "\${COMPREPLY[@]}"`;
    });
    const found = answers("bash", place, ["source ./script", "source ./script", ...asks].join("\n"));
    expect(found.map((values) => values.toSorted())).toEqual(expected());
    const ran = spawnSync("ls", [join(place.folder, "ran")]);
    expect(ran.status).not.toBe(0);
  });

  test("of zsh", async (context) => {
    needs("zsh", context);
    const place = await scene("zsh");
    const stubs = `compdef() { }
_describe() { local name=$@[-1]; print -rl -- "\${(@)\${(@P)name}%%:*}" }
_files() { print -rl -- $PREFIX*(N) }
compset() { }`;
    const asks = typedLines.map((line) => {
      const words = line.split(/ +/);
      return `words=(${words.map(quoted).join(" ")}); CURRENT=${words.length}; PREFIX=${quoted(words.at(-1) ?? "")}; print =; _millrace`;
    });
    const found = answers("zsh", place, [stubs, "source ./script", ...asks].join("\n"));
    expect(found.map((values) => values.toSorted())).toEqual(expected());
  });

  test("of fish", async (context) => {
    needs("fish", context);
    const place = await scene("fish");
    const asks = typedLines.map((line) => `echo =; complete -C ${quoted(line)}`);
    const found = answers("fish", place, ["source ./script", ...asks].join("\n"));
    expect(found.map((values) => values.map((line) => line.replace(/\t.*/, "")).toSorted())).toEqual(expected());
  });

  test("of a value behind =, as a shell that does not break words there hands it over", async () => {
    const { folder } = await scene("zsh");
    const asked = await runCli(["complete", "--", "pause", "--sink=c"], { folder });
    expect(asked.stdout).toBe("--sink=cache\t\n".trimEnd() + "\n");
    const file = await runCli(["complete", "--", "--config=oth"], { folder });
    expect(file.stdout).toBe(":files\n");
  });

  test("of a shell that is not known is wrong usage", async () => {
    using folder = temporaryFolder();
    const { exitCode, stderr } = await runCli(["completion", "tcsh"], { folder: folder.path });
    expect(exitCode).toBe(2);
    expect(stderr).toMatch(/MR1110: .*Allowed choices are bash, zsh, fish/);
  });
});

function quoted(text: string): string {
  return `'${text}'`;
}
