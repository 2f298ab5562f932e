import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { mergeSql } from "../support/warehouses/files-merge.ts";

const page = join(import.meta.dirname, "../../docs/warehouses/duckdb.md");

test("the page of DuckDB has the SQL that the tests run", () => {
  const sql = mergeSql({
    files: "changes/public.orders/*/*.parquet",
    key: ["id"],
    columns: ["id", "status", "body"],
  });
  expect(readFileSync(page, "utf8")).toContain(`\`\`\`sql\n${sql};\n\`\`\``);
});
