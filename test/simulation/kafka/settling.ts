/** The end of a run with Kafka: faults have ended, and every sink and every reader has to get to what the source has. */
import { Violation } from "../checks.ts";
import type { Daemon } from "../daemon.ts";
import { fairWeather } from "../network.ts";
import { NAMED, seenUnder } from "../ruling.ts";
import { wholly } from "../tracing.ts";
import { SINK_MS, SOURCE_MS } from "../world.ts";
import { BROKER_MS } from "./broker.ts";
import type { KafkaWorld } from "./world.ts";

/** In virtual time, from the last fault on. */
const SETTLES_WITHIN_MS = 300_000;
const ROUND_MS = 3_000;

export async function settle(world: KafkaWorld): Promise<void> {
  const { scheduler, server, broker, shares, machines, checks } = world;
  world.isStormy = false;
  Object.assign(server.weather, fairWeather(SOURCE_MS));
  Object.assign(broker.weather, fairWeather(BROKER_MS));
  for (const { targets } of shares) for (const { weather } of targets) Object.assign(weather, fairWeather(SINK_MS));
  server.database.settle();
  // Under its own name it goes on.
  if (world.plan.isNamed === true) world.renameNamed(NAMED);
  world.capture?.process.spare();
  for (const { process, children } of machines.running) {
    process.spare();
    for (const child of children.values()) child.process.spare();
  }
  world.say(() => "faults end");
  let isDone = false;
  let missing: readonly string[] = [];
  const settling = async (): Promise<void> => {
    while (world.holds > 0) await world.sleep(20);
    world.startCapture();
    for (;;) {
      if (machines.running.length === 0) machines.start();
      // While a round lasts, what the last one missed is what is known.
      const captured = await missingOf(world, world.capture, "the capturing daemon");
      if (captured.length > 0) missing = captured;
      else {
        const each = await Promise.all(
          shares.map(({ number }) => missingOf(world, machines.daemonOf(number), `share ${number}`)),
        );
        missing = each.flat();
      }
      if (missing.length === 0) return void (isDone = true);
      await world.sleep(50);
    }
  };
  settling().catch((error: unknown) => checks.fail(`settling failed: ${wholly(error)}`));
  await scheduler.run(() => isDone || checks.violation !== null, scheduler.nowMs + SETTLES_WITHIN_MS);
  checks.throwViolation();
  if (!isDone) throw new Violation(`it does not get there: ${missing.join("; ")}`);
  expectEqual(world);
}

async function missingOf(world: KafkaWorld, daemon: Daemon | null, name: string): Promise<readonly string[]> {
  const running = daemon?.running ?? null;
  if (daemon === null || running === null) return [`${name} does not run`];
  for (const life of running.pipeline.lives)
    if (life.state === "failed") await running.control.resume(life.name).catch(() => undefined);
  const asked = running.control.wait(ROUND_MS, new AbortController().signal);
  const death = new Promise<null>((resolve) => daemon.process.onDeath(() => resolve(null)));
  const result = await Promise.race([asked, death, world.sleep(ROUND_MS * 2).then(() => null)]).catch(() => null);
  return result === null ? [`${name} does not answer`] : result.reached ? [] : [`${name}: ${result.missing.join()}`];
}

function expectEqual(world: KafkaWorld): void {
  const { server, shares, checks, plan, reader } = world;
  const { database } = server;
  const expectation = {
    expected: (table: (typeof database.tables)[number]) =>
      seenUnder(world.rules, database.committed(table), table.name),
    keptOf: () => null,
  };
  const ruled: typeof expectation = {
    ...expectation,
    expected: (table) => seenUnder(world.shareRules, expectation.expected(table), table.name),
  };
  for (const { number, targets } of shares) checks.equal(world.tablesOf(number), ruled, targets);
  const unlike =
    plan.partitions === 0 ? null : reader.equal(database.tables, expectation.expected, plan.areCompacted === true);
  if (unlike !== null) throw new Violation(unlike);
}
