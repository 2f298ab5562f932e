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

/**
 * Statements that make a role that may log in, where it is missing. To let it read the log, on RDS a role of the vendor's
 * stands for REPLICATION, which only a superuser may give.
 */
export function makeRole(name: string, abilities: "logs in" | "reads the log"): readonly string[] {
  const role = quoteIdentifier(name);
  const text = quoteLiteral(name);
  const replicate =
    abilities === "logs in"
      ? ""
      : `
  IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'rds_replication') THEN GRANT rds_replication TO ${role};
  ELSE ALTER ROLE ${role} REPLICATION; END IF;`;
  return [
    `DO $role$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = ${text}) THEN CREATE ROLE ${role} LOGIN; END IF;${replicate}
END $role$;`,
    `-- Its password: \\password ${role} in psql.`,
  ];
}
