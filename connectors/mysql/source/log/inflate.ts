/** Unpacks compressed parts of the log. They state their unpacked length, and never get more memory than that. */
import { inflateRawSync, inflateSync, zstdDecompressSync } from "node:zlib";
import { damaged } from "../../errors.ts";

export type Packing = "zlib" | "raw" | "zstd";

/** `what` is for the error: "compressed rows". */
export function inflated(packed: Uint8Array, packing: Packing, byteCount: number, what: string): Uint8Array {
  const options = { maxOutputLength: Math.max(byteCount, 1) };
  let plain: Uint8Array;
  try {
    if (packing === "zstd") plain = zstdDecompressSync(packed, options);
    else plain = packing === "raw" ? inflateRawSync(packed, options) : inflateSync(packed, options);
  } catch (error) {
    throw damaged(`${what} can't be unpacked`, error);
  }
  if (plain.length !== byteCount) throw damaged(`${what} have another length than they say`);
  return plain;
}
