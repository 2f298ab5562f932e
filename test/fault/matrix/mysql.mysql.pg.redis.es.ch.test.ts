import { test } from "vitest";
import { DRILL, DRILLED_KINDS, DRILLED_TABLE, drillThrough } from "../../support/faults/drill.ts";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";

test("everything between MySQL and its sinks breaks while rows are written, and all are equal", DRILL, async () => {
  await using pipeline = await MysqlPipeline.start("mysql", DRILLED_TABLE, { kinds: DRILLED_KINDS });
  await drillThrough(pipeline, "mysql", pipeline.url);
  await pipeline.expectEqual("orders");
});
