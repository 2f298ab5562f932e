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

  test(
    "every code that a column can hold is read as the server reads it, also where it is no character",
    { tags: "heavy" },
    async () => {
      await using database = await freshMysqlDatabase(mysqlUrl(flavour));
      const { connection } = database;
      await connection.query("set sql_mode = ''");
      for (const { name, byteCountMax } of await new Conversions(connection).charsets()) {
        const charset = charsetOfName(name === "utf8" ? "utf8mb3" : name);
        if (charset === undefined || charset.kind === "bytes") continue;
        await connection.query("drop table if exists t");
        await connection.query(`create table t (id int primary key, c varchar(4) character set ${name})`);
        const codes = allCodes(charset, byteCountMax);
        for (let first = 0; first < codes.length; first += CODES_PER_STATEMENT) {
          const part = codes.slice(first, first + CODES_PER_STATEMENT);
          await connection.query(
            `insert ignore into t values ${part.map((code, i) => `(${first + i}, _binary x'${code.toString("hex")}')`).join()}`,
          );
        }
        const rows = await database.texts("select hex(c), c from t where c <> ''");
        expect(rows.length, name).toBeGreaterThan(60);
        const wrong = rows.filter(([code, text]) => decoded(charset, Buffer.from(code ?? "", "hex")) !== text);
        expect(wrong.slice(0, 5), name).toEqual([]);
      }
    },
  );
});

function charsetOfName(name: string): Charset | undefined {
  for (let id = 1; id < 256; id++) if (charsetOfCollation(id)?.name === name) return charsetOfCollation(id);
  return undefined;
}

const CODES_PER_STATEMENT = 5_000;

/** All of up to two bytes, and some of the longer ones. */
function allCodes({ kind, name }: Charset, byteCountMax: number): Buffer[] {
  const singles = Array.from({ length: 256 }, (_, byte) => Buffer.of(byte));
  const each = kind === "table" ? 1 : 7;
  const doubles = Array.from({ length: Math.floor(65_536 / each) }, (_, i) =>
    Buffer.of((i * each) >> 8, (i * each) & 0xff),
  );
  const pairs = ["d800dc00", "dc00d800", "d8000041"].map((hex) => Buffer.from(hex, "hex"));
  if (kind === "ascii" || byteCountMax === 1) return singles;
  if (kind !== "table") return [...doubles, ...pairs];
  const twos = doubles.filter(([lead]) => lead! >= 0x80);
  const triples = Array.from({ length: 94 * 94 }, (_, i) =>
    Buffer.of(0x8f, 0xa1 + Math.floor(i / 94), 0xa1 + (i % 94)),
  );
  const fours = Array.from({ length: 126 * 10 * 7 }, (_, i) =>
    Buffer.of(0x81 + Math.floor(i / 70), 0x30 + (Math.floor(i / 7) % 10), 0x81 + ((i * 18) % 126), 0x30 + (i % 10)),
  );
  return [...singles, ...twos, ...(byteCountMax === 3 ? triples : []), ...(name === "gb18030" ? fours : [])];
}

/** Undefined where they are the same. */
function firstDifference(found: string, expected: string): string | undefined {
  if (found === expected) return undefined;
  const characters = Array.from(found);
  const others = Array.from(expected);
  const at = characters.findIndex((character, i) => character !== others[i]);
  return at < 0 ? "another length" : `${characters[at]} in place of ${others[at]} at ${at}`;
}
