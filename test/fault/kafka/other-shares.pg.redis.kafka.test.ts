/**
 * The tables of a log go over to another number of shares, under load: the sinks equal the source, and no row goes back.
 *
 * @module-tag heavy
 */
import { expect, test } from "vitest";
import { PROGRAM } from "../../support/run/program.ts";
import { testSeed } from "../../support/run/random.ts";
import { SharedTables } from "../../support/kafka/shared-tables.ts";
import { CacheWatch, setBack, watchTarget } from "../../support/load/version-watch.ts";
import { Workload, WORKLOAD_TABLES } from "../../support/load/workload.ts";

const WATCHED = ["account", "pair", "seat", "small"] as const;

/** With another number in the file; nothing runs. */
async function renumber(shared: SharedTables, count: number): Promise<void> {
  const { installation } = shared.through.applying;
  for (const one of shared.processes) if (!one.exited) await one.stop();
  installation.text = installation.text.replace(/shares: \d+/, `shares: ${count}`);
  shared.count = count;
}

test("from two shares to three and to one, killed half-way, and back to two", async () => {
  const workloads: Workload[] = [];
  await using shared = await SharedTables.start(
    async (source) => {
      workloads.push(new Workload(source.url, testSeed()));
      await workloads[0]!.createTables(100);
    },
    { kinds: ["postgres", "redis"], shares: 2 },
  );
  await using workload = workloads[0]!;
  const { installation, sinks } = shared.through.applying;
  await shared.spread(2);
  await shared.expectEqual(WORKLOAD_TABLES);
  await watchTarget(sinks.target!, WATCHED);
  const keys = Array.from({ length: 60 }, (_, i) => `${sinks.keyPrefix}public:account:${i + 1}`);
  await using watch = new CacheWatch(keys);
  workload.start(30);

  // While they run, it is refused.
  const former = installation.text;
  installation.text = former.replace("shares: 2", "shares: 3");
  const refused = await installation.command("recover", "--shares", "--yes");
  expect(refused).toMatchObject({ exitCode: 4, stderr: expect.stringContaining("MR1213") });
  installation.text = former;

  await renumber(shared, 3);
  expect(await shared.command(4, "recover", "--shares")).toContain("from `shares: 2` to `shares: 3`");
  const half = installation.runProgram(
    PROGRAM,
    { MILLRACE_FAILPOINTS: "shares.moved=kill@1" },
    "recover",
    "--shares",
    "--yes",
  );
  expect(await half.ended).toMatchObject({ signal: "SIGKILL" });
  // Neither number starts before the move has ended.
  for (const count of [2, 3]) {
    await renumber(shared, count);
    expect(await installation.run().ended).toMatchObject({ exitCode: 1, stderr: expect.stringContaining("MR1330") });
  }
  await shared.command(0, "recover", "--shares", "--yes");
  shared.add();
  await shared.spread(3);

  for (const count of [1, 2]) {
    await renumber(shared, count);
    await shared.command(0, "recover", "--shares", "--yes");
    expect(await shared.command(0, "recover", "--shares", "--yes")).toContain("there is nothing to do");
    shared.add();
    await shared.spread(count);
  }
  await workload.stop();
  await shared.expectEqual(WORKLOAD_TABLES);
  const { shares } = JSON.parse(await shared.command(0, "reconcile", "--json"));
  expect(shares).toEqual([expect.objectContaining({ drift: false }), expect.objectContaining({ drift: false })]);
  expect(await setBack(sinks.target!)).toEqual([]);
  expect(watch).toMatchObject({ setBack: [], seenCount: expect.toSatisfy((count: number) => count > 30) });
});
