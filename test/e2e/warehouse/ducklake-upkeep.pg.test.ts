/**
 * A lake whose maintenance runs all the time, under writers: what is compared meanwhile is whole.
 * @module-tag heavy
 */
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { driftOf, reconcile } from "../../support/daemon/reconciled.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";

const ROWS = 5_000;
const RUNS = 8;

test("comparisons beside maintenance read every row and find no drift", async () => {
  const prepare = `create table item (id bigint primary key, name text, price numeric(10,2));
    insert into item select i, 'item ' || i, i from generate_series(1, ${ROWS}) i`;
  await using pipeline = await RunningPipeline.start(prepare, {
    kinds: ["ducklake"],
    configure: (config) => ({
      ...config,
      sinks: { ducklake: { ...config.sinks["ducklake"], maintenance: { every: "10s", keepSnapshots: "20s" } } },
    }),
  });
  await pipeline.expectEqual(["item"]);
  const stopped = new AbortController();
  const writing = (async () => {
    for (let i = 0; !stopped.signal.aborted; i++) {
      await pipeline.run(
        `update item set name = name || '.' where id between ${(i * 7) % ROWS} and ${((i * 7) % ROWS) + 6}`,
      );
      await sleep(30);
    }
  })();
  try {
    for (let run = 1; run <= RUNS; run++) {
      const { exitCode, found } = await reconcile(pipeline.installation);
      const { notComparable, tables } = found;
      const counts = tables.map(({ sourceRows, sinkRows, compared }) => ({ sourceRows, sinkRows, compared }));
      expect({ run, exitCode, drift: driftOf(found), notComparable, counts }).toEqual({
        run,
        exitCode: 0,
        drift: {},
        notComparable: [],
        counts: [{ sourceRows: ROWS, sinkRows: ROWS, compared: ROWS }],
      });
    }
  } finally {
    stopped.abort();
    await writing;
  }
});
