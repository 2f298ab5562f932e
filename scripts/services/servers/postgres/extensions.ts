/**
 * Extensions from Debian's newest packages, for the Postgres of npm. They want a newer C library than the machine may have, so
 * the server runs through the loader that came with them.
 */
import { join } from "node:path";
import { installDebian, debianAvailability } from "../../packages/debian.ts";
import { fetched, type ProgressListener, ServiceUnavailableError } from "../../service.ts";
import { versions } from "../../versions.ts";

/** wal2json is an output plugin, which benchmarks read beside Postgres' own. */
export type Extension = "pgvector" | "wal2json";

/** The first line that looks for extensions in folders of its setting. */
const MAJOR_MIN = 18;

export async function withExtension(
  postgres: string,
  extension: Extension,
  major: number,
  onProgress: ProgressListener,
) {
  const { suite } = versions.postgresExtensions;
  const name = `postgresql-${major}-${extension}`;
  const recipe = { what: extension, version: String(major), suite, packages: [name], megabytes: 60 };
  const found = await debianAvailability(recipe);
  if (found.kind === "unavailable") throw new ServiceUnavailableError("postgres", found.reason);
  if (major < MAJOR_MIN) throw new ServiceUnavailableError("postgres", `no extension for Postgres ${major}`);
  const folder = await fetched("postgres", installDebian(recipe, onProgress));
  const { command, args } = folder.run("", postgres);
  return {
    command,
    args: [...args.slice(0, -1), postgres],
    settings: {
      extension_control_path: `${join(folder.root, "usr/share/postgresql", String(major))}:$system`,
      dynamic_library_path: `${join(folder.root, "usr/lib/postgresql", String(major), "lib")}:$libdir`,
    },
  };
}
