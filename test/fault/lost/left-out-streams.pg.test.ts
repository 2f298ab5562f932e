/**
 * Sinks that keep changes are taken out of the configuration and put back: their readers end up with the source's rows, and
 * the daemon names what they lack.
 */
import { expect, test } from "vitest";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { change, PREPARE, restartWith, sinkOf, TABLES } from "../../support/faults/sink-loss.ts";

const KEPT = { files: "lost to its readers", "postgres-history": "lost to its history" } as const;

test("taken out and put back, a stream and a history equal the source, and what they lost is named", async () => {
  await using pipeline = await RunningPipeline.start(PREPARE, {
    kinds: ["postgres", "postgres-soft", "files", "postgres-history"],
  });
  const { config: all } = pipeline.sinks;
  await change(pipeline, "at first");
  await pipeline.settled();
  await restartWith(pipeline, { postgres: all["postgres"]!, "postgres-soft": all["postgres-soft"]! });
  await change(pipeline, "while they were out");
  await pipeline.run("delete from kept where id < 10");
  await pipeline.settled();
  expect(pipeline.daemon.said).not.toContain("the changes in between are lost");
  await restartWith(pipeline, all);
  await change(pipeline, "since they are back");
  await pipeline.expectEqual(TABLES);
  for (const [name, lost] of Object.entries(KEPT)) {
    const told = pipeline.daemon.said.split("\n").filter((line) => line.includes(lost));
    expect(told.map((line) => line.includes(`"${name}"`))).toEqual([true]);
  }
  for (const kind of ["files", "postgres-history"] as const)
    expect(await sinkOf(pipeline, kind)).toMatchObject({ state: "streaming", error: null });
});
