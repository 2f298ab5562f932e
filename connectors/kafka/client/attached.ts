/**
 * Requests whose largest part the library does not touch. It copies each request into one new buffer, which for batches of
 * records costs as much as making them does, and makes V8 collect its whole heap every few requests. Here it writes a
 * request with a number in the place of the batches, and the batches follow when it writes that to its socket.
 */
import type { Socket } from "node:net";
import { Writer } from "@platformatic/kafka";

const LENGTH_BYTES = 4;
const API_KEY_AT = LENGTH_BYTES;
const NUMBER_BYTES = 4;
const NUMBER_MAX = 0x7fff_ffff;

/** Of one socket, for the requests of one kind. */
export class Attachments {
  readonly #socket: Socket;
  readonly #apiKey: number;
  /** By number, what the library has not written yet. */
  readonly #waiting = new Map<number, readonly Uint8Array[]>();
  #last = 0;

  constructor(socket: Socket, apiKey: number) {
    this.#socket = socket;
    this.#apiKey = apiKey;
    const write = socket.write.bind(socket);
    socket.write = (chunk: Uint8Array | string, ...rest: never[]): boolean =>
      typeof chunk !== "string" && this.#isOurs(chunk) ? this.#write(chunk, write) : write(chunk, ...rest);
  }

  /** What the library gets as the body of the request. */
  add(parts: readonly Uint8Array[]): Writer {
    const number = (this.#last = (this.#last + 1) & NUMBER_MAX);
    this.#waiting.set(number, parts);
    return Writer.create().appendInt32(number);
  }

  #isOurs(request: Uint8Array): boolean {
    return request.length > API_KEY_AT + 2 && ((request[API_KEY_AT]! << 8) | request[API_KEY_AT + 1]!) === this.#apiKey;
  }

  #write(request: Uint8Array, write: (chunk: Uint8Array) => boolean): boolean {
    const end = request.length - NUMBER_BYTES;
    const view = new DataView(request.buffer, request.byteOffset, request.length);
    const number = view.getInt32(end);
    const parts = this.#waiting.get(number);
    if (parts === undefined) throw new Error("a request of batches has none");
    this.#waiting.delete(number);
    let byteCount = end - LENGTH_BYTES;
    for (const part of parts) byteCount += part.length;
    view.setInt32(0, byteCount);
    this.#socket.cork();
    let isRoom = write(request.subarray(0, end));
    for (const part of parts) isRoom = write(part);
    this.#socket.uncork();
    return isRoom;
  }
}
