/**
 * The stream of a database that is neither in UTF8 nor in SQL_ASCII. At a character without a form in UTF-8 the server would
 * end the stream, again at each start. So it sends texts as the database has them, and they become UTF-8 here, character by
 * character as the server itself would turn them. A character without a form becomes a byte that is no UTF-8: the decoder
 * then suspends the row's table.
 */
import { ByteWriter } from "../../../../src/core/bytes.ts";
import { reasonOf } from "../../../../src/core/errors.ts";
import { CELL_TEXT, readInt32 } from "../../../../src/core/model/tuple.ts";
import type { Database } from "../wire/database.ts";
import { frameLength, XLOG_HEADER } from "./frame.ts";

const NO_FORM = Buffer.of(0xff);
/** Buffers that one huge row has enlarged are released. */
const KEPT_BYTES_MAX = 16 * 1024 * 1024;

export class Transcoder {
  readonly #database: Database;
  readonly #encoding: string;
  readonly #forms = new Map<number, Buffer>();
  readonly #unknown = new Map<number, Buffer>();
  #received = new ByteWriter();
  #out = new ByteWriter();

  constructor(database: Database, encoding: string) {
    this.#database = database;
    this.#encoding = encoding;
  }

  /** The frames that `bytes` completes, in UTF-8; valid until the next call. A promise: the server is asked for forms. */
  take(bytes: Uint8Array): Buffer | Promise<Buffer> {
    if (this.#out.bytes.length > KEPT_BYTES_MAX) this.#out = new ByteWriter();
    this.#received.copy(bytes, 0, bytes.length);
    return this.#frames();
  }

  #frames(): Buffer | Promise<Buffer> {
    const received = this.#received;
    const bytes = received.view();
    this.#out.reset();
    let at = 0;
    for (;;) {
      const length = frameLength(bytes, at, bytes.length);
      if (length === 0 || at + length > bytes.length) break;
      this.#frame(bytes, at, at + length);
      at += length;
    }
    if (this.#unknown.size > 0) return this.#learn();
    const rest = bytes.subarray(at);
    if (received.bytes.length > KEPT_BYTES_MAX) this.#received = new ByteWriter();
    this.#received.reset();
    this.#received.copy(rest, 0, rest.length);
    return this.#out.view();
  }

  async #learn(): Promise<Buffer> {
    const unknown = [...this.#unknown];
    this.#unknown.clear();
    const characters = unknown.map(([, character]) => character);
    const forms = await formsOf(this.#database, this.#encoding, characters);
    for (const [i, [key]] of unknown.entries()) this.#forms.set(key, forms[i] ?? NO_FORM);
    return this.#frames();
  }

  #frame(bytes: Buffer, at: number, end: number): void {
    const out = this.#out;
    const begun = out.length;
    const isMessage = bytes[at] === 0x64 && bytes[at + 5] === 0x77;
    const kind = isMessage ? bytes[at + XLOG_HEADER]! : 0;
    const isRelation = kind === 0x52;
    // Insert, Update, Delete.
    if (!isRelation && kind !== 0x49 && kind !== 0x55 && kind !== 0x44) {
      out.copy(bytes, at, end - at);
      return;
    }
    // Behind the kind and the relation's oid.
    const content = at + XLOG_HEADER + 5;
    out.copy(bytes, at, content - at);
    if (isRelation) this.#relation(bytes, content);
    else this.#tuples(bytes, content, end);
    out.bytes.writeInt32BE(out.length - begun - 1, begun + 1);
  }

  /** `at`: a byte says which tuple follows. */
  #tuples(bytes: Buffer, at: number, end: number): void {
    const out = this.#out;
    while (at < end) {
      out.copy(bytes, at, 3);
      let count = bytes.readUInt16BE(at + 1);
      for (at += 3; count > 0; count--) {
        if (bytes[at] !== CELL_TEXT) {
          out.byte(bytes[at++]!);
          continue;
        }
        const next = at + 5 + readInt32(bytes, at + 1);
        out.copy(bytes, at, 5);
        const begun = out.length;
        this.#text(bytes, at + 5, next);
        out.bytes.writeInt32BE(out.length - begun, begun - 4);
        at = next;
      }
    }
  }

  #relation(bytes: Buffer, at: number): void {
    const out = this.#out;
    at = this.#name(bytes, this.#name(bytes, at));
    out.copy(bytes, at, 3);
    let count = bytes.readUInt16BE(at + 1);
    for (at += 3; count > 0; count--) {
      out.byte(bytes[at]!);
      at = this.#name(bytes, at + 1);
      out.copy(bytes, at, 8);
      at += 8;
    }
  }

  #name(bytes: Buffer, at: number): number {
    const end = bytes.indexOf(0, at) + 1;
    this.#text(bytes, at, end);
    return end;
  }

  #text(bytes: Buffer, from: number, to: number): void {
    for (let at = from; at < to;) {
      let end = at;
      while (end < to && bytes[end]! < 0x80) end++;
      this.#out.copy(bytes, at, end - at);
      if (end === to) return;
      at = Math.min(to, end + lengthOf(this.#encoding, bytes[end]!));
      const key = bytes.readUIntBE(end, at - end);
      const form = this.#forms.get(key);
      if (form === undefined) this.#unknown.set(key, Buffer.from(bytes.subarray(end, at)));
      else this.#out.copy(form, 0, form.length);
    }
  }
}

/** Of a character that is not ASCII. All encodings of several bytes that a database can have, besides UTF8, are EUC. */
function lengthOf(encoding: string, first: number): number {
  if (!encoding.startsWith("EUC_")) return 1;
  if (first === 0x8f) return 3;
  return first === 0x8e && encoding === "EUC_TW" ? 4 : 2;
}

/** The UTF-8 of characters; null: it has none. */
async function formsOf(
  database: Database,
  encoding: string,
  characters: readonly Buffer[],
): Promise<readonly (Buffer | null)[]> {
  // The connection's own time limits end it.
  const { signal } = new AbortController();
  try {
    const rows = await database.rows<{ form: Buffer }>(
      "turning characters into UTF-8",
      "select convert(c, $2, 'UTF8') as form from unnest($1::bytea[]) with ordinality as t (c, i) order by i",
      [characters, encoding],
      signal,
    );
    return rows.map(({ form }) => form);
  } catch (error) {
    if (reasonOf(error) !== "encoding") throw error;
    if (characters.length === 1) return [null];
    const forms: (Buffer | null)[] = [];
    for (const character of characters) forms.push(...(await formsOf(database, encoding, [character])));
    return forms;
  }
}

/** Whether texts of the encoding may have characters without UTF-8. Of those of one byte, it depends on which bytes are used. */
export async function hasGaps(database: Database, encoding: string): Promise<boolean> {
  if (encoding === "UTF8") return false;
  if (encoding === "SQL_ASCII" || lengthOf(encoding, 0x80) > 1) return true;
  const all = Array.from({ length: 0x80 }, (_, i) => Buffer.of(0x80 + i));
  return (await formsOf(database, encoding, all)).includes(null);
}
