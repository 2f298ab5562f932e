/** A read beside the stream, of rows that come as fast as they are read, gives the process back again and again. */
import { expect, test } from "vitest";
import { Session } from "../../connectors/mysql/source/wire/driver.ts";
import { parseMysqlUrl } from "../../connectors/mysql/url.ts";
import { KeptSessions, RowSession } from "../../connectors/postgres/source/wire/row-session.ts";
import { parsePostgresUrl } from "../../src/postgres/url.ts";
import { freshDatabase, mysqlFlavours, mysqlUrl } from "../support/run/services.ts";

const signal = AbortSignal.timeout(60_000);
const ROW_COUNT = 400_000;
/** Twice a read, and what one row has. */
const TURN_BYTES_MAX = 300 * 1024;

/** The most bytes of rows that came between two turns of the event loop; each byte costs time, as decoding does. */
async function mostInTurn(read: (onRow: (bytes: Buffer, start: number, end: number) => void) => Promise<void>) {
  let [most, rows, inTurn, sum, isDone] = [0, 0, 0, 0, false];
  const turn = (): void => {
    inTurn = 0;
    if (!isDone) setImmediate(turn);
  };
  turn();
  await read((bytes, start, end) => {
    rows++;
    inTurn += end - start;
    most = Math.max(most, inTurn);
    for (let at = start; at < end; at++) sum += bytes[at]!;
  });
  isDone = true;
  expect([rows, sum > 0]).toEqual([ROW_COUNT, true]);
  return most;
}

test("Postgres", async () => {
  await using database = await freshDatabase();
  const beside = { address: parsePostgresUrl(database.url), sessions: new KeptSessions(), rows: async () => [] };
  using session = await RowSession.open(beside, signal);
  const sql = `select g, repeat('x', 150) from generate_series(1, ${ROW_COUNT}) g`;
  const most = await mostInTurn(async (onRow) => {
    await session.run(
      "reading",
      sql,
      (bytes, start, end) => {
        onRow(bytes, start, end);
        return true;
      },
      signal,
    );
  });
  expect(most).toBeLessThan(TURN_BYTES_MAX);
});

test.each(mysqlFlavours)("%s", async (flavour) => {
  const session = await Session.open(parseMysqlUrl(mysqlUrl(flavour), "."), signal);
  const sql = `select a.n, repeat('x', 150) from (select 1 n ${"union all select 1 ".repeat(199)}) a,
    (select 1 n ${"union all select 1 ".repeat(199)}) b, (select 1 n ${"union all select 1 ".repeat(9)}) c`;
  const most = await mostInTurn((onRow) => session.readRows(sql, onRow));
  session.destroy();
  expect(most).toBeLessThan(TURN_BYTES_MAX);
});
