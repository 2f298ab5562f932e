/**
 * Daemons and brokers are killed and stopped under load: the topics equal the source, and tell each change once, in order.
 */
import { cpSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { ConfigResourceTypes, IncrementalAlterConfigOperationTypes } from "@platformatic/kafka";
import { expect, test } from "vitest";
import { newClusterId } from "../../../scripts/services/servers/kafka.ts";
import { type Daemon, Installation } from "../../support/daemon/daemon-process.ts";
import { Load, Victim } from "../../support/faults/fault-load.ts";
import { streamFaults } from "../../support/kafka/kafka-stream.ts";
import { faultsAfter, killAt } from "../../support/faults/kills.ts";
import { Random, testSeed } from "../../support/run/random.ts";
import { type PipelineConfig, RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { ownKafka } from "../../support/run/services.ts";
import { sinkOf } from "../../support/faults/sink-loss.ts";
import type { SinkSet } from "../../support/daemon/sink-set.ts";
import { eventually } from "../../support/run/waiting.ts";
import { Workload, WORKLOAD_TABLES } from "../../support/load/workload.ts";

/** Each at a random passage up to that one; the first two are only on a first start. */
const FAILPOINTS: Readonly<Record<string, number>> = {
  "source.created": 1,
  "copy.block-queued": 4,
  "kafka.fenced": 1,
  "kafka.before-transaction": 8,
  "kafka.after-transaction": 8,
  "fan-out.dispatched": 50,
  "sink.prepared": 5,
  "sink.applied": 20,
  "ack.computed": 3,
  "ack.stored": 3,
  "snapshot.chunk-read": 2,
  "snapshot.chunk-durable": 2,
  "snapshot.swept": 2,
};
const KILLED = { withinMs: 60_000, everyMs: 500 };

async function faultsIn(sinks: SinkSet, name: string, tables: readonly string[]): Promise<readonly string[]> {
  const { prefix } = sinks.topics!;
  const read = tables.map(async (table) => streamFaults(await sinks.topics!.read(`${prefix}${name}.public.${table}`)));
  return (await Promise.all(read)).flat();
}

/** All records of the rows that a difference names, which their reader went by, and how the topic's transactions ended. */
async function trailOf(sinks: SinkSet, name: string, faults: readonly string[]): Promise<readonly string[]> {
  const trails: string[] = [];
  for (const fault of faults) {
    const table = /^kafka (\S+): /.exec(fault)?.[1];
    if (table === undefined) continue;
    const ids = new Set(
      [...fault.matchAll(/(?:extra|different|missing) ([\d:]+)/g)].map(([, id]) => id!.replace(/:$/, "")),
    );
    const topic = `${sinks.topics!.prefix}${name}.${table}`;
    for (const { partition, offset, key, value } of await sinks.topics!.read(topic)) {
      const id = Object.values<string | number>(JSON.parse(key ?? "{}")).join(":");
      const isEnd = value !== null && /"op":"[st]"/.test(value);
      if (ids.has(id) || isEnd) trails.push(`${partition}/${offset} ${id} ${value?.slice(0, 600) ?? "tombstone"}`);
    }
    trails.push(...(await sinks.topics!.batches(topic)));
  }
  return trails;
}

/** The copied state says that the former daemon has the lease, until that runs out. */
async function afterTheLease(installation: Installation): Promise<Daemon> {
  return await eventually(
    async () => {
      const daemon = installation.run();
      await daemon.streaming();
      return daemon;
    },
    { everyMs: 3_000 },
  );
}

test("killed at its failpoints, it goes on with the next change, and tells none twice", async () => {
  const random = new Random(testSeed());
  await using load = await Load.create(random.seed, 300);
  await using victim = await Victim.create(load, "kafka", ["kafka"]);
  load.start(80);
  const entries: string[] = [];
  for (const [name, countMax] of random.some(Object.entries(FAILPOINTS))) {
    const entry = `${name}=kill@${1 + random.below(countMax)}`;
    entries.push(entry);
    const isProvoked = name.startsWith("snapshot.") || name === "sink.prepared";
    // Whoever has just been killed does not answer.
    const readAgain = () =>
      victim.installation
        .ask("POST", "/api/v1/snapshots", { tables: [`public.${random.pick(load.tables)}`] })
        .catch(() => undefined);
    await killAt(victim, entry, { ...KILLED, provoke: isProvoked ? readAgain : undefined });
  }
  const faults = await faultsAfter(load, victim);
  const trail = await trailOf(victim.sinks, load.source.name + "_kafka", faults);
  expect({ entries, faults, trail }).toEqual({ entries, faults: [], trail: [] });
  expect(await faultsIn(victim.sinks, load.source.name + "_kafka", load.tables)).toEqual([]);
});

test(
  "of two daemons the later one writes: what the former had begun is seen by nobody",
  { tags: "heavy" },
  async () => {
    const workloads: Workload[] = [];
    let config: PipelineConfig | undefined;
    await using pipeline = await RunningPipeline.start(
      async (source) => {
        workloads.push(new Workload(source.url, testSeed()));
        await workloads[0]!.createTables(100);
      },
      { kinds: ["kafka"], configure: (whole) => (config = whole) },
    );
    await using workload = workloads[0]!;
    workload.start(2);
    await workload.written(50);
    pipeline.daemon.signal("SIGSTOP");
    await using other = new Installation(config!);
    cpSync(join(pipeline.installation.folder, ".millrace"), join(other.folder, ".millrace"), { recursive: true });
    await pipeline.run(
      "select pg_terminate_backend(active_pid) from pg_replication_slots where active_pid is not null and database = current_database()",
    );
    const later = await afterTheLease(other);
    await workload.written(50);
    pipeline.daemon.signal("SIGCONT");
    await workload.written(100);
    await workload.stop();
    expect(await other.command("wait", "--timeout", "60s")).toMatchObject({ exitCode: 0 });
    expect(await pipeline.sinks.differences(pipeline.source.url, other.folder, WORKLOAD_TABLES)).toEqual([]);
    expect(await faultsIn(pipeline.sinks, pipeline.source.name, WORKLOAD_TABLES)).toEqual([]);
    await eventually(async () => expect(pipeline.daemon.said).toMatch(/MR3109|MR1213|MR2012/));
    await later.stop();
  },
);

test("brokers that are killed, stand still and come back, one of two and all of them", { tags: "long" }, async () => {
  const clusterId = newClusterId();
  const replicated = {
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "replica.lag.time.max.ms": "3000",
    "transaction.state.log.replication.factor": "2",
    "offsets.topic.replication.factor": "2",
  };
  await using first = await ownKafka({ clusterId, settings: () => replicated });
  await using second = await ownKafka({
    clusterId,
    settings: (port) => ({
      ...replicated,
      "node.id": "2",
      "process.roles": "broker",
      "controller.quorum.voters": `1@127.0.0.1:${first.port + 1}`,
      listeners: `PLAINTEXT://127.0.0.1:${port}`,
    }),
  });
  const brokers = [first, second].map(({ port }) => `127.0.0.1:${port}`);
  const workloads: Workload[] = [];
  await using pipeline = await RunningPipeline.start(
    async (source) => {
      workloads.push(new Workload(source.url, testSeed()));
      await workloads[0]!.createTables(200);
    },
    {
      kinds: ["kafka"],
      broker: brokers[0]!,
      configure: (config) => ({
        ...config,
        sinks: { kafka: { ...config.sinks["kafka"], brokers, topics: { partitions: 3, replication: 2 } } },
      }),
    },
  );
  // A cluster on which no transaction was ever begun is no failure.
  expect(pipeline.complaints()).toEqual([]);
  await using workload = workloads[0]!;
  workload.start(100);
  await workload.written(50);

  // The other one leads all partitions.
  await second.kill();
  await workload.written(50);
  await pipeline.settled();

  const topics = pipeline.sinks.topics!;
  const account = `${topics.prefix}${pipeline.source.name}.public.account`;
  await topics.admin.incrementalAlterConfigs({
    resources: [
      {
        resourceType: ConfigResourceTypes.TOPIC,
        resourceName: account,
        configs: [
          { name: "min.insync.replicas", configOperation: IncrementalAlterConfigOperationTypes.SET, value: "2" },
        ],
      },
    ],
  });
  await eventually(
    async () => {
      const { state, error } = await sinkOf(pipeline, "kafka");
      expect({ state, error }).toMatchObject({
        state: "retrying",
        error: {
          code: "MR2006",
          message: expect.stringMatching(`(NOT_ENOUGH_REPLICAS|CONCURRENT_TRANSACTIONS).*${account}`),
        },
      });
    },
    { withinMs: 60_000 },
  );
  await second.start();
  await workload.written(20);
  await pipeline.settled();

  await first.pause();
  await sleep(10_000);
  await first.resume();
  await workload.written(20);
  await pipeline.settled();

  await first.kill();
  await second.kill();
  await workload.written(50);
  await Promise.all([first.start(), second.start()]);
  await workload.written(20);
  await workload.stop();
  await pipeline.settled();
  const { installation, source, sinks, daemon } = pipeline;
  const faults = await sinks.differences(source.url, installation.folder, WORKLOAD_TABLES);
  const trail = await trailOf(sinks, source.name, faults);
  const said = faults.length === 0 ? [] : daemon.complaints();
  expect({ faults, trail, said }).toEqual({ faults: [], trail: [], said: [] });
  expect(await sinkOf(pipeline, "kafka")).toMatchObject({ state: "streaming", error: null });
  expect(await faultsIn(pipeline.sinks, pipeline.source.name, WORKLOAD_TABLES)).toEqual([]);
});

test(
  "a daemon that stands still for longer than a transaction may last writes it again",
  { tags: "long" },
  async () => {
    const random = new Random(testSeed());
    await using load = await Load.create(random.seed, 100);
    await using victim = await Victim.create(load, "kafka", ["kafka"]);
    const daemon = victim.run();
    await daemon.streaming();
    await load.flood(50_000);
    daemon.signal("SIGSTOP");
    // A transaction may last a minute, and brokers look every ten seconds.
    await sleep(75_000);
    daemon.signal("SIGCONT");
    await load.stop();
    expect((await victim.verdict(daemon)).faults).toEqual([]);
    expect(await faultsIn(victim.sinks, load.source.name + "_kafka", load.tables)).toEqual([]);
  },
);
