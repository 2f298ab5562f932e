import { describe, expect, test } from "vitest";
import { charsetOfCollation, writeTextOf, type Charset } from "../../connectors/mysql/source/values/charsets.ts";
import { Conversions } from "../../scripts/services/servers/mysql/mysql-conversions.ts";
import { ByteWriter } from "../../src/core/bytes.ts";
import { freshMysqlDatabase, mysqlFlavours, mysqlUrl } from "../support/run/services.ts";

const out = new ByteWriter();

function decoded(charset: Charset, bytes: Uint8Array): string {
  out.reset();
  writeTextOf(out, charset, bytes, 0, bytes.length);
  return out.view().toString("utf8");
}

/** Every character of Unicode's first plane, one of each further one that has any. */
const CHARACTERS = [
  ...Array.from({ length: 0xffff }, (_, i) => i + 1).filter((codePoint) => (codePoint & 0xf800) !== 0xd800),
  0x1_0000,
  0x1_f600,
  0x2_0000,
  0x10_ffff,
].map((codePoint) => String.fromCodePoint(codePoint));

describe.each(mysqlFlavours)("%s", (flavour) => {
  test("every collation belongs to the character set that the server says", async () => {
    await using database = await freshMysqlDatabase(mysqlUrl(flavour));
    const collations = await new Conversions(database.connection).collations();
    expect(collations.length).toBeGreaterThan(200);
    const wrong = collations.filter(({ id, charset }) => charsetOfCollation(id)?.name !== charset);
    expect(wrong).toEqual([]);
  });

  test("every character of every character set is the one that the server converts it to", async () => {
    await using database = await freshMysqlDatabase(mysqlUrl(flavour));
    const { connection } = database;
    await connection.query("create table characters (t longtext character set utf8mb4)");
    await connection.query("insert into characters values (?)", [CHARACTERS.join("")]);
    const charsets = (await new Conversions(connection).collations()).reduce(
      (all, { id, charset }) => all.set(charset, charsetOfCollation(id)),
      new Map<string, Charset | undefined>(),
    );
    for (const [name, charset] of charsets) {
      if (charset === undefined || name === "binary") continue;
      const there = `convert(t using ${name})`;
      const [[bytes = "", text = ""] = []] = await database.texts(
        `select hex(${there}), convert(${there} using utf8mb4) from characters`,
      );
      const found = decoded(charset, Buffer.from(bytes ?? "", "hex"));
      expect(firstDifference(found, text ?? "null"), name).toBeUndefined();
    }
  });

  test("every code of a character set is read as the server reads it, also those that no character is written with", async () => {
    await using database = await freshMysqlDatabase(mysqlUrl(flavour));
    for (const { name, byteCountMax } of await new Conversions(database.connection).charsets()) {
      const charset = charsetOfName(name);
      if (charset?.kind !== "table") continue;
      const codes = allCodes(byteCountMax).filter((code) => /^[^\uFFFD?]$/u.test(decoded(charset, code)));
      expect(codes.length).toBeGreaterThan(60);
      const bytes = Buffer.concat(codes);
      const [[text = ""] = []] = await database.texts(
        `select convert(convert(x'${bytes.toString("hex")}' using ${name}) using utf8mb4)`,
      );
      const found = decoded(charset, bytes);
      expect(firstDifference(found, text ?? "null"), name).toBeUndefined();
    }
  });
});

function charsetOfName(name: string): Charset | undefined {
  for (let id = 1; id < 256; id++) if (charsetOfCollation(id)?.name === name) return charsetOfCollation(id);
  return undefined;
}

function allCodes(byteCountMax: number): Buffer[] {
  const singles = Array.from({ length: 256 }, (_, byte) => Buffer.of(byte));
  if (byteCountMax === 1) return singles;
  const doubles = Array.from({ length: 128 * 256 }, (_, i) => Buffer.of(0x80 + (i >> 8), i & 0xff));
  const triples = Array.from({ length: 94 * 94 }, (_, i) =>
    Buffer.of(0x8f, 0xa1 + Math.floor(i / 94), 0xa1 + (i % 94)),
  );
  return [...singles, ...doubles, ...(byteCountMax === 3 ? triples : [])];
}

/** Undefined where they are the same. */
function firstDifference(found: string, expected: string): string | undefined {
  if (found === expected) return undefined;
  const characters = Array.from(found);
  const others = Array.from(expected);
  const at = characters.findIndex((character, i) => character !== others[i]);
  return at < 0 ? "another length" : `${characters[at]} in place of ${others[at]} at ${at}`;
}
