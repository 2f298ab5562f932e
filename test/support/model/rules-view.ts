/** The masks of docs/rules.md in SQL: what a view has to show for a comparison of ruled tables, by another path. */

const BLOCK_BYTES = 64;

/** HMAC-SHA-256 in hex, from its definition: the server has the plain digest only. */
export function hashedSql(key: string, text: string): string {
  const padded = Buffer.alloc(BLOCK_BYTES);
  Buffer.from(key).copy(padded);
  const [inner, outer] = [0x36, 0x5c].map((pad) => {
    const bytes = Buffer.from(padded.map((byte) => byte ^ pad)).toString("hex");
    return `'\\x${bytes}'::bytea`;
  });
  return `encode(sha256(${outer} || sha256(${inner} || convert_to(${text}, 'UTF8'))), 'hex')`;
}

export function partialSql(text: string): string {
  const kept = `least(4, length(${text}) / 4)`;
  return `case when ${text} is not null then '****' || substr(${text}, length(${text}) - ${kept} + 1) end`;
}

export function redactedSql(column: string): string {
  return `case when ${column} is not null then '[redacted]' end`;
}

/** The same on MySQL and MariaDB. */
export function hashedMysql(key: string, text: string): string {
  const padded = Buffer.alloc(BLOCK_BYTES);
  Buffer.from(key).copy(padded);
  const [inner, outer] = [0x36, 0x5c].map(
    (pad) => `x'${Buffer.from(padded.map((byte) => byte ^ pad)).toString("hex")}'`,
  );
  return `sha2(concat(${outer}, unhex(sha2(concat(${inner}, cast(${text} as binary)), 256))), 256)`;
}

export function partialMysql(text: string): string {
  return `concat('****', right(${text}, least(4, char_length(${text}) div 4)))`;
}
