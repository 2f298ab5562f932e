/**
 * Finds the files of the installed package. The package's root is above sources and compiled files, at different
 * heights.
 */
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";

/** `path` is relative to the root of the package. */
export function installed(path: string): string {
  for (let folder = import.meta.dirname; ; folder = dirname(folder)) {
    const found = join(folder, path);
    if (existsSync(found)) return found;
    if (folder === dirname(folder)) throw new Error(`${path} is missing from the installation`);
  }
}
