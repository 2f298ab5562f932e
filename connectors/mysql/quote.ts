/** Quotes names and texts of MySQL: they are never spliced in. */

export function quoteName(name: string): string {
  return `\`${name.replaceAll("`", "``")}\``;
}

/** What stands between the quotes of a name, as a name. */
export function unquoted(text: string): string {
  return text.replaceAll("``", "`");
}

export function quoteTable(schema: string, table: string): string {
  return `${quoteName(schema)}.${quoteName(table)}`;
}

/** As hexadecimal digits, which mean the same with every sql_mode and in every character set of the connection. */
export function quoteText(text: string): string {
  return text === "" ? "_utf8mb4 ''" : `_utf8mb4 0x${Buffer.from(text, "utf8").toString("hex")}`;
}

/** `user@host`, as a statement takes it; a user's name may hold an @. */
export function quoteAccount(account: string): string {
  const at = account.lastIndexOf("@");
  return [account.slice(0, at), account.slice(at + 1)]
    .map((part) => `'${part.replaceAll("\\", "\\\\").replaceAll("'", "''")}'`)
    .join("@");
}
