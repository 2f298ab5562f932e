/** A log in Kafka between two daemons that are killed, and a log that is lost: the applying side's sinks equal the source. */
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { Random, testSeed } from "../support/random.ts";
import { ThroughKafka } from "../support/through-kafka.ts";
import { eventually } from "../support/waiting.ts";
import { Workload, WORKLOAD_TABLES } from "../support/workload.ts";

/** Each at a random passage up to that one. */
const APPLYING: Readonly<Record<string, number>> = {
  "sink.applied": 20,
  "ack.stored": 2,
  "refill.chunk-durable": 2,
  "lane.dispatched": 30,
};
const CAPTURING: Readonly<Record<string, number>> = {
  "kafka.before-transaction": 8,
  "kafka.after-transaction": 8,
  "lane.dispatched": 20,
};

test("killed at failpoints on both sides under load, the applying side goes on: nothing is lost or comes back", async () => {
  const random = new Random(testSeed());
  const workloads: Workload[] = [];
  await using through = await ThroughKafka.start(
    async (source) => {
      workloads.push(new Workload(source.url, random.seed));
      await workloads[0]!.createTables(200);
    },
    { kinds: ["postgres", "redis"] },
  );
  await using workload = workloads[0]!;
  const { applying, capture } = through;
  workload.start(30);
  for (const [name, countMax] of Object.entries(APPLYING)) {
    await applying.kill();
    await applying.run("delete from account where id % 7 = 0");
    applying.daemon = applying.installation.run({ MILLRACE_FAILPOINTS: `${name}=kill@${1 + random.below(countMax)}` });
    if (name.startsWith("refill.")) await eventually(() => applying.readAgain("public.account", "public.line"));
    await applying.killed(name);
    applying.daemon = applying.installation.run();
  }
  for (const [name, countMax] of Object.entries(CAPTURING)) {
    await through.capturing.kill();
    through.capturing = capture.run({ MILLRACE_FAILPOINTS: `${name}=kill@${1 + random.below(countMax)}` });
    await Promise.race([through.capturing.ended, sleep(60_000, undefined, { ref: false })]);
    expect({ name, exited: through.capturing.exited }, through.capturing.said.slice(-2_000)).toMatchObject({
      exited: true,
    });
    through.capturing = capture.run();
    await through.capturing.streaming();
  }
  await applying.run("alter table account add column later int default 3; update account set later = id where id < 50");
  await workload.stop();
  await applying.expectEqual(WORKLOAD_TABLES);
});
