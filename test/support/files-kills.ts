/** A daemon that writes files is killed at failpoints under load: what must hold at the end. */
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "vitest";
import { Load, Victim } from "./fault-load.ts";
import type { FilesReader } from "./files-reader.ts";
import { Random, testSeed } from "./random.ts";
import type { SinkKind } from "./sink-set.ts";
import { eventually } from "./waiting.ts";

const KILLED_WITHIN_MS = 60_000;

/** `failpoints`: each is met at a random passage up to its number. `readerOf`: once the daemon has ended. */
export async function killedAtEach(
  failpoints: Readonly<Record<string, number>>,
  kind: SinkKind,
  readerOf: (victim: Victim) => Promise<FilesReader>,
): Promise<void> {
  const random = new Random(testSeed());
  await using load = await Load.create(random.seed, 300);
  await using victim = await Victim.create(load, "files", [kind]);
  load.start(80);
  for (const [name, countMax] of random.some(Object.entries(failpoints))) {
    const entry = `${name}=kill@${1 + random.below(countMax)}`;
    const daemon = victim.run({ MILLRACE_FAILPOINTS: entry });
    const deadline = performance.now() + KILLED_WITHIN_MS;
    while (!daemon.exited && performance.now() < deadline) {
      if (name.startsWith("refill.")) {
        const tables = [`public.${random.pick(load.tables)}`];
        await victim.installation.ask("POST", "/api/v1/snapshots", { tables }).catch(() => undefined);
      }
      await Promise.race([daemon.ended, sleep(500)]);
    }
    expect({ entry, exited: daemon.exited }, daemon.said.slice(-2_000)).toEqual({ entry, exited: true });
    const { signal, stderr } = await daemon.ended;
    expect({ entry, signal }, stderr.slice(-2_000)).toEqual({ entry, signal: "SIGKILL" });
  }
  const last = victim.run();
  await last.streaming();
  const until = load.workload.transactionCount + 50;
  await eventually(() => load.workload.transactionCount >= until, { withinMs: 60_000 });
  await load.stop();
  const { faults } = await victim.verdict(last);
  expect(faults).toEqual([]);
  const reader = await readerOf(victim);
  expect(await reader.repeated()).toEqual([]);
}
