/**
 * The binary log as the server sends it from a position on (COM_BINLOG_DUMP). It is our own command: the driver's own
 * reader of logs can't send this request, and neither it nor libraries based on it leave packets in place.
 */
import { openSession, type Target, answered } from "../database.ts";
import { type Packet, PACKET_HEADER_BYTES, type PacketWriter, type Session } from "../driver.ts";
import { DumpPackets, type OnEvent, type OnLarge, type Received } from "./dump-packets.ts";
import { aborted, classify, endOfDump, silent } from "../errors.ts";
import { FLAGS_AT, isOfRows, TYPE_AT } from "./events.ts";
import { readUint16 } from "./little-endian.ts";
import { FILE_START } from "./position.ts";

const COM_BINLOG_DUMP = 0x12;
const REQUEST_BYTES = 11;
const EOF_MARK = 0xfe;
const NON_BLOCK = 1;
const HEARTBEAT_NS = 1_000_000_000;
/** Higher offsets can't be requested: the request has 32 bits. */
const OFFSET_MAX = 0xffff_ffff;

export interface DumpHandlers {
  /** Each with its checksum. */
  readonly onEvent: OnEvent;
  readonly onLarge: OnLarge;
  readonly onEnd: (error: unknown) => void;
}

export interface DumpRequest {
  readonly file: string;
  readonly offset: number;
  readonly serverId: number;
  /** False: the server ends the dump at the log's end. Default: it waits for more there. */
  readonly isEndless?: boolean;
  /** Called with the dump's own session before the dump begins. */
  readonly prepare?: (session: Session, signal: AbortSignal) => Promise<void>;
}

/** The offset to request from the server for a wanted offset. */
export function askedOffset(offset: number): number {
  return offset > OFFSET_MAX ? FILE_START : offset;
}

export class Dump {
  readonly #session: Session;
  readonly #received: Received;

  private constructor(session: Session, received: Received) {
    this.#session = session;
    this.#received = received;
  }

  /** How many bytes have come, including those of incomplete events. */
  get byteCount(): number {
    return this.#received.byteCount;
  }

  static async start(target: Target, request: DumpRequest, handlers: DumpHandlers, signal: AbortSignal): Promise<Dump> {
    const session = await openSession(target, signal);
    try {
      // Tells the server what it may send: checksums as they are, MariaDB's own events, and heartbeats.
      await answered(session.query(SETTINGS), "preparing the stream", signal);
      await request.prepare?.(session, signal);
      session.onBroken(handlers.onEnd);
      const received = { byteCount: 0 };
      session.run(dumpCommand(request, handlers, received));
      return new Dump(session, received);
    } catch (error) {
      session.destroy();
      throw classify(error, "starting the stream");
    }
  }

  pause(): void {
    this.#session.pause();
  }

  resume(): void {
    this.#session.resume();
  }

  close(): void {
    this.#session.destroy();
  }
}

/** The server sends a heartbeat every second: silence for this long means that the connection is dead. */
const SILENT_MS_MAX = 15_000;
export const WATCH_MS = 1_000;

/** Since when no byte has come. */
export class SilenceWatch {
  readonly #count: () => number;
  #last = 0;
  #heardMs = performance.now();

  constructor(count: () => number) {
    this.#count = count;
  }

  /** To be called every `WATCH_MS`. */
  isSilent(nowMs: number): boolean {
    const count = this.#count();
    if (count !== this.#last) this.heard(nowMs);
    this.#last = count;
    return nowMs - this.#heardMs >= SILENT_MS_MAX;
  }

  /** Also if nothing listened in between. */
  heard(nowMs: number): void {
    this.#heardMs = nowMs;
  }
}

/** The overhead of a packet: its header, and the mark of an event. */
const PACKET_BYTES = 5;

/** Whether anything but heartbeats comes, parts of events included. */
export class MovementWatch {
  readonly #count: () => number;
  #heartbeatBytes = 0;
  #last = 0;
  #movedMs = performance.now();

