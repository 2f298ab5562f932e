/**
 * Takes events out of the bytes that the socket brings of a dump. It replaces the driver's own parser, which keeps every
 * part of the stream until the garbage collector runs; at the speed of a skipped log that is a hundred megabytes later.
 * Here a part is freed as soon as its events are taken, and an event that spans two parts is put together in one buffer.
 */
import { type BytesParser, PACKET_HEADER_BYTES } from "./driver.ts";
import { HEADER_BYTES, SIZE_AT } from "./event-header.ts";
import { giveBack, readUint24, readUint32 } from "./bytes.ts";

/** A payload of this length continues in the next packet. */
const PAYLOAD_BYTES_MAX = 0xff_ffff;
const KEPT_BYTES_MAX = 1024 * 1024;
const EVENT_MARK = 0;
/** At the start of a payload: the mark, then the event's header. */
const HEAD_BYTES = 1 + HEADER_BYTES;
const EVENT_SIZE_AT = 1 + SIZE_AT;

/** An event's bytes; the buffer is reused when it returns. */
export type OnEvent = (bytes: Buffer, start: number, end: number) => void;

/** Takes an event's bytes as they come, header included, so that the whole event need not be in memory. */
export interface LargeEvent {
  append(bytes: Buffer): void;
  end(): void;
}

/** Decides by the header about an event that spans several parts of the stream; undefined: it is needed whole. */
export type OnLarge = (header: Buffer) => LargeEvent | undefined;

/** Progress of a dump: bytes show that the server lives while a large event is on its way. */
export interface Received {
  byteCount: number;
}

export class DumpPackets implements BytesParser {
  readonly #received: Received;
  readonly #onEvent: OnEvent;
  /** Gets packets that are no events, as copies. */
  readonly #onOther: (payload: Buffer) => void;
  readonly #onLarge: OnLarge;
  readonly #head = Buffer.alloc(PACKET_HEADER_BYTES);
  #headBytes = 0;
  /** The payload that is being put together: its bytes, and how many have come. */
  #payload = Buffer.allocUnsafeSlow(KEPT_BYTES_MAX);
  #length = 0;
  /** Used instead of the payload. */
  #large: LargeEvent | undefined;
  /** How many bytes of the packet are still to come. */
  #left = 0;

  constructor(
    onEvent: OnEvent,
    onOther: (payload: Buffer) => void,
    onLarge: OnLarge,
    received: Received = { byteCount: 0 },
  ) {
    this.#received = received;
    this.#onEvent = onEvent;
    this.#onOther = onOther;
    this.#onLarge = onLarge;
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

  /** Takes the complete packets; returns where the first incomplete one begins. */
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

  /** Takes the available part of one packet; returns where its part of the chunk ends. */
  #gather(chunk: Buffer, from: number): number {
    let at = from;
    if (this.#headBytes < PACKET_HEADER_BYTES) {
      const end = Math.min(chunk.length, at + PACKET_HEADER_BYTES - this.#headBytes);
      this.#headBytes += chunk.copy(this.#head, this.#headBytes, at, end);
      at = end;
      if (this.#headBytes < PACKET_HEADER_BYTES) return at;
      this.#left = readUint24(this.#head, 0);
    }
    // The header alone first: it decides where the rest goes.
    const wanted = this.#length < HEAD_BYTES ? Math.min(this.#left, HEAD_BYTES - this.#length) : this.#left;
    const end = Math.min(chunk.length, at + wanted);
    this.#put(chunk, at, end);
    this.#left -= end - at;
    if (this.#left === 0) this.#endPacket();
    return end;
  }

  #put(chunk: Buffer, at: number, end: number): void {
    if (this.#large !== undefined) {
      this.#large.append(chunk.subarray(at, end));
      return;
    }
    if (this.#length >= HEAD_BYTES) this.#makeRoom();
    chunk.copy(this.#payload, this.#length, at, end);
    this.#length += end - at;
    if (this.#length !== HEAD_BYTES || end === at || this.#payload[0] !== EVENT_MARK) return;
    const header = this.#payload.subarray(1, HEAD_BYTES);
    this.#large = this.#onLarge(header);
    this.#large?.append(header);
  }

  #endPacket(): void {
    this.#headBytes = 0;
    if (readUint24(this.#head, 0) === PAYLOAD_BYTES_MAX) return;
    const payload = this.#payload;
    const length = this.#length;
    this.#length = 0;
    if (this.#large !== undefined) {
      this.#large.end();
      this.#large = undefined;
      return;
    }
    this.#give(payload, 0, length);
    if (payload.length <= KEPT_BYTES_MAX) return;
    this.#payload = Buffer.allocUnsafeSlow(KEPT_BYTES_MAX);
    giveBack(payload);
  }

  #makeRoom(): void {
    const needed = this.#length + this.#left;
    const old = this.#payload;
    if (needed <= old.length) return;
    // A large event is recognised by its own length, not by that of its first packet.
    this.#payload = Buffer.allocUnsafeSlow(Math.max(needed, readUint32(old, EVENT_SIZE_AT) + 1));
    old.copy(this.#payload, 0, 0, this.#length);
    giveBack(old);
  }

  #give(bytes: Buffer, start: number, end: number): void {
    if (end > start && bytes[start] === EVENT_MARK) this.#onEvent(bytes, start + 1, end);
    else this.#onOther(Buffer.from(bytes.subarray(start, end)));
  }
}
