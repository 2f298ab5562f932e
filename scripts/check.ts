/**
 * `npm run check`: all checks that need no server, in under a minute: format, lint (including import boundaries),
 * types, generated documents, and the tests without services.
 */
import { spawn } from "node:child_process";
import { globSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { servicesStartedFor } from "../test/support/run/service-suffixes.ts";

interface Check {
  readonly name: string;
  readonly command: readonly [string, ...string[]];
}

interface Result {
  readonly name: string;
  readonly isPassed: boolean;
  readonly seconds: number;
  readonly output: string;
}

const root = dirname(import.meta.dirname);
const timeoutMs = 900_000;

const testFiles = globSync("test/{unit,property,golden}/**/*.test.ts", { cwd: root }).filter(
  (file) => servicesStartedFor(file).length === 0,
);

/** In the order of their cost: cheap checks run in parallel, the tests have the machine to themselves. */
const waves: readonly (readonly Check[])[] = [
  [
    { name: "format", command: ["oxfmt", "--check"] },
    { name: "generated documents", command: [process.execPath, "scripts/generate.ts", "--check"] },
    { name: "lint", command: ["oxlint", "--type-aware", "--deny-warnings"] },
    { name: "types", command: ["tsc", "--noEmit"] },
    { name: "types of the dashboard", command: ["tsc", "--noEmit", "--project", "src/dashboard"] },
  ],
  [{ name: "tests", command: ["vitest", "run", "--reporter=dot", ...testFiles] }],
];

const results: Result[] = [];
for (const wave of waves) {
  for (const result of await Promise.all(wave.map(run))) {
    results.push(result);
    process.stdout.write(`${result.isPassed ? "ok    " : "FAILED"} ${result.name} (${result.seconds.toFixed(1)} s)\n`);
  }
}
const failed = results.filter((result) => !result.isPassed);
for (const { name, output } of failed) process.stdout.write(`\n--- ${name} ---\n${output.trimEnd()}\n`);
process.stdout.write(
  failed.length === 0 ? "\nall checks passed\n" : `\nfailed: ${failed.map((f) => f.name).join(", ")}\n`,
);
process.exit(failed.length === 0 ? 0 : 1);

async function run({ name, command }: Check): Promise<Result> {
  const [file, ...args] = command;
  const started = performance.now();
  const output: Buffer[] = [];
  const child = spawn(file, args, {
    cwd: root,
    env: { ...process.env, PATH: `${join(root, "node_modules/.bin")}${delimiter}${process.env["PATH"] ?? ""}` },
    stdio: ["ignore", "pipe", "pipe"],
    timeout: timeoutMs,
    killSignal: "SIGKILL",
  });
  child.stdout.on("data", (chunk: Buffer) => output.push(chunk));
  child.stderr.on("data", (chunk: Buffer) => output.push(chunk));
  const code = await new Promise<number | null>((resolve) => {
    child.on("error", (error) => {
      output.push(Buffer.from(`${error.message}\n`));
      resolve(null);
    });
    child.on("close", resolve);
  });
  return {
    name,
    isPassed: code === 0,
    seconds: (performance.now() - started) / 1000,
    output: Buffer.concat(output).toString(),
  };
}
