/** The outside of a replication message: its frame, the position in its header, and errors at which decoding ends for good. */
import { BEFORE_FULL, BEFORE_KEY, NO_TUPLE, type Block } from "../../../../src/core/model/block.ts";
import { readInt32 } from "../../../../src/core/model/tuple.ts";
import { sourceError } from "../errors.ts";
import { formatLsn } from "../wire/lsn.ts";

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

/** It is the first of the header's three 64-bit numbers; this far before the message. */
export const POSITION_BEFORE_MESSAGE = 24;

/** A row's first tuple comes after the message's kind, the relation and the tuple's kind. */
const TUPLE_IN_MESSAGE = 6;

/** Position of the own record of a row that the stream delivered; its frame is in the block as it was received. */
export function recordPosition(block: Block, row: number): bigint | undefined {
  const before = block.before[row]!;
  const tuple = before === NO_TUPLE ? block.after[row]! : before;
  if (tuple === NO_TUPLE) return block.truncates.find((truncate) => truncate.row === row)?.recordPosition;
  const { buffer, byteOffset, byteLength } = block.bytes;
  return new DataView(buffer, byteOffset, byteLength).getBigUint64(tuple - TUPLE_IN_MESSAGE - POSITION_BEFORE_MESSAGE);
}

export function beforeKind(kind: number): number {
  if (kind === 0x4b) return BEFORE_KEY;
  if (kind === 0x4f) return BEFORE_FULL;
  throw unreadable(`an old tuple of kind ${kind}`);
}

/** Rows with a version that is cut off would look older than they are. */
export function tooMany(): Error {
  return sourceError("MR2035", "fatal", "a transaction has more than 4,294,967,296 changes", {
    hint: "`millrace recover` goes on behind it, compares the sinks with the source and reads what differs.",
  });
}

export function tooFar(commit: bigint): Error {
  return sourceError(
    "MR2035",
    "fatal",
    `the log has come to ${formatLsn(commit)}, beyond the last position that a row's version has room for`,
    {
      hint: "Restore the database into a new cluster (pg_dump), whose log begins at zero, and fill the sinks from there.",
    },
  );
}

export function unreadable(what: string): Error {
  return sourceError("MR2023", "fatal", `the replication stream holds ${what}`, {
    hint: "Report it with the server's version.",
  });
}
