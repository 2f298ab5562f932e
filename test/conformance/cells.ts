/** Text and binary cells of the values in values.ts. */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Cell } from "../support/model/blocks.ts";
import { VALUES } from "./values.ts";

export const GOLDEN_FILE = fileURLToPath(new URL("../golden/cell-values.json", import.meta.url));

/** By native type, in the order of its values: the bytes in base64. */
export type GoldenCells = Readonly<Record<string, readonly string[]>>;

let golden: GoldenCells | undefined;

/** The cell as the binary option of the log would carry it. */
export function binaryCell(native: string, text: string): Cell {
  golden ??= readGolden();
  const bytes = golden[native]?.[VALUES[native]?.indexOf(text) ?? -1];
  if (bytes === undefined) throw new Error(`no binary form of a ${native} is known: run the golden test again`);
  return Uint8Array.from(Buffer.from(bytes, "base64"));
}

function readGolden(): GoldenCells {
  // Written by cell-values.pg.test.ts, in this form.
  const parsed: GoldenCells = JSON.parse(readFileSync(GOLDEN_FILE, "utf8"));
  return parsed;
}

const ENUM_ARRAY_OID = 70_001;

/** An array of a type that only the source knows: text elements under its own element type. */
export function enumArrayCell(labels: readonly (string | null)[]): Cell {
  const head = Buffer.alloc(20);
  head.writeInt32BE(1, 0);
  head.writeInt32BE(labels.includes(null) ? 1 : 0, 4);
  head.writeInt32BE(ENUM_ARRAY_OID, 8);
  head.writeInt32BE(labels.length, 12);
  head.writeInt32BE(1, 16);
  const parts: Buffer[] = [head];
  for (const label of labels) {
    const length = Buffer.alloc(4);
    length.writeInt32BE(label === null ? -1 : Buffer.byteLength(label));
    parts.push(length);
    if (label !== null) parts.push(Buffer.from(label));
  }
  return Uint8Array.from(Buffer.concat(parts));
}
