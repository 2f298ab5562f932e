/** The command line as users run it. */
import { fileURLToPath } from "node:url";
import { build } from "../../scripts/build.ts";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));

export const PROGRAM = `${ROOT}bin/millrace.js`;

/** A run of tests inside of one must not write over what the processes of the outer one load. */
const COMPILED = "MILLRACE_COMPILED";

/**
 * Once for a run, so that what is tested is what lies in the sources. What V8 makes of it is kept for all processes of the
 * run: there are more than a thousand.
 */
export async function compileProgram(): Promise<void> {
  if (process.env[COMPILED] === "1") return;
  process.env["NODE_COMPILE_CACHE"] ??= `${ROOT}node_modules/.cache/v8`;
  await build();
  process.env[COMPILED] = "1";
}
