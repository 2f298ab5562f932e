/**
 * pgvector's extension from Debian's newest packages, for the Postgres of npm. It wants a newer C library than the machine
 * may have, so the server runs through the loader that came with it.
 */
import { join } from "node:path";
import { installDebian, debianAvailability } from "../../packages/debian.ts";
import { fetched, type ProgressListener, ServiceUnavailableError } from "../../service.ts";
import { versions } from "../../versions.ts";

/** The first line that looks for extensions in folders of its setting. */
const MAJOR_MIN = 18;

export async function pgvector(postgres: string, major: number, onProgress: ProgressListener) {
  const { suite } = versions.pgvector;
  const name = `postgresql-${major}-pgvector`;
  const recipe = { what: "pgvector", version: String(major), suite, packages: [name], megabytes: 60 };
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
