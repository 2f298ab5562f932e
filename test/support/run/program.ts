/** The command line that tests start, more than a thousand times in a run. */
import { cpSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { rolldown } from "rolldown";
import { build } from "../../../scripts/build.ts";

const ROOT = fileURLToPath(new URL("../../..", import.meta.url));
const IN_FEW_FILES = `${ROOT}node_modules/.cache/program`;

/** What users run, with its packages, in few files. Reading 1,500 modules is two fifths of a daemon's start. */
export const PROGRAM = `${IN_FEW_FILES}/millrace.js`;

/** What users run, with its packages beside it. */
export const INSTALLED_PROGRAM = `${ROOT}bin/millrace.js`;

/** A run of tests inside of one must not write over what the processes of the outer one load. */
const COMPILED = "MILLRACE_COMPILED";

/**
 * Once for a run, so that what is tested is what lies in the sources. What V8 makes of it is kept for all processes of the
 * run.
 */
export async function compileProgram(): Promise<void> {
  if (process.env[COMPILED] === "1") return;
  process.env["NODE_COMPILE_CACHE"] ??= `${ROOT}node_modules/.cache/v8`;
  await build();
  await bundle();
  process.env[COMPILED] = "1";
}

/** Packages that look for files of their own stay where they are. */
async function bundle(): Promise<void> {
  // The others are started by the first, which finds them beside itself.
  const hosts = ["engine-host.js", "query-host.js", "through.js"];
  const input = [INSTALLED_PROGRAM, ...hosts.map((host) => `${ROOT}dist/${host}`)];
  const bundled = await rolldown({ input, platform: "node", external: [/^@(duckdb|platformatic)/] });
  await bundled.write({ dir: IN_FEW_FILES, format: "es", cleanDir: true });
  await bundled.close();
  // It says that these are modules: without it Node parses each file once more to find out.
  cpSync(`${ROOT}package.json`, `${IN_FEW_FILES}/package.json`);
}
