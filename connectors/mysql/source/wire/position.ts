/**
 * Positions in the binary log as core's positions: the number of the file in the high bits, the offset in the low ones.
 * File numbers pass 1,000,000, and one large transaction takes a file beyond 4 GiB, where the 32-bit fields of the log
 * wrap.
 */
import { sourceError } from "../errors.ts";
import { type EventHeader, FLAG_ARTIFICIAL, HEARTBEAT, HEARTBEAT_V2 } from "./event-header.ts";

const OFFSET_BITS = 33n;
const NUMBER_MAX = (1 << 22) - 1;
const OFFSET_MAX = 2 ** 33 - 1;
const U32 = 2 ** 32;
const NUMBER_DIGITS = 6;
const POSITION = /^(?:.*\.)?(\d+):(\d+)$/;
/** The first event of each file comes after four bytes that identify the file type. */
export const FILE_START = 4;

export interface LogPosition {
  readonly file: number;
  readonly offset: number;
}

export function packPosition(file: number, offset: number): bigint {
  if (file > NUMBER_MAX || offset > OFFSET_MAX)
    throw sourceError("MR2035", "fatal", `the log has come to file ${file}, offset ${offset}`);
  return (BigInt(file) << OFFSET_BITS) | BigInt(offset);
}

/** Where a file of the log begins. */
export function startOf(file: number): bigint {
  return packPosition(file, FILE_START);
}

export function unpackPosition(commit: bigint): LogPosition {
  return { file: Number(commit >> OFFSET_BITS), offset: Number(commit & ((1n << OFFSET_BITS) - 1n)) };
}

/** By its name. */
export interface NextFile {
  readonly file: string;
  readonly offset: number;
}

export interface LogFileSize {
  readonly file: number;
  readonly size: number;
}

/** Bytes between two positions; files in between count with their sizes. */
export function bytesBetween(files: readonly LogFileSize[], from: bigint, to: bigint): number {
  const [first, last] = [unpackPosition(from), unpackPosition(to)];
  if (first.file === last.file) return Math.max(0, last.offset - first.offset);
  let sum = 0;
  for (const { file, size } of files) {
    if (file < first.file || file > last.file) continue;
    // A file may be longer than positions in it can say.
    const low = file === first.file ? first.offset : FILE_START;
    const high = file === last.file ? last.offset : size;
    sum += Math.max(0, high - low);
  }
  return sum;
}

/** The part of the server's file names before the number. */
export class LogNames {
  #base: string;

  constructor(base: string) {
    this.#base = base;
  }

  get base(): string {
    return this.#base;
  }

  /** Takes the base of a file's name, and returns its number. */
  learn(name: string): number {
    const match = /^(.*)\.(\d+)$/.exec(name);
    if (match === null) throw sourceError("MR2027", "fatal", "a file of the binary log has a name without a number");
    this.#base = match[1]!;
    return Number(match[2]);
  }

  use(base: string): void {
    this.#base = base;
  }

  file(number: number): string {
    return `${this.#base}.${String(number).padStart(NUMBER_DIGITS, "0")}`;
  }

  format(commit: bigint): string {
    const { file, offset } = unpackPosition(commit);
    return `${this.file(file)}:${offset}`;
  }

  fields(commit: bigint): { readonly file: string; readonly pos: number } {
    const { file, offset } = unpackPosition(commit);
    return { file: this.file(file), pos: offset };
  }

  /** Whether the text has the form of a position. */
  isPlace(text: string): boolean {
    return POSITION.test(text);
  }

  /** Throws a RangeError if the text is no position. */
  parse(text: string): bigint {
    const match = POSITION.exec(text);
    if (match === null) throw new RangeError(`not a position in the log: expected ${this.file(42)}:12345`);
    return packPosition(Number(match[1]), Number(match[2]));
  }
}

/** Where the events of the log begin: each gives the beginning of the next, in 32 bits that wrap in a large file. */
export class LogCursor {
  /** Where the present event begins, and the next one. */
  start: bigint;
  next: bigint;

  constructor(from: bigint) {
    this.start = from;
    this.next = from;
  }

  /** An event of the file itself, not one inside another event. */
  take({ flags, nextPosition, size, type }: EventHeader): void {
    const isInFile = (flags & FLAG_ARTIFICIAL) === 0 && nextPosition !== 0;
    if (!isInFile || type === HEARTBEAT || type === HEARTBEAT_V2) return;
    const { file, offset } = unpackPosition(this.next);
    const round = Math.floor(offset / U32);
    let next = round * U32 + nextPosition;
    if (next < offset && offset - next > U32 / 2) next += U32;
    this.next = packPosition(file, next);
    this.start = this.next - BigInt(size);
  }

  /** The next file begins. */
  rotate({ file, offset }: NextFile, names: LogNames): void {
    this.start = packPosition(names.learn(file), offset);
    this.next = this.start;
  }
}
