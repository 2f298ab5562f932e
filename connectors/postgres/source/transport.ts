/**
 * The replication connection. pg-logical-replication makes it, with a plugin of ours whose `start` takes the socket over:
 * from there on the library sees nothing (its own reader gives each message to a callback, and its acknowledgement adds
 * one to the position, which can skip a transaction).
 */
import type { Duplex } from "node:stream";
import { Socket } from "node:net";
import type { Client, ClientConfig } from "pg";
import replication from "pg-logical-replication";
import { connect, takeOver } from "../connection.ts";
import type { PostgresAddress } from "../url.ts";

/** Where received bytes go. */
export interface Inlet {
  /** Free memory for the next read. */
  space(): Uint8Array;
  /** `count` bytes lie at the start of `buffer`, which is the inlet's only during the call; false: stop reading. */
  received(buffer: Uint8Array, count: number): boolean;
}

const HANDSHAKE_BYTES = 64 * 1024;

export interface ReplicationConnection {
  /** For commands before the stream starts (IDENTIFY_SYSTEM, SQL). */
  readonly client: Client;
  /** Hands the socket to `inlet`. The client must be idle, and is useless afterwards. */
  handOver(inlet: Inlet): ReplicationSocket;
  close(): void;
}

export interface ReplicationSocket {
  readonly stream: Duplex;
  /** False on a Unix socket. */
  readonly tcp: boolean;
  pause(): void;
  resume(): void;
}

/** Opens a connection in replication mode to the database of `address`. */
export async function connectReplication(
  address: PostgresAddress,
  signal: AbortSignal,
): Promise<ReplicationConnection> {
  let inlet: Inlet | undefined;
  const handshake = Buffer.allocUnsafeSlow(HANDSHAKE_BYTES);
  let socket: Duplex | undefined;
  const onread = {
    buffer: (): Uint8Array => inlet?.space() ?? handshake,
    callback: (count: number, buffer: Uint8Array): boolean => {
      if (inlet !== undefined) return inlet.received(buffer, count);
      // Until the hand-over the driver reads 'data' events as always; it keeps its bytes, so they are copied.
      socket?.emit("data", Buffer.from(buffer.subarray(0, count)));
      return true;
    },
  };
  const make = async (config: ClientConfig): Promise<Client> => {
    socket = config.stream?.();
    return throughLibrary(config);
  };
  const { client, encrypted } = await connect(address, { signal, onread, make });
  return {
    client,
    handOver(next) {
      inlet = next;
      const stream = takeOver(client, encrypted ? (chunk) => receiveCopied(next, chunk, stream) : undefined);
      return {
        stream,
        tcp: !address.host.startsWith("/"),
        pause: () => void stream.pause(),
        resume: () => void stream.resume(),
      };
    },
    close: () => void socketOf(socket)?.destroy(),
  };
}

/** The library's part: a connection with replication=database, given to a plugin. */
async function throughLibrary(config: ClientConfig): Promise<Client> {
  const service = new replication.LogicalReplicationService(config, {
    acknowledge: { auto: false, timeoutSeconds: 0 },
  });
  // `subscribe` rejects with the same error; later ones are seen by whoever took the socket over.
  service.on("error", () => {});
  let connected: Client | undefined;
  const plugin = {
    name: "pgoutput",
    options: {},
    start: async (client: Client): Promise<void> => {
      connected = client;
    },
    parse: (): never => {
      throw new Error("the library reads no message");
    },
  };
  await service.subscribe(plugin, "");
  if (connected === undefined) throw new Error("Connection terminated");
  return connected;
}

/** TLS gives chunks of its own: they are copied to where a plain socket would have read. */
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

function socketOf(stream: Duplex | undefined): Socket | undefined {
  return stream instanceof Socket ? stream : undefined;
}
