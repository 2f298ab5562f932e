/** DuckDB's errors have no codes: what its sentences, as it has said them, are taken for. */
import { expect, test } from "vitest";
import { classify, isInvalidated } from "../../connectors/duckdb/errors.ts";

const FULL = 'Could not write file "/data/x.duckdb.wal": No space left on device';

test.each([
  ["a commit on a full disk", `TransactionContext Error: Failed to commit: ${FULL}`, "MR3213", false],
  ["a checkpoint on a full disk", `FATAL Error: Failed to create checkpoint because of error: ${FULL}`, "MR3213", true],
  [
    "what follows it",
    `FATAL Error: Failed: database has been invalidated because of a previous fatal error.\nOriginal error: "${FULL}"`,
    "MR3213",
    true,
  ],
  ["a write on a full disk", `IO Error: ${FULL}`, "MR3213", false],
  ["a quota", 'IO Error: Could not write file "/data/x.duckdb": Disk quota exceeded', "MR3213", false],
  [
    "a commit of a lake on a full disk",
    'TransactionContext Error: Failed to commit: Failed to commit DuckLake transaction.\nFailed to commit: Failed to execute query "COMMIT": database or disk is full',
    "MR3213",
    false,
  ],
  [
    "a lake that is opened on a full disk",
    'Invalid Error: Failed to probe DuckLake metadata: Failed to execute query "PRAGMA journal_mode=WAL": disk I/O error',
    "MR3213",
    false,
  ],
  [
    "a commit without memory",
    "TransactionContext Error: Failed to commit: could not allocate block of size 256.0 KiB (120.0 MiB/122.0 MiB used)",
    "MR3212",
    false,
  ],
  [
    "a rollback without memory",
    "FATAL Error: Failed to rollback transaction. Cannot continue operation.\nOriginal Error: Out of Memory Error: failed to pin block of size 100.0 MiB",
    "MR3212",
    true,
  ],
  ["a meeting", "TransactionContext Error: Failed to commit: write-write conflict on key", "MR3220", false],
  ["any other end", "FATAL Error: something else", "MR3216", true],
])("%s", (_, sentence, code, isBroken) => {
  const error = new Error(sentence);
  expect(classify(error, "writing")).toMatchObject({ code, kind: code === "MR3213" ? "blocked" : "retryable" });
  expect(isInvalidated(error)).toBe(isBroken);
  if (code === "MR3213") expect(classify(error, "writing").hint).toMatch(/room/);
});
