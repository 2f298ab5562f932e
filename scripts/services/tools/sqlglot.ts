/** sqlglot: it parses the SQL of warehouses, and says the same in that of another engine. */
import * as z from "zod";
import { python } from "../packages/python.ts";

const SQLGLOT = { name: "sqlglot", version: "30.30.0" };

/** Null where the parser does not know the statement. */
const SCRIPT = `
import json, sys, sqlglot
dialect, *texts = sys.argv[1:]
parsed = [s for text in texts for s in sqlglot.parse(text, read=dialect, error_level=sqlglot.ErrorLevel.RAISE)]
print(json.dumps([None if s.key == "command" else {"kind": s.key, "sql": s.sql(dialect="duckdb")} for s in parsed]))
`;

const ANSWER = z.array(z.object({ kind: z.string(), sql: z.string() }).nullable());

export type Dialect = "snowflake" | "bigquery" | "redshift" | "athena";

/**
 * The statements for DuckDB; fails where the parser finds an error. Athena quotes names otherwise in tables than in queries,
 * and the parser looks only at the beginning of a text: they come in texts of their own.
 */
export async function forDuckdb(dialect: Dialect, texts: readonly string[]): Promise<z.infer<typeof ANSWER>> {
  const { exitCode, stdout, stderr } = await python(SQLGLOT, ["-c", SCRIPT, dialect, ...texts], ".");
  if (exitCode !== 0) throw new Error(`sqlglot refuses the SQL for ${dialect}: ${stderr}`);
  return ANSWER.parse(JSON.parse(stdout));
}
