/** Looks into the log beside the stream: finds its transactions, by name and position, and single events. */
import { crc32 } from "node:zlib";
import { findMillraceError } from "../../../../src/core/errors.ts";
import { errorNumber, sourceError } from "../errors.ts";
import { askedOffset, type OnRead, readDump } from "../wire/dump.ts";
import * as code from "../wire/event-header.ts";
import type { StatementKind } from "../statements/statements.ts";
import { startOf, unpackPosition } from "../wire/position.ts";
import type { Server } from "../wire/server.ts";
import { EventReader } from "./event-reader.ts";
import type { GtidSet } from "./gtid-set.ts";
import type { Statement } from "./log-events.ts";
import { LogInterpreter, type SeenTransaction } from "./log-interpreter.ts";

export type Definition = Extract<StatementKind, { readonly kind: "definition" }>;

/** Each returns false to end the walk. */
interface WalkHandlers {
  /** A file begins; the argument is what is before it, or undefined if that is unknown. */
  readonly onFile?: (before: GtidSet | undefined) => boolean;
  readonly onTransaction?: (start: bigint, transaction: SeenTransaction) => boolean;
  /** A statement that creates, alters or drops something. */
  readonly onDefinition?: (start: bigint, says: Definition, statement: Statement) => void;
}

/**
 * From the event at `from` to `until`, or as far as a handler wants. Rows are skipped. Fails where the log ends before: a server
 * also says that of a dump that it gives up.
 */
export async function walkLog(
  server: Server,
  from: bigint,
  until: bigint,
  { onDefinition, onFile, onTransaction }: WalkHandlers,
  signal: AbortSignal,
): Promise<void> {
  const events = new EventReader();
  // A position that can't be requested is reached from the beginning of its file.
  const onSeen = (start: bigint, seen: SeenTransaction): boolean =>
    start < from || start >= until || (onTransaction?.(start, seen) ?? true);
  const log = new LogInterpreter(events, server.names, from, onSeen);
  const control = (): boolean => {
    const event = log.read();
    if (event.kind === "begin") return log.named(event.name);
    if (event.kind === "before") return onFile?.(log.before()) ?? true;
    if (event.kind === "next file") log.rotate(event.next);
    if (event.kind === "statement" && event.says.kind === "definition")
      onDefinition?.(log.start, event.says, event.statement);
    return true;
  };
  let isGoingOn = true;
  const take: OnRead = (bytes, start, end, large) => {
    const isControl = isTelling(events, bytes, start) && !code.isOfRows(events.header.type, events.header.flags);
    if (isControl) takeEvent(events, bytes, start, end, large);
    isGoingOn = log.outer();
    isGoingOn &&= !isControl || control();
    return isGoingOn && log.next < until;
  };
  const doing = "looking through the log";
  await readDump(server, { from, isEndless: false }, take, doing, signal);
  if (isGoingOn && log.next < until) {
    const { names } = server;
    const what = `the server ended the log at ${names.format(log.next)}, before ${names.format(until)}`;
    throw server.failed(sourceError("MR2006", "retryable", what), doing);
  }
}

function takeEvent(events: EventReader, ...[bytes, start, end, large]: Parameters<OnRead>): void {
  if (large === undefined) events.take(bytes, start, end);
  else events.takeSpooled(large);
}

/** Reads the header; false: the event is of rows, a table, or unknown. */
function isTelling({ header }: EventReader, bytes: Uint8Array, start: number): boolean {
  header.read(bytes, start);
  const kind = code.classOf(header.type, header.flags);
  return kind === code.CLASS_CONTROL || kind === code.CLASS_FORMAT;
}

/** What is before this file; undefined if that is unknown. */
export async function setBefore(server: Server, file: number, signal: AbortSignal): Promise<GtidSet | undefined> {
  let found: GtidSet | undefined;
  const onFile = (before: GtidSet | undefined): boolean => {
    found = before;
    return false;
  };
  await walkLog(server, startOf(file), startOf(file + 1), { onFile, onTransaction: () => false }, signal);
  return found;
}

/**
 * An event that was read. If the log still has it, it is the same log, up to this event: a file with the same name and the
 * same second of creation may still be another file, for the server's time stamps are seconds. MySQL's name of a transaction
 * has microseconds, and MariaDB's end of a transaction has a number that the server gives only once.
 */
export interface Landmark {
  readonly start: bigint;
  readonly checksum: number;
}

const LANDMARKS: ReadonlySet<number> = new Set([code.GTID, code.GTID_TAGGED, code.ANONYMOUS_GTID, code.XID]);
/** The server's error number for any position where it can't read. */
const UNREADABLE = 1236;

/** What the present event shows about the log; undefined: nothing. */
export function landmarkOf({ at, bytes, header, until }: EventReader, position: bigint): Landmark | undefined {
  return LANDMARKS.has(header.type) ? { start: position, checksum: crc32(bytes.subarray(at, until)) } : undefined;
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
export async function hasLandmark(server: Server, mark: Landmark, signal: AbortSignal): Promise<boolean> {
  const events = new EventReader();
  let isThere = false;
  const take: OnRead = (bytes, start, end, large) => {
    if (!isTelling(events, bytes, start)) return false;
    takeEvent(events, bytes, start, end, large);
    // Events that the server sends before the requested one.
    if ((events.header.flags & code.FLAG_ARTIFICIAL) !== 0 || events.header.nextPosition === 0) return true;
    isThere = landmarkOf(events, mark.start)?.checksum === mark.checksum;
    return false;
  };
  const { offset } = unpackPosition(mark.start);
  // This event can't be requested alone.
  if (askedOffset(offset) !== offset) return true;
  try {
    await readDump(server, { from: mark.start, isEndless: false }, take, "looking for what was read", signal);
  } catch (error) {
    const known = findMillraceError(error);
    if (known?.kind !== "fatal" && errorNumber(known?.cause) !== UNREADABLE) throw error;
    return false;
  }
  return isThere;
}
