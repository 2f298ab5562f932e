/** The event that begins each file of the log and describes how to read the others. */
import { CHECKSUM_BYTES, HEADER_BYTES } from "./events.ts";
import { readUint16, readUint32 } from "./little-endian.ts";

const VERSION_BYTES = 50;
const BINLOG_VERSION = 4;
const CHECKSUM_CRC32 = 1;

export type Flavour = "mysql" | "mariadb";

export interface LogFormat {
  readonly flavour: Flavour;
  readonly serverVersion: string;
  /** Whether every event of this file ends in a CRC-32 of the rest. This event's own is always there. */
  readonly hasChecksums: boolean;
  /** When the file was begun, in seconds since 1970; 0 if it continues the previous file. */
  readonly createdAt: number;
}

/** Reads the event between `start` and `end`, header included; undefined if its version is unknown. */
export function readFormat(bytes: Uint8Array, start: number, end: number): LogFormat | undefined {
  const body = start + HEADER_BYTES;
  const algorithmAt = end - CHECKSUM_BYTES - 1;
  if (algorithmAt < body + 2 + VERSION_BYTES + 5 || readUint16(bytes, body) !== BINLOG_VERSION) return undefined;
  const version = Buffer.from(bytes.subarray(body + 2, body + 2 + VERSION_BYTES)).toString("latin1");
  const serverVersion = version.replace(/\0.*$/s, "");
  return {
    flavour: /mariadb/i.test(serverVersion) ? "mariadb" : "mysql",
    serverVersion,
    hasChecksums: bytes[algorithmAt] === CHECKSUM_CRC32,
    createdAt: readUint32(bytes, body + 2 + VERSION_BYTES),
  };
}
