/** MariaDB's INET4 and INET6, which are bytes in the log, as the text that the server prints. */
import type { ByteWriter } from "../../../../src/core/bytes.ts";
import { beginText, endText } from "./number-cells.ts";

const address = new Uint8Array(16);
const WORDS = 8;
const COLON = 0x3a;
const DOT = 0x2e;

/** The address of `width` bytes is stored in `length` bytes at `from`: the log leaves out trailing zeros. */
export function cellInet(out: ByteWriter, bytes: Uint8Array, from: number, length: number, width: number): void {
  address.fill(0);
  for (let i = 0; i < Math.min(length, width); i++) address[i] = bytes[from + i]!;
  const text = beginText(out);
  if (width === 4) writeInet4(out, 0);
  else writeInet6(out);
  endText(out, text);
}

function writeInet4(out: ByteWriter, at: number): void {
  for (let i = 0; i < 4; i++) {
    if (i > 0) out.byte(DOT);
    out.ascii(String(address[at + i]!));
  }
}

/**
 * The first of the longest runs of zeros is left out; after one of 96 bits, or of 80 bits and ffff, an IPv4 address
 * follows.
 */
function writeInet6(out: ByteWriter): void {
  const gap = longestGap();
  for (let i = 0; i < WORDS; i++) {
    if (i === gap.at) {
      if (i === 0) out.byte(COLON);
      out.byte(COLON);
      i += gap.count - 1;
    } else if (i === 6 && gap.at === 0 && (gap.count === 6 || (gap.count === 5 && word(5) === 0xffff))) {
      return writeInet4(out, 12);
    } else {
      out.ascii(word(i).toString(16));
      if (i < WORDS - 1) out.byte(COLON);
    }
  }
  return undefined;
}

function word(i: number): number {
  return (address[2 * i]! << 8) | address[2 * i + 1]!;
}

function longestGap(): { readonly at: number; readonly count: number } {
  let longest = { at: -1, count: 0 };
  let count = 0;
  for (let i = 0; i < WORDS; i++) {
    count = word(i) === 0 ? count + 1 : 0;
    if (count > longest.count) longest = { at: i - count + 1, count };
  }
  return longest;
}
