import { readFileSync } from "node:fs";

/** package.json lies two folders up from src/ in a checkout, three from dist/src/ in a package. */
function readVersion(): string {
  for (const path of ["../package.json", "../../package.json"]) {
    const url = new URL(path, import.meta.url);
    try {
      const value: unknown = JSON.parse(readFileSync(url, "utf8"));
      if (typeof value === "object" && value !== null && "version" in value) return String(value.version);
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === "ENOENT")) throw error;
    }
  }
  return "unknown";
}

export const VERSION = readVersion();
/** As it stands in every envelope. */
export const PRODUCER = `millrace/${VERSION}`;
