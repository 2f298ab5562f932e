import { execFile } from "node:child_process";
import { readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const run = promisify(execFile);

export interface InstalledPackage {
  /** The command that `npm install -g` makes. */
  readonly program: string;
  /** Where the package lies. */
  readonly folder: string;
}

/** Packs the compiled checkout and installs the tarball for all users, below `folder`. */
export async function installPackage(folder: string): Promise<InstalledPackage> {
  // The run of tests has compiled it.
  await npm("pack", "--ignore-scripts", "--pack-destination", folder);
  const tarball = readdirSync(folder).find((file) => file.endsWith(".tgz")) ?? "";
  const prefix = join(folder, "prefix");
  await npm("install", "--global", "--prefix", prefix, "--prefer-offline", "--no-audit", join(folder, tarball));
  return { program: join(prefix, "bin/millrace"), folder: join(prefix, "lib/node_modules/millrace") };
}

/** What npm has put into the environment of the tests would be settings of this one too. */
async function npm(...args: readonly string[]): Promise<void> {
  const own = Object.entries(process.env).filter(([name]) => !/^npm_(?!config_(cache|registry)$)/i.test(name));
  const PATH = `${dirname(process.execPath)}:${process.env["PATH"]}`;
  await run("npm", [...args], { cwd: ROOT, env: { ...Object.fromEntries(own), PATH } });
}
