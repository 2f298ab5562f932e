/** Protocol frames that are written or parsed by hand. */

/** An ErrorResponse as the protocol's fields. `text` is the server's message: it may contain values. */
export class ServerError extends Error {
  readonly code: string;
  /** The server's function that raised it; the same in every language of its messages. */
  readonly routine: string;
  constructor(code: string, text: string, routine: string) {
    super(text);
    this.name = "ServerError";
    this.code = code;
    this.routine = routine;
  }
}

/** A simple Query. */
export function queryFrame(sql: string): Buffer {
  const length = Buffer.byteLength(sql);
  const frame = Buffer.allocUnsafe(6 + length);
  frame[0] = 0x51;
  frame.writeInt32BE(5 + length, 1);
  frame.write(sql, 5, "utf8");
  frame[5 + length] = 0;
  return frame;
}

/**
 * One statement by the extended protocol (Parse, Bind, Execute, Sync), all unnamed and without parameters: the server
 * refuses a text with more than one statement.
 */
export function statementFrames(sql: string): Buffer {
  const text = Buffer.from(sql, "utf8");
  const parse = Buffer.alloc(5 + 1 + text.length + 1 + 2);
  parse[0] = 0x50;
  parse.writeInt32BE(parse.length - 1, 1);
  text.copy(parse, 6);
  return Buffer.concat([parse, BIND_EXECUTE_SYNC]);
}

/** The unnamed portal of the unnamed statement; all its rows, as text. */
const BIND_EXECUTE_SYNC = Buffer.from("420000000c0000000000000000450000000900000000005300000004", "hex");

/** The fields of an ErrorResponse or NoticeResponse: SQLSTATE, message, and the server's function that raised it. */
export function readServerError(fields: Buffer): ServerError {
  let code = "XX000";
  let text = "";
  let routine = "";
  let at = 0;
  while (at < fields.length && fields[at] !== 0) {
    const end = fields.indexOf(0, at + 1);
    if (end < 0) break;
    const value = fields.toString("utf8", at + 1, end);
    if (fields[at] === 0x43) code = value;
    else if (fields[at] === 0x4d) text = value;
    else if (fields[at] === 0x52) routine = value;
    at = end + 1;
  }
  return new ServerError(code, text, routine);
}
