import { test } from "vitest";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { DRILL, DRILLED_KINDS, DRILLED_TABLE, drillThrough } from "../../support/faults/drill.ts";

test("everything between Postgres and its sinks breaks while rows are written, and all are equal", DRILL, async () => {
  await using pipeline = await RunningPipeline.start(DRILLED_TABLE.join(";"), { kinds: DRILLED_KINDS });
  await drillThrough(pipeline, "postgres", pipeline.source.url);
  await pipeline.expectEqual(["orders"]);
});
