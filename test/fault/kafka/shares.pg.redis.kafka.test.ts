/**
 * Processes that share the tables of a log are killed and stopped under load: every row arrives, and none goes back.
 *
 * @module-tag long
 */
import { expect, test } from "vitest";
import { testSeed } from "../../support/run/random.ts";
import { childrenOf, isRunning, SharedTables } from "../../support/kafka/shared-tables.ts";
import type { FreshDatabase } from "../../support/run/services.ts";
import { CacheWatch, setBack, watchTarget } from "../../support/load/version-watch.ts";
import { eventually } from "../../support/run/waiting.ts";
import { Workload, WORKLOAD_TABLES } from "../../support/load/workload.ts";

/** Of the tables whose key is `id` alone. */
const WATCHED = ["account", "pair", "seat", "small"] as const;

/** A process and its daemons, as when a machine goes. */
function signalAll(pid: number, name: NodeJS.Signals): void {
  for (const one of [pid, ...childrenOf(pid)]) process.kill(one, name);
}

/** With three shares, and the workload running. */
interface Scene extends AsyncDisposable {
  readonly shared: SharedTables;
  /** Ends the workload; then both sinks have every row, and no row of theirs ever went back. */
  readonly expectWhole: () => Promise<void>;
}

async function scene(shares: number, processCount: number): Promise<Scene> {
  await using made = new AsyncDisposableStack();
  const workloads: Workload[] = [];
  const prepare = async (source: FreshDatabase): Promise<void> => {
    workloads.push(new Workload(source.url, testSeed()));
    await workloads[0]!.createTables(200);
  };
  const shared = made.use(await SharedTables.start(prepare, { kinds: ["postgres", "redis"], shares }));
  const workload = made.use(workloads[0]!);
  const { target, keyPrefix } = shared.through.applying.sinks;
  for (let i = 1; i < processCount; i++) shared.add();
  await shared.spread(...Array.from({ length: processCount }, () => shares / processCount));
  await shared.expectEqual(WORKLOAD_TABLES);
  await watchTarget(target!, WATCHED);
  const keys = Array.from({ length: 60 }, (_, i) => `${keyPrefix}public:account:${i + 1}`);
  const watch = made.use(new CacheWatch(keys));
  workload.start(30);
  const expectWhole = async (): Promise<void> => {
    await workload.stop();
    await shared.expectEqual(WORKLOAD_TABLES);
    const { shares: compared } = JSON.parse(await shared.command(0, "reconcile", "--json"));
    expect(compared).toEqual(Array.from({ length: shares }, () => expect.objectContaining({ drift: false })));
    expect(await setBack(target!)).toEqual([]);
    const { rows } = await target!.query("select count(*)::int as seen from public.seen");
    expect(rows[0]!["seen"]).toBeGreaterThan(100);
    expect(watch).toMatchObject({ setBack: [], seenCount: expect.toSatisfy((count: number) => count > 30) });
  };
  const all = made.move();
  return { shared, expectWhole, [Symbol.asyncDispose]: async () => await all[Symbol.asyncDispose]() };
}

test("one is killed, one comes, one is stopped for longer than the others wait, and two are killed at once", async () => {
  await using scened = await scene(3, 3);
  const { shared } = scened;
  const [first, second, third] = shared.processes;
  signalAll(first!.pid, "SIGKILL");
  await shared.spread(1, 2);
  const fourth = shared.add();
  await shared.spread(1, 1, 1);

  signalAll(second!.pid, "SIGSTOP");
  await shared.spread(0, 1, 2);
  signalAll(second!.pid, "SIGCONT");
  await shared.spread(1, 1, 1);

  signalAll(third!.pid, "SIGKILL");
  signalAll(fourth.pid, "SIGKILL");
  await shared.spread(3);
  shared.add();
  await shared.spread(1, 2);
  await scened.expectWhole();
});

test("a process that is stopped alone has its daemons end, and one that hangs is started again", async () => {
  await using scened = await scene(2, 2);
  const { shared } = scened;
  const [first, second] = shared.processes;
  first!.signal("SIGSTOP");
  await shared.spread(0, 2);
  first!.signal("SIGCONT");
  await shared.spread(1, 1);
  const [hanging] = childrenOf(second!.pid);
  process.kill(hanging!, "SIGSTOP");
  await eventually(() => !isRunning(hanging!), { withinMs: 90_000 });
  await shared.spread(1, 1);
  await scened.expectWhole();
});
