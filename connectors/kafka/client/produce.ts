/** The request that carries batches of records: https://kafka.apache.org/protocol#The_Messages_Produce */
import { produceV10, produceV11, produceV9, Writer } from "@platformatic/kafka";
import type { SentBatch } from "./cluster.ts";
import { failureOf } from "./failures.ts";
import type { Socket } from "node:net";

export const PRODUCE = 0;
const PRODUCE_MS_MAX = 30_000;
const ALL_REPLICAS = -1;
const PARSERS = new Map([
  [9, produceV9.parseResponse],
  [10, produceV10.parseResponse],
  [11, produceV11.parseResponse],
]);

/** What reads the answer of this version. */
export function produceAnswer(version: number): typeof produceV11.parseResponse {
  const parse = PARSERS.get(version);
  if (parse === undefined) throw failureOf("UNSUPPORTED_VERSION", "Produce");
  return parse;
}

export function produceRequest(transactionalId: string, batches: readonly SentBatch[]): Writer {
  const byTopic = Map.groupBy(batches, ({ name }) => name);
  return Writer.create()
    .appendString(transactionalId)
    .appendInt16(ALL_REPLICAS)
    .appendInt32(PRODUCE_MS_MAX)
    .appendArray([...byTopic], (w, [name, ofTopic]) => {
      w.appendString(name).appendArray([...ofTopic], (inner, { partition, bytes }) => {
        inner
          .appendInt32(partition)
          .appendUnsignedVarInt(bytes.length + 1)
          .append(bytes);
      });
    })
    .appendTaggedFields();
}

/** Of each batch the first offset, as an answer has it. */
export function offsetsOf(
  batches: readonly SentBatch[],
  answer: ReturnType<typeof produceV11.parseResponse>["responses"],
): readonly bigint[] {
  const byTopic = new Map(
    answer.map(({ name, partitionResponses: all }) => [name, new Map(all.map((one) => [one.index, one.baseOffset]))]),
  );
  return batches.map(({ name, partition }) => {
    const offset = byTopic.get(name)?.get(partition);
    if (offset === undefined) throw failureOf("UNKNOWN_SERVER_ERROR", name);
    return offset;
  });
}

const LENGTH_BYTES = 4;
const API_KEY_AT = LENGTH_BYTES;
const NUMBER_BYTES = 4;
const NUMBER_MAX = 0x7fff_ffff;

/**
 * Requests whose largest part the library does not touch. It copies each request into one new buffer, which for batches of
 * records costs as much as making them does, and makes V8 collect its whole heap every few requests. Here it writes a
 * request with a number instead of the batches, and the batches follow when it writes that to its socket. One for each socket.
 */
export class Attachments {
  readonly #socket: Socket;
  /** By number, what the library has not written yet. */
  readonly #waiting = new Map<number, readonly Uint8Array[]>();
  #last = 0;

  constructor(socket: Socket) {
    this.#socket = socket;
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
    return request.length > API_KEY_AT + 2 && ((request[API_KEY_AT]! << 8) | request[API_KEY_AT + 1]!) === PRODUCE;
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
