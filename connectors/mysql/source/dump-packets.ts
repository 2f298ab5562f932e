/**
 * Events out of what the socket brings of a dump. In place of the driver's own parser, which keeps every part of the stream
 * until the collector comes: at the speed of a log that is passed over, that is a hundred megabytes later. Here a part is
 * given back as soon as its events are taken, and what lies in two of them is put together in one buffer.
 */
import { type BytesParser, PACKET_HEADER_BYTES } from "./driver.ts";
import { readUint24, readUint32 } from "./little-endian.ts";

/** A payload of this length goes on in the next packet. */
const PAYLOAD_BYTES_MAX = 0xff_ffff;
const KEPT_BYTES_MAX = 1024 * 1024;
const EVENT_MARK = 0;
/** Behind the mark, in the event's header. */
const EVENT_SIZE_AT = 1 + 9;
const EVENT_BYTES_MAX = 2 ** 32;

/** An event's bytes, which are another's when it returns. */
export type OnEvent = (bytes: Buffer, start: number, end: number) => void;

/** What has come of a dump: bytes show that the server is there while a large event is on its way. */
export interface Received {
  byteCount: number;
}

export class DumpPackets implements BytesParser {
  readonly #received: Received;
  readonly #onEvent: OnEvent;
  /** Given what is no event: it is a copy. */
  readonly #onOther: (payload: Buffer) => void;
  readonly #head = Buffer.alloc(PACKET_HEADER_BYTES);
  #headBytes = 0;
  /** Of the payload that is being put together: its bytes, and how many are there. */
  #payload = Buffer.allocUnsafeSlow(KEPT_BYTES_MAX);
  #length = 0;
  /** How many the packet still has. */
  #left = 0;

  constructor(onEvent: OnEvent, onOther: (payload: Buffer) => void, received: Received = { byteCount: 0 }) {
    this.#received = received;
    this.#onEvent = onEvent;
    this.#onOther = onOther;
  }

  execute(chunk: Buffer): void {
    this.#received.byteCount += chunk.length;
    let at = 0;
    while (at < chunk.length) {
      if (this.#headBytes === 0 && this.#length === 0) at = this.#whole(chunk, at);
      if (at < chunk.length) at = this.#gather(chunk, at);
    }
    giveBack(chunk);
  }

  /** Takes the packets that are there whole; returns where the first that is not begins. */
  #whole(chunk: Buffer, from: number): number {
    let at = from;
    while (chunk.length - at >= PACKET_HEADER_BYTES) {
      const length = readUint24(chunk, at);
      const end = at + PACKET_HEADER_BYTES + length;
      if (length === PAYLOAD_BYTES_MAX || end > chunk.length) break;
      this.#give(chunk, at + PACKET_HEADER_BYTES, end);
      at = end;
    }
    return at;
  }

  /** Takes what there is of one packet; returns where its part of the chunk ends. */
  #gather(chunk: Buffer, from: number): number {
    let at = from;
    if (this.#headBytes < PACKET_HEADER_BYTES) {
      const end = Math.min(chunk.length, at + PACKET_HEADER_BYTES - this.#headBytes);
      this.#headBytes += chunk.copy(this.#head, this.#headBytes, at, end);
      at = end;
      if (this.#headBytes < PACKET_HEADER_BYTES) return at;
      this.#left = readUint24(this.#head, 0);
      this.#makeRoom();
    }
    const end = Math.min(chunk.length, at + this.#left);
    chunk.copy(this.#payload, this.#length, at, end);
    this.#length += end - at;
    this.#left -= end - at;
    if (this.#left === 0) this.#endPacket();
    return end;
  }

  #endPacket(): void {
    this.#headBytes = 0;
    if (readUint24(this.#head, 0) === PAYLOAD_BYTES_MAX) return;
    const payload = this.#payload;
    const length = this.#length;
    this.#length = 0;
    this.#give(payload, 0, length);
    if (payload.length <= KEPT_BYTES_MAX) return;
    this.#payload = Buffer.allocUnsafeSlow(KEPT_BYTES_MAX);
    giveBack(payload);
  }

  #makeRoom(): void {
    const needed = this.#length + this.#left;
    const old = this.#payload;
    if (needed <= old.length) return;
    // A large event is not told by its first packet's length, but by its own.
    const said = this.#length > EVENT_SIZE_AT + 4 ? readUint32(old, EVENT_SIZE_AT) + 1 : 0;
    this.#payload = Buffer.allocUnsafeSlow(Math.max(needed, Math.min(said, EVENT_BYTES_MAX)));
    old.copy(this.#payload, 0, 0, this.#length);
    giveBack(old);
  }

  #give(bytes: Buffer, start: number, end: number): void {
    if (end > start && bytes[start] === EVENT_MARK) this.#onEvent(bytes, start + 1, end);
    else this.#onOther(Buffer.from(bytes.subarray(start, end)));
  }
}

/** Nobody looks at it any more. */
function giveBack({ buffer, length }: Buffer): void {
  if (buffer instanceof ArrayBuffer && buffer.byteLength === length) buffer.transfer(0);
}
