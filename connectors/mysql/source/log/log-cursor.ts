/** Positions of events in the log: each event gives the beginning of the next, in 32 bits that wrap in a large file. */
import * as code from "./events.ts";
import type { RotateEvent } from "./log-events.ts";
import { type LogNames, packPlace, unpackPlace } from "./position.ts";

const U32 = 2 ** 32;

export class LogCursor {
  /** Where the present event begins, and the next one. */
  start: bigint;
  next: bigint;

  constructor(from: bigint) {
    this.start = from;
    this.next = from;
  }

  /** An event of the file itself, not one inside another event. */
  take({ flags, nextPosition, size, type }: code.EventHeader): void {
    const isInFile = (flags & code.FLAG_ARTIFICIAL) === 0 && nextPosition !== 0;
    if (!isInFile || type === code.HEARTBEAT || type === code.HEARTBEAT_V2) return;
    const { file, offset } = unpackPlace(this.next);
    const round = Math.floor(offset / U32);
    let next = round * U32 + nextPosition;
    if (next < offset && offset - next > U32 / 2) next += U32;
    this.next = packPlace(file, next);
    this.start = this.next - BigInt(size);
  }

  rotate({ file, offset }: RotateEvent, names: LogNames): void {
    this.start = packPlace(names.learn(file), offset);
    this.next = this.start;
  }
}
