/** DuckDB's errors have no codes: what its sentences, as it has said them, are taken for. */
import { closeSync, openSync, readlinkSync, writeSync } from "node:fs";
import { expect, test } from "vitest";
import { classify, isDataError, isInvalidated, isOutOfMemory } from "../../connectors/duckdb/errors.ts";
import { StageFile, stageFolder } from "../../connectors/duckdb/write/stage-file.ts";
import { Repetition } from "../../connectors/duckdb/repetition.ts";

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
    "MR2006",
    false,
  ],
  [
    "a rollback without memory",
    "FATAL Error: Failed to rollback transaction. Cannot continue operation.\nOriginal Error: Out of Memory Error: failed to pin block of size 100.0 MiB",
    "MR2006",
    true,
  ],
  ["no file handle", 'IO Error: Cannot open file "/data/x.duckdb": Too many open files', "MR2006", false],
  ["a meeting", "TransactionContext Error: Failed to commit: write-write conflict on key", "MR3220", false],
  ["any other end", "FATAL Error: something else", "MR3216", true],
])("%s", (_, sentence, code, isBroken) => {
  const error = new Error(sentence);
  expect(classify(error, "writing")).toMatchObject({ code, kind: code === "MR3213" ? "blocked" : "retryable" });
  expect(isInvalidated(error)).toBe(isBroken);
  if (code === "MR3213") expect(classify(error, "writing").hint).toMatch(/room/);
});

const onLinux = test.runIf(process.platform === "linux");

onLinux("a failure of Node's own work on files is told by its code, as Node spells it", () => {
  const caught = (work: () => unknown): unknown => {
    try {
      return work();
    } catch (error) {
      return error;
    }
  };
  const full = openSync("/dev/full", "w");
  const noRoom = classify(
    caught(() => writeSync(full, "rows")),
    "writing",
  );
  closeSync(full);
  expect(noRoom).toMatchObject({ code: "MR3213", kind: "blocked", message: "the disk is full (writing)" });
  expect(noRoom.hint).toMatch(/room/);
  const noHandles = Object.assign(new Error("EMFILE: too many open files, open 'x'"), {
    code: "EMFILE",
    syscall: "open",
  });
  expect(classify(noHandles, "writing")).toMatchObject({ code: "MR2006", kind: "retryable" });
  const noFolder = caught(() => openSync("/dev/null/rows", "w"));
  expect(classify(noFolder, "writing")).toMatchObject({
    code: "MR3213",
    hint: expect.stringMatching(/path is a file/),
  });
});

onLinux("the room that a full disk's message tells of is that of the rows on their way", () => {
  const file = new StageFile("self");
  expect(readlinkSync(file.path)).toMatch(new RegExp(`^${stageFolder()}/millrace-`));
  file.close();
});

test.each([
  'Constraint Error: Duplicate key "name: x: database is locked" violates unique constraint.',
  "Conversion Error: Could not convert string 'No space left on device' to INT32",
  'Constraint Error: Duplicate key "name: HTTP Error AccessDenied" violates unique constraint.',
  "Out of Range Error: Cannot cast 'could not allocate block' to DECIMAL(9,2)",
])("whatever a cell says that DuckDB quotes, the row is refused", (sentence) => {
  expect(isDataError(new Error(sentence))).toBe(true);
  expect(isOutOfMemory(new Error(sentence))).toBe(false);
  expect(classify(new Error(sentence), "writing").code).toBe("MR2027");
});

test.each([
  'IO Error: Failure while replaying WAL file "/data/x.duckdb.wal": Corrupt WAL file: entry at byte position 24 computed checksum 1 does not match stored checksum 2',
  'INTERNAL Error: Failure while replaying WAL file "/data/x.duckdb.wal": Failed to append to PRIMARY_t_0',
  'Catalog Error: Failure while replaying WAL file "/data/x.duckdb.wal": Table with name t does not exist!',
])("a log that can't be read stops the sink, and the way out is named", (sentence) => {
  const { code, kind, hint } = classify(new Error(sentence), "opening the file");
  expect([code, kind]).toEqual(["MR3202", "fatal"]);
  expect(hint).toMatch(/Move the log away/);
});

test("a step counts as one that never passes when it fails in the same way again, while nobody else writes", () => {
  const conflict = new Error("TransactionContext Error: Failed to commit: write-write conflict on key");
  const unknown = new Error("Not implemented Error: something new");
  const codes = (error: Error, marks: readonly string[], work = "a batch"): string[] => {
    const repetition = new Repetition();
    return marks.map((mark) => repetition.judged(classify(error, "writing"), error, work, mark).code);
  };
  expect(codes(conflict, ["", ""])).toEqual(["MR3220", "MR3234"]);
  expect(codes(conflict, ["1", "2", "3", "3"])).toEqual(["MR3220", "MR3220", "MR3220", "MR3234"]);
  expect(
    new Set(
      codes(
        conflict,
        Array.from({ length: 29 }, (_, i) => `${i}`),
      ),
    ),
  ).toEqual(new Set(["MR3220"]));
  expect(
    codes(
      conflict,
      Array.from({ length: 30 }, (_, i) => `${i}`),
    ).at(-1),
  ).toBe("MR3234");
  expect(codes(unknown, ["", "", "", "", ""])).toEqual(["MR2027", "MR2027", "MR2027", "MR2027", "MR3234"]);
  expect(
    codes(
      new Error("IO Error: database is locked"),
      Array.from({ length: 99 }, () => ""),
    ),
  ).not.toContain("MR3234");
});
