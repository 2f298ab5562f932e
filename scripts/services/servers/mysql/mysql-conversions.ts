/** Asks a server about its character sets: the source of charset-data.ts, and the oracle of its test. */
import type { Connection } from "mysql2/promise";

const CODES_PER_STATEMENT = 1_000;

/**
 * The layout of a character set's table: 256 code points for single bytes, 0 where the byte begins a longer character;
 * where there are longer ones, 128 × 256 for two bytes, the first of them 0x80 or above; where there are three bytes,
 * 128 × 128 for those that follow 0x8f; for gb18030 instead 39,420 for the four bytes from 81308130 on.
 */
export const TWO_BYTE_COUNT = 128 * 256;
export const THREE_BYTE_COUNT = 128 * 128;
export const FOUR_BYTE_COUNT = 39_420;

export class Conversions {
  readonly #connection: Connection;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  async charsets(): Promise<{ name: string; byteCountMax: number }[]> {
    const rows = await this.#rows("select character_set_name, maxlen from information_schema.character_sets");
    return rows.map(([name, byteCountMax]) => ({ name: String(name), byteCountMax: Number(byteCountMax) }));
  }

  async collations(): Promise<{ id: number; charset: string }[]> {
    // MariaDB has collations that fit several sets, with an id for each.
    const rows = await this.#rows(
      "select id, character_set_name from information_schema.collations where id is not null and character_set_name is not null",
    ).then(async (plain) => [...plain, ...(await this.#applicable())]);
    // MariaDB before 10.6 calls utf8mb3 so.
    return rows.map(([id, name]) => ({ id: Number(id), charset: name === "utf8" ? "utf8mb3" : String(name) }));
  }

  /** Code points of all characters of up to three bytes (gb18030: four). 0: there is no such character. */
  async table(charset: string, byteCountMax: number): Promise<Uint16Array> {
    const parts = [await this.#singles(charset)];
    if (byteCountMax > 1) parts.push(await this.#codes(charset, twoBytes()));
    if (byteCountMax === 3) parts.push(await this.#codes(charset, threeBytes()));
    if (byteCountMax === 4) parts.push(await this.#codes(charset, fourBytes()));
    const all = new Uint16Array(parts.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of parts) {
      all.set(part, at);
      at += part.length;
    }
    // The first byte of longer characters is not a character by itself, whatever the server says.
    if (byteCountMax === 1) return all;
    for (let lead = 0x80; lead < 256; lead++) {
      const from = 256 + (lead - 0x80) * 256;
      const leads = all.subarray(from, from + 256).some((codePoint) => codePoint !== 0 && codePoint !== 0x3f);
      if (leads) all[lead] = 0;
      else all.fill(0, from, from + 256);
    }
    return all;
  }

  async #singles(charset: string): Promise<Uint16Array> {
    return this.#codes(
      charset,
      Array.from({ length: 256 }, (_, byte) => hex(byte)),
    );
  }

  async #codes(charset: string, codes: readonly string[]): Promise<Uint16Array> {
    const result = new Uint16Array(codes.length);
    for (let first = 0; first < codes.length; first += CODES_PER_STATEMENT) {
      const part = codes.slice(first, first + CODES_PER_STATEMENT);
      const list = part.map((code) => `hex(convert(convert(x'${code}' using ${charset}) using utf32))`);
      const [row = []] = await this.#rows(`select ${list.join(",")}`);
      row.forEach((text, i) => {
        // Null: no character. More than four bytes: several characters.
        const codePoint = typeof text === "string" && text.length === 8 ? Number.parseInt(text, 16) : 0;
        if (codePoint > 0xffff) throw new Error(`${charset} ${part[i]} is beyond 16 bits`);
        result[first + i] = codePoint;
      });
    }
    return result;
  }

  async #applicable(): Promise<unknown[][]> {
    // MySQL's table has no such column, nor has that of MariaDB before 10.10, which has no such collations.
    const columns = await this.#rows("show columns from information_schema.collation_character_set_applicability");
    if (!columns.some(([name]) => String(name).toLowerCase() === "id")) return [];
    return this.#rows(
      "select id, character_set_name from information_schema.collation_character_set_applicability where id is not null",
    );
  }

  async #rows(sql: string): Promise<unknown[][]> {
    const [rows] = await this.#connection.query(sql);
    return Array.isArray(rows) ? rows.map((row): unknown[] => (Array.isArray(row) ? row : [])) : [];
  }
}

function twoBytes(): string[] {
  return Array.from({ length: TWO_BYTE_COUNT }, (_, i) => hex(0x80 + (i >> 8)) + hex(i & 0xff));
}

function threeBytes(): string[] {
  return Array.from({ length: THREE_BYTE_COUNT }, (_, i) => `8f${hex(0x80 + (i >> 7))}${hex(0x80 + (i & 0x7f))}`);
}

/** In gb18030 the second and fourth byte are digits and the third has 126 values. */
function fourBytes(): string[] {
  return Array.from({ length: FOUR_BYTE_COUNT }, (_, i) => {
    const third = Math.floor(i / 10) % 126;
    const second = Math.floor(i / 1260) % 10;
    return hex(0x81 + Math.floor(i / 12_600)) + hex(0x30 + second) + hex(0x81 + third) + hex(0x30 + (i % 10));
  });
}

function hex(byte: number): string {
  return byte.toString(16).padStart(2, "0");
}
