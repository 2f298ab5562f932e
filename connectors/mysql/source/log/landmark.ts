/**
 * A file of the log with the same name and the same second of creation may still be another file: the server's time stamps
 * are seconds. An event that was read decides: MySQL's name of a transaction has microseconds, and MariaDB's end of a
 * transaction has a number that the server gives only once.
 */
import { crc32 } from "node:zlib";
import { findMillraceError } from "../../../../src/core/errors.ts";
import type { Landmark, SourceContext } from "../context.ts";
import { Decoder } from "../rows/decoder.ts";
import { askedOffset, otherServerId, readDump } from "./dump.ts";
import { errorNumber } from "../errors.ts";
import * as code from "./events.ts";
import { unpackPlace } from "./position.ts";

const LANDMARKS: ReadonlySet<number> = new Set([code.GTID, code.GTID_TAGGED, code.ANONYMOUS_GTID, code.XID]);
/** The server's error number for any position where it can't read. */
const UNREADABLE = 1236;

/** What the event that the decoder left to us shows about the log; undefined: nothing. */
export function landmarkOf({ at, bytes, header, until }: Decoder, place: bigint): Landmark | undefined {
  return LANDMARKS.has(header.type) ? { start: place, checksum: crc32(bytes.subarray(at, until)) } : undefined;
}

export function spellLandmark(landmark: Landmark | undefined): string {
  return landmark === undefined ? "" : `${landmark.start}/${landmark.checksum}`;
}

/** Reads what `spellLandmark` made. */
export function parseLandmark(text: string | undefined): Landmark | undefined {
  const [start = "", checksum = ""] = (text ?? "").split("/");
  return start === "" ? undefined : { start: BigInt(start), checksum: Number(checksum) };
}

/** Whether the log still has the event where it was read. */
export async function hasLandmark(context: SourceContext, mark: Landmark, signal: AbortSignal): Promise<boolean> {
  const decoder = Decoder.withoutRows();
  let isThere = false;
  const take = (bytes: Buffer, start: number, end: number): boolean => {
    const { header } = decoder;
    header.read(bytes, start);
    const kind = code.classOf(header.type, header.flags);
    if (kind !== code.CLASS_CONTROL && kind !== code.CLASS_FORMAT) return false;
    decoder.take(bytes, start, end);
    // Events that the server sends before the requested one.
    if ((header.flags & code.FLAG_ARTIFICIAL) !== 0 || header.nextPosition === 0) return true;
    isThere = landmarkOf(decoder, mark.start)?.checksum === mark.checksum;
    return false;
  };
  const { file, offset } = unpackPlace(mark.start);
  // This event can't be requested alone.
  if (askedOffset(offset) !== offset) return true;
  const request = { file: context.names.file(file), offset, serverId: otherServerId(context), isEndless: false };
  try {
    await readDump(context, request, take, "looking for what was read", signal);
  } catch (error) {
    const known = findMillraceError(error);
    if (known?.kind !== "fatal" && errorNumber(known?.cause) !== UNREADABLE) throw error;
    return false;
  }
  return isThere;
}
