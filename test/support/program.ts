/** The command line, compiled into one piece with its dependencies: see `compileProgram`. */
import { fileURLToPath } from "node:url";
import { rolldown } from "rolldown";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const FOLDER = `${ROOT}node_modules/.cache/program`;

export const PROGRAM = `${FOLDER}/main.mjs`;

/** A run of tests inside of one must not write over what the processes of the outer one load. */
const COMPILED = "MILLRACE_COMPILED";

/**
 * Once for a run, so that what is tested is what lies in the sources. A run starts some two thousand processes, and most of
 * the first half second of each would go into some 900 modules, one by one; what V8 makes of them is kept, too. The demo and
 * the mutants start as the modules that they are.
 */
export async function compileProgram(): Promise<void> {
  if (process.env[COMPILED] === "1") return;
  process.env["NODE_COMPILE_CACHE"] ??= `${ROOT}node_modules/.cache/v8`;
  const bundle = await rolldown({
    input: `${ROOT}src/cli/main.ts`,
    platform: "node",
    // The one has a native part, the other is not installed.
    external: [/^@duckdb\//, "pg-native"],
  });
  await bundle.write({ dir: FOLDER, format: "esm", entryFileNames: "[name].mjs", chunkFileNames: "[name].mjs" });
  await bundle.close();
  process.env[COMPILED] = "1";
}
