import { execFile } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const ROOT = fileURLToPath(new URL("../../..", import.meta.url));
const run = promisify(execFile);

/** npm asks again for what does not come; by itself it would wait for five minutes. */
export const AGAIN = "--fetch-timeout=60000";

export interface InstalledPackage {
  /** The command that `npm install -g` makes. */
  readonly program: string;
  /** Where the package lies. */
  readonly folder: string;
  readonly tarball: string;
}

/** Packs the compiled checkout and installs the tarball for all users, below `folder`, with all that is optional. */
export async function installPackage(folder: string): Promise<InstalledPackage> {
  const tarball = await packPackage(folder);
  const prefix = join(folder, "prefix");
  const { peerDependencies } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));
  const extras = Object.entries(peerDependencies).map(([name, version]) => `${name}@${String(version)}`);
  await npm("install", "--global", "--prefix", prefix, "--prefer-offline", "--no-audit", AGAIN, tarball, ...extras);
  return { program: join(prefix, "bin/millrace"), folder: join(prefix, "lib/node_modules/millrace"), tarball };
}

/** Packs the compiled checkout: the run of tests has compiled it, so only the rest of `prepack` runs. Returns the tarball's path in `folder`. */
export async function packPackage(folder: string): Promise<string> {
  await npm("run", "--silent", "sbom");
  await npm("pack", "--ignore-scripts", "--pack-destination", folder);
  return join(folder, readdirSync(folder).find((file) => file.endsWith(".tgz")) ?? "");
}

async function npm(...args: readonly string[]): Promise<void> {
  await run("npm", [...args], { cwd: ROOT, env: ownEnvironment() });
}

/** What npm has put into the environment of the tests would be settings of a further npm too. */
export function ownEnvironment(): NodeJS.ProcessEnv {
  const own = Object.entries(process.env).filter(([name]) => !/^npm_(?!config_(cache|registry)$)/i.test(name));
  return { ...Object.fromEntries(own), PATH: `${dirname(process.execPath)}:${process.env["PATH"]}` };
}
