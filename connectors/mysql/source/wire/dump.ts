/**
 * The binary log as the server sends it from a position on (COM_BINLOG_DUMP). It is our own command: the driver's own
 * reader of logs can't send this request, and neither it nor libraries based on it leave packets in place.
 */
import { answered, type Server } from "./server.ts";
import { type Packet, PACKET_HEADER_BYTES, type PacketWriter, requestPacket, type Session } from "./driver.ts";
import { DumpPackets, type OnEvent, type OnLarge, type Received } from "./dump-packets.ts";
import { aborted, classify, endOfDump, silent } from "../errors.ts";
import { FLAGS_AT, isOfRows, TYPE_AT } from "./event-header.ts";
import { readUint16 } from "./bytes.ts";
import { FILE_START, unpackPosition } from "./position.ts";
import { SpooledEvent } from "./spool.ts";

const COM_BINLOG_DUMP = 0x12;
/** In front of the file's name. */
const REQUEST_BYTES = 10;
const EOF_MARK = 0xfe;
const NON_BLOCK = 1;
const HEARTBEAT_NS = 1_000_000_000;
/** Higher offsets can't be requested: the request has 32 bits. */
const OFFSET_MAX = 0xffff_ffff;

interface DumpHandlers {
  /** Each with its checksum. */
  readonly onEvent: OnEvent;
  readonly onLarge: OnLarge;
  readonly onEnd: (error: unknown) => void;
}

export interface DumpRequest {
  /** Where to begin; behind what can be requested: at the beginning of that file. */
  readonly from: bigint;
  /** The server_id of the reader. Default: one that nobody uses. */
  readonly readerId?: number;
  /** False: the server ends the dump at the log's end. Default: it waits for more there. */
  readonly isEndless?: boolean;
  /** Called with the dump's own session before the dump begins. */
  readonly prepare?: (session: Session, signal: AbortSignal) => Promise<void>;
}

/** The offset to request from the server for a wanted offset. */
export function askedOffset(offset: number): number {
  return offset > OFFSET_MAX ? FILE_START : offset;
}

/** The server sends a heartbeat every second: silence for this long means that the connection is dead. */
const SILENT_MS_MAX = 15_000;
export const WATCH_MS = 1_000;
/** The overhead of a packet: its header, and the mark of an event. */
const PACKET_BYTES = 5;

export class Dump {
  readonly #session: Session;
  readonly #received: Received;
  /** What `look` found last: bytes that had come, all of them and without heartbeats, and since when there are so many. */
  #heardBytes = 0;
  #heardMs = performance.now();
  #movedBytes = 0;
  #movedMs = performance.now();
  #heartbeatBytes = 0;

  private constructor(session: Session, received: Received) {
    this.#session = session;
    this.#received = received;
  }

  static async start(server: Server, request: DumpRequest, handlers: DumpHandlers, signal: AbortSignal): Promise<Dump> {
    const session = await server.open(signal);
    try {
      // Tells the server what it may send: checksums as they are, MariaDB's own events, and heartbeats.
      await answered(session.query(SETTINGS), "preparing the stream", signal);
      await request.prepare?.(session, signal);
      session.onBroken(handlers.onEnd);
      const received = { byteCount: 0 };
      session.run(dumpCommand(packetOf(server, request), handlers, received));
      return new Dump(session, received);
    } catch (error) {
      session.destroy();
      throw server.failed(error, "starting the stream");
    }
  }

  /** An event of that length is a heartbeat. */
  heartbeat(byteCount: number): void {
    this.#heartbeatBytes += PACKET_BYTES + byteCount;
  }

