/** The files that come with the program. Their root lies above sources and compiled files, at different heights. */
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";

/** @param path from the root of the package */
export function installed(path: string): string {
  for (let folder = import.meta.dirname; ; folder = dirname(folder)) {
    const found = join(folder, path);
    if (existsSync(found)) return found;
    if (folder === dirname(folder)) throw new Error(`${path} is missing from the installation`);
  }
}
