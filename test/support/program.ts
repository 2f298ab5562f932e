/** The command line as users run it: compiled. Reading TypeScript takes some 30 MB and 0.2 s at each start by itself. */
import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));

export const PROGRAM = `${ROOT}dist/src/cli/main.js`;

/** A run of tests inside of one must not write over what the processes of the outer one load. */
const COMPILED = "MILLRACE_COMPILED";

/**
 * Once for a run, so that what is tested is what lies in the sources. What V8 makes of it is kept for all processes of the
 * run: a command line needs half of the time to start.
 */
export function compileProgram(): void {
  if (process.env[COMPILED] === "1") return;
  process.env["NODE_COMPILE_CACHE"] ??= `${ROOT}node_modules/.cache/v8`;
  execFileSync(process.execPath, ["node_modules/typescript/bin/tsc", "-p", "tsconfig.build.json"], {
    cwd: ROOT,
    stdio: ["ignore", "inherit", "inherit"],
  });
  process.env[COMPILED] = "1";
}
