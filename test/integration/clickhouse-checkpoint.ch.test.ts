/** A ClickHouse sink's checkpoint that somebody put back, and processes that take it over. */
import { expect, test } from "vitest";
import { Reports, progressAt, timeout } from "../conformance/stage.ts";
import { clickhouseTarget } from "../support/warehouses/clickhouse-target.ts";
import { clickhouseUrl } from "../support/run/services.ts";

const COPY = "millrace.copied_progress";

test("a checkpoint that was put back to an older copy is taken over, and written on", async () => {
  await using target = await clickhouseTarget({ deletes: "hard", mode: "mirror" }, clickhouseUrl());
  const first = await target.makeSink();
  await first.open(1, timeout());
  const write = async (sink: typeof first, at: bigint): Promise<void> =>
    await sink.apply({ kind: "progress", progress: progressAt(at) }, new Reports(), timeout());
  await write(first, 10n);
  const own = `sink = '${target.sink}'`;
  await target.query(
    `CREATE TABLE ${COPY} ENGINE = MergeTree ORDER BY sink AS SELECT * FROM millrace.progress FINAL WHERE ${own}`,
  );
  for (let at = 11n; at < 20n; at++) await write(first, at);
  await target.query(`ALTER TABLE millrace.progress DELETE WHERE ${own} SETTINGS mutations_sync = 2`);
  await target.query(`INSERT INTO millrace.progress SELECT * FROM ${COPY}`);
  await target.query(`DROP TABLE ${COPY} SYNC`);
  await first.close();
  const second = await target.makeSink();
  const held = await second.open(2, timeout());
  expect(held?.position.commit).toBe(10n);
  for (let at = 11n; at < 25n; at++) await write(second, at);
  expect((await second.look(timeout()))?.position.commit).toBe(24n);
  await second.close();
});

test("a sink that forgets its checkpoint leaves the table to those that have just begun to use it", async () => {
  await using target = await clickhouseTarget({ deletes: "hard", mode: "mirror" }, clickhouseUrl());
  await using other = await clickhouseTarget({ deletes: "hard", mode: "mirror" }, clickhouseUrl());
  const [going, coming] = [await target.makeSink(), await other.makeSink()];
  await going.open(1, timeout());
  await going.apply({ kind: "progress", progress: progressAt(10n) }, new Reports(), timeout());
  // Whatever the order of these two is.
  await Promise.all([going.forget(timeout()), coming.open(1, timeout())]);
  await coming.apply({ kind: "progress", progress: progressAt(20n) }, new Reports(), timeout());
  await coming.verify(timeout());
  expect(await going.look(timeout())).toBeNull();
  const tables = await target.query("SELECT name FROM system.tables WHERE database = 'millrace' ORDER BY name");
  expect(tables).toEqual([["progress"], ["targets"]]);
  for (const sink of [going, coming]) await sink.close();
});
