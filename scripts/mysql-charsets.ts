/**
 * `node scripts/mysql-charsets.ts` asks MySQL, and each line of MariaDB, how they convert every character of every
 * character set, and writes the answer to connectors/mysql/source/values/charset-data.ts. Run it again when a server
 * has a new character set; a test compares the file with both servers.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { brotliCompressSync, constants } from "node:zlib";
import { createConnection } from "mysql2/promise";
import { mariadb } from "./services/servers/mysql/mariadb.ts";
import { MARIADB_VERSION_VARIABLE, mariadbLines } from "./services/servers/mysql/mariadb-version.ts";
import { mysql } from "./services/servers/mysql/mysql.ts";
import { Conversions } from "./services/servers/mysql/mysql-conversions.ts";

/** Character sets without a table: see charsets.ts. */
const COMPUTED = new Set(["binary", "ascii", "utf8", "utf8mb3", "utf8mb4", "ucs2", "utf16", "utf16le", "utf32"]);

const collations = new Map<string, Set<number>>();
const tables: Record<string, string> = {};
for (const line of [undefined, ...mariadbLines]) {
  if (line !== undefined) process.env[MARIADB_VERSION_VARIABLE] = line.version;
  await using server = await (line === undefined ? mysql : mariadb).start({ own: true });
  const connection = await createConnection({ uri: server.url, charset: "utf8mb4", rowsAsArray: true });
  const conversions = new Conversions(connection);
  for (const { id, charset } of await conversions.collations()) {
    const ids = collations.get(charset) ?? new Set();
    collations.set(charset, ids.add(id));
  }
  for (const { name, byteCountMax } of await conversions.charsets()) {
    if (COMPUTED.has(name) || tables[name] !== undefined) continue;
    tables[name] = compress(await conversions.table(name, byteCountMax));
  }
  await connection.end();
}

const lines = Object.entries(tables).toSorted(byName);
const text = `/**
 * Character sets as the servers themselves convert them; written by scripts/mysql-charsets.ts, read by charsets.ts.
 */

/** The ids of each set's collations, as ranges. */
export const COLLATIONS: Readonly<Record<string, string>> = {
${[...collations]
  .toSorted(byName)
  .map(([charset, ids]) => `  ${charset}: "${ranges([...ids])}",\n`)
  .join("")}};

/** Differences of successive code points, high bytes before low bytes, compressed. */
export const TABLES: Readonly<Record<string, string>> = {
${lines.map(([name, data]) => `  ${name}:\n    "${data}",\n`).join("")}};
`;
writeFileSync(join(import.meta.dirname, "../connectors/mysql/source/values/charset-data.ts"), text);

function byName([a]: readonly [string, unknown], [b]: readonly [string, unknown]): number {
  return a < b ? -1 : 1;
}

function compress(codePoints: Uint16Array): string {
  const planes = Buffer.alloc(codePoints.length * 2);
  let last = 0;
  codePoints.forEach((codePoint, i) => {
    const difference = (codePoint - last) & 0xffff;
    planes[i] = difference >> 8;
    planes[codePoints.length + i] = difference & 0xff;
    last = codePoint;
  });
  const params = { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_LGWIN]: 20 };
  return brotliCompressSync(planes, { params }).toString("base64");
}

function ranges(ids: readonly number[]): string {
  const parts: { first: number; last: number }[] = [];
  for (const id of ids.toSorted((a, b) => a - b)) {
    const open = parts.at(-1);
    if (open !== undefined && open.last === id - 1) open.last = id;
    else parts.push({ first: id, last: id });
  }
  return parts.map(({ first, last }) => (first === last ? `${first}` : `${first}-${last}`)).join(",");
}
