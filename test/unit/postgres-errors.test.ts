import { expect, test } from "vitest";
import { ServerError } from "../../connectors/postgres/client/frames.ts";
import { classify } from "../../connectors/postgres/source/errors.ts";

test("an internal error is told by the server's function that failed, and never by its sentence, which may be of rows", () => {
  const error = new ServerError("XX000", "unexpected value 4711 in row of shop", "RelidByRelfilenumber");
  expect(classify(error, "streaming changes").message).toBe(
    "the server failed while streaming changes (SQLSTATE XX000), in its RelidByRelfilenumber",
  );
});

test("an error of the server's system is told with its sentence: it speaks of files", () => {
  const error = new ServerError("58030", 'could not read file "pg_wal/000000010000000000000002"', "XLogFileRead");
  expect(classify(error, "streaming changes")).toMatchObject({
    code: "MR2027",
    kind: "retryable",
    message: `the server failed while streaming changes (SQLSTATE 58030): could not read file "pg_wal/000000010000000000000002"`,
  });
});
