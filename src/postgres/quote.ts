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

/** For unnest: an array of texts for each of the `partCount` columns of the keys. */
export function arraysOf(partCount: number, keys: readonly (readonly string[])[]): string {
  const arrays = Array.from({ length: partCount }, (_, i) => quoteTextArray(keys.map((key) => key[i] ?? "")));
  return arrays.join(", ");
}

/** The names of its columns: `c0, c1`. */
export function aliasesOf(partCount: number): string {
  return Array.from({ length: partCount }, (_, i) => `c${i}`).join(", ");
}
