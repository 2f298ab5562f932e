/**
 * The recorded stretch of a stream against a live server: the same work gives the same rows. After a wanted change:
 * MILLRACE_GOLDEN=write npx vitest run test/conformance/postgres-stream.pg.test.ts
 */
import { expect, test } from "vitest";
import {
  decode,
  readRecording,
  record,
  RECORDED_SETUP,
  RECORDED_WORK,
  writeRecording,
} from "../support/postgres/postgres-recording.ts";
import { createLog, never, openSource } from "../support/postgres/postgres-source.ts";
import { freshDatabase } from "../support/run/services.ts";

test("the server still speaks as it did when the golden stream was recorded", async () => {
  await using database = await freshDatabase();
  await database.query(RECORDED_SETUP);
  await using source = await openSource(database);
  const { position } = await createLog(source);
  await database.query(RECORDED_WORK);
  const end = await source.log.tip(never);
  const from = source.positions.format(position.commit);
  const bytes = await record(database, `millrace_${database.name}`, position.commit, from, end);
  const lines = decode(bytes, position.commit, [bytes.length]).slice(0, -1);
  if (process.env["MILLRACE_GOLDEN"] === "write") {
    const all = decode(bytes, position.commit, [bytes.length]);
    await writeRecording({ from: String(position.commit), bytes: bytes.toString("base64"), lines: all });
  }
  const golden = await readRecording();
  const mark = /"message":"millrace\//;
  expect(lines.filter((line) => !mark.test(line))).toEqual(
    golden.lines.slice(0, -1).filter((line) => !mark.test(line)),
  );
});
