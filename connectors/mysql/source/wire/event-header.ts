/** Events of the binary log: their header, their codes, and which of them can bring rows. */
import { readUint16, readUint32 } from "./bytes.ts";

/** Which server wrote the log. */
export type Flavour = "mysql" | "mariadb";

export const HEADER_BYTES = 19;
export const CHECKSUM_BYTES = 4;
/** Offsets in the header. */
export const TYPE_AT = 4;
export const SIZE_AT = 9;
export const FLAGS_AT = 17;
/** A statement of a session's temporary tables, or one that depends on its session in another way. */
export const FLAG_OF_SESSION = 0x4;
/** A reader that does not know such an event may skip it. */
const FLAG_IGNORABLE = 0x80;
/** Made by the server for this reader: it is not in the file. */
export const FLAG_ARTIFICIAL = 0x20;

export const QUERY = 2;
export const STOP = 3;
export const ROTATE = 4;
export const FORMAT_DESCRIPTION = 15;
export const XID = 16;
/** The file of a LOAD DATA that is logged as a statement comes before it, in pieces. */
const BEGIN_LOAD_QUERY = 17;
export const EXECUTE_LOAD_QUERY = 18;
export const TABLE_MAP = 19;
export const WRITE_ROWS_V1 = 23;
export const UPDATE_ROWS_V1 = 24;
export const DELETE_ROWS_V1 = 25;
export const INCIDENT = 26;
export const HEARTBEAT = 27;
const ROWS_QUERY = 29;
export const WRITE_ROWS = 30;
export const UPDATE_ROWS = 31;
export const DELETE_ROWS = 32;
export const GTID = 33;
export const ANONYMOUS_GTID = 34;
export const PREVIOUS_GTIDS = 35;
export const XA_PREPARE = 38;
export const PARTIAL_UPDATE_ROWS = 39;
export const TRANSACTION_PAYLOAD = 40;
export const HEARTBEAT_V2 = 41;
export const GTID_TAGGED = 42;
const MARIADB_ANNOTATE_ROWS = 160;
const MARIADB_CHECKPOINT = 161;
export const MARIADB_GTID = 162;
export const MARIADB_GTID_LIST = 163;
export const MARIADB_QUERY_COMPRESSED = 165;
export const MARIADB_WRITE_ROWS_COMPRESSED_V1 = 166;
export const MARIADB_UPDATE_ROWS_COMPRESSED_V1 = 167;
export const MARIADB_DELETE_ROWS_COMPRESSED_V1 = 168;
export const MARIADB_WRITE_ROWS_COMPRESSED = 169;
export const MARIADB_UPDATE_ROWS_COMPRESSED = 170;
export const MARIADB_DELETE_ROWS_COMPRESSED = 171;

/** What an event means to the decoder of rows. */
export const CLASS_CONTROL = 0;
export const CLASS_FORMAT = 1;
export const CLASS_TABLE_MAP = 2;
export const CLASS_ROWS = 3;
export const CLASS_PAYLOAD = 4;
/** May hold changes that this version can't read: the stream must stop before it. */
const CLASS_UNKNOWN = 5;

/**
 * Codes that never hold changes of rows. They include statements (2, 5, 13, 14, 17, 18, 165) and events from before row
 * events existed; the log reader decides what these mean.
 */
const CONTROL: readonly number[] = [
  // Statements, and what comes with them.
  QUERY,
  MARIADB_QUERY_COMPRESSED,
  ROWS_QUERY,
  MARIADB_ANNOTATE_ROWS,
  5,
  9,
  11,
  13,
  14,
  BEGIN_LOAD_QUERY,
  EXECUTE_LOAD_QUERY,
  // Transactions and their names.
  XID,
  XA_PREPARE,
  GTID,
  GTID_TAGGED,
  ANONYMOUS_GTID,
  PREVIOUS_GTIDS,
  MARIADB_GTID,
  MARIADB_GTID_LIST,
  36,
  // The log itself, and groups of servers.
  STOP,
  ROTATE,
  INCIDENT,
  HEARTBEAT,
  HEARTBEAT_V2,
  MARIADB_CHECKPOINT,
  28,
  37,
  164,
];

const CLASSES = new Uint8Array(256).fill(CLASS_UNKNOWN);
for (const code of CONTROL) CLASSES[code] = CLASS_CONTROL;
CLASSES[FORMAT_DESCRIPTION] = CLASS_FORMAT;
CLASSES[TABLE_MAP] = CLASS_TABLE_MAP;
CLASSES[TRANSACTION_PAYLOAD] = CLASS_PAYLOAD;
for (const first of [WRITE_ROWS_V1, WRITE_ROWS, MARIADB_WRITE_ROWS_COMPRESSED_V1, MARIADB_WRITE_ROWS_COMPRESSED])
  CLASSES.fill(CLASS_ROWS, first, first + 3);
CLASSES[PARTIAL_UPDATE_ROWS] = CLASS_ROWS;

export function classOf(type: number, flags: number): number {
  const known = CLASSES[type]!;
  return known === CLASS_UNKNOWN && (flags & FLAG_IGNORABLE) !== 0 ? CLASS_CONTROL : known;
}

/** Statements that only accompany their rows. */
const ANNOTATIONS: ReadonlySet<number> = new Set([ROWS_QUERY, MARIADB_ANNOTATE_ROWS]);

const STATEMENTS: ReadonlySet<number> = new Set([...ANNOTATIONS, QUERY, MARIADB_QUERY_COMPRESSED, EXECUTE_LOAD_QUERY]);

/** Holds the text of a statement; its beginning is enough. */
export function isStatement(type: number): boolean {
  return STATEMENTS.has(type);
}

/** Not needed by a reader that only looks at transactions and files. */
export function isOfRows(type: number, flags: number): boolean {
  const kind = classOf(type, flags);
  return kind === CLASS_ROWS || kind === CLASS_PAYLOAD || ANNOTATIONS.has(type);
}

/** The header of one event; reused from event to event. */
export class EventHeader {
  /** Seconds since 1970. */
  timestamp = 0;
  type = 0;
  serverId = 0;
  size = 0;
  /** Where the next event begins in the file, in 32 bits; 0 inside a compressed transaction. */
  nextPosition = 0;
  flags = 0;

  read(bytes: Uint8Array, at: number): void {
    this.timestamp = readUint32(bytes, at);
    this.type = bytes[at + TYPE_AT]!;
    this.serverId = readUint32(bytes, at + 5);
    this.size = readUint32(bytes, at + SIZE_AT);
    this.nextPosition = readUint32(bytes, at + 13);
    this.flags = readUint16(bytes, at + FLAGS_AT);
  }
}
