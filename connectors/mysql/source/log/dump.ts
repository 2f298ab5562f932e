/**
 * The binary log as the server sends it from a place on (COM_BINLOG_DUMP). A command of our own: the driver's own reader
 * of logs can't send its request, and neither it nor those built on it leave packets where they lie.
 */
import { openSession, type Target, within } from "../database.ts";
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
/** Offsets above it can't be asked for: the request has 32 bits. */
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
  /** Called with the dump's own session before it begins. */
  readonly prepare?: (session: Session, signal: AbortSignal) => Promise<void>;
}

/** From where the server is asked to send, for a wanted offset. */
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

  /** How many bytes have come, of events that are not whole too. */
  get byteCount(): number {
    return this.#received.byteCount;
  }

  static async start(target: Target, request: DumpRequest, handlers: DumpHandlers, signal: AbortSignal): Promise<Dump> {
    const session = await openSession(target, signal);
    try {
      // Told what the server may send: checksums as they are, MariaDB's own events, and signs of life.
      await within(session.query(SETTINGS), "preparing the stream", signal);
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

/** Heartbeats are asked for every second: silence for this long means that nobody is there. */
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

  /** To be asked every `WATCH_MS`. */
  isSilent(nowMs: number): boolean {
    const count = this.#count();
    if (count !== this.#last) this.heard(nowMs);
    this.#last = count;
    return nowMs - this.#heardMs >= SILENT_MS_MAX;
  }

  /** Also where nobody listened in between. */
  heard(nowMs: number): void {
    this.#heardMs = nowMs;
  }
}

/** Of what an event comes in: the packet's header, and the mark of an event. */
const PACKET_BYTES = 5;

/** Whether anything but heartbeats comes, an event in part included. */
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

  /** Also where nobody listened in between. */
  moved(nowMs: number): void {
    this.#movedMs = nowMs;
  }

  /** Since when nothing has moved. To be asked every `WATCH_MS`. */
  stillSinceMs(nowMs: number): number {
    const count = this.#count() - this.#heartbeatBytes;
    if (count !== this.#last) this.moved(nowMs);
    this.#last = count;
    return this.#movedMs;
  }
}

const SERVER_ID_MIN = 0x1000_0000;
const SERVER_ID_SPAN = 0xe000_0000;

/** For a reader beside the stream: two under one id would put each other out. */
export function otherServerId({ serverId }: { readonly serverId: number }): number {
  for (;;) {
    const id = SERVER_ID_MIN + Math.floor(Math.random() * SERVER_ID_SPAN);
    if (id !== serverId) return id;
  }
}

/**
 * Reads on until `take` returns false, or to the log's end where the dump has one; `doing` names it in errors. Rows are nobody's
 * here: of a large event with rows only the header is given.
 */
export async function readDump(
  target: Target,
  request: DumpRequest,
  take: (bytes: Buffer, start: number, end: number) => boolean,
  doing: string,
  signal: AbortSignal,
): Promise<void> {
  const done = Promise.withResolvers<void>();
  // It is waited for below; a failure before that is seen there.
  done.promise.catch(() => {});
  const stop = (): void => done.reject(aborted(doing));
  signal.addEventListener("abort", stop, { once: true });
  // More events may have come with the last one that is wanted.
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

/** The driver is given only what ends the dump. */
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

/** Numbered as the first. */
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
