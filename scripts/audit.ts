/**
 * `npm run audit`: known vulnerabilities of what the program loads, which fail it. A registry without that list fails
 * nothing; it is said.
 */
import { execFile } from "node:child_process";
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const ROOT = join(import.meta.dirname, "..");
const ANSWER_MS_MAX = 120_000;

/** A checkout has the heavy engines for its tests alone: here they are what they are to a user, in the versions of the lock file. */
export function asInstalled(folder: string): void {
  const { name, version, dependencies, devDependencies, peerDependencies } = JSON.parse(
    readFileSync(join(ROOT, "package.json"), "utf8"),
  );
  const [tools, peers] = [{ ...devDependencies }, { ...dependencies }];
  for (const peer of Object.keys(peerDependencies)) {
    peers[peer] = tools[peer];
    delete tools[peer];
  }
  const loaded = { name, version, dependencies: peers, devDependencies: tools };
  writeFileSync(join(folder, "package.json"), JSON.stringify(loaded));
  copyFileSync(join(ROOT, "package-lock.json"), join(folder, "package-lock.json"));
}

async function audit(folder: string): Promise<void> {
  asInstalled(folder);
  const options = { cwd: folder, timeout: ANSWER_MS_MAX, maxBuffer: 2 ** 26 };
  try {
    await promisify(execFile)("npm", ["audit", "--omit=dev"], options);
  } catch (error) {
    const said = error instanceof Error && "stdout" in error ? String(error.stdout) : "";
    if (!/^[0-9]+ .*vulnerabilit/m.test(said)) {
      process.stdout.write("npm audit: this registry gives no list of vulnerabilities\n");
      return;
    }
    process.stdout.write(said);
    process.exitCode = 1;
  }
}

if (import.meta.main) {
  const folder = mkdtempSync(join(tmpdir(), "millrace-audit-"));
  try {
    await audit(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}
