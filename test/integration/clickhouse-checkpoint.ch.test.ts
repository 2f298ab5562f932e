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
  await target.query(`CREATE TABLE ${COPY} ENGINE = MergeTree ORDER BY sink AS SELECT * FROM millrace.progress FINAL`);
  for (let at = 11n; at < 20n; at++) await write(first, at);
  await target.query("ALTER TABLE millrace.progress DELETE WHERE 1");
  await target.query(`INSERT INTO millrace.progress SELECT * FROM ${COPY}`);
  await first.close();
  const second = await target.makeSink();
  const held = await second.open(2, timeout());
  expect(held?.position.commit).toBe(10n);
  for (let at = 11n; at < 25n; at++) await write(second, at);
  expect((await second.look(timeout()))?.position.commit).toBe(24n);
  await second.close();
});
