/** The binary log as the server sends it, for tests and benchmarks: every event from a position to the log's end. */
import { createConnection } from "mysql2";
import { createConnection as connect } from "mysql2/promise";
import { PACKET_HEADER_BYTES, requestPacket, Session } from "../../../../connectors/mysql/source/wire/driver.ts";

const COM_BINLOG_DUMP = 0x12;
const END_AT_LAST_EVENT = 1;
const OK = 0;
const EOF = 0xfe;

export interface LogPosition {
  readonly file: string;
  readonly position: number;
}

/** Called with an event inside the driver's buffer, which is reused. */
export type OnEvent = (bytes: Buffer, start: number, end: number) => void;

/** Where the log ends now. */
export async function endOfLog(url: string): Promise<LogPosition> {
  const connection = await connect({ uri: url, rowsAsArray: true });
  try {
    const [version] = await connection.query("select version()");
    const isMariadb = JSON.stringify(version).includes("MariaDB");
    const [rows] = await connection.query(isMariadb ? "show master status" : "show binary log status");
    const row: unknown = Array.isArray(rows) ? rows[0] : undefined;
    if (!Array.isArray(row)) throw new Error("the server writes no log");
    return { file: String(row[0]), position: Number(row[1]) };
  } finally {
    await connection.end();
  }
}

export async function dumpLog(url: string, from: LogPosition, onEvent: OnEvent): Promise<void> {
  const session = Session.made(createConnection({ uri: url }));
  try {
    await session.query("SET @master_binlog_checksum = 'CRC32', @source_binlog_checksum = 'CRC32'");
    // MariaDB: send its own events unchanged, including compressed ones.
    await session.query("SET @mariadb_slave_capability = 4");
    await dump(session, from, onEvent);
  } finally {
    session.destroy();
  }
}

function dump(session: Session, { file, position }: LogPosition, onEvent: OnEvent): Promise<void> {
  return new Promise((resolve, reject) => {
    session.onBroken(reject);
    session.run({
      onResult: reject,
      execute(packet, writer) {
        if (packet === undefined) {
          writer._resetSequenceId();
          writer.writePacket(request(file, position));
          return false;
        }
        if (packet.isError()) {
          reject(packet.asError("utf8"));
          return true;
        }
        const first = packet.start + PACKET_HEADER_BYTES;
        if (packet.buffer[first] === EOF) {
          resolve();
          return true;
        }
        if (packet.buffer[first] === OK) onEvent(packet.buffer, first + 1, packet.end);
        else reject(new Error("a packet of another kind"));
        return false;
      },
    });
  });
}

function request(file: string, position: number): object {
  const body = Buffer.alloc(10 + Buffer.byteLength(file));
  body.writeUInt32LE(position, 0);
  body.writeUInt16LE(END_AT_LAST_EVENT, 4);
  body.writeUInt32LE(1 + Math.floor(Math.random() * 1_000_000_000), 6);
  body.write(file, 10);
  return requestPacket(COM_BINLOG_DUMP, body);
}
