/**
 * A connection whose bytes, after the driver is done with it, are read directly into memory of the new owner: a
 * stream's own events would allocate a buffer for each piece.
 */
import { serverAt } from "../core/system-errors.ts";
import { Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { Client, ClientConfig } from "pg";
import { type ClientMaker, connect, plainClient, streamOf } from "./connect.ts";
import type { PostgresAddress } from "./url.ts";

/** Where received bytes go. */
export interface Inlet {
  /** Free memory for the next read. */
  space(): Uint8Array;
  /**
   * `count` bytes are at the start of `buffer`, which belongs to the inlet only during the call; false: stop reading.
   */
  received(buffer: Uint8Array, count: number): boolean;
}

export interface InletConnection extends Disposable {
  /** For queries before the hand-over. */
  readonly client: Client;
  /** Hands the socket to `inlet`. The client must be idle, and can't be used afterwards. */
  handOver(inlet: Inlet): InletSocket;
  close(): void;
}

export interface InletSocket {
  readonly stream: Duplex;
  /** False on a Unix socket. */
  readonly tcp: boolean;
  /** Host and port. */
  readonly server: string;
  pause(): void;
  resume(): void;
}

const HANDSHAKE_BYTES = 64 * 1024;

export async function connectInlet(
  address: PostgresAddress,
  signal: AbortSignal,
  makeClient: ClientMaker = plainClient,
): Promise<InletConnection> {
  let inlet: Inlet | undefined;
  let handshake: Buffer | undefined;
  let socket: Duplex | undefined;
  const onread = {
    buffer: (): Uint8Array => inlet?.space() ?? (handshake ??= Buffer.allocUnsafeSlow(HANDSHAKE_BYTES)),
    callback: (count: number, buffer: Uint8Array): boolean => {
      if (inlet !== undefined) return inlet.received(buffer, count);
      // Until the hand-over the driver reads 'data' events as always; it keeps their bytes, so they are copied.
      socket?.emit("data", Buffer.from(buffer.subarray(0, count)));
      return true;
    },
  };
  const make = async (config: ClientConfig): Promise<Client> => {
    socket = config.stream?.();
    return await makeClient(config);
  };
  const { client, encrypted } = await connect(address, { signal, onread, make });
  const close = (): void => void (socket instanceof Socket && socket.destroy());
  return {
    client,
    handOver(next) {
      inlet = next;
      handshake = undefined;
      const stream = takeOver(client, encrypted ? (chunk) => receiveCopied(next, chunk, stream) : undefined);
      return {
        stream,
        tcp: !address.host.startsWith("/"),
        server: serverAt(address.host, address.port),
        pause: () => void stream.pause(),
        resume: () => void stream.resume(),
      };
    },
    close,
    [Symbol.dispose]: close,
  };
}

/** TLS provides its own chunks: they are copied to where a plain socket would have read. */
function receiveCopied(inlet: Inlet, chunk: Buffer, stream: Duplex): void {
  let at = 0;
  while (at < chunk.length) {
    const space = inlet.space();
    const count = Math.min(space.length, chunk.length - at);
    space.set(chunk.subarray(at, at + count));
    at += count;
    if (!inlet.received(space, count)) stream.pause();
  }
}

/**
 * Takes the connection from the driver, which has nothing more to read: its last answer was ReadyForQuery. From here on
 * bytes go only to `onData` (or to the socket's `onread`).
 */
function takeOver(client: Client, onData: ((chunk: Buffer) => void) | undefined): Duplex {
  const stream = streamOf(client);
  stream.removeAllListeners("data");
  if (onData !== undefined) stream.on("data", onData);
  return stream;
}
