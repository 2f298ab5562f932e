/** The outside of a replication message: how long its frame is, and which kind of old tuple a change has. */
import { BEFORE_FULL, BEFORE_KEY } from "../../../../src/core/model/block.ts";
import { readInt32 } from "../../../../src/core/model/tuple.ts";
import { unreadable } from "./stream-errors.ts";

/** CopyData's header, then 'w' and three 64-bit numbers. */
export const XLOG_HEADER = 5 + 25;
/** A server makes no message above 1 GB (MaxAllocSize). */
const FRAME_BYTES_MAX = 2 ** 30 + XLOG_HEADER;

/** Length of the frame at `at`, or 0 if its header is incomplete. */
export function frameLength(bytes: Uint8Array, at: number, end: number): number {
  const length = end - at < 5 ? 0 : 1 + readInt32(bytes, at + 1);
  // Room is made for the whole of it before it has come.
  if (length > FRAME_BYTES_MAX) throw unreadable("a frame of more than 1 GB");
  return length;
}

export function beforeKind(kind: number): number {
  if (kind === 0x4b) return BEFORE_KEY;
  if (kind === 0x4f) return BEFORE_FULL;
  throw unreadable(`an old tuple of kind ${kind}`);
}
