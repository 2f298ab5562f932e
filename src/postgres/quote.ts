/** Names and text in SQL. Text literals rely on standard_conforming_strings=on, which every session of ours sets. */
export function quoteIdentifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

export function quoteTable(schema: string, table: string): string {
  return `${quoteIdentifier(schema)}.${quoteIdentifier(table)}`;
}

export function quoteLiteral(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}

/** A text[] literal of any text. */
export function quoteTextArray(texts: readonly string[]): string {
  const elements = texts.map((text) => `"${text.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`);
  return `${quoteLiteral(`{${elements.join(",")}}`)}::text[]`;
}
