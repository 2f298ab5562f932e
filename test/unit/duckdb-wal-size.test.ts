import { tablesPerBatchMax } from "../../connectors/duckdb/file/folding.ts";
import { expect, test } from "vitest";
import { walBytesMax } from "../../connectors/duckdb/file/wal-size.ts";

const MIB = 1024 * 1024;

test.each([
  ["512MB", 64_000_000],
  ["512MiB", 64 * MIB],
  ["256 mb", 32_000_000],
  ["128MB", 16 * MIB],
  ["1KB", 16 * MIB],
  ["8GB", 64 * MIB],
  ["1.5TiB", 64 * MIB],
])("the log beside a file whose DuckDB may use %s is folded in at %d bytes", (memoryLimit, bytes) => {
  expect(walBytesMax(memoryLimit)).toBe(bytes);
});

test("a batch has no more tables than a quarter of the memory can hold until they are folded in", () => {
  expect(tablesPerBatchMax("512MiB")).toBe(128);
  expect(tablesPerBatchMax("20MB")).toBe(16);
});
