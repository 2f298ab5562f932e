import { expect, test } from "vitest";
import { columnNames } from "../../connectors/duckdb/names.ts";

test("columns that DuckDB would take for one, or for Millrace's own, get names of their own", () => {
  const columns = ["id", "ID", "É", "é", "_MILLRACE_VERSION", "_Millrace_Exact"].map((name) => ({ name }));
  const names = columnNames(columns);
  expect(names.slice(0, 4)).toEqual(["id", expect.stringMatching(/^ID_[0-9a-f]{8}$/), "É", "é"]);
  expect(names[4]).toMatch(/^_MILLRACE_VERSION_[0-9a-f]{8}$/);
  expect(names[5]).toMatch(/^_Millrace_Exact_[0-9a-f]{8}$/);
});
