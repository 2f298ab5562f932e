/**
 * `npm run build`: the program as JavaScript, a file for each of its sources, in dist/ (docs/decisions/0020). `npm ci` runs
 * it in a checkout, and a run of tests before its first file. `npm run check` checks the types.
 */
import { execFile } from "node:child_process";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";

const ROOT = join(import.meta.dirname, "..");

if (import.meta.main) await build();

export async function build(): Promise<void> {
  rmSync(join(ROOT, "dist"), { recursive: true, force: true });
  const compiler = join(ROOT, "node_modules/typescript/bin/tsc");
  await promisify(execFile)(process.execPath, [compiler, "--project", join(ROOT, "tsconfig.build.json")]);
}