  /** `count`: bytes that have come in all. */
  constructor(count: () => number) {
    this.#count = count;
  }

  /** An event of that length. */
  heartbeat(byteCount: number): void {
    this.#heartbeatBytes += PACKET_BYTES + byteCount;
  }

  /** Also if nothing listened in between. */
  moved(nowMs: number): void {
    this.#movedMs = nowMs;
  }

  /** Since when nothing has moved. To be called every `WATCH_MS`. */
  stillSinceMs(nowMs: number): number {
    const count = this.#count() - this.#heartbeatBytes;
    if (count !== this.#last) this.moved(nowMs);
    this.#last = count;
    return this.#movedMs;
  }
}

const SERVER_ID_MIN = 0x1000_0000;
const SERVER_ID_SPAN = 0xe000_0000;

/** For a reader beside the stream: two readers with one id would disconnect each other. */
export function otherServerId({ serverId }: { readonly serverId: number }): number {
  for (;;) {
    const id = SERVER_ID_MIN + Math.floor(Math.random() * SERVER_ID_SPAN);
    if (id !== serverId) return id;
  }
}

/**
 * Reads until `take` returns false, or to the log's end if the dump has one; `doing` names it in errors. Rows are not
 * needed here: of a large event with rows only the header is passed on.
 */
export async function readDump(
  target: Target,
  request: DumpRequest,
  take: (bytes: Buffer, start: number, end: number) => boolean,
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
  const onEvent = (bytes: Buffer, start: number, end: number): void => {
    if (isOver) return;
    try {
      isOver = !take(bytes, start, end);
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
  const dump = await Dump.start(target, request, { onEvent, onLarge: passed(onEvent), onEnd }, signal);
  const watch = new SilenceWatch(() => dump.byteCount);
  const timer = setInterval(() => {
    if (watch.isSilent(performance.now())) done.reject(silent(doing));
  }, WATCH_MS);
  try {
    await done.promise;
  } finally {
    clearInterval(timer);
    signal.removeEventListener("abort", stop);
    dump.close();
  }
}

function passed(onEvent: OnEvent): OnLarge {
  const nothing = (): void => {};
  return (bytes) => {
    if (!isOfRows(bytes[TYPE_AT]!, readUint16(bytes, FLAGS_AT))) return undefined;
    const header = Buffer.from(bytes);
    return { append: nothing, end: () => onEvent(header, 0, header.length) };
  };
}

const SETTINGS = `SET @master_binlog_checksum = 'CRC32', @source_binlog_checksum = 'CRC32', @mariadb_slave_capability = 4, @master_heartbeat_period = ${HEARTBEAT_NS}, @source_heartbeat_period = ${HEARTBEAT_NS}`;

/** The driver gets only what ends the dump. */
function dumpCommand(request: DumpRequest, { onEnd, onEvent, onLarge }: DumpHandlers, received: Received) {
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
        writer.writePacket(requestPacket(request));
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

/** The driver writes anything with these members as one packet. */
function requestPacket({ file, offset, serverId, isEndless = true }: DumpRequest): object {
  const buffer = Buffer.alloc(PACKET_HEADER_BYTES + REQUEST_BYTES + Buffer.byteLength(file));
  buffer.writeUInt8(COM_BINLOG_DUMP, 4);
  buffer.writeUInt32LE(offset, 5);
  buffer.writeUInt16LE(isEndless ? 0 : NON_BLOCK, 9);
  buffer.writeUInt32LE(serverId, 11);
  buffer.write(file, 15);
  return {
    buffer,
    length: () => buffer.length,
    writeHeader(sequenceId: number) {
      buffer.writeUIntLE(buffer.length - PACKET_HEADER_BYTES, 0, 3);
      buffer.writeUInt8(sequenceId, 3);
    },
  };
}
