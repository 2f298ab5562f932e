/** A row of 50 MB among small ones passes through a daemon that stays small. */
import { expect, test } from "vitest";
import { residentWatch } from "../../support/daemon/resident-watch.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { eventually } from "../../support/run/waiting.ts";

const MB = 1024 * 1024;
const ROW_BYTES = 50 * MB;
const RESIDENT_BYTES_MAX = 500 * MB;
const RESIDENT_BYTES_MAX_AFTER = 256 * MB;

test("within 500 MB; afterwards the memory is given back", async () => {
  await using pipeline = await RunningPipeline.start(
    "create table large (id int primary key, n int, body text); alter table large alter body set storage external",
    {
      kinds: ["postgres", "redis"],
      // As users start it: what is read of compiled code stays in its memory.
      environment: { NODE_COMPILE_CACHE: "" },
    },
  );
  await using watch = residentWatch(pipeline.daemon);
  await pipeline.run(`begin; insert into large values (1, 1, 'small');
    insert into large values (2, 1, repeat('y', ${ROW_BYTES})); insert into large values (3, 1, 'small'); commit`);
  await pipeline.settled(90_000);
  await pipeline.run("update large set n = 2");
  await pipeline.settled(90_000);
  await pipeline.expectEqual(["large"]);
  expect(watch.mostBytes).toBeLessThan(RESIDENT_BYTES_MAX);
  // Passing changes let the collector run, as they would.
  await eventually(
    async () => {
      await pipeline.run("update large set n = n + 1 where id = 1");
      expect(pipeline.daemon.residentBytes).toBeLessThan(RESIDENT_BYTES_MAX_AFTER);
    },
    { withinMs: 60_000, everyMs: 100 },
  );
});
