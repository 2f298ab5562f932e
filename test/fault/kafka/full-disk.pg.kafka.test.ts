/** The broker's disk is full: nothing is lost, the sink says what it waits for, and goes on when there is room. */
import { join } from "node:path";
import { expect, test } from "vitest";
import { streamFaults } from "../../support/kafka/kafka-stream.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { ownKafka } from "../../support/run/services.ts";
import { SmallDisk } from "../../support/faults/small-disk.ts";
import { sinkOf } from "../../support/faults/sink-loss.ts";
import { eventually } from "../../support/run/waiting.ts";

test("a broker whose disk is full, and then has room", { tags: "long" }, async ({ skip }) => {
  await using disk = await SmallDisk.mount("48m");
  skip(disk === null, "this user may not mount a file system");
  const small = disk!;
  const broker = await ownKafka({
    settings: () => ({
      "log.dirs": join(small.folder, "logs"),
      // Indexes are files of their full size from the beginning.
      "log.index.size.max.bytes": "65536",
      "offsets.topic.num.partitions": "1",
      "transaction.state.log.num.partitions": "1",
    }),
  });
  // Before the disk goes.
  await using _ = broker;
  await using pipeline = await RunningPipeline.start("create table t (id int primary key, body text)", {
    kinds: ["kafka"],
    broker: `127.0.0.1:${broker.port}`,
  });
  await pipeline.run("insert into t values (0, 'first')");
  await pipeline.settled();
  const [rows, bytes] = [12_000, 4_800];
  await pipeline.run(`insert into t select g, repeat('x', ${bytes}) from generate_series(1, ${rows}) g`);
  await eventually(
    async () => {
      const { state, error } = await sinkOf(pipeline, "kafka");
      expect({ state, error }).toMatchObject({
        state: "retrying",
        error: { code: expect.stringMatching(/MR200[16]/) },
      });
    },
    { withinMs: 60_000 },
  );
  await small.grow("512m");
  await broker.kill();
  await broker.start();
  await pipeline.settled();
  await pipeline.expectEqual(["t"]);
  const { topics } = pipeline.sinks;
  expect(streamFaults(await topics!.read(`${topics!.prefix}${pipeline.source.name}.public.t`))).toEqual([]);
});