  /**
   * Whether no byte has come for too long, and since when nothing but heartbeats has come; parts of events count. To be called
   * every `WATCH_MS`.
   */
  look(nowMs: number): { readonly isSilent: boolean; readonly stillSinceMs: number } {
    const heard = this.#received.byteCount;
    if (heard !== this.#heardBytes) this.#heardMs = nowMs;
    this.#heardBytes = heard;
    const moved = heard - this.#heartbeatBytes;
    if (moved !== this.#movedBytes) this.#movedMs = nowMs;
    this.#movedBytes = moved;
    return { isSilent: nowMs - this.#heardMs >= SILENT_MS_MAX, stillSinceMs: this.#movedMs };
  }

  pause(): void {
    this.#session.pause();
  }

  resume(): void {
    // Nothing listened in between.
    this.#heardMs = this.#movedMs = performance.now();
    this.#session.resume();
  }

  close(): void {
    this.#session.destroy();
  }
}

/** `large`: a statement that is too large for memory; the bytes are its beginning. False ends the reading. */
export type OnRead = (bytes: Buffer, start: number, end: number, large?: SpooledEvent) => boolean;

/**
 * Reads until `take` returns false, or to the log's end if the dump has one; `doing` names it in errors. Rows are not
 * needed here: of a large event with rows only the header is passed on.
 */
export async function readDump(
  server: Server,
  request: DumpRequest,
  take: OnRead,
  doing: string,
  signal: AbortSignal,
): Promise<void> {
  const done = Promise.withResolvers<void>();
  // It is awaited below; that also reports a failure before then.
  done.promise.catch(() => {});
  const stop = (): void => done.reject(aborted(doing));
  signal.addEventListener("abort", stop, { once: true });
  // More events may have come with the last wanted one.
  let isOver = false;
  const onEvent = (...read: Parameters<OnRead>): void => {
    if (isOver) return;
    try {
      isOver = !take(...read);
      if (isOver) done.resolve();
    } catch (error) {
      isOver = true;
      done.reject(error);
    }
  };
  const onEnd = (error: unknown): void => {
    if (error === undefined && request.isEndless === false) done.resolve();
    else done.reject(classify(error ?? new Error("the server ended the stream"), doing));
  };
  const dump = await Dump.start(server, request, { onEvent, onLarge: passed(onEvent), onEnd }, signal);
  const timer = setInterval(() => {
    if (dump.look(performance.now()).isSilent) done.reject(silent(doing));
  }, WATCH_MS);
  try {
    await done.promise;
  } catch (error) {
    throw server.failed(error, doing);
  } finally {
    clearInterval(timer);
    signal.removeEventListener("abort", stop);
    dump.close();
  }
}

function passed(onEvent: (...read: Parameters<OnRead>) => void): OnLarge {
  const nothing = (): void => {};
  return (bytes) => {
    if (isOfRows(bytes[TYPE_AT]!, readUint16(bytes, FLAGS_AT))) {
      const header = Buffer.from(bytes);
      return { append: nothing, end: () => onEvent(header, 0, header.length) };
    }
    const large = SpooledEvent.of(bytes);
    if (large === undefined) return undefined;
    return { append: (part) => large.append(part), end: () => onEvent(large.head, 0, large.head.length, large) };
  };
}

const SETTINGS = `SET @master_binlog_checksum = 'CRC32', @source_binlog_checksum = 'CRC32', @mariadb_slave_capability = 4, @master_heartbeat_period = ${HEARTBEAT_NS}, @source_heartbeat_period = ${HEARTBEAT_NS}`;

/** The driver gets only what ends the dump. */
function dumpCommand(request: object, { onEnd, onEvent, onLarge }: DumpHandlers, received: Received) {
  let isOver = false;
  const end = (error: unknown): boolean => {
    if (!isOver) onEnd(error);
    isOver = true;
    return true;
  };
  return {
    onResult: (error: Error): void => void end(error),
    execute(packet: Packet | undefined, writer: PacketWriter): boolean {
      if (packet === undefined) {
        writer._resetSequenceId();
        writer.writePacket(request);
        const { packetParser } = writer;
        const other = (payload: Buffer): void => {
          writer._resetSequenceId();
          packetParser.execute(asPacket(payload));
        };
        const packets = new DumpPackets(onEvent, other, onLarge, received);
        const execute = (chunk: Buffer): void => {
          if (isOver) return;
          try {
            packets.execute(chunk);
          } catch (error) {
            end(error);
          }
        };
        writer.packetParser = { execute };
        return false;
      }
      if (packet.isError()) return end(endOfDump(packet.asError("utf8")));
      if (packet.buffer[packet.start + PACKET_HEADER_BYTES] === EOF_MARK) return end(undefined);
      return end(new Error("the server sent a packet of another kind than those of a dump"));
    },
  };
}

/** Numbered from the first one. */
function asPacket(payload: Buffer): Buffer {
  const packet = Buffer.alloc(PACKET_HEADER_BYTES + payload.length);
  packet.writeUIntLE(payload.length, 0, 3);
  payload.copy(packet, PACKET_HEADER_BYTES);
  return packet;
}

function packetOf(server: Server, { from, isEndless = true, readerId }: DumpRequest): object {
  const { file, offset } = unpackPosition(from);
  const name = server.names.file(file);
  const body = Buffer.alloc(REQUEST_BYTES + Buffer.byteLength(name));
  body.writeUInt32LE(askedOffset(offset), 0);
  body.writeUInt16LE(isEndless ? 0 : NON_BLOCK, 4);
  body.writeUInt32LE(readerId ?? server.otherReaderId(), 6);
  body.write(name, REQUEST_BYTES);
  return requestPacket(COM_BINLOG_DUMP, body);
}
