import { closeSync, fstatSync, openSync, readSync } from "node:fs";

const PORTION_BYTES = 64 * 1024;

/** Reads a file that a configuration names. Devices never end, and a larger file is surely not the intended one. */
export function readSmallFile(path: string, byteCountMax: number): string {
  const file = openSync(path, "r");
  try {
    const facts = fstatSync(file);
    if (facts.isDirectory()) throw new UnreadableFile("EISDIR");
    if (!facts.isFile() && !facts.isFIFO()) throw new UnreadableFile("not a file");
    const parts: Buffer[] = [];
    for (let count = 0; ;) {
      const part = Buffer.allocUnsafe(PORTION_BYTES);
      const read = readSync(file, part);
      if (read === 0) return Buffer.concat(parts).toString("utf8");
      count += read;
      if (count > byteCountMax) throw new UnreadableFile(`larger than ${byteCountMax / 1024} KB`);
      parts.push(part.subarray(0, read));
    }
  } finally {
    closeSync(file);
  }
}

/** `code` gives the reason, as in the system's own errors. */
class UnreadableFile extends Error {
  readonly code: string;

  constructor(code: string) {
    super(code);
    this.code = code;
  }
}
