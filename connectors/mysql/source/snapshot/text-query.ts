/** A SELECT whose rows are read in place in the receive buffer: nothing is allocated per cell. */
import { type Packet, PACKET_HEADER_BYTES, type PacketWriter, type Session } from "../driver.ts";
import { Cursor } from "../log/little-endian.ts";

const COM_QUERY = 0x03;
const EOF_MARK = 0xfe;
const EOF_BYTES_MAX = 9;

/** The row's values are between `start` and `end`, one after the other: each a packed length and bytes, or 0xfb for null. */
export type OnRow = (bytes: Buffer, start: number, end: number) => void;

export function textQuery(session: Session, sql: string, onRow: OnRow): Promise<void> {
  return new Promise((resolve, reject) => {
    let columnCount = -1;
    let definitionsLeft = 0;
    let state: "header" | "columns" | "rows" = "header";
    session.run({
      onResult: reject,
      execute(packet: Packet | undefined, writer: PacketWriter): boolean {
        if (packet === undefined) {
          writer._resetSequenceId();
          writer.writePacket(queryPacket(sql));
          return false;
        }
        if (packet.isError()) {
          reject(packet.asError("utf8"));
          return true;
        }
        const first = packet.start + PACKET_HEADER_BYTES;
        const isEnd = packet.buffer[first] === EOF_MARK && packet.end - first < EOF_BYTES_MAX;
        if (state === "header") {
          columnCount = new Cursor(packet.buffer, first, packet.end).packed();
          definitionsLeft = columnCount;
          if (columnCount > 0) {
            state = "columns";
            return false;
          }
          resolve();
          return true;
        }
        if (state === "columns") {
          // The column definitions, then their end packet.
          if (definitionsLeft-- === 0) state = "rows";
          return false;
        }
        if (isEnd) {
          resolve();
          return true;
        }
        onRow(packet.buffer, first, packet.end);
        return false;
      },
    });
  });
}

function queryPacket(sql: string): object {
  const text = Buffer.from(sql, "utf8");
  const buffer = Buffer.alloc(PACKET_HEADER_BYTES + 1 + text.length);
  buffer.writeUInt8(COM_QUERY, PACKET_HEADER_BYTES);
  text.copy(buffer, PACKET_HEADER_BYTES + 1);
  return {
    buffer,
    length: () => buffer.length,
    writeHeader(sequenceId: number) {
      buffer.writeUIntLE(buffer.length - PACKET_HEADER_BYTES, 0, 3);
      buffer.writeUInt8(sequenceId, 3);
    },
  };
}
