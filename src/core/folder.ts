import { existsSync, mkdirSync, statSync } from "node:fs";
import { dirname, resolve } from "node:path";

/**
 * Makes a folder, and those above it that are missing; one that is there stays as it is. Throws what the system says.
 * Node's own recursive form never returns where the system refuses a folder with ENOENT although the one above it is
 * there, as below `/proc`.
 */
export function makeFolder(path: string, mode?: number): void {
  const missing: string[] = [];
  let above = resolve(path);
  do {
    missing.unshift(above);
    above = dirname(above);
  } while (!existsSync(above));
  for (const folder of missing) {
    try {
      mkdirSync(folder, mode);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST" || !statSync(folder).isDirectory()) throw error;
    }
  }
}
