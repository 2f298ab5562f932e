/** Soft deletes and histories, from the configuration to the warehouses, beside mirrors of the same source. */
import { expect, test } from "vitest";
import { historyFaults, keepLog } from "../../support/compare/history.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { KEPT_KINDS } from "../../support/daemon/sink-set.ts";
import { Workload, WORKLOAD_KEYS, WORKLOAD_TABLES } from "../../support/load/workload.ts";

const LOAD_MS = 1_500;

test(
  "under load, read again and killed: live rows equal the source, and every change is in the history once, in order",
  { tags: "heavy" },
  async () => {
    await using pipeline = await RunningPipeline.start(
      async (source) => {
        await using workload = new Workload(source.url, 5);
        await workload.createTables(200);
      },
      { kinds: ["postgres", ...KEPT_KINDS] },
    );
    const { source, sinks } = pipeline;
    await keepLog(source);
    await using workload = new Workload(source.url, 11);
    for (let round = 0; round < 2; round++) {
      workload.start(15);
      await pipeline.readAgain("public.account", "public.seat");
      await new Promise((resolve) => setTimeout(resolve, LOAD_MS));
      if (round === 0) {
        await pipeline.kill();
        await pipeline.start();
      }
      await workload.stop();
    }
    await pipeline.settled();
    await pipeline.daemon.stop();
    const differences = await sinks.differences(source.url, pipeline.installation.folder, WORKLOAD_TABLES);
    pipeline.daemon.expectNone(differences);
    const { changeCount, ...found } = await historyFaults(source, sinks.target!, "history", WORKLOAD_KEYS);
    expect(found).toEqual({ faults: [], earlierCount: 0 });
    expect(changeCount).toBeGreaterThan(300);
    // A re-read of rows that are as they were appends none.
    const { rows } = await sinks.target!.query<{ twice: string }>(
      `select count(*) as twice from (select id, lag(row(email, balance, note, tags, touched)) over w
       is not distinct from row(email, balance, note, tags, touched) as same, _millrace_op as op
     from history.account where _millrace_op <> 't' window w as (partition by id order by _millrace_version, _millrace_offset)) as h
     where op = 'r' and same`,
    );
    expect(rows[0]?.twice).toBe("0");
  },
);
